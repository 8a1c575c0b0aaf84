//! Smaller problems with the same tails and borders as large ones, for emulators.

use kiln_ir::op::{Convolution, convolution::Spatial};
use kiln_ir::{Op, Problem, ProblemError, Role};

/// Dimensions keep their remainder modulo this, so that tails of tiles and vectors stay as they are.
const MODULUS: u64 = 64;
/// Batches are halved down to this.
const LEAST_BATCH: u64 = 3;

/// Outputs that a spatial dimension of a convolution keeps at least: both borders and something between them.
const LEAST_OUTPUTS: u64 = 9;

/// `problem` with at most `images` in its batch: the rows of an inner product, the outermost dimension of a product that has one.
pub fn cut_batch(problem: &Problem, images: u64) -> Result<Problem, ProblemError> {
    let mut dims = Dims::of(problem);
    match &mut dims {
        Dims::Conv(shape) => shape.mb = shape.mb.min(images),
        Dims::InnerProduct(all) => all[0] = all[0].min(images),
        Dims::Matmul { batch, .. } => batch.iter_mut().take(1).for_each(|(d, _)| *d = (*d).min(images)),
    }
    with_descriptor(problem, &dims.descriptor())
}

fn with_descriptor(problem: &Problem, descriptor: &str) -> Result<Problem, ProblemError> {
    let text = problem.to_string();
    let old = text.split(' ').nth(2).unwrap_or_default();
    text.replacen(old, descriptor, 1).parse()
}

/// `problem`, with its largest dimensions halved until it has at most `max_macs` multiply-adds, or none is left to halve.
/// Dimensions of matrices and channels keep their remainder modulo [`MODULUS`]; a convolution keeps its kernel and padding; types,
/// layouts and the epilogue stay.
pub fn scale(problem: &Problem, max_macs: u64) -> Result<Problem, ProblemError> {
    let mut dims = Dims::of(problem);
    let mut scaled = problem.clone();
    while scaled.macs() > max_macs && dims.halve_largest() {
        scaled = with_descriptor(problem, &dims.descriptor())?;
    }
    Ok(scaled)
}

/// The dimensions of a problem that can change.
enum Dims {
    /// Extent of each batch axis, and whether lhs and rhs have it; M, K and N.
    Matmul {
        batch: Vec<(u64, [bool; 2])>,
        matrix: [u64; 3],
    },
    /// The batch, the channels and space.
    InnerProduct(Vec<u64>),
    Conv(Convolution),
}

impl Dims {
    fn of(problem: &Problem) -> Self {
        match problem.op() {
            Op::Matmul(shape) => {
                let [lhs, rhs] = [Role::Lhs, Role::Rhs].map(|role| shape.shape(role));
                let all = shape.batch();
                let batch = all.iter().zip(lhs.iter().zip(&rhs)).map(|(d, (l, r))| (*d, [l == d, r == d])).collect();
                Self::Matmul { batch, matrix: [shape.m, shape.k, shape.n] }
            }
            Op::InnerProduct(shape) => Self::InnerProduct([&[shape.mb, shape.ic, shape.oc], shape.space()].concat()),
            Op::Convolution(shape) => Self::Conv(shape),
        }
    }

    /// Halves the largest dimension that can be halved; false if there is none.
    fn halve_largest(&mut self) -> bool {
        let (batch, matrix): (&mut [_], &mut [u64]) = match self {
            Self::Matmul { batch, matrix } => (batch, matrix),
            Self::InnerProduct(all) => (&mut [], all),
            Self::Conv(shape) => return halve_convolution(shape),
        };
        let batch = batch.iter_mut().map(|(d, _)| d).filter(|d| **d > LEAST_BATCH).max();
        let matrix = matrix.iter_mut().filter(|d| **d > MODULUS).max();
        match (batch, matrix) {
            (Some(b), m) if m.as_ref().is_none_or(|m| *b > **m) => *b = b.div_ceil(2),
            (_, Some(m)) => *m = halved(*m),
            _ => return false,
        }
        true
    }

