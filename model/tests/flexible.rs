//! One network for any sizes of its open dimensions.

use std::path::Path;

use kiln_ir::Func;
use kiln_jit::Runtime;
use kiln_model::arch::{ArchOptions, Architecture};
use kiln_model::{Bindings, Bound, Flexible, FlexibleError, Model, ModelError, OpenDim, Tensor};
use kiln_onnx::TestSet;

fn runtime() -> Runtime {
    Runtime::builder().threads(2).build().unwrap()
}

fn options(seq: u64) -> ArchOptions {
    ArchOptions { batch: 2, seq: Some(seq) }
}

fn compile(runtime: &Runtime, architecture: Architecture, longest: u64) -> Result<Flexible, ModelError> {
    let dims = [OpenDim::sequence(1..=longest)];
    Flexible::compile(runtime, &dims, |sizes| Bound::from_architecture(architecture, &options(sizes[0])))
}

/// Fails where results are further apart than their largest element allows.
#[track_caller]
fn agree(found: &[Tensor], expected: &[Tensor], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found.ty(), expected.ty(), "{what}");
        let (found, expected) = (found.to_f64(), expected.to_f64());
        let largest = expected.iter().fold(0.0f64, |m, v| m.max(v.abs()));
        for (f, e) in found.iter().zip(&expected) {
            assert!((f - e).abs() <= tolerance * largest, "{what}: {f} {e}");
        }
    }
}

/// The interpreter's results of a function.
fn interpreted(func: &Func, inputs: &[Tensor]) -> Vec<Tensor> {
    let arguments: Vec<Vec<f64>> = inputs.iter().map(Tensor::to_f64).collect();
    let results = func.interpret_f64(&arguments.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap();
    let types = func.results().iter().map(|id| func.value(*id).ty.clone());
    types.zip(&results).map(|(ty, values)| Tensor::from_f64(ty, values)).collect()
}

#[test]
fn every_length_computes_what_its_network_does() {
    let runtime = runtime();
    for architecture in [Architecture::BertTiny, Architecture::DistilbertTiny, Architecture::RobertaTiny] {
        let network = compile(&runtime, architecture, 40).unwrap();
        let compilations = runtime.stats().kernels.compilations;
        for seq in [7, 25, 1, 40, 33, 7] {
            let inputs = architecture.sample_inputs(&options(seq)).unwrap();
            let func = architecture.build(&options(seq)).unwrap();
            agree(&network.run(&inputs).unwrap(), &interpreted(&func, &inputs), 1e-5, &format!("{architecture} {seq}"));
        }
        // No call waited for a compiler: no length came thrice.
        assert_eq!(runtime.stats().kernels.compilations, compilations, "{architecture}");
        assert_eq!((network.stats().plans, network.stats().plans_made), (5, 5));
    }
}

#[test]
fn batches_of_sequences_are_computed_as_their_networks_do() {
    let runtime = runtime();
    let of = |batch, seq| ArchOptions { batch, seq: Some(seq) };
    let dims = [OpenDim::batch(1..=9), OpenDim::sequence(2..=40)];
    for architecture in [Architecture::BertTiny, Architecture::RobertaTiny] {
        let network =
            Flexible::compile(&runtime, &dims, |sizes| Bound::from_architecture(architecture, &of(sizes[0], sizes[1])))
                .unwrap();
        let compilations = runtime.stats().kernels.compilations;
        let sizes = [(1, 7), (1, 2), (3, 25), (9, 40), (9, 2), (2, 2), (4, 4), (5, 5), (8, 33), (7, 31)];
        let inputs = |(batch, seq)| architecture.sample_inputs(&of(batch, seq)).unwrap();
        let results: Vec<_> = sizes.iter().map(|sizes| network.run(&inputs(*sizes)).unwrap()).collect();
        // Products of attention are families too, though two of their numbers depend on sizes.
        assert_eq!(runtime.stats().kernels.compilations, compilations, "{architecture}");
        for ((batch, seq), found) in sizes.into_iter().zip(results) {
            let alone = Bound::from_architecture(architecture, &of(batch, seq)).unwrap().compile(&runtime).unwrap();
            let expected = alone.run(&inputs((batch, seq))).unwrap();
            agree(&found, &expected, 1e-5, &format!("{architecture} {batch}x{seq}"));
        }
        let error = network.run(&inputs((10, 7))).unwrap_err().to_string();
        assert!(error.contains("batch 1 to 9, sequence 2 to 40"), "{error}");
        assert!(network.run(&inputs((1, 1))).is_err() && network.run(&inputs((1, 41))).is_err());
    }
}

/// Images of any height and width, and any number of them: convolutions, a pool and a mean. The sides are divided by four.
fn images(batch: u64, height: u64, width: u64) -> Func {
    let (h, w) = (height / 4, width / 4);
    let weights = |count: usize| (0..count).map(|i| format!("{}", (i * 7 % 11) as f64 / 8.0 - 0.6)).collect::<Vec<_>>();
    let text = format!(
        "func @images(%x: f32[{batch}x3x{height}x{width}]) -> f32[{batch}x5x{h}x{w}], f32[{batch}x5] {{
            %w1 = constant f32[4x3x2x2] {{{}}}
            %w2 = constant f32[5x4x3x1] {{{}}}
            %c1 = conv %x, %w1 {{strides=[2,2] pads=[0,0,0,0] dilations=[1,1] groups=1 channels_last=false}}
            %r1 = relu %c1
            %p = pool %r1 {{kind=max p=0 kernel=[2,2] strides=[2,2] pads=[0,0,0,0] dilations=[1,1] out=[{h},{w}] channels_last=false}}
            %y = conv %p, %w2 {{strides=[1,1] pads=[1,0,1,0] dilations=[1,1] groups=1 channels_last=false}}
            %m = reduce %y {{kind=mean axes=[2,3] keep=false}}
            return %y, %m
        }}",
        weights(48).join(", "),
        weights(60).join(", "),
    );
    text.parse().unwrap_or_else(|e| panic!("{e}\n{text}"))
}

