//! The fuzzed functions, which take any bytes and panic if Kiln breaks a promise.
//!
//! `fuzz/` has a cargo-fuzz target for each, with seeds; `tests/fuzz.rs` runs them for a moment in every test run. No machine
//! code that comes from a fuzzer is executed: `network` runs what Kiln compiles, of graphs that are small. A refusal is a message for people, of a length that is bounded by that of the input.

use std::fmt::{Debug, Display};
use std::str::FromStr;
use std::sync::{Arc, LazyLock};

use kiln_compiler::package::Facts;
use kiln_compiler::packed::PackedLayout;
use kiln_compiler::schedule::Schedule;
use kiln_compiler::{CompileError, Options, Package, Target, VERSION, compile};
use kiln_ir::elements::OwnedElements;
use kiln_ir::{Contraction, Func, Operand, Problem};
use kiln_jit::pack::{self, Contents};
use kiln_jit::{Pack, WeightsPack};
use twox_hash::XxHash3_128;

use crate::graph::{self, Choices, Graph};

/// A function that takes any bytes, and tells whether Kiln took them for what they should be.
pub type Body = fn(&[u8]) -> Taken;

/// True if an input, or a part of it, was taken. A run that refuses everything shows little.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It was refused, as it should be.
    No,
    /// It was taken, and the promises for what is taken hold.
    Yes,
}

impl Taken {
    fn or(self, other: Taken) -> Taken {
        if self == Taken::Yes { self } else { other }
    }
}

/// Checks a refusal of `bytes` bytes: it says something, and not much more than it quotes of them.
fn refused(message: &str, bytes: usize) -> Taken {
    /// Characters of a message besides those that it quotes, which may be escaped.
    const MOST: usize = 1000;
    assert!(!message.trim().is_empty(), "a refusal without words");
    let len = message.chars().count();
    assert!(len <= MOST + 6 * bytes, "a message of {len} characters for {bytes} bytes: {message:.2000}");
    Taken::No
}

/// Every body with its name.
pub const ALL: [(&str, Body); 7] = [
    ("text", text),
    ("npy", npy),
    ("onnx", onnx),
    ("network", network),
    ("pack", pack),
    ("package", package),
    ("compile", compiles),
];

/// Text of anything that a user writes: what parses has one canonical text.
pub fn text(bytes: &[u8]) -> Taken {
    let Ok(text) = std::str::from_utf8(bytes) else { return Taken::No };
    let all = [canonical::<Problem>, canonical::<Schedule>, canonical::<Target>, canonical::<Func>];
    all.map(|of| of(text)).into_iter().fold(Taken::No, Taken::or)
}

fn canonical<T: FromStr<Err: Display> + Display + PartialEq + Debug>(text: &str) -> Taken {
    match text.parse::<T>() {
        Ok(value) => {
            let canonical = value.to_string();
            let again: T =
                canonical.parse().unwrap_or_else(|e| panic!("`{text}` is `{canonical}`, and that is not: {e}"));
            assert_eq!(again, value, "`{text}` is `{canonical}`");
            assert_eq!(again.to_string(), canonical);
            Taken::Yes
        }
        Err(e) => refused(&e.to_string(), text.len()),
    }
}

/// A byte that chooses an operand, and a file that may hold it: what is read can be written and read again.
pub fn npy(bytes: &[u8]) -> Taken {
    static OPERANDS: LazyLock<Vec<Operand>> = LazyLock::new(|| {
        let problems = [
            "matmul f32 2x3:3x4",
            "conv bf16 mb1ic2ih3oc2kh1",
            // Larger than the memory of any test machine.
            "matmul bf16 65536x65536:65536x65536",
            "matmul u8:s8:s32 2x3:3x4",
        ];
        problems.iter().flat_map(|p| p.parse::<Problem>().expect("a problem").operands().into_iter().take(2)).collect()
    });
    let Some((choice, mut file)) = bytes.split_first() else { return Taken::No };
    let taken = tensor(file);
    let operand = &OPERANDS[usize::from(*choice) % OPERANDS.len()];
    let dtype = operand.dtype;
    let (mut values, mut len) = (vec![], 0);
    let put = |at: usize, value: f32| {
        assert_eq!(at, len, "elements come in order");
        len += 1;
        values.extend_from_slice(&dtype.to_bits(value).to_le_bytes()[..dtype.bytes()]);
    };
    if let Err(e) = kiln_npy::read_from(&mut file, operand, put) {
        return taken.or(refused(&e.to_string(), bytes.len()));
    }
    assert_eq!(len as u64, operand.len());
    let values = OwnedElements::from_bytes(dtype, &values).expect("whole elements");
    let (mut written, mut again) = (vec![], vec![]);
    kiln_npy::write_to(&mut written, operand, values.as_elements()).expect("memory takes everything");
    kiln_npy::read_from(&mut &written[..], operand, |_, value| again.push(dtype.to_bits(value)))
        .expect("it was written so");
    assert!(values.as_elements().iter_bits().eq(again), "other elements are read than were written");
    Taken::Yes
}

