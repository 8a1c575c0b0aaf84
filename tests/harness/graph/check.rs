//! Compiled graphs against the interpreter of their functions.

use std::sync::LazyLock;

use kiln_compiler::CompileError;
use kiln_ir::Func;
use kiln_ir::func::{Binary, Budget, Def, Mismatch, Structured, Tensor, TensorOp, TensorType, Unary};
use kiln_jit::{Runtime, RuntimeError};
use kiln_model::{Bindings, Bound, Code, Flexible, Model, ModelError, OpenDim};

use super::{Choices, Graph, Known, small, to_onnx};

/// The steps of a graph that was checked.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    /// Steps of the plan that are compiled kernels.
    pub kernels: usize,
    /// Steps that are vectorised code.
    pub native: usize,
    /// Steps that the interpreter computes.
    pub interpreted: usize,
    /// Steps that write over an operand.
    pub in_place: usize,
    /// Values of the function that take no step.
    pub without_step: usize,
}

/// The runtime that graphs are compiled with: kernels of graphs that come often are compiled once.
pub fn runtime() -> &'static Runtime {
    static RUNTIME: LazyLock<Runtime> =
        LazyLock::new(|| Runtime::builder().threads(2).build().expect("this processor has a target"));
    &RUNTIME
}

/// Compiles a graph and compares its results with the interpreter's, for two sets of arguments one after the other, so that nothing
/// of the first call may be left in the second.
pub fn check(graph: &Graph) -> Result<Outcome, String> {
    compiled(Bound::from_func(graph.func.clone()), graph)
}

/// The same by way of an ONNX file, in which choices decide how operators are written; `None` if it cannot be one. What is imported must
/// mean the same.
pub fn check_onnx(graph: &Graph, choices: &mut Choices<'_>) -> Option<Result<Outcome, String>> {
    let file = to_onnx(&graph.func, choices)?;
    Some((|| {
        let model = Model::from_bytes(file).map_err(|e| format!("not read: {e}"))?;
        let bound = model.bind(&Bindings::new()).map_err(|e| format!("not imported: {e}"))?;
        let arguments = graph.arguments(1);
        let found = interpreted(bound.func(), &arguments)?;
        compare(graph, &found, &interpreted(&graph.func, &arguments)?, &arguments)
            .map_err(|why| format!("imported as another function:\n{}{why}", bound.func()))?;
        compiled(bound, graph)
    })())
}

/// Tells whether an error is one of what a network asks for, and none of Kiln's: an index outside of its axis, a loop without an end, and
/// sizes that no kernel or no memory is for.
fn is_allowed(error: &ModelError) -> bool {
    match error {
        ModelError::Index { .. } | ModelError::Endless { .. } | ModelError::OutOfMemory { .. } => true,
        ModelError::Kernel { source: RuntimeError::Compile(error), .. } => {
            matches!(**error, CompileError::Unsupported { .. })
        }
        // Of constants, which are computed when the network is compiled.
        ModelError::Operation { source, .. } => matches!(source.cause, Mismatch::Index { .. }),
        _ => false,
    }
}

/// Compiles any function that is small, and runs it: no step fails but for an index, and two calls give the same. Where every operation
/// is exact, results are the interpreter's. `None` of functions that are not compiled here, or not run to their end.
pub fn check_any(func: Func) -> Option<Result<Outcome, String>> {
    /// Steps of computing, and elements of all values.
    const MOST: u64 = 1 << 22;
    let mut budget = Budget::limited(MOST, MOST);
    for (_, value) in func.values() {
        let types: Vec<&TensorType> = value.operands().iter().map(|o| &func.value(*o).ty).collect();
        let is_small = match &value.def {
            Def::Result { op, .. } => budget.spend(op, &types, &value.ty),
            _ => budget.take(1, value.ty.bytes()),
        };
        if !is_small {
            return None;
        }
    }
    let bound = Bound::from_func(func.clone());
    let network = match bound.compile(runtime()) {
        Ok(network) => network,
        Err(e) if is_allowed(&e) => return None,
        Err(e) => return Some(Err(format!("not compiled: {e}\n{func}"))),
    };
    let arguments = |seed: u64| -> Vec<Tensor> { func.arguments().map(|(_, v)| small(&v.ty, seed)).collect() };
    let [first, other, again] = [1, 2, 1].map(|seed| network.run(&arguments(seed)));
    let (first, again) = match (first, other, again) {
        (Ok(first), Ok(_), Ok(again)) => (first, again),
        (Ok(_), Ok(_), Err(e)) => return Some(Err(format!("a call that succeeded before fails: {e}\n{func}"))),
        (Err(e), ..) | (_, Err(e), _) if is_allowed(&e) => return None,
        (Err(e), ..) | (_, Err(e), _) => return Some(Err(format!("not run: {e}\n{func}"))),
    };
    let bits = |results: &[Tensor]| results.iter().map(|t| t.data().clone()).collect::<Vec<_>>();
    if bits(&first) != bits(&again) {
        return Some(Err(format!("two calls give other results\n{func}")));
    }
    let is_exact = func.values().all(|(_, v)| match &v.def {
        Def::Result { op, .. } => moves(op),
        _ => true,
    });
    if is_exact {
        let expected = match interpreted(&func, &arguments(1)) {
            Ok(expected) => expected,
            Err(why) => return Some(Err(why)),
        };
        let found: Vec<Vec<f64>> = first.iter().map(Tensor::to_f64).collect();
        let is_same = |(a, b): (&f64, &f64)| a == b || a.is_nan() && b.is_nan();
        if !found.iter().flatten().zip(expected.iter().flatten()).all(is_same) {
            return Some(Err(format!("{found:?} for {expected:?}\n{func}")));
        }
    }
    Some(Ok(Outcome::default()))
}