/// Numbers without a pattern.
fn pixels(batch: u64, height: u64, width: u64) -> Tensor {
    let count = batch * 3 * height * width;
    let number = |i: u64| ((i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) % 256) as f32 / 128.0 - 1.0;
    Tensor::from_elements([batch, 3, height, width], (0..count).map(number).collect()).unwrap()
}

#[test]
fn images_of_any_size_are_computed_as_their_networks_do() {
    let runtime = runtime();
    let side = |name| OpenDim::named(name, 8..=64).step(4);
    let dims = [OpenDim::batch(1..=5), side("height"), side("width")];
    let network =
        Flexible::compile(&runtime, &dims, |sizes| Ok(Bound::from_func(images(sizes[0], sizes[1], sizes[2])))).unwrap();
    for (batch, height, width) in [(1, 8, 8), (5, 64, 64), (2, 12, 40), (3, 60, 8), (4, 16, 16), (1, 64, 60)] {
        let inputs = [pixels(batch, height, width)];
        let found = network.run(&inputs).unwrap();
        let what = format!("{batch} of {height}x{width}");
        let alone = Bound::from_func(images(batch, height, width)).compile(&runtime).unwrap();
        agree(&found, &alone.run(&inputs).unwrap(), 1e-5, &what);
        agree(&found, &interpreted(&images(batch, height, width), &inputs), 1e-5, &what);
    }
    let error = network.run(&[pixels(1, 10, 8)]).unwrap_err().to_string();
    assert!(error.contains("height 8 to 64 in steps of 4") && error.contains("f32[1x3x10x8]"), "{error}");
    // Other sizes are not linear.
    let all = [OpenDim::named("height", 8..=64)];
    let error = Flexible::compile(&runtime, &all, |sizes| Ok(Bound::from_func(images(1, sizes[0], 8))))
        .unwrap_err()
        .to_string();
    assert!(error.contains("not linear") && error.contains("OpenDim::step"), "{error}");
}