/// A tensor of any type and shape.
fn tensor(mut file: &[u8]) -> Taken {
    let bytes = file.len();
    match kiln_npy::read_tensor_from(&mut file) {
        Ok(tensor) => {
            let mut written = vec![];
            kiln_npy::write_tensor_to(&mut written, &tensor).expect("memory takes everything");
            let again = kiln_npy::read_tensor_from(&mut &written[..]).expect("it was written so");
            assert_eq!(again, tensor);
            Taken::Yes
        }
        Err(e) => refused(&e.to_string(), bytes),
    }
}

/// A network in a file, with what it leaves open bound to small numbers.
fn imported(bytes: &[u8]) -> Result<kiln_onnx::Imported, String> {
    let model = kiln_onnx::Model::from_bytes(bytes.to_vec()).map_err(|e| e.to_string())?;
    let bindings = model.graph.inputs.iter().fold(kiln_onnx::Bindings::new(), |bindings, input| {
        let dims = input.shape.iter().flatten().map(|d| match d {
            kiln_onnx::Dim::Known(n) => *n as u64,
            kiln_onnx::Dim::Named(_) => 2,
        });
        bindings.shape(&input.name, &dims.collect::<Vec<_>>())
    });
    model.import(&bindings).map_err(|e| e.to_string())
}

/// Elements of all values of a function.
fn elements(func: &Func) -> u64 {
    func.values().map(|(_, v)| v.ty.elements()).fold(0, u64::saturating_add)
}

/// A network from anywhere: what is imported is a function that passes leave well-typed.
pub fn onnx(bytes: &[u8]) -> Taken {
    /// Elements that passes may work on: the work is in proportion.
    const MOST: u64 = 1 << 16;
    match imported(bytes) {
        Ok(imported) if elements(&imported.func) <= MOST => {
            let types = |func: &Func| func.results().iter().map(|id| func.value(*id).ty.clone()).collect::<Vec<_>>();
            let declared = types(&imported.func);
            kiln_ir::pass::optimize(imported.func, |pass, func| {
                assert_eq!(types(func), declared, "after {}:\n{func}", pass.name);
            })
            .expect("passes make well-typed functions");
            Taken::Yes
        }
        Ok(_) => Taken::No,
        Err(message) => refused(&message, bytes.len()),
    }
}

/// A digit, and accordingly choices that make a graph, the same with choices of how it is written as a file, or a file: what is compiled
/// computes what the interpreter does.
pub fn network(bytes: &[u8]) -> Taken {
    let Some((mode, rest)) = bytes.split_first() else { return Taken::No };
    let mut choices = Choices::new(rest);
    let outcome = match mode % 3 {
        0 => {
            let graph = Graph::of(&mut choices);
            Some(graph::check(&graph).map_err(|why| format!("{why}\n{}", graph.func)))
        }
        1 => {
            let graph = Graph::of(&mut choices);
            let outcome = graph::check_onnx(&graph, &mut choices);
            outcome.map(|outcome| outcome.map_err(|why| format!("{why}\n{}", graph.func)))
        }
        _ => match imported(rest) {
            Ok(imported) => graph::check_any(imported.func),
            Err(message) => return refused(&message, rest.len()),
        },
    };
    match outcome {
        Some(Ok(_)) => Taken::Yes,
        Some(Err(why)) => panic!("{why}"),
        None => Taken::No,
    }
}

/// A digit, and accordingly a pack, a manifest, or changes to a good pack; each with its header put right.
pub fn pack(bytes: &[u8]) -> Taken {
    let Some((mode, rest)) = bytes.split_first() else { return Taken::No };
    match mode % 3 {
        0 => look(rest.to_vec()).or(look(repaired(rest.to_vec()))).or(look_at_weights(rest.to_vec())),
        // Seeds are for no version in particular.
        1 => {
            let pack = with_manifest(&String::from_utf8_lossy(rest).replacen("VERSION", VERSION, 1));
            look_at_weights(pack.clone()).or(look(pack))
        }
        _ => look(repaired(changed(&GOOD, rest))),
    }
}

