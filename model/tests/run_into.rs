//! Results that are written where the caller wants them.

use kiln_model::ir::Func;
use kiln_model::{Bound, ModelError, Network, Runtime, Tensor, TensorType};

/// A network of a function's text.
fn network(text: &str) -> Network {
    let func: Func = text.parse().unwrap_or_else(|e| panic!("{e}\n{text}"));
    Bound::from_func(func).compile(&Runtime::builder().threads(2).build().unwrap()).unwrap()
}

/// Small integers: sums of their products are exact.
fn filled(ty: &TensorType, seed: u64) -> Tensor {
    let values: Vec<f64> = (0..ty.elements()).map(|n| ((n * 7 + seed * 5 + n / 3) % 7) as f64 - 3.0).collect();
    Tensor::from_f64(ty.clone(), &values)
}

/// Bytes at an address that is `offset` past a multiple of 64.
struct Placed {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl Placed {
    fn new(content: &[u8], offset: usize) -> Self {
        let mut bytes = vec![0xA5; content.len() + 128];
        let start = (64 - bytes.as_ptr().addr() % 64) % 64 + offset;
        bytes[start..start + content.len()].copy_from_slice(content);
        Placed { bytes, start, len: content.len() }
    }

    fn get(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.len]
    }

    fn get_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.len]
    }

    /// True if the bytes around are as they were.
    fn is_intact(&self) -> bool {
        let around = self.bytes[..self.start].iter().chain(&self.bytes[self.start + self.len..]);
        around.into_iter().all(|byte| *byte == 0xA5)
    }
}

/// Runs with all memory at an offset, and compares with `run`.
fn compare(text: &str, offset: usize) {
    let network = network(text);
    let inputs: Vec<Tensor> = network.inputs().zip(0..).map(|((_, ty), seed)| filled(ty, seed)).collect();
    let expected = network.run(&inputs).unwrap();
    let placed: Vec<Placed> = inputs.iter().map(|t| Placed::new(t.data(), offset)).collect();
    let mut results: Vec<Placed> = expected.iter().map(|t| Placed::new(&vec![0xFF; t.data().len()], offset)).collect();
    for _ in 0..2 {
        let given: Vec<&[u8]> = placed.iter().map(Placed::get).collect();
        let mut wanted: Vec<&mut [u8]> = results.iter_mut().map(Placed::get_mut).collect();
        network.run_into(&given, &mut wanted).unwrap();
        for (at, (found, expected)) in results.iter_mut().zip(&expected).enumerate() {
            assert_eq!(found.get(), &expected.data()[..], "result {at} at offset {offset} of\n{text}");
            assert!(found.is_intact(), "result {at} at offset {offset} of\n{text}");
            found.get_mut().fill(0xFF);
        }
    }
}

const FUNCTIONS: &[&str] = &[
    // One kernel, whose result is the network's.
    "func @f(%x: f32[5x16], %w: f32[16x24], %b: f32[24]) -> f32[5x24] {
       %0 = matmul %x, %w\n %1 = add %0, %b\n %2 = relu %1\n return %2\n}",
    // A result that other steps read, too, and one that is computed over another value.
    "func @f(%x: f32[8x16], %w: f32[16x16]) -> f32[8x16], f32[8x16], f32[8x16] {
       %0 = matmul %x, %w\n %1 = matmul %0, %w\n %2 = softmax %1 {axis=1}\n %3 = matmul %2, %w\n return %0, %3, %2\n}",
    // The same twice, an argument, a part of something, and a constant.
    "func @f(%x: f32[4x6]) -> f32[4x6], f32[4x6], f32[4x6], f32[24], f32[2] {
       %0 = softmax %x {axis=0}\n %1 = reshape %0 {shape=[24]}\n %c = constant f32[2] {1, 2}\n return %0, %0, %x, %1, %c\n}",
    // Elements of other sizes.
    "func @f(%x: f32[3x5], %i: i64[2]) -> i64[2], f32[2x5] {
       %0 = gather %x, %i {axis=0}\n %1 = abs %i\n return %1, %0\n}",
    // Nothing at all.
    "func @f(%x: f32[0x4]) -> f32[0x4] {\n %0 = relu %x\n return %0\n}",
];

