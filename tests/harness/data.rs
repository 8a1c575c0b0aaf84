//! Operands with a known answer, for any problem.
//!
//! Nothing here comes from Kiln but the description of a problem: which operand has which shape and strides. Places are computed
//! from those, sums of integers in integers, and post-ops by formulas of this file.

use kiln_ir::elements::{Elements, OwnedElements, WithDType};
use kiln_ir::op::Convolution;
use kiln_ir::{DType, Op, Operand, PostOp, Problem, Role};
use kiln_jit::{Args, Input, Output};

/// A small generator (Steele and Vigna's SplitMix64): test data and choices that repeat.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(end)) >> 64) as u64
    }

    /// One of several.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }
}

/// Elements of a tensor.
#[derive(Clone, Debug)]
pub struct Values(OwnedElements);

impl Values {
    fn new(dtype: DType, values: impl Iterator<Item = f32>) -> Self {
        let bytes: Vec<u8> =
            values.flat_map(|v| dtype.to_bits(v).to_le_bytes().into_iter().take(dtype.bytes())).collect();
        Self::from_bytes(dtype, &bytes)
    }

    /// The type of the elements.
    pub fn dtype(&self) -> DType {
        self.elements().dtype()
    }

    /// As memory holds them.
    pub fn bytes(&self) -> Vec<u8> {
        self.elements().as_bytes().to_vec()
    }

    /// From memory.
    pub fn from_bytes(dtype: DType, bytes: &[u8]) -> Self {
        Self(OwnedElements::from_bytes(dtype, bytes).expect("whole elements"))
    }

    /// As f32: integers of more than 24 bits are rounded.
    pub fn to_f32(&self) -> Vec<f32> {
        self.elements().iter_bits().map(|bits| self.dtype().from_bits(bits)).collect()
    }

    /// Exactly.
    pub fn to_f64(&self) -> Vec<f64> {
        self.elements().iter_bits().map(|bits| self.dtype().to_f64(bits)).collect()
    }

    /// As elements.
    pub fn elements(&self) -> Elements<'_> {
        self.0.as_elements()
    }

    /// They as values of the Rust type that they are.
    pub fn as_mut_slice<T: WithDType>(&mut self) -> &mut [T] {
        self.0.as_mut_slice().expect("their own type")
    }

    /// As the memory of a result.
    pub fn output(&mut self) -> Output<'_> {
        let dtype = self.dtype();
        Output::from_bytes(dtype, self.0.as_mut_bytes()).expect("whole, aligned elements")
    }

    /// As an argument.
    pub fn input(&self) -> Input<'_> {
        self.elements().into()
    }
}

/// The number that fills the gaps between elements of a result. Every type holds it exactly, and no kernel computes it from test data.
pub const CANARY: f32 = -61440.0;

/// The data that a problem reads. Between elements that are apart there is NaN in operands, so that one that is used shows, and a
/// [canary](CANARY) in the result.
#[derive(Clone, Debug)]
pub struct Data {
    problem: Problem,
    operands: Vec<Operand>,
    are_integers: bool,
    /// In argument order, without the result.
    pub inputs: Vec<Values>,
    /// The result before the call: NaN unless the problem adds to it, and canaries in gaps.
    pub before: Values,
}

/// The answer.
#[derive(Clone, Debug)]
pub struct Expected {
    /// Each element of the result, in memory order, and what gaps hold.
    pub value: Vec<f64>,
    /// The bound of a kernel's error: 0 if nothing rounds, infinite if single precision may have overflowed.
    pub bound: Vec<f64>,
}

