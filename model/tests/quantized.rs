//! Numbers as integers of 8 bits: every code is that of the quotient as single precision rounds it, however the scale is given and
//! whatever the passes make of it. Inputs lie at ties and a few units in the last place beside them, where any other rounding
//! gives another code.

use kiln_ir::Func;
use kiln_ir::func::{Element, Tensor};
use kiln_jit::Runtime;
use kiln_model::{Bound, Code};

/// Numbers without a pattern.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    /// A scale with a full mantissa, or a short one, or one that many networks have.
    fn scale(&mut self) -> f32 {
        let mantissa = (self.next() as u32) & 0x7f_ffff;
        match self.next() % 4 {
            0 => f32::from_bits(127 << 23 | (mantissa & 0x7f_0000)) * 0.25,
            1 => 1.0 / (1 + self.next() % 255) as f32,
            2 => (1 + self.next() % 20) as f32 / 10.0,
            _ => f32::from_bits((110 + (self.next() as u32) % 24) << 23 | mantissa),
        }
    }
}

const ZERO: u8 = 13;

/// Numbers at and around the ties of a scale, `n` of them.
fn around_ties(scale: f32, n: usize, r: &mut Random) -> Vec<f32> {
    let one = |_| {
        let code = (r.next() % 258) as f32 - 1.0 - f32::from(ZERO);
        let tie = ((f64::from(code) + 0.5) * f64::from(scale)) as f32;
        let ulps = (r.next() % 7) as i32 - 3;
        f32::from_bits((tie.to_bits() as i32 + ulps) as u32)
    };
    (0..n).map(one).collect()
}

/// The code as the specification has it.
fn code(x: f32, scale: f32) -> u8 {
    ((x / scale).round_ties_even() + f32::from(ZERO)).clamp(0.0, 255.0) as u8
}

/// The results of both the compiled function and the interpreter for some arguments, and the number of steps of each kind.
fn run(runtime: &Runtime, text: &str, arguments: &[Tensor]) -> (Vec<u8>, Vec<Code>) {
    run_func(runtime, text.parse().unwrap_or_else(|e| panic!("{e}\n{text}")), arguments)
}

fn run_func(runtime: &Runtime, func: Func, arguments: &[Tensor]) -> (Vec<u8>, Vec<Code>) {
    let network = Bound::from_func(func.clone()).compile(runtime).unwrap();
    let found = network.run(arguments).unwrap().remove(0).elements::<u8>().unwrap().to_vec();
    let wide: Vec<Vec<f64>> = arguments.iter().map(Tensor::to_f64).collect();
    let interpreted = func.interpret_f64(&wide.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap().remove(0);
    assert!(interpreted.iter().zip(&found).all(|(i, f)| *i == f64::from(*f)), "the interpreter differs\n{func}");
    (found, network.steps().map(|s| s.code).collect())
}

/// The operations that follow a quotient `%e` of `[rows, 32]`. The interpreter rounds where a cast says so.
const TAIL: &str = "%d = cast %e {to=f32}
    %r = round %d
    %z = constant f32[] {13}
    %k = add %r, %z
    %c = clamp %k {low=0 high=255}
    %q = cast %c {to=u8}
    return %q
}";

fn tensor<T: Element + Send + Sync>(shape: &[u64], values: Vec<T>) -> Tensor {
    Tensor::from_elements(shape.to_vec(), values).unwrap()
}

