//! Smaller problems that behave like large ones, for emulators.

use kiln_ir::op::Matmul;
use kiln_ir::{Op, Problem, ProblemError};

/// Dimensions keep what is left of them after whole multiples of this: tails of tiles and vectors stay what they are.
const MODULUS: u64 = 64;

/// `problem`, with its largest dimensions halved until it has at most `max_macs` multiply-adds, or none is above
/// [`MODULUS`]. Every dimension keeps its residue; the epilogue stays.
pub fn scale(problem: &Problem, max_macs: u64) -> Result<Problem, ProblemError> {
    let Op::Matmul(Matmul { m, k, n }) = problem.op();
    let mut dims = [m, k, n];
    while dims.iter().product::<u64>() > max_macs {
        let largest = dims.iter_mut().max().expect("three dimensions");
        if *largest <= MODULUS {
            break;
        }
        let (multiples, residue) = ((*largest - 1) / MODULUS, (*largest - 1) % MODULUS + 1);
        *largest = multiples / 2 * MODULUS + residue;
    }
    let [m, k, n] = dims;
    Problem::matmul(m, k, n).epilogue(problem.epilogue().ops().iter().copied()).build()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scaled(text: &str, max_macs: u64) -> String {
        scale(&text.parse().unwrap(), max_macs).unwrap().to_string()
    }

    #[test]
    fn small_problems_stay() {
        assert_eq!(scaled("matmul f32 128x768:768x3072 +bias", u64::MAX), "matmul f32 128x768:768x3072 +bias");
        assert_eq!(scaled("matmul f32 17x17:17x17", 1), "matmul f32 17x17:17x17");
    }

    #[test]
    fn residues_and_epilogue_stay() {
        let text = scaled("matmul f32 129x770:770x3071 +bias+relu", 1_000_000);
        assert_eq!(text, "matmul f32 65x66:66x127 +bias+relu");
        for (before, after) in [(129, 65), (770, 66), (3071, 127)] {
            assert_eq!(before % MODULUS, after % MODULUS);
        }
        assert_eq!(scaled("matmul f32 1x4096:4096x1", 100), "matmul f32 1x64:64x1");
    }
}