impl Data {
    fn new(problem: &Problem, are_integers: bool, mut next: impl FnMut() -> f32) -> Self {
        let operands = problem.operands();
        let tensor = |o: &Operand| {
            let (is_result, mut values) = (o.role == Role::Dst, vec![f32::NAN; span(o)]);
            if is_result {
                values.fill(CANARY);
            }
            let strides = o.strides();
            for_each_index(&memory_order(o), |index| {
                let at: u64 = o.layout.tag().order().zip(index).map(|(d, i)| i * strides[d]).sum();
                let value = within(o.dtype, next(), are_integers);
                // Integers have no NaN.
                let unwritten = if o.dtype.is_integer() { CANARY } else { f32::NAN };
                values[at as usize] = if is_result && !problem.accumulates() { unwritten } else { value };
            });
            Values::new(o.dtype, values.into_iter())
        };
        let mut inputs: Vec<Values> = operands.iter().map(tensor).collect();
        let before = inputs.pop().expect("a problem has a result");
        // Sums of integers are exact whatever the data.
        let are_integers = are_integers || operands.iter().any(|o| o.dtype.is_integer());
        Self { problem: problem.clone(), operands, are_integers, inputs, before }
    }

    /// Integers from -4 to 4: every partial sum is exact, in any order, as long as K is below 2^20.
    pub fn integers(problem: &Problem, seed: u64) -> Self {
        let mut random = Random(seed);
        Self::new(problem, true, || random.below(9) as f32 - 4.0)
    }

    /// Reals from -1 to 1.
    pub fn reals(problem: &Problem, seed: u64) -> Self {
        let mut random = Random(seed);
        Self::new(problem, false, || (random.bits() >> 40) as f32 / (1u64 << 23) as f32 - 1.0)
    }