#[test]
fn codes_are_those_of_quotients_that_are_rounded_once() {
    let runtime = Runtime::builder().threads(1).build().unwrap();
    let mut r = Random(3);
    let mut reciprocals_differ = 0;
    for _ in 0..24 {
        let scale = r.scale();
        let x = around_ties(scale, 64 * 32, &mut r);
        let expected: Vec<u8> = x.iter().map(|x| code(*x, scale)).collect();
        let by_product = |x: &f32| ((x * (1.0 / scale)).round_ties_even() + f32::from(ZERO)).clamp(0.0, 255.0) as u8;
        reciprocals_differ += x.iter().zip(&expected).filter(|(x, code)| by_product(x) != **code).count();
        let eye: Vec<f32> = (0..32 * 32).map(|i| f32::from(u8::from(i % 33 == 0))).collect();
        let [x, eye, one] = [tensor(&[64, 32], x), tensor(&[32, 32], eye), tensor(&[], vec![scale])];
        let constant = format!("%s = constant f32[] {{{scale}}}");
        // A constant; an argument; after a product that changes nothing, as a kernel would have it; after numbers that do not either.
        for (head, arguments) in [
            (format!("func @f(%x: f32[64x32]) -> u8[64x32] {{\n{constant}\n%e = div %x, %s\n"), vec![&x]),
            ("func @f(%x: f32[64x32], %s: f32[]) -> u8[64x32] {\n%e = div %x, %s\n".into(), vec![&x, &one]),
            (
                format!(
                    "func @f(%x: f32[64x32], %w: f32[32x32]) -> u8[64x32] {{\n{constant}\n%p = matmul %x, %w\n%e = div %p, %s\n"
                ),
                vec![&x, &eye],
            ),
            (
                format!(
                    "func @f(%x: f32[64x32]) -> u8[64x32] {{\n{constant}\n%h = constant f32[] {{0.5}}\n%t = constant f32[] {{2}}\n\
                     %m = mul %x, %h\n%n = mul %m, %t\n%e = div %n, %s\n"
                ),
                vec![&x],
            ),
        ] {
            let arguments: Vec<Tensor> = arguments.into_iter().cloned().collect();
            let (found, _) = run(&runtime, &format!("{head}{TAIL}"), &arguments);
            let wrong = found.iter().zip(&expected).filter(|(a, b)| a != b).count();
            assert_eq!(wrong, 0, "scale {scale}: {head}");
        }
    }
    // Inputs are such that products with reciprocals would be seen.
    assert!(reciprocals_differ > 100, "{reciprocals_differ}");
}

#[test]
fn codes_by_channel_and_of_scaled_numbers_are_exact_too() {
    let runtime = Runtime::builder().threads(1).build().unwrap();
    let mut r = Random(5);
    let scales: Vec<f32> = (0..32).map(|_| r.scale()).collect();
    let columns: Vec<Vec<f32>> = scales.iter().map(|s| around_ties(*s, 64, &mut r)).collect();
    let x: Vec<f32> = (0..64 * 32).map(|i| columns[i % 32][i / 32]).collect();
    let expected: Vec<u8> = x.iter().enumerate().map(|(i, x)| code(*x, scales[i % 32])).collect();
    let text = format!("func @f(%x: f32[64x32], %s: f32[32]) -> u8[64x32] {{\n%e = div %x, %s\n{TAIL}");
    let [x, scales] = [tensor(&[64, 32], x), tensor(&[32], scales)];
    let func: Func = text.parse().unwrap();
    assert_eq!(run_func(&runtime, func.clone(), &[x.clone(), scales.clone()]).0, expected);
    let func = func.with_constants(|value| (value.name == "s").then(|| scales.clone())).unwrap();
    assert_eq!(run_func(&runtime, func, &[x]).0, expected);
    // Codes become numbers, are multiplied, and become codes again: each product is rounded.
    let codes: Vec<u8> = (0..64 * 32).map(|_| r.next() as u8).collect();
    let [a, b, c] = [0.1f32, 0.7, 0.035];
    let expected: Vec<u8> = codes.iter().map(|q| code(f32::from(*q) * a * b, c)).collect();
    let text = format!(
        "func @f(%u: u8[64x32]) -> u8[64x32] {{\n%x = cast %u {{to=f32}}\n%a = constant f32[] {{{a}}}\n%b = constant f32[] {{{b}}}\n\
         %m = mul %x, %a\n%o = cast %m {{to=f32}}\n%t = mul %o, %b\n%n = cast %t {{to=f32}}\n%s = constant f32[] {{{c}}}\n%e = div %n, %s\n{TAIL}"
    );
    assert_eq!(run(&runtime, &text, &[tensor(&[64, 32], codes)]).0, expected);
}

#[test]
fn what_decides_nothing_is_a_part_of_its_kernel() {
    let runtime = Runtime::builder().threads(1).build().unwrap();
    let text = "func @f(%q: f32[2x8x16], %k: f32[2x16x8]) -> f32[2x8x8] {
        %p = matmul %q, %k
        %s = constant f32[] {5.656854}
        %d = div %p, %s
        %w = softmax %d {axis=2}
        return %w
    }";
    let func: Func = text.parse().unwrap();
    let network = Bound::from_func(func).compile(&runtime).unwrap();
    assert_eq!(network.steps().map(|s| s.code).collect::<Vec<_>>(), [Code::Kernel, Code::Native]);
}