    fn descriptor(&self) -> String {
        match self {
            Self::InnerProduct(all) => {
                let [mb, ic, oc, space @ ..] = &all[..] else { unreachable!("three and those of space") };
                let names = ["id", "ih", "iw"].into_iter().skip(3 - space.len());
                let space: String = names.zip(space).map(|(name, d)| format!("{name}{d}")).collect();
                format!("mb{mb}ic{ic}{space}oc{oc}")
            }
            Self::Matmul { batch, matrix: [m, k, n] } => {
                let side = |at: usize, matrix: [u64; 2]| {
                    let batch = batch.iter().map(|(d, has)| if has[at] { *d } else { 1 });
                    batch.chain(matrix).map(|d| d.to_string()).collect::<Vec<_>>().join("x")
                };
                format!("{}:{}", side(0, [*m, *k]), side(1, [*k, *n]))
            }
            Self::Conv(shape) => shape.to_string(),
        }
    }
}

/// About half of `d`, with the same remainder.
fn halved(d: u64) -> u64 {
    (d - 1) / MODULUS / 2 * MODULUS + (d - 1) % MODULUS + 1
}

/// Halves the largest of the batch, the groups, the channels of a group and the largest output; false if none can be halved. With
/// outputs goes the input that they read, so that the padding of the others stays as it is.
fn halve_convolution(shape: &mut Convolution) -> bool {
    let Convolution { g, mb, ic, oc, .. } = *shape;
    let (ic, oc) = (ic / g, oc / g);
    let mut space = shape.space().to_vec();
    let can = |d: u64, least: u64| if d > least { d } else { 0 };
    let halvable = |s: &Spatial| {
        let (fewer, input) = fewer_outputs(s);
        fewer < s.output && input >= 1
    };
    let widest = (0..space.len()).filter(|i| halvable(&space[*i])).max_by_key(|i| space[*i].output);
    let output = widest.map_or(0, |i| space[i].output);
    let sizes = [can(mb, LEAST_BATCH), can(g, MODULUS), can(ic, MODULUS), can(oc, MODULUS), can(output, LEAST_OUTPUTS)];
    let Some((at, size)) = sizes.into_iter().enumerate().max_by_key(|(_, d)| *d).filter(|(_, d)| *d > 0) else {
        return false;
    };
    let (mut new_g, mut new_mb, mut new_ic, mut new_oc) = (g, mb, ic, oc);
    match at {
        0 => new_mb = size.div_ceil(2),
        1 => new_g = halved(size),
        2 => new_ic = halved(size),
        3 => new_oc = halved(size),
        _ => {
            let s = &mut space[widest.expect("it has outputs")];
            (s.output, s.input) = fewer_outputs(s);
        }
    }
    let smaller = Convolution::new(new_mb, new_g * new_ic, new_g * new_oc, &space).and_then(|s| s.groups(new_g));
    smaller.map(|s| *shape = s).is_ok()
}

/// Half of the outputs of a spatial dimension, at least [`LEAST_OUTPUTS`], and the input that they need.
fn fewer_outputs(s: &Spatial) -> (u64, u64) {
    let fewer = s.output.div_ceil(2).max(LEAST_OUTPUTS).min(s.output);
    (fewer, s.input.saturating_sub((s.output - fewer) * s.stride))
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

    #[test]
    fn convolutions_keep_their_kernels_and_borders() {
        let text = scaled("conv f32 mb1ic192ih112oc130kh3sh2ph1 dtag=abx +bias", 100_000);
        assert_eq!(text, "conv f32 mb1ic64ih18oc2kh3sh2ph1 dtag=abx +bias");
        let text = scaled("conv f32 g512mb8ic512ih14oc512kh3ph1", 1);
        assert_eq!(text, "conv f32 g64mb2ic64ih9oc64kh3ph1");
        let text = scaled("conv f32 mb2ic16iw1oc16ow100kw3pw100", 1);
        assert_eq!(text, "conv f32 mb2ic16iw1oc16ow100kw3pw100");
    }

    #[test]
    fn batches_are_cut() {
        let cut = |text: &str| cut_batch(&text.parse().unwrap(), 2).unwrap().to_string();
        assert_eq!(cut("conv f32 mb32ic3ih9oc4kh3"), "conv f32 mb2ic3ih9oc4kh3");
        assert_eq!(cut("ip f32 mb32ic3oc4 +bias"), "ip f32 mb2ic3oc4 +bias");
        assert_eq!(cut("matmul f32 5x1x3:1x3x4"), "matmul f32 2x1x3:1x3x4");
        assert_eq!(cut("matmul f32 5x3:3x4"), "matmul f32 5x3:3x4");
    }
}