    /// As arguments of a call, with these weights.
    pub fn args_with<'a>(&'a self, weights: Input<'a>, dst: &'a mut Values) -> Args<'a> {
        let lhs = self.inputs[0].input();
        let args = Args::new(lhs, weights, dst.output());
        self.inputs[2..].iter().fold(args, |args, t| args.post_op(t.input()))
    }

    /// As arguments of a call.
    pub fn args<'a>(&'a self, dst: &'a mut Values) -> Args<'a> {
        self.args_with(self.inputs[1].input(), dst)
    }

    /// Describes the error in `found`, a result for this data; `None` if it is right.
    pub fn wrong(&self, found: &Values) -> Option<String> {
        let Expected { value, bound } = self.expected();
        let kind = if self.are_integers { "integers" } else { "reals" };
        found.to_f32().into_iter().zip(value.into_iter().zip(bound)).enumerate().find_map(
            |(i, (found, (value, bound)))| {
                (!is_within(found, value, bound))
                    .then(|| format!("{kind}: dst[{i}] is {found} instead of {value} +- {bound:e}"))
            },
        )
    }

    /// The answer.
    pub fn expected(&self) -> Expected {
        let dst = self.operands.last().expect("a problem has a result");
        // What no element is stays as it was.
        let value: Vec<f64> = self.before.to_f32().into_iter().map(f64::from).collect();
        let mut all = Expected { bound: vec![0.0; value.len()], value };
        match self.problem.op() {
            Op::Convolution(shape) => self.taps(&shape, &mut all),
            _ => self.sums(&Places::of(&self.problem, &self.operands), &mut all),
        }
        self.post_ops(dst, &mut all);
        if dst.dtype != DType::F32 {
            let of = |v, e| rounded(dst.dtype, v, e);
            all.value.iter_mut().zip(&mut all.bound).for_each(|(v, e)| (*v, *e) = of(*v, *e));
        }
        all
    }

    fn sums(&self, places: &Places, all: &mut Expected) {
        let [m, n, k] = [places.dst.row.len(), places.dst.col.len(), places.lhs.col.len()];
        let (lhs, rhs, before) = (self.inputs[0].to_f32(), self.inputs[1].to_f32(), self.before.to_f32());
        let relative = self.relative_error(k);
        for (batch, at) in places.dst.batch.iter().enumerate() {
            let (l, r) = (places.lhs.batch[batch], places.rhs.batch[batch]);
            let b: Vec<f32> = places
                .rhs
                .row
                .iter()
                .flat_map(|p| places.rhs.col.iter().map(move |j| r + p + j))
                .map(|i| rhs[i])
                .collect();
            for i in 0..m {
                let a = |p: usize| lhs[l + places.lhs.row[i] + places.lhs.col[p]];
                let (values, sizes) =
                    if self.are_integers { (sum_integers(a, &b, n, k), vec![0.0; n]) } else { sum(a, &b, n, k) };
                for j in 0..n {
                    let at = at + places.dst.row[i] + places.dst.col[j];
                    let old = if self.problem.accumulates() { f64::from(before[at]) } else { 0.0 };
                    all.value[at] = values[j] + old;
                    if !self.are_integers {
                        all.bound[at] = relative * (sizes[j] + old.abs()) + k as f64 * f64::from(f32::MIN_POSITIVE);
                    }
                }
            }
        }
    }

    /// Sums of a convolution by its definition: an element of the result after the other, a tap after the other.
    fn taps(&self, shape: &Convolution, all: &mut Expected) {
        let (lhs, rhs, before) = (self.inputs[0].to_f32(), self.inputs[1].to_f32(), self.before.to_f32());
        let [source, weights, dst] = [&self.operands[0], &self.operands[1], &self.operands[self.operands.len() - 1]];
        let [from, by, to] = [source, weights, dst].map(Operand::strides);
        let grouped = usize::from(shape.g > 1);
        let (ic, oc) = (shape.ic / shape.g, shape.oc / shape.g);
        let kernel: Vec<u64> = shape.space().iter().map(|s| s.kernel).collect();
        let relative = self.relative_error(places_k(&self.problem));
        for_each_index(&dst.shape, |index| {
            let (image, channel) = (index[0], index[1]);
            let group = channel / oc;
            let at: u64 = index.iter().zip(&to).map(|(i, s)| i * s).sum();
            let (mut sum, mut size, mut terms) = (0.0, 0.0, 0);
            for_each_index(&kernel, |tap| {
                let mut place = image * from[0] + group * ic * from[1];
                let mut weight = if grouped == 1 { group * by[0] + channel % oc * by[1] } else { channel * by[0] };
                for (d, s) in shape.space().iter().enumerate() {
                    let input = (index[2 + d] * s.stride + tap[d] * s.dilation) as i64 - s.pad;
                    if input < 0 || input >= s.input as i64 {
                        return;
                    }
                    place += input as u64 * from[2 + d];
                    weight += tap[d] * by[grouped + 2 + d];
                }
                for c in 0..ic {
                    let [a, b] = [lhs[(place + c * from[1]) as usize], rhs[(weight + c * by[grouped + 1]) as usize]];
                    let product = f64::from(a) * f64::from(b);
                    sum += product;
                    size += product.abs();
                    terms += 1;
                }
            });
            let at = at as usize;
            let old = if self.problem.accumulates() { f64::from(before[at]) } else { 0.0 };
            all.value[at] = sum + old;
            if !self.are_integers {
                all.bound[at] = relative * (size + old.abs()) + f64::from(terms) * f64::from(f32::MIN_POSITIVE);
            }
        });
    }

    /// The distance that a sum may have from its value, relative to the magnitudes of all its terms.
    ///
    /// `gamma(n) = n u / (1 - n u)` (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1), with `u = 2^-24`
    /// and n one rounding per multiply-add and one for what the result held or a bias that sums begin with. It holds for every
    /// order of the additions. Dot products of BF16 instructions round to odd, twice as far, and may round products and sums of
    /// pairs apart. Factors that may be rounded to bf16 are off by 2^-8 each.
    fn relative_error(&self, k: usize) -> f64 {
        let dtypes = self.problem.dtypes();
        let allows = self.problem.math().allows_bf16();
        let is_bf16 = dtypes.src == DType::Bf16 && dtypes.weights == DType::Bf16;
        let nu = (k + 2) as f64 * 0.5f64.powi(24) * if is_bf16 || allows { 4.0 } else { 1.0 };
        let factors = if allows && !is_bf16 { 2.01 * 0.5f64.powi(8) } else { 0.0 };
        nu / (1.0 - nu) + factors
    }

    fn post_ops(&self, dst: &Operand, all: &mut Expected) {
        let rank = dst.shape.len();
        let strides = dst.strides();
        let is_ip = matches!(self.problem.op(), Op::InnerProduct(_));
        let columns = if matches!(self.problem.op(), Op::Convolution(_)) { 1 } else { rank - 1 };
        let mut tensors = self.operands.iter().zip(&self.inputs).skip(2);
        // A bias that sums begin with is one of their terms.
        let first_terms = self.relative_error(places_k(&self.problem));
        for (number, op) in self.problem.epilogue().ops().iter().enumerate() {
            let dims: Vec<usize> = match op {
                PostOp::Bias => vec![columns],
                PostOp::BiasRow => vec![if is_ip { 0 } else { rank - 2 }],
                PostOp::BiasMask(mask) | PostOp::Add(mask) | PostOp::Mul(mask) => mask.dims().collect(),
                _ => vec![],
            };
            let tensor = op.has_operand().then(|| tensors.next().expect("a tensor per post-op that has one"));
            let tensor = tensor.map(|(o, v)| (o.strides(), v.to_f32()));
            for_each_index(&dst.shape, |index| {
                let at: usize = index.iter().zip(&strides).map(|(i, s)| (i * s) as usize).sum();
                let operand = tensor.as_ref().map_or(0.0, |(own, values)| {
                    let at: u64 = dims.iter().zip(own).map(|(d, s)| index[*d] * s).sum();
                    f64::from(values[at as usize])
                });
                let (value, bound) = apply(*op, all.value[at], all.bound[at], operand);
                let as_term = if number == 0 && bound > 0.0 { first_terms * operand.abs() } else { 0.0 };
                (all.value[at], all.bound[at]) = (value, bound + as_term);
            });
        }
    }
}