static GOOD: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let target = "neoverse-v1".parse().expect("a target");
    let constant = Options { constant_weights: true, ..Options::default() };
    let problems = [
        ("matmul f32 3x5:5x7 +bias", Options::default()),
        ("ip f32 mb2ic16oc24", constant.clone()),
        ("conv f32 mb1ic3ih5oc4kh3ph1", constant),
    ];
    let package = |(problem, options): &(&str, Options)| {
        let problem = problem.parse().expect("a problem");
        Package::of(&compile(&problem, &target, options).expect("code"), options)
    };
    pack::to_bytes(&target, &problems.iter().map(package).collect::<Vec<_>>())
});

/// Reads bytes as whatever file of packs they are.
fn look_at_contents(bytes: Vec<u8>) -> Taken {
    let len = bytes.len();
    match Contents::parse(bytes) {
        Ok(Contents { kernels, weights }) => {
            for pack in kernels {
                let packages: Vec<Package> = pack.packages().filter_map(Result::ok).collect();
                packages.iter().for_each(derive);
            }
            weights.map_or(Taken::Yes, |weights| {
                weights.verify().map_or_else(|e| refused(&e.to_string(), len), |()| Taken::Yes)
            })
        }
        Err(e) => refused(&e.to_string(), len),
    }
}

/// Reads bytes as they are, and again with the header of a bundle and of a pack of weights.
fn look_at_weights(mut bytes: Vec<u8>) -> Taken {
    let len = bytes.len();
    let parse = |bytes: Vec<u8>| match WeightsPack::parse(bytes) {
        Ok(pack) => {
            assert!(pack.len() <= pack.bytes(), "each has a line in the file");
            pack.verify().map_or_else(|e| refused(&e.to_string(), len), |()| Taken::Yes)
        }
        Err(e) => refused(&e.to_string(), len),
    };
    let taken = parse(bytes.clone()).or(look_at_contents(bytes.clone()));
    let Some(manifest) = bytes.get(40..48) else { return taken };
    let manifest = u64::from_le_bytes(manifest.try_into().expect("eight bytes"));
    let end = usize::try_from(manifest).map_or(usize::MAX, |len| len.saturating_add(48)).min(bytes.len());
    let len = bytes.len() as u64;
    bytes[32..40].copy_from_slice(&len.to_le_bytes());
    let checksum = XxHash3_128::oneshot(&bytes[32..end]);
    bytes[16..32].copy_from_slice(&checksum.to_le_bytes());
    bytes[..16].copy_from_slice(b"KILNBNDL\x01\0\0\0\0\0\0\0");
    let taken = taken.or(look_at_contents(bytes.clone()));
    bytes[..16].copy_from_slice(b"KILNWGTS\x01\0\0\0\0\0\0\0");
    taken.or(parse(bytes))
}

/// Reads a pack and whatever it promises of its kernels.
fn look(bytes: Vec<u8>) -> Taken {
    let len = bytes.len();
    let pack = match Pack::parse(bytes) {
        Ok(pack) => pack,
        Err(e) => return refused(&e.to_string(), len),
    };
    assert_eq!(pack.kernels().count(), pack.len());
    let packages: Vec<Package> = pack.packages().filter_map(Result::ok).collect();
    packages.iter().for_each(derive);
    round_trip(pack.target(), &packages);
    Taken::Yes
}

fn round_trip(target: &Target, packages: &[Package]) {
    let bytes = pack::to_bytes(target, packages);
    let again = Pack::parse(bytes).expect("a pack that was just made");
    assert_eq!(again.target(), target);
    let again: Vec<Package> = again.packages().map(|p| p.expect("a kernel that was just packed")).collect();
    assert_eq!(again.len(), packages.len());
    for package in packages {
        let same = |p: &&Package| p.facts() == package.facts() && p.image() == package.image();
        assert!(again.iter().any(|p| same(&p)), "{:?} is lost", package.facts());
    }
}

/// The checks that a runtime makes of a package before it runs it.
fn derive(package: &Package) {
    let c = package.contraction();
    assert!(c.macs() > 0 && c.operand_bytes() > 0);
    if let Some(layout) = package.packed_layout() {
        let (offsets, bytes) = layout.region_offsets();
        assert!(offsets.iter().all(|at| *at < bytes), "{:?}", package.facts());
        assert_eq!(layout.further_arguments().len() + 1, offsets.len());
    }
}

/// A pack of this text and a few bytes that may be code.
fn with_manifest(manifest: &str) -> Vec<u8> {
    let format = pack::FORMAT.to_le_bytes();
    let mut bytes = [b"KILNPACK", &format[..], &[0; 36], manifest.as_bytes()].concat();
    bytes[40..48].copy_from_slice(&(manifest.len() as u64).to_le_bytes());
    bytes.resize(bytes.len().next_multiple_of(64) + 4, 0);
    repaired(bytes)
}

