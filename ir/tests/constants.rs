//! Passes fold no constant that would change what a function means: infinities, NaN, numbers that are huge or next to nothing.
//!
//! Random functions of the kinds that passes fold, with such constants among others, are compared after each pass with what they
//! meant before, in double precision and with every value rounded to its type.

use kiln_ir::Func;
use kiln_ir::func::{
    Binary, Builder, Def, ElementType, PadMode, Real, ReduceKind, Structured, Tensor, TensorOp, TensorType, Unary,
    ValueId,
};
use kiln_ir::pass;

/// Numbers without a pattern.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32) % n
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// A multiple of 1/4 from -2 to 2.
    fn small(&mut self) -> f64 {
        self.below(17) as f64 / 4.0 - 2.0
    }

    /// A power of two that may not be folded, or hardly.
    fn far(&mut self) -> f64 {
        let power = self.pick(&[-149, -133, -100, -66, -33, 33, 64, 66, 100, 127]);
        if self.one_in(2) { -(2f64.powi(power)) } else { 2f64.powi(power) }
    }
}

/// Which constants a function has.
#[derive(Clone, Copy, PartialEq)]
enum Numbers {
    /// Small ones.
    Small,
    /// Also such as are near the ends of the type.
    Far,
    /// Also zeros, infinities and NaN. The others have few digits, so that a sum that is 0 is so in whatever order it is computed: times
    /// infinity a rounding is all the difference.
    Infinite,
}

/// A function, and beside it what bounds the roundings of it: the same operations on magnitudes, with sums for differences. Both
/// have the same values in the same order.
struct Pair<'a> {
    func: Builder,
    bound: Builder,
    random: &'a mut Random,
    numbers: Numbers,
}

/// What a constant is for.
#[derive(Clone, Copy, PartialEq)]
enum Of {
    Any,
    /// What is divided by.
    Divisors,
    /// Roots are taken of it.
    Variances,
}