/// Elements from the first to one past the last.
fn span(o: &Operand) -> usize {
    1 + o.shape.iter().zip(o.strides()).map(|(extent, stride)| (extent - 1) * stride).sum::<u64>() as usize
}

/// The extents in the order of memory.
fn memory_order(o: &Operand) -> Vec<u64> {
    o.layout.tag().order().map(|d| o.shape[d]).collect()
}

fn places_k(problem: &Problem) -> usize {
    problem.extents()[2] as usize
}

/// True if `found` is within the bound.
pub fn is_within(found: f32, value: f64, bound: f64) -> bool {
    if bound.is_infinite() {
        return true;
    }
    (value.is_nan() && found.is_nan()) || f64::from(found) == value || (f64::from(found) - value).abs() <= bound
}

/// The places of the elements along an operand's axes.
struct Side {
    /// For each index of the result's batch.
    batch: Vec<usize>,
    row: Vec<usize>,
    col: Vec<usize>,
}

struct Places {
    lhs: Side,
    rhs: Side,
    dst: Side,
}

impl Places {
    fn of(problem: &Problem, operands: &[Operand]) -> Self {
        let dst = operands.last().expect("a problem has a result");
        let side = |o: &Operand, row: Vec<usize>, col: Vec<usize>| Side {
            batch: match problem.op() {
                Op::Matmul(_) => batch(o, &dst.shape[..dst.shape.len() - 2]),
                Op::InnerProduct(_) | Op::Convolution(_) => vec![0],
            },
            row: offsets(o, &row),
            col: offsets(o, &col),
        };
        let [lhs, rhs] = [&operands[0], &operands[1]];
        assert_eq!([lhs.role, rhs.role, dst.role], [Role::Lhs, Role::Rhs, Role::Dst]);
        match problem.op() {
            Op::Matmul(_) => {
                let (row, col) = (vec![dst.shape.len() - 2], vec![dst.shape.len() - 1]);
                let [lhs, rhs, dst] = [lhs, rhs, dst].map(|o| side(o, row.clone(), col.clone()));
                Self { lhs, rhs, dst }
            }
            Op::InnerProduct(_) => {
                let sums: Vec<usize> = (1..lhs.shape.len()).collect();
                let (lhs, rhs) = (side(lhs, vec![0], sums.clone()), side(rhs, sums, vec![0]));
                Self { lhs, rhs, dst: side(dst, vec![0], vec![1]) }
            }
            Op::Convolution(_) => unreachable!("its taps are no axis"),
        }
    }
}

