//! The accuracy of the post-ops, measured against their meaning in double precision.

use kiln_ir::PostOp;

use super::approx::Bound;
use super::program::Program;

/// Arguments that are measured at a time.
pub const BLOCK: usize = 1024;

/// The greatest errors over some arguments, and where they are.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Errors {
    /// In units in the last place of the exact result; infinite where one of the two is NaN and the other is not.
    pub ulps: f64,
    /// The argument of that error.
    pub ulps_at: f32,
    /// Relative to the argument's magnitude or the least normal number, over finite arguments.
    pub of_argument: f64,
    /// The argument of that error.
    pub of_argument_at: f32,
}

impl Errors {
    /// The greater of each.
    pub fn and(self, other: Errors) -> Errors {
        let (ulps, ulps_at) = greater((self.ulps, self.ulps_at), (other.ulps, other.ulps_at));
        let (of_argument, of_argument_at) =
            greater((self.of_argument, self.of_argument_at), (other.of_argument, other.of_argument_at));
        Errors { ulps, ulps_at, of_argument, of_argument_at }
    }

    /// True if they are within `bound`.
    pub fn within(&self, bound: Bound) -> bool {
        match bound {
            Bound::Ulps(ulps) => self.ulps <= ulps,
            // NaN and infinities must come out all the same.
            Bound::OfArgument(error) => self.of_argument <= error && self.ulps.is_finite(),
        }
    }
}

fn greater(a: (f64, f32), b: (f64, f32)) -> (f64, f32) {
    if b.0 > a.0 { b } else { a }
}

/// Measures a post-op that reads no tensor.
pub struct Meter {
    op: PostOp,
    program: Program,
    values: Vec<[u32; BLOCK]>,
}

impl Meter {
    /// A meter of `op`.
    pub fn new(op: PostOp) -> Self {
        Self { op, program: Program::of(&[op]), values: vec![] }
    }

    /// The errors for these arguments in single precision. Inlined, so that a caller may enable instructions.
    #[inline(always)]
    pub fn measure(&mut self, arguments: &[u32; BLOCK]) -> Errors {
        let results = self.program.eval_block(arguments, &mut self.values);
        let mut errors = Errors::default();
        for (x, y) in arguments.iter().zip(results) {
            let (x, y) = (f32::from_bits(*x), f32::from_bits(*y));
            let exact = self.op.apply_f64(x.into(), 0.0);
            let error = Self::error(x, y.into(), exact, exact as f32 == y, f32::MANTISSA_DIGITS);
            errors = errors.and(error);
        }
        errors
    }

    /// The errors over all bf16 arguments, of results rounded to bf16.
    pub fn measure_bf16(&mut self) -> Errors {
        let mut errors = Errors::default();
        for half in (0..=u16::MAX).map(half::bf16::from_bits) {
            let x = half.to_f32();
            let y = half::bf16::from_f32(self.program.eval(x, &[]));
            let exact = self.op.apply_f64(x.into(), 0.0);
            let rounded = half::bf16::from_f32(exact as f32);
            errors = errors.and(Self::error(x, y.to_f64(), exact, rounded == y, 8));
        }
        errors
    }

    #[inline(always)]
    fn error(x: f32, y: f64, exact: f64, same: bool, digits: u32) -> Errors {
        let not_numbers = (y.is_nan(), exact.is_nan());
        let distance = match not_numbers {
            (true, true) => return Errors::default(),
            (false, false) if same && (y.is_infinite() || exact.is_infinite()) => 0.0,
            (false, false) => (y - exact).abs(),
            _ => f64::INFINITY,
        };
        // The last place of the exponent of `exact`, at least that of the least normal number.
        let exponent = (exact.to_bits() >> 52 & 0x7ff).clamp(1023 - 126, 1023 + 127);
        let place = f64::from_bits((exponent + 1 - u64::from(digits)) << 52);
        let magnitude = f64::from(x.abs().max(f32::MIN_POSITIVE));
        let of_argument = if x.is_finite() { distance / magnitude } else { 0.0 };
        Errors { ulps: distance / place, ulps_at: x, of_argument, of_argument_at: x }
    }
}

/// A sample of all bit patterns: every 4099th, more of those between 1/16 and 128, where functions bend, and those where
/// something changes: around zeros, powers of two, the limits of the post-ops' ranges, infinities and NaN.
pub fn sample() -> impl Iterator<Item = u32> {
    let signs = |bits: u32| [bits, bits | 1 << 31];
    let bends = (0.0625f32.to_bits()..128f32.to_bits()).step_by(127).flat_map(signs);
    let powers = (0..=255u32).map(|e| e << 23);
    let limits =
        [0.5, 1.5, 3.0, 5.0, 5.5, 6.0, 8.0, 9.0, 9.02, 10.0, 10.03, 16.6, 22.18071, 87.3, 88.0, 88.72284, 89.0];
    let more = [102.0, 103.0, 103.97, 104.0, 106.0, 108.0, 109.0, f32::MAX];
    let around = powers.chain(limits.into_iter().chain(more).map(f32::to_bits));
    let around = around.flat_map(|bits| (-64..=64).map(move |d| bits.saturating_add_signed(d) & (u32::MAX >> 1)));
    (0..u32::MAX).step_by(4099).chain(bends).chain(around.flat_map(signs))
}
