//! Smaller problems that behave like large ones, for emulators.

use kiln_ir::{Op, Problem, ProblemError, Role};

/// Dimensions keep what is left of them after whole multiples of this: tails of tiles and vectors stay what they are.
const MODULUS: u64 = 64;
/// Batches are halved down to this.
const LEAST_BATCH: u64 = 3;

/// `problem`, with its largest dimensions halved until it has at most `max_macs` multiply-adds, or none is left to halve.
/// Dimensions of matrices keep their residue modulo [`MODULUS`]; types, orders in memory and the epilogue stay.
pub fn scale(problem: &Problem, max_macs: u64) -> Result<Problem, ProblemError> {
    let mut dims = Dims::of(problem);
    let mut scaled = problem.clone();
    while scaled.macs() > max_macs && dims.halve_largest() {
        let text = problem.to_string();
        let descriptor = text.split(' ').nth(2).unwrap_or_default();
        scaled = text.replacen(descriptor, &dims.descriptor(), 1).parse()?;
    }
    Ok(scaled)
}

/// The dimensions of a problem that can change.
struct Dims {
    is_ip: bool,
    /// Extent of each batch axis, and whether lhs and rhs have it.
    batch: Vec<(u64, [bool; 2])>,
    /// M, K and N; the batch, the channels and space of an inner product.
    matrix: Vec<u64>,
}

impl Dims {
    fn of(problem: &Problem) -> Self {
        match problem.op() {
            kiln_ir::Op::Convolution(_) => Self { is_ip: false, batch: vec![], matrix: vec![] },
            Op::Matmul(shape) => {
                let [lhs, rhs] = [Role::Lhs, Role::Rhs].map(|role| shape.shape(role));
                let all = shape.batch();
                let batch = all.iter().zip(lhs.iter().zip(&rhs)).map(|(d, (l, r))| (*d, [l == d, r == d])).collect();
                Self { is_ip: false, batch, matrix: vec![shape.m, shape.k, shape.n] }
            }
            Op::InnerProduct(shape) => {
                let matrix = [&[shape.mb, shape.ic, shape.oc], shape.space()].concat();
                Self { is_ip: true, batch: vec![], matrix }
            }
        }
    }

    /// Whether there was one that could become smaller.
    fn halve_largest(&mut self) -> bool {
        let batch = self.batch.iter_mut().map(|(d, _)| d).filter(|d| **d > LEAST_BATCH).max();
        let matrix = self.matrix.iter_mut().filter(|d| **d > MODULUS).max();
        match (batch, matrix) {
            (Some(b), m) if m.as_ref().is_none_or(|m| *b > **m) => *b = b.div_ceil(2),
            (_, Some(m)) => *m = (*m - 1) / MODULUS / 2 * MODULUS + (*m - 1) % MODULUS + 1,
            _ => return false,
        }
        true
    }

    fn descriptor(&self) -> String {
        if self.is_ip {
            let [mb, ic, oc, space @ ..] = &self.matrix[..] else { unreachable!("three and those of space") };
            let names = ["id", "ih", "iw"].into_iter().skip(3 - space.len());
            let space: String = names.zip(space).map(|(name, d)| format!("{name}{d}")).collect();
            return format!("mb{mb}ic{ic}{space}oc{oc}");
        }
        let [m, k, n] = self.matrix[..] else { unreachable!("three") };
        let side = |at: usize, matrix: [u64; 2]| {
            let batch = self.batch.iter().map(|(d, has)| if has[at] { *d } else { 1 });
            batch.chain(matrix).map(|d| d.to_string()).collect::<Vec<_>>().join("x")
        };
        format!("{}:{}", side(0, [m, k]), side(1, [k, n]))
    }
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

    #[test]
    fn batches_and_inner_products_too() {
        let text = scaled("matmul bf16 96x12x200x64:96x1x64x130 wtag=abdc beta=1 +bias+add:ad", 100_000);
        assert_eq!(text, "matmul bf16 12x6x8x64:12x1x64x2 wtag=abdc beta=1 +bias+add:ad");
        assert_eq!(scaled("matmul f32 300x5x6:300x6x7", 1), "matmul f32 3x5x6:3x6x7");
        assert_eq!(scaled("ip f32 mb128ic768oc3072 fpmath=bf16", 1 << 19), "ip f32 mb128ic64oc64 fpmath=bf16");
        assert_eq!(scaled("ip f32 mb1ic512ih7oc1000", 100_000), "ip f32 mb1ic64ih7oc40");
    }
}