/// Places of all indices of some dimensions, the last fastest.
fn offsets(o: &Operand, dims: &[usize]) -> Vec<usize> {
    let strides = o.strides();
    let shape: Vec<u64> = dims.iter().map(|d| o.shape[*d]).collect();
    let mut all = vec![];
    for_each_index(&shape, |index| all.push(index.iter().zip(dims).map(|(i, d)| (i * strides[*d]) as usize).sum()));
    all
}

/// Places of all indices of the batch, where an extent of 1 is broadcast.
fn batch(o: &Operand, shape: &[u64]) -> Vec<usize> {
    let strides = o.strides();
    let mut all = vec![];
    for_each_index(shape, |index| {
        let own = index.iter().enumerate().map(|(d, i)| if o.shape[d] == 1 { 0 } else { i * strides[d] });
        all.push(own.sum::<u64>() as usize);
    });
    all
}

fn for_each_index(shape: &[u64], mut each: impl FnMut(&[u64])) {
    let mut index = vec![0; shape.len()];
    for _ in 0..shape.iter().product::<u64>() {
        each(&index);
        for (i, extent) in index.iter_mut().zip(shape).rev() {
            *i += 1;
            if *i < *extent {
                break;
            }
            *i = 0;
        }
    }
}

fn sum_integers(a: impl Fn(usize) -> f32, b: &[f32], n: usize, k: usize) -> Vec<f64> {
    let mut row = vec![0i32; n];
    for p in 0..k {
        let a = a(p) as i32;
        row.iter_mut().zip(&b[p * n..]).for_each(|(c, b)| *c += a * *b as i32);
    }
    row.into_iter().map(f64::from).collect()
}

/// Sums of products and of their magnitudes.
fn sum(a: impl Fn(usize) -> f32, b: &[f32], n: usize, k: usize) -> (Vec<f64>, Vec<f64>) {
    let (mut row, mut size) = (vec![0.0f64; n], vec![0.0f64; n]);
    for p in 0..k {
        let a = f64::from(a(p));
        for ((c, s), b) in row.iter_mut().zip(&mut size).zip(&b[p * n..]) {
            let product = a * f64::from(*b);
            *c += product;
            *s += product.abs();
        }
    }
    (row, size)
}

const MAX: f64 = f32::MAX as f64;
/// Half a unit in the last place of f32, relative.
const U: f64 = 1.0 / (1u64 << 24) as f64;

/// A post-op by its definition, on a value known up to `error`: the new value and error.
fn apply(op: PostOp, c: f64, error: f64, operand: f64) -> (f64, f64) {
    if error.is_infinite() {
        return (c, error);
    }
    let f = |c: f64| formula(op, c, operand);
    let value = f(c);
    let rounds = f64::from(value as f32) != value;
    use PostOp::{Exp, GeluErf, GeluTanh, HardSigmoid, HardSwish, Sigmoid, Silu, Tanh};
    let is_arithmetic = !matches!(op, GeluErf | GeluTanh | Silu | Sigmoid | Tanh | Exp | HardSwish | HardSigmoid);
    // On either side of zero there is a root on the one and none on the other.
    if op == PostOp::Sqrt && error > 0.0 && c - error < 0.0 && c + error >= 0.0 {
        return (value, f64::INFINITY);
    }
    if value.is_nan() || (c.is_infinite() && error == 0.0) {
        return (value, 0.0);
    }
    if error == 0.0 && is_arithmetic && !rounds {
        return (value, 0.0);
    }
    // A bound of the slope where the function turns inside the interval; the ends of the interval where it does not.
    let ends = [c - error, c + error].map(|x| (f(x) - value).abs());
    let moved = match op {
        PostOp::GeluErf | PostOp::GeluTanh | PostOp::Silu => 1.2 * error,
        PostOp::HardSwish => 1.5 * error,
        _ => ends[0].max(ends[1]),
    };
    let own = match op {
        // Eight units in the last place, and of the argument for what is computed from it by more than one step.
        PostOp::GeluErf | PostOp::GeluTanh | PostOp::Silu | PostOp::HardSwish => c.abs().min(16.0) * 8.0 * U,
        PostOp::Sigmoid | PostOp::HardSigmoid | PostOp::Tanh => 8.0 * U,
        _ => 0.0,
    };
    let bound = moved + own + 16.0 * U * value.abs() + f64::from(f32::MIN_POSITIVE);
    if value.abs() - bound > 1.0001 * MAX {
        return (value.signum() * f64::INFINITY, 0.0);
    }
    if value.abs() + bound > 0.9999 * MAX { (value, f64::INFINITY) } else { (value, bound) }
}