/// Networks from files, with the results of ONNX's reference implementation for several sizes.
#[test]
fn files_are_computed_as_the_reference_does() {
    let runtime = runtime();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let tokens = [OpenDim::batch(1..=6), OpenDim::sequence(1..=24)];
    let side = |name| OpenDim::named(name, 8..=48).step(8);
    let pixels = [OpenDim::batch(1..=4), side("height"), side("width")];
    for (name, dims) in [("tokens", &tokens[..]), ("pixels", &pixels)] {
        let path = fixtures.join(name).join("model.onnx");
        let model = Model::from_onnx(&path).unwrap();
        let network = Flexible::from_model(&runtime, &model, dims, &Bindings::new()).unwrap();
        let sets = TestSet::beside(&path);
        assert!(sets.len() >= 4, "{sets:?}");
        for set in sets {
            let set = TestSet::read(&set).unwrap();
            let found = network.run(&set.inputs).unwrap();
            agree(&found, &set.outputs, 1e-5, &set.folder.display().to_string());
        }
    }
    let model = Model::from_onnx(fixtures.join("tokens/model.onnx")).unwrap();
    let only = [OpenDim::sequence(1..=24)];
    let error = Flexible::from_model(&runtime, &model, &only, &Bindings::new()).unwrap_err();
    assert!(matches!(error, ModelError::Import(_)) && error.to_string().contains("`s0`"), "{error}");
    assert!(Flexible::from_model(&runtime, &model, &only, &Bindings::new().batch(2)).is_ok());
    let named = [OpenDim::named("s0", 1..=4), OpenDim::named("s77", 1..=9)];
    assert!(Flexible::from_model(&runtime, &model, &named, &Bindings::new()).is_ok());
    let wrong = [OpenDim::named("height", 1..=4)];
    let error = Flexible::from_model(&runtime, &model, &wrong, &Bindings::new()).unwrap_err().to_string();
    assert!(error.contains("no dimension `height`"), "{error}");
}

#[test]
fn memory_is_bounded_and_lengths_that_come_often_get_kernels_of_their_own() {
    let runtime = runtime();
    let network = compile(&runtime, Architecture::BertTiny, 64).unwrap();
    let run = |seq| network.run(&Architecture::BertTiny.sample_inputs(&options(seq)).unwrap()).unwrap();
    run(64);
    let (arena, packed) = (network.stats().arena_bytes, runtime.stats().packed_bytes);
    for seq in 1..=64 {
        run(seq);
    }
    let stats = network.stats();
    assert_eq!((stats.arena_bytes, stats.plans, stats.plans_made), (arena, 32, 65));
    assert_eq!(runtime.stats().packed_bytes, packed);
    assert_eq!(stats.exact_kernels, 0);
    let general = run(20);
    (0..4).for_each(|_| drop(run(20)));
    network.wait_for_compilation();
    assert!(network.stats().exact_kernels > 0);
    agree(&run(20), &general, 1e-4, "exact");
    drop(network);
    assert_eq!(runtime.stats().packed_bytes, 0);
}

#[test]
fn inputs_of_no_one_length_are_refused() {
    let network = compile(&runtime(), Architecture::BertTiny, 16).unwrap();
    let inputs = |seq| Architecture::BertTiny.sample_inputs(&options(seq)).unwrap();
    let error = |inputs: &[Tensor]| network.run(inputs).unwrap_err().to_string();
    assert!(error(&inputs(17)).contains("one size of each open dimension: sequence 1 to 16"));
    let mut mixed = inputs(5);
    mixed[1] = inputs(6)[1].clone();
    assert!(error(&mixed).contains("i64[2x6]"));
    assert!(error(&inputs(5)[..2]).contains("one size"));
    assert_eq!(network.dims(), [OpenDim::sequence(1..=16)]);
}