impl Pair<'_> {
    fn arg(&mut self, name: &str, shape: &[u64]) -> ValueId {
        let ty = TensorType::new(ElementType::F32, shape).unwrap();
        self.bound.arg(name, ty.clone()).unwrap();
        self.func.arg(name, ty).unwrap()
    }

    fn numbers(&mut self, shape: &[u64], of: Of) -> Tensor {
        let one_in = self.random.pick(&[2, 6, 20]);
        let random = &mut *self.random;
        let mut number = || {
            let is_special = self.numbers != Numbers::Small && random.one_in(one_in);
            let number = match (self.numbers, of) {
                (Numbers::Far, _) if is_special => random.far(),
                (Numbers::Infinite, Of::Any) if is_special => {
                    random.pick(&[0.0, -0.0, f64::INFINITY, -f64::INFINITY, f64::NAN])
                }
                // 0 may be divided by, but not what is 0 but for roundings.
                (Numbers::Infinite, _) if is_special => random.pick(&[f64::INFINITY, f64::NAN]),
                (Numbers::Infinite, Of::Any) => random.small(),
                (Numbers::Infinite, Of::Divisors) => random.pick(&[0.25, -0.5, 1.0, 2.0, -4.0]),
                (Numbers::Infinite, Of::Variances) => random.pick(&[0.25, 1.0, 4.0]),
                (_, Of::Any) => random.small() / 3.0,
                (_, Of::Divisors | Of::Variances) => random.small().abs() / 3.0 + 0.1,
            };
            if of == Of::Variances { number.abs() } else { number }
        };
        let numbers: Vec<f64> = (0..shape.iter().product::<u64>()).map(|_| number()).collect();
        Tensor::from_f64(TensorType::new(ElementType::F32, shape).unwrap(), &numbers)
    }

    fn constant_of(&mut self, numbers: &Tensor) -> ValueId {
        let magnitudes: Vec<f64> = numbers.to_f64().iter().map(|v| v.abs()).collect();
        self.bound.constant(&Tensor::from_f64(numbers.ty().clone(), &magnitudes));
        self.func.constant(numbers)
    }

    fn constant(&mut self, shape: &[u64]) -> ValueId {
        let numbers = self.numbers(shape, Of::Any);
        self.constant_of(&numbers)
    }

    fn number(&mut self, number: f64) -> ValueId {
        self.constant_of(&Tensor::scalar(number as f32))
    }

    fn both(&mut self, op: impl Into<TensorOp>, bound: impl Into<TensorOp>, on: &[ValueId]) -> ValueId {
        self.bound.push(bound, on).unwrap();
        self.func.push(op, on).unwrap()
    }

    fn push(&mut self, op: impl Into<TensorOp>, on: &[ValueId]) -> ValueId {
        let op = op.into();
        self.both(op.clone(), op, on)
    }

    fn shape(&self, id: ValueId) -> Vec<u64> {
        self.func.ty(id).unwrap().shape().to_vec()
    }

    /// Numbers for all, or one for each index of an axis.
    fn by_channel(&mut self, x: ValueId, axis: usize, of: Of) -> ValueId {
        let shape = self.shape(x);
        let mut channels = vec![1; shape.len() - axis];
        channels[0] = shape[axis];
        let numbers = match self.random.below(4) {
            0 => self.numbers(&[], of),
            1 => self.numbers(&[1], of),
            _ => self.numbers(&channels, of),
        };
        self.constant_of(&numbers)
    }

    /// An operation that keeps the shape.
    fn step(&mut self, x: ValueId, axis: usize) -> ValueId {
        let add = || TensorOp::from(Binary::Add {});
        match self.random.below(16) {
            0..4 => {
                let c = self.by_channel(x, axis, Of::Any);
                let (on, op) = (if self.random.one_in(2) { [x, c] } else { [c, x] }, Binary::Mul {});
                self.push(op, &on)
            }
            4..7 => {
                let c = self.by_channel(x, axis, Of::Any);
                let on = if self.random.one_in(2) { [x, c] } else { [c, x] };
                self.push(add(), &on)
            }
            7 => {
                let c = self.by_channel(x, axis, Of::Any);
                self.both(Binary::Sub {}, add(), &[x, c])
            }
            8 | 9 => {
                let c = self.by_channel(x, axis, Of::Divisors);
                self.push(Binary::Div {}, &[x, c])
            }
            10 => {
                let c = self.by_channel(x, axis, Of::Any);
                let op = self.random.pick(&[0, 1]);
                self.both(if op == 0 { Binary::Max {} } else { Binary::Min {} }, add(), &[x, c])
            }
            11 => self.both(Unary::Neg {}, Unary::Abs {}, &[x]),
            12 => self.both(Unary::Relu {}, Unary::Abs {}, &[x]),
            13 => {
                let alpha = Real(self.random.pick(&[0.25, 1e-50, 1e-40, 0.0]));
                self.both(Unary::LeakyRelu { alpha }, Unary::Abs {}, &[x])
            }
            14 => {
                let low = self.random.pick(&[f64::NEG_INFINITY, -1e30, -1.0, 0.0, 1e-50, 1.0]);
                let high = self.random.pick(&[f64::INFINITY, 1e50, 1e30, 6.0, 1.0]);
                // What is below the limit is as large as the limit.
                let bound = Unary::Clamp {
                    low: Real(if low.is_finite() { low.abs() } else { 0.0 }),
                    high: Real(f64::INFINITY),
                };
                self.both(Unary::Clamp { low: Real(low), high: Real(high) }, bound, &[x])
            }
            _ => {
                let two = self.number(2.0);
                self.push(Binary::Pow {}, &[x, two])
            }
        }
    }

    fn steps(&mut self, mut x: ValueId, axis: usize) -> ValueId {
        for _ in 0..self.random.below(5) {
            x = self.step(x, axis);
        }
        x
    }

    fn batch_norm(&mut self, x: ValueId) -> ValueId {
        let channels = [self.shape(x)[1]];
        let numbers = [Of::Any, Of::Any, Of::Any, Of::Variances].map(|of| self.numbers(&channels, of));
        let mut on = vec![x];
        for (i, numbers) in numbers.iter().enumerate() {
            // What is subtracted is added in the bound.
            let magnitudes: Vec<f64> =
                numbers.to_f64().iter().map(|v| if i == 2 { -v.abs() } else { v.abs() }).collect();
            self.bound.constant(&Tensor::from_f64(numbers.ty().clone(), &magnitudes));
            on.push(self.func.constant(numbers));
        }
        let is_any = self.numbers != Numbers::Infinite;
        let epsilon = if is_any { self.random.pick(&[1e-5, 1e-3, 0.0, 1e-12]) } else { 0.0 };
        self.push(Structured::BatchNorm { epsilon: Real(epsilon), channels_last: false }, &on)
    }

    fn convolution(&mut self, x: ValueId) -> ValueId {
        let mut x = x;
        let mut pads = vec![0; 4];
        if self.random.one_in(2) {
            let (mode, one) = (PadMode::Constant, vec![0, 0, 1, 0]);
            x = self.push(Structured::Pad { mode, before: one.clone(), after: one, value: Real(0.0) }, &[x]);
        }
        if self.random.one_in(2) {
            pads = vec![1, 0, 0, 1];
        }
        let w = self.constant(&[3, 2, 2, 2]);
        let (strides, dilations) = (vec![1, 1], vec![1, 1]);
        self.push(Structured::Conv { strides, pads, dilations, groups: 1, channels_last: false }, &[x, w])
    }
}