fn formula(op: PostOp, c: f64, operand: f64) -> f64 {
    let a = |n: kiln_ir::epilogue::Number| f64::from(n.get());
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    // The limits of products of an infinity with something that vanishes.
    let gated = |gate: f64| if gate == 0.0 { 0.0 } else { c * gate };
    if c.is_nan() {
        return c;
    }
    match op {
        PostOp::Bias | PostOp::BiasRow | PostOp::BiasMask(_) | PostOp::Add(_) => c + operand,
        PostOp::Mul(_) => c * operand,
        PostOp::Scale(n) => c * a(n),
        PostOp::Shift(n) => c + a(n),
        PostOp::Relu => c.max(0.0),
        PostOp::LeakyRelu(n) => {
            if c > 0.0 {
                c
            } else {
                a(n) * c
            }
        }
        PostOp::Clamp(low, high) => c.max(a(low)).min(a(high)),
        PostOp::GeluErf => gated(0.5 * libm::erfc(-c / 2f64.sqrt())),
        PostOp::GeluTanh => gated(sigmoid(2.0 * (2.0 / std::f64::consts::PI).sqrt() * (c + 0.044715 * c.powi(3)))),
        PostOp::Silu => gated(sigmoid(c)),
        PostOp::Sigmoid => sigmoid(c),
        PostOp::Tanh => libm::tanh(c),
        PostOp::HardSwish => gated((c / 6.0 + 0.5).clamp(0.0, 1.0)),
        PostOp::HardSigmoid => (c / 6.0 + 0.5).clamp(0.0, 1.0),
        PostOp::Softsign => c / (1.0 + c.abs()),
        PostOp::Exp => libm::exp(c),
        PostOp::Square => c * c,
        PostOp::Sqrt => c.sqrt(),
        PostOp::Abs => c.abs(),
    }
}

/// A number of test data as an element: integers of 8 bits have their whole range, where others are small or below 1.
fn within(dtype: DType, value: f32, is_integer: bool) -> f32 {
    let wide = value * if is_integer { 32.0 } else { 128.0 };
    match dtype {
        DType::S8 => wide.round().clamp(-128.0, 127.0),
        DType::U8 => (wide.round() + 128.0).clamp(0.0, 255.0),
        _ => value,
    }
}

/// A value known up to `bound`, stored as a type of two bytes.
fn rounded(dtype: DType, value: f64, bound: f64) -> (f64, f64) {
    if bound.is_infinite() {
        return (value, bound);
    }
    // Digits of the fraction, half of the least number, the greatest number.
    let (digits, least, most) = match dtype {
        DType::F32 => return (value, bound),
        DType::Bf16 => (8, f64::from(f32::MIN_POSITIVE), 0.995 * MAX),
        DType::F16 => (11, 0.5f64.powi(25), 65504.0),
        integer if integer.is_integer() => return (value, bound),
        other => unreachable!("no results are rounded to {other}"),
    };
    if bound == 0.0 {
        return (f64::from(dtype.round(value as f32)), 0.0);
    }
    let bound = bound + (value.abs() + bound) * 0.5f64.powi(digits) + least;
    if value.abs() + bound > most { (value, f64::INFINITY) } else { (value, bound) }
}