#[test]
fn results_are_those_of_run() {
    for text in FUNCTIONS {
        // Addresses that vectors, elements, or nothing are aligned to.
        let text = text.to_string();
        for offset in [0, 4, 1] {
            compare(&text, offset);
        }
    }
}

#[test]
fn a_result_is_written_in_place() {
    let network = network(FUNCTIONS[0]);
    let inputs: Vec<Tensor> = network.inputs().zip(0..).map(|((_, ty), seed)| filled(ty, seed)).collect();
    let given: Vec<&[u8]> = inputs.iter().map(|t| &t.data()[..]).collect();
    let mut result = vec![0f32; 5 * 24];
    let bytes = {
        // SAFETY: any bytes are floats, and floats are bytes.
        let (_, bytes, _) = unsafe { result.align_to_mut::<u8>() };
        bytes
    };
    network.run_into(&given, &mut [bytes]).unwrap();
    let expected = network.run(&inputs).unwrap();
    assert_eq!(result, &expected[0].elements::<f32>().unwrap()[..]);
}

#[test]
fn wrong_numbers_and_lengths_are_errors() {
    let network = network(FUNCTIONS[0]);
    let inputs: Vec<Tensor> = network.inputs().zip(0..).map(|((_, ty), seed)| filled(ty, seed)).collect();
    let given: Vec<&[u8]> = inputs.iter().map(|t| &t.data()[..]).collect();
    let mut memory = vec![7u8; 5 * 24 * 4 + 4];
    let (right, long) = (5 * 24 * 4, 5 * 24 * 4 + 4);

    let mut wrong = given.clone();
    wrong[1] = &wrong[1][4..];
    let error = network.run_into(&wrong, &mut [&mut memory[..right]]).unwrap_err();
    assert!(matches!(&error, ModelError::Input { name, .. } if name == "w"), "{error}");
    assert!(error.to_string().contains("f32[16x24], which takes 1536 bytes"), "{error}");
    let error = network.run_into(&given[..2], &mut [&mut memory[..right]]).unwrap_err();
    assert!(matches!(error, ModelError::Input { .. }) && error.to_string().contains("3 tensors"), "{error}");
    for len in [long, right - 1, 0] {
        let error = network.run_into(&given, &mut [&mut memory[..len]]).unwrap_err();
        assert!(matches!(error, ModelError::Output { .. }), "{error}");
        assert!(error.to_string().contains(&format!("{len} bytes")), "{error}");
    }
    let error = network.run_into(&given, &mut []).unwrap_err();
    assert!(matches!(error, ModelError::Output { .. }), "{error}");
    assert!(memory.iter().all(|byte| *byte == 7), "nothing was written");
}

#[test]
fn numbered_weights_are_packed_once_for_each_number() {
    use kiln_model::CompileOptions;
    let text = "func @f(%x: f32[32x96], %w: f32[128x96]) -> f32[32x128] {\n %t = transpose %w {perm=[1,0]}\n \
                %0 = matmul %x, %t\n return %0\n}";
    let func: Func = text.parse().unwrap();
    let runtime = Runtime::builder().threads(1).build().unwrap();
    let weights = filled(func.arguments().nth(1).map(|(_, v)| &v.ty).unwrap(), 1);
    let bound = || {
        let constants = func.with_constants(|v| (v.name == "w").then(|| weights.clone()));
        Bound::from_func(constants.unwrap())
    };
    let compile = |number: u64| {
        let identify = move |_: &Tensor| Some(number);
        let options = CompileOptions { identify: Some(&identify), ..CompileOptions::default() };
        bound().compile_with(&runtime, &options).unwrap()
    };
    let (one, same) = (compile(1), compile(1));
    assert_eq!(one.packed_weights().0, 1, "this kernel packs its weights");
    assert_eq!(runtime.stats().packings, 1);
    let other = compile(2);
    assert_eq!(runtime.stats().packings, 2);
    // By content they are others again, and that is found by content alone.
    let (content, again) = (bound().compile(&runtime).unwrap(), bound().compile(&runtime).unwrap());
    assert_eq!(runtime.stats().packings, 3);
    let x = filled(one.inputs().next().unwrap().1, 3);
    let results: Vec<_> =
        [&one, &same, &other, &content, &again].iter().map(|n| n.run(std::slice::from_ref(&x)).unwrap()).collect();
    assert!(results.iter().all(|result| *result == results[0]));
}