/// A function of a kind that passes fold, with its bound, and the same with all of its values for results.
fn function(random: &mut Random) -> [Func; 3] {
    let numbers = random.pick(&[Numbers::Small, Numbers::Far, Numbers::Far, Numbers::Infinite, Numbers::Infinite]);
    let mut p = Pair { func: Func::builder("f"), bound: Func::builder("f"), random, numbers };
    let result = match p.random.below(8) {
        0 | 1 => {
            let x = p.arg("x", &[3, 4]);
            let x = p.steps(x, 1);
            let (is_transposed, shape) = if p.random.one_in(3) { (true, [5, 4]) } else { (false, [4, 5]) };
            let mut w = p.constant(&shape);
            if is_transposed {
                w = p.push(Structured::Transpose { perm: vec![1, 0] }, &[w]);
            }
            let y = p.push(Structured::Matmul {}, &[x, w]);
            p.steps(y, 1)
        }
        2..5 => {
            let x = p.arg("x", &[1, 2, 3, 3]);
            let mut y = p.convolution(x);
            if p.random.one_in(3) {
                y = p.batch_norm(y);
            }
            p.steps(y, 1)
        }
        5 => {
            let (x, y) = (p.arg("x", &[3, 4]), p.arg("y", &[4, 2]));
            let (s, t) = (p.constant(&[]), p.constant(&[1]));
            let x = p.push(Binary::Mul {}, &[x, s]);
            let y = if p.random.one_in(2) { p.push(Binary::Mul {}, &[t, y]) } else { y };
            let z = p.push(Structured::Matmul {}, &[x, y]);
            p.steps(z, 1)
        }
        6 => {
            let mut x = p.arg("x", &[2, 3, 2]);
            if p.random.one_in(4) {
                let zero = p.number(0.0);
                x = p.push(Binary::Div {}, &[x, zero]);
            }
            let y = if p.random.one_in(2) { p.batch_norm(x) } else { x };
            let y = p.steps(y, 1);
            let y = p.steps(y, 1);
            // The power of one half, of what may be below zero, and then not by roundings, or is not.
            let y = match p.random.below(3) {
                0 => x,
                1 => p.push(Binary::Mul {}, &[y, y]),
                _ => p.both(Unary::Abs {}, Unary::Abs {}, &[y]),
            };
            let half = p.number(0.5);
            p.push(Binary::Pow {}, &[y, half])
        }
        _ => {
            // A layer norm in parts; what is normalised has no exact bound.
            let x = p.arg("x", &[3, 4]);
            let mean = Structured::Reduce { kind: ReduceKind::Mean, axes: vec![1], keep: true };
            let m = p.push(mean.clone(), &[x]);
            let d = p.both(Binary::Sub {}, Binary::Add {}, &[x, m]);
            let q = p.push(Binary::Mul {}, &[d, d]);
            let v = p.push(mean, &[q]);
            let epsilon = p.constant(&[]);
            let v = p.push(Binary::Add {}, &[v, epsilon]);
            let s = p.push(Unary::Sqrt {}, &[v]);
            let n = p.push(Binary::Div {}, &[d, s]);
            p.steps(n, 1)
        }
    };
    let func = p.func.clone().finish(result).unwrap();
    let all: Vec<ValueId> = func.values().filter(|(_, v)| !v.operands().is_empty()).map(|(id, _)| id).collect();
    let whole = if all.is_empty() { func.clone() } else { p.func.finish_all(&all).unwrap() };
    [func, p.bound.finish(result).unwrap(), whole]
}