/// With a right length and checksum, if it is long enough to have them.
fn repaired(mut bytes: Vec<u8>) -> Vec<u8> {
    let len = bytes.len() as u64;
    if bytes.len() >= 48 {
        bytes[32..40].copy_from_slice(&len.to_le_bytes());
        let checksum = XxHash3_128::oneshot(&bytes[32..]);
        bytes[16..32].copy_from_slice(&checksum.to_le_bytes());
    }
    bytes
}

/// `good` with bytes changed, inserted and removed as `edits` say, four bytes each.
fn changed(good: &[u8], edits: &[u8]) -> Vec<u8> {
    let mut bytes = good.to_vec();
    for [what, low, high, value] in edits.as_chunks().0 {
        let at = usize::from(u16::from_le_bytes([*low, *high])) % bytes.len().max(1);
        match what % 4 {
            0 => bytes[at..].iter_mut().take(1).for_each(|b| *b = *value),
            1 => bytes.insert(at, *value),
            2 => drop(bytes.drain(at..(at + usize::from(*value)).min(bytes.len()))),
            _ => bytes.truncate(bytes.len().saturating_sub(usize::from(*value))),
        }
    }
    bytes
}

/// Lines of a request, the schedule, numbers and words: facts of a package, if nothing contradicts them.
pub fn package(bytes: &[u8]) -> Taken {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.lines().map(str::trim);
    let Some(Request { problem, target, options }) = Request::read(&mut lines) else { return Taken::No };
    let mut next = || lines.next().unwrap_or_default();
    let Ok(schedule) = next().parse() else { return Taken::No };
    let mut number = || next().parse().unwrap_or(1);
    let facts = Facts {
        problem,
        target,
        options,
        schedule,
        way: number() as usize,
        scratch_bytes: number(),
        shared_bytes: number(),
        tasks: number(),
        first_tasks: number(),
        first_cycles: f64::from_bits(number()),
        cycles: f64::from_bits(number()),
        bound: f64::from_bits(number()),
        limit: next().into(),
        notes: vec![next().into()],
    };
    match Package::new(facts, vec![0; 4]) {
        Ok(package) => {
            derive(&package);
            round_trip(&package.facts().target, std::slice::from_ref(&package));
            Taken::Yes
        }
        Err(e) => refused(&e.to_string(), bytes.len()),
    }
}

/// Lines of a request: compiled if small, and the same again from a pack.
pub fn compiles(bytes: &[u8]) -> Taken {
    let text = String::from_utf8_lossy(bytes);
    let Some(Request { problem, target, options }) = Request::read(&mut text.lines()) else { return Taken::No };
    if !is_small(&problem) {
        return Taken::No;
    }
    match compile(&problem, &target, &options) {
        Ok(artifact) => {
            let package = Package::of(&artifact, &options);
            derive(&package);
            let again = Package::new(package.facts().clone(), package.image().to_vec()).expect("facts of real code");
            assert_eq!(again.packed_layout(), package.packed_layout());
            assert_eq!(again.contraction(), package.contraction());
            round_trip(&target, &[package]);
            Taken::Yes
        }
        Err(e @ CompileError::Internal { .. }) => panic!("{e}"),
        Err(e) => refused(&e.to_string(), bytes.len()),
    }
}

/// A request to the compiler.
struct Request {
    problem: Problem,
    target: Target,
    options: Options,
}

impl Request {
    /// A problem, a target, `constant`, `like` or another word, and a schedule or another word. The schedule is asked for, or
    /// only the layout of its packed weights.
    fn read<'a>(lines: &mut impl Iterator<Item = &'a str>) -> Option<Self> {
        let (problem, target): (Problem, Target) = (lines.next()?.parse().ok()?, lines.next()?.parse().ok()?);
        let word = lines.next().unwrap_or_default();
        let mut schedule: Option<Schedule> = lines.next().and_then(|line| line.parse().ok());
        let mut weights_layout = None;
        if word == "like" {
            let (schedule, contraction) = (schedule.take()?, Contraction::of(&problem));
            schedule.verify(&contraction, &target).ok()?;
            weights_layout = PackedLayout::of(&contraction, &schedule, &target).map(Arc::new);
        }
        let constant_weights = ["constant", "like"].contains(&word);
        Some(Request { problem, target, options: Options { schedule, constant_weights, weights_layout } })
    }
}

/// True if it compiles in milliseconds.
fn is_small(problem: &Problem) -> bool {
    problem.macs() <= 1 << 15
        && problem.epilogue().ops().len() <= 8
        && problem.operands().iter().all(|o| o.len() <= 1 << 13)
}