/// True if an operation moves elements, or picks among them.
fn moves(op: &TensorOp) -> bool {
    match op {
        TensorOp::Unary(op) => matches!(op, Unary::Neg {} | Unary::Abs {} | Unary::Relu {} | Unary::Not {}),
        TensorOp::Binary(op) => matches!(op, Binary::Max {} | Binary::Min {} | Binary::Equal {} | Binary::Less {}),
        TensorOp::Structured(op) => matches!(
            op,
            Structured::Where {}
                | Structured::Reshape { .. }
                | Structured::Transpose { .. }
                | Structured::Broadcast { .. }
                | Structured::Slice { .. }
                | Structured::Concat { .. }
                | Structured::Pad { .. }
                | Structured::Gather { .. }
        ),
        _ => false,
    }
}

fn interpreted(func: &Func, arguments: &[Tensor]) -> Result<Vec<Vec<f64>>, String> {
    kiln_model::report::interpret(func, arguments).map_err(|e| e.to_string())
}

fn compiled(bound: Bound, graph: &Graph) -> Result<Outcome, String> {
    let network = bound.compile(runtime()).map_err(|e| format!("not compiled: {e}"))?;
    let types: Vec<&TensorType> = graph.func.results().iter().map(|id| &graph.func.value(*id).ty).collect();
    if !network.outputs().map(|(_, ty)| ty).eq(types.iter().copied()) {
        return Err("its results have other types".into());
    }
    runs(graph, &mut |arguments| network.run(arguments))?;
    let count = |code: Code| network.steps().filter(|s| s.code == code).count();
    let computed = graph.func.values().filter(|(_, v)| !v.operands().is_empty()).count();
    Ok(Outcome {
        kernels: count(Code::Kernel),
        native: count(Code::Native),
        interpreted: count(Code::Interpreter),
        in_place: network.steps().filter(|s| s.is_in_place).count(),
        without_step: computed.saturating_sub(network.steps().len()),
    })
}

/// A call of a network.
type Run<'a> = dyn FnMut(&[Tensor]) -> Result<Vec<Tensor>, ModelError> + 'a;

/// Calls for two sets of arguments one after the other, and compares with the interpreter.
fn runs(graph: &Graph, run: &mut Run<'_>) -> Result<(), String> {
    for seed in [1, 2] {
        let arguments = graph.arguments(seed);
        let found = run(&arguments).map_err(|e| format!("not run: {e}"))?;
        let found: Vec<Vec<f64>> = found.iter().map(Tensor::to_f64).collect();
        compare(graph, &found, &interpreted(&graph.func, &arguments)?, &arguments)?;
    }
    Ok(())
}

/// Compiles a graph for any length of its first axis, and compares the results for several lengths with the interpreter's; `None` if it
/// is not one for any length.
pub fn check_flexible(bytes: &[u8]) -> Option<Result<(), String>> {
    const LONGEST: u64 = 12;
    let graph = |length: u64| Graph::of_length(&mut Choices::new(bytes), length);
    let length = [OpenDim::named("length", 1..=LONGEST)];
    let compiled = Flexible::compile(runtime(), &length, |sizes| Ok(Bound::from_func(graph(sizes[0]).func)));
    let network = match compiled {
        Ok(network) => network,
        Err(ModelError::Flexible(_)) => return None,
        Err(e) => return Some(Err(format!("not compiled: {e}"))),
    };
    let outcome = [LONGEST, 5, 1, 8, 5].into_iter().try_for_each(|length| {
        let graph = graph(length);
        runs(&graph, &mut |arguments| network.run(arguments))
            .map_err(|why| format!("length {length}: {why}\n{}", graph.func))
    });
    Some(outcome)
}

/// Fails where an element is further from its meaning than roundings are.
fn compare(graph: &Graph, found: &[Vec<f64>], expected: &[Vec<f64>], arguments: &[Tensor]) -> Result<(), String> {
    for (result, id) in graph.func.results().iter().enumerate() {
        let known: Known = graph.known[id.index()];
        let pairs = || found[result].iter().zip(&expected[result]);
        if found[result].len() != expected[result].len() {
            return Err(format!("result {result} has {} elements", found[result].len()));
        }
        if let Some((at, (f, e))) =
            pairs().enumerate().find(|(_, (f, e))| (**f - **e).abs() > known.error || f.is_nan())
        {
            let wrong = pairs().filter(|(f, e)| (**f - **e).abs() > known.error || f.is_nan()).count();
            let count = expected[result].len();
            let arguments: Vec<String> = arguments.iter().map(|a| format!("{}: {:?}", a.ty(), a.to_f64())).collect();
            return Err(format!(
                "result {result}: {wrong} of {count} elements are wrong, the first is number {at}: {f} for {e}, {known:?}, for \
                 {}",
                arguments.join("; ")
            ));
        }
        // So that a graph is not right because nothing was known of it.
        if let Some(e) = expected[result].iter().find(|e| e.abs() > known.most * (1.0 + 1e-6) || !e.is_finite()) {
            return Err(format!("result {result}: {e} is larger than {known:?}: the generator is wrong"));
        }
    }
    Ok(())
}