/// A vector of zeros behind an input of `n` elements, so that there are `all` in the end.
fn padded(dims: &str, n: u64, all: u64) -> Result<Bound, ModelError> {
    let text = format!(
        "func @f(%x: f32[{dims}]) -> f32[{all}] {{
            %v = reshape %x {{shape=[{n}]}}
            %y = pad %v {{mode=constant before=[0] after=[{}] value=0}}
            return %y
        }}",
        all - n
    );
    Ok(Bound::from_func(text.parse::<Func>().unwrap()))
}

#[test]
fn what_is_not_linear_is_refused() {
    let runtime = runtime();
    let length = |range| [OpenDim::named("n", range)];
    let square = |sizes: &[u64]| padded(&sizes[0].to_string(), sizes[0], sizes[0] * sizes[0]);
    let not_linear = |compiled: Result<Flexible, ModelError>| {
        let error = compiled.unwrap_err();
        assert!(matches!(&error, ModelError::Flexible(FlexibleError::Shape { .. })), "{error}");
        assert!(error.to_string().contains("not linear"), "{error}");
    };
    not_linear(Flexible::compile(&runtime, &length(1..=9), square));
    not_linear(Flexible::compile(&runtime, &length(1..=3), square));
    // Linear in each by itself, but not beyond a size that only both together reach.
    let two = [OpenDim::named("a", 1..=20), OpenDim::named("b", 1..=30)];
    let of = |sizes: &[u64], all: u64| padded(&format!("{}x{}", sizes[0], sizes[1]), sizes[0] * sizes[1], all);
    not_linear(Flexible::compile(&runtime, &two, |sizes| {
        of(sizes, sizes[0] * sizes[1] + 1000 / (sizes[0] + sizes[1]))
    }));
    not_linear(Flexible::compile(&runtime, &two, |sizes| {
        of(sizes, sizes[0] * sizes[1] + if sizes[0] < 18 && sizes[1] < 28 { 5 } else { 4 })
    }));
    // Products of two are linear in each.
    let product = Flexible::compile(&runtime, &two, |sizes| of(sizes, 3 * sizes[0] * sizes[1] + sizes[0] + 7)).unwrap();
    let ones = Tensor::from_elements([5, 6], vec![1f32; 30]).unwrap();
    let found = product.run(&[ones]).unwrap();
    assert_eq!(found[0].ty().shape(), [3 * 30 + 5 + 7]);
    assert_eq!(found[0].to_f64().iter().sum::<f64>(), 30.0);
}

#[test]
fn dimensions_that_cannot_be_are_refused() {
    let runtime = runtime();
    let error = |dims: &[OpenDim], bound: &dyn Fn(&[u64]) -> Result<Bound, ModelError>| match Flexible::compile(
        &runtime, dims, bound,
    )
    .unwrap_err()
    {
        ModelError::Flexible(error) => error,
        other => panic!("{other}"),
    };
    let fixed = |_: &[u64]| padded("3", 3, 4);
    let n = OpenDim::named("n", 1..=9);
    let unseen = error(std::slice::from_ref(&n), &fixed);
    assert!(matches!(&unseen, FlexibleError::Unseen { dim } if dim == "n"), "{unseen}");
    // The product of two tells neither.
    let flat = |sizes: &[u64]| padded(&(sizes[0] * sizes[1]).to_string(), sizes[0] * sizes[1], sizes[0] * sizes[1]);
    let two = [n.clone(), OpenDim::named("m", 1..=8)];
    assert!(matches!(error(&two, &flat), FlexibleError::Unseen { .. }));
    for (dims, words) in [
        (vec![], "0 open dimensions: expected 1 to 4"),
        (vec![n.clone(), n.clone()], "two of this name"),
        (vec![OpenDim::batch(1..=2)], "batch 1 to 2: expected a range with at least 3 sizes, found 2"),
        (vec![OpenDim::batch(0..=9)], "at least 1"),
        (vec![OpenDim::named("h", 1..=64).step(32)], "found 2"),
    ] {
        let message = error(&dims, &fixed).to_string();
        assert!(message.contains(words), "{message}");
    }
}
