//! Times of operations on shapes of common networks, on one thread: `cargo run --release -p kiln-model --example ops`.

use std::hint::black_box;
use std::time::Instant;

use kiln_ir::func::{Binary, PoolKind, ReduceKind, Unary};
use kiln_model::ops::{
    Elementwise, Input, LayerNorm, Op, Pool, Reduce, RmsNorm, Serial, Softmax, Source, Step, Transpose, Windows,
};

/// Prints the least time of many runs, by element of the larger of operand and result.
fn time(name: &str, elements: usize, bytes: usize, mut run: impl FnMut()) {
    let mut best = f64::INFINITY;
    for _ in 0..50 {
        let start = Instant::now();
        run();
        best = best.min(start.elapsed().as_secs_f64());
    }
    let (ns, rate) = (best * 1e9 / elements as f64, bytes as f64 / best / 1e9);
    println!("{name:32} {:9.1} us {ns:7.3} ns/element {rate:7.1} GB/s", best * 1e6);
}

fn numbers(count: usize) -> Vec<f32> {
    (0..count).map(|i| (i as u32).wrapping_mul(2_654_435_761) as f32 / u32::MAX as f32 * 8.0 - 4.0).collect()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let serial = &Serial;
    let n = 12 * 128 * 128;
    let (x, mut y) = (numbers(n), vec![0.0; n]);
    let plan = Softmax::new(&[12, 128, 128], 2)?;
    time("softmax 12x128x128", n, 8 * n, || plan.run(serial, Some(black_box(&x)), &mut y));
    let plan = Softmax::new(&[12, 128, 128], 1)?;
    time("softmax 12x128x128 axis 1", n, 8 * n, || plan.run(serial, Some(black_box(&x)), &mut y));

    let n = 128 * 768;
    let (x, mut y, scale, bias) = (numbers(n), vec![0.0; n], numbers(768), numbers(768));
    let plan = LayerNorm::new(&[128, 768], 1, 1e-12)?;
    time("layer_norm 128x768", n, 8 * n, || plan.run(serial, Some(black_box(&x)), Some(&scale), Some(&bias), &mut y));
    let plan = RmsNorm::new(&[128, 768], 1, 1e-6)?;
    time("rms_norm 128x768", n, 8 * n, || plan.run(serial, Some(black_box(&x)), Some(&scale), &mut y));
    let step = |op, inputs: &[Input]| Step { op, inputs: inputs.to_vec() };
    let both = [Input::Operand(0), Input::Operand(1)];
    let plan = Elementwise::new(&[128, 768], &[&[128, 768], &[768]], vec![step(Op::Binary(Binary::Add {}), &both)])?;
    time("add 128x768, 768", n, 8 * n, || {
        plan.run(serial, &[Source::Memory(black_box(&x)), Source::Memory(&bias)], &mut y);
    });
    let plan = Transpose::new(4, &[128, 12, 64], &[1, 0, 2])?;
    let (from, to) = (bytemuck::cast_slice::<f32, u8>(&x), bytemuck::cast_slice_mut::<f32, u8>(&mut y));
    time("transpose 128x12x64 to 12x128x64", n, 8 * n, || plan.run(serial, black_box(from), to));
    let plan = Transpose::new(4, &[128, 768], &[1, 0])?;
    time("transpose 128x768", n, 8 * n, || plan.run(serial, black_box(from), to));

    let n = 128 * 3072;
    let (x, mut y, bias) = (numbers(n), vec![0.0; n], numbers(3072));
    for op in [
        Unary::GeluErf {},
        Unary::GeluTanh {},
        Unary::Exp {},
        Unary::Log {},
        Unary::Tanh {},
        Unary::Erf {},
        Unary::Sigmoid {},
        Unary::Silu {},
        Unary::Relu {},
        Unary::Sin {},
    ] {
        let name = format!("{} 128x3072", op.name());
        let plan = Elementwise::new(&[n], &[&[n]], vec![step(Op::Unary(op), &[Input::Operand(0)])])?;
        time(&name, n, 8 * n, || plan.run(serial, &[Source::Memory(black_box(&x))], &mut y));
    }
    let pow = vec![step(Op::Binary(Binary::Pow {}), &[Input::Operand(0), Input::Operand(0)])];
    let plan = Elementwise::new(&[n], &[&[n]], pow)?;
    let positive: Vec<f32> = x.iter().map(|x| x.abs() + 0.1).collect();
    time("pow 128x3072", n, 8 * n, || plan.run(serial, &[Source::Memory(black_box(&positive))], &mut y));
    let chain = vec![step(Op::Binary(Binary::Add {}), &both), step(Op::Unary(Unary::GeluErf {}), &[Input::Step(0)])];
    let plan = Elementwise::new(&[128, 3072], &[&[128, 3072], &[3072]], chain)?;
    time("add and gelu_erf 128x3072", n, 8 * n, || {
        plan.run(serial, &[Source::Memory(black_box(&x)), Source::Memory(&bias)], &mut y);
    });

    let (n, out) = (112 * 112 * 64, 56 * 56 * 64);
    let (x, mut y) = (numbers(n), vec![0.0; out]);
    let windows = Windows { kernel: &[3, 3], strides: &[2, 2], pads: &[1; 4], dilations: &[1, 1], out: &[56, 56] };
    for (shape, last) in [([1, 112, 112, 64], true), ([1, 64, 112, 112], false)] {
        let plan = Pool::new(PoolKind::Max, 0, &shape, windows, last)?;
        let name = format!("max 3x3/2 {}", if last { "112x112x64" } else { "64x112x112" });
        time(&name, n, 4 * (n + out), || plan.run(serial, black_box(&x), &mut y));
    }
    let (n, out) = (49 * 2048, 2048);
    let (x, mut y) = (numbers(n), vec![0.0; out]);
    for (shape, axis) in [([49, 2048], 0), ([2048, 49], 1)] {
        let plan = Reduce::new(ReduceKind::Mean, &shape, &[axis])?;
        time(&format!("mean {shape:?} axis {axis}"), n, 4 * (n + out), || plan.run(serial, black_box(&x), &mut y));
    }
    let n = 3 * 224 * 224;
    let (x, mut y) = (numbers(n), vec![0.0f32; n]);
    let (from, to) = (bytemuck::cast_slice::<f32, u8>(&x), bytemuck::cast_slice_mut::<f32, u8>(&mut y));
    for (name, shape) in [("3x224x224", [3, 224 * 224]), ("224x224x3", [224 * 224, 3])] {
        let plan = Transpose::new(4, &shape, &[1, 0])?;
        time(&format!("transpose {name}"), n, 8 * n, || plan.run(serial, black_box(from), to));
    }
    Ok(())
}