fn inputs(func: &Func, random: &mut Random) -> Vec<Vec<f64>> {
    func.arguments().map(|(_, v)| (0..v.ty.elements()).map(|_| random.below(5) as f64 - 2.0).collect()).collect()
}

fn interpret(func: &Func, inputs: &[Vec<f64>]) -> Vec<Vec<f64>> {
    func.interpret_f64(&inputs.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap()
}

/// A function's first result with each value rounded to its type, as a machine has them.
fn rounded(func: &Func, inputs: &[Vec<f64>]) -> Vec<f64> {
    let mut values: Vec<Tensor> = vec![];
    let mut inputs = inputs.iter();
    for (id, value) in func.values() {
        values.push(match &value.def {
            Def::Argument => Tensor::from_f64(value.ty.clone(), inputs.next().unwrap()),
            Def::Constant(_) => func.constant(id).unwrap(),
            Def::Result { op, operands } => {
                op.apply(&operands.iter().map(|o| &values[o.index()]).collect::<Vec<_>>()).unwrap()
            }
        });
    }
    values[func.results()[0].index()].to_f64()
}

/// Whether an element is what it should be, but for roundings of what `bound` says.
fn is_right(found: f64, expected: f64, bound: f64) -> bool {
    match (expected.is_nan(), expected.is_finite()) {
        (true, _) => found.is_nan(),
        (_, false) => found == expected,
        // Where the bound overflows, a number is all that can be asked for.
        _ if !bound.is_finite() => found.is_finite(),
        _ => (found - expected).abs() <= 1e-5 * bound,
    }
}

fn check(seed: u64) -> bool {
    let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let [func, bound, whole] = function(&mut random);
    let inputs = inputs(&func, &mut random);
    let magnitudes: Vec<Vec<f64>> = inputs.iter().map(|x| x.iter().map(|v| v.abs()).collect()).collect();
    let all = || interpret(&whole, &inputs).into_iter().flatten().map(f64::abs).filter(|v| v.is_finite());
    // Not far from the end of the type one rounding more or less may be an overflow; below the least normal number digits are
    // lost, which a large factor brings up again. Then only the kind of a result is known.
    let is_far = all().any(|v| v >= 2f64.powi(100));
    let has_digits = all().all(|v| v == 0.0 || v >= f32::MIN_POSITIVE.into());
    let bound = &interpret(&bound, &magnitudes)[0];
    // What is made of constants alone is rounded as it would be if it were computed in a call.
    let expected = &interpret(&pass::fold_weights(&func).unwrap(), &inputs)[0];
    let exact = rounded(&func, &inputs);
    let mut before = func.clone();
    pass::optimize(func.clone(), |pass, after| {
        // In double precision nothing overflows that would in f32, and rounded to f32, what is fused is rounded once and overflows
        // later: an element that is right in either is right. What a fold spoils is wrong in both.
        let found = &interpret(&pass::fold_weights(after).unwrap(), &inputs)[0];
        let on_machine = rounded(after, &inputs);
        for i in 0..found.len() {
            let bound = if has_digits { bound[i] } else { f64::INFINITY };
            let pairs = [(found[i], expected[i]), (on_machine[i], exact[i])];
            let is_made = |(found, expected): (f64, f64)| found.is_nan() && !expected.is_nan();
            let is_wrong = match is_far {
                true => pairs.into_iter().all(is_made),
                false => is_made(pairs[1]) || !pairs.into_iter().any(|(f, e)| is_right(f, e, bound)),
            };
            assert!(
                !is_wrong,
                "seed {seed}, after {}: {} for {}, rounded {} for {}\nbefore it:\n{before}\nafter it:\n{after}\nat first:\n{func}",
                pass.name, pairs[0].0, pairs[0].1, pairs[1].0, pairs[1].1
            );
        }
        before = after.clone();
    })
    .unwrap();
    expected.iter().any(|v| !v.is_finite())
}

#[test]
fn no_constant_changes_what_a_function_means() {
    let cases: u64 = std::env::var("PROPTEST_CASES").map_or(256, |cases| cases.parse().unwrap());
    let cases = cases * 8;
    let infinite = (1..=cases).filter(|seed| check(*seed)).count() as u64;
    // Both kinds of results were there.
    assert!(
        cases < 100 || (cases / 10..cases * 9 / 10).contains(&infinite),
        "{infinite} of {cases} had no finite result"
    );
}

/// The function of a text after all passes.
fn optimized(text: &str) -> Func {
    pass::optimize(text.parse().unwrap(), |_, _| {}).unwrap()
}

fn words(func: &Func) -> Vec<String> {
    let results = func.values().filter_map(|(_, v)| match &v.def {
        Def::Result { op: TensorOp::Structured(Structured::Kernel { problem }), .. } => Some(problem.to_string()),
        Def::Result { op, .. } => Some(op.to_string()),
        _ => None,
    });
    results.collect()
}

#[test]
fn numbers_that_are_not_folded_are_post_ops() {
    let conv = |factor: &str| {
        format!(
            "func @f(%x: f32[1x1x4x4]) -> f32[1x2x3x3] {{
                %w = constant f32[2x1x2x2] {{1, 2, 0, 3, 4, 5, 6, 0}}
                %s = constant f32[2x1x1] {{{factor}}}
                %c = conv %x, %w {{strides=[1,1] pads=[0,0,0,0] dilations=[1,1] groups=1 channels_last=false}}
                %y = mul %c, %s
                return %y
            }}"
        )
    };
    let [plain, post] = [" dtag=abx", " +mul:b"].map(|post| format!("conv f32 mb1ic1ih4oc2kh2{post}"));
    for (factor, expected) in
        [("2, 0.5", &plain), ("1, inf", &post), ("1, NaN", &post), ("1e-40, 1", &post), ("1e30, 1", &post)]
    {
        let words = words(&optimized(&conv(factor)));
        assert!(words.contains(expected), "{factor}: {words:?}");
    }
}

#[test]
fn a_norm_of_a_channel_that_was_given_up_is_not_interpreted() {
    let norm = |scale: &str, variance: &str| {
        words(&optimized(&format!(
            "func @f(%x: f32[2x2x3]) -> f32[2x2x3] {{
                %s = constant f32[2] {{1, {scale}}}
                %b = constant f32[2] {{1, 2}}
                %m = constant f32[2] {{3, 4}}
                %v = constant f32[2] {{5, {variance}}}
                %y = batch_norm %x, %s, %b, %m, %v {{epsilon=0 channels_last=false}}
                return %y
            }}"
        )))
    };
    assert_eq!(norm("2", "1"), ["mul", "add"]);
    assert_eq!(norm("1e-41", "1"), ["add", "div", "mul", "add"]);
    for (scale, variance) in [("inf", "1"), ("2", "0"), ("2", "inf"), ("2", "-1"), ("NaN", "1")] {
        assert_eq!(norm(scale, variance), ["batch_norm"], "{scale} {variance}");
    }
}
