//! Graphs as ONNX files, written in one of the many ways that mean the same: axes counted from either end, ends of slices beyond the
//! axis, dimensions that are left open, axes as attributes and as inputs.

use kiln_ir::Func;
use kiln_ir::func::{
    Binary, Def, ElementType, PadMode, PoolKind, ReduceKind, Structured, Tensor, TensorOp, TensorType, Unary, Value,
};
use prost::Message;

use super::Choices;

#[derive(Clone, PartialEq, Message)]
struct ModelProto {
    #[prost(int64, tag = "1")]
    ir_version: i64,
    #[prost(message, optional, tag = "7")]
    graph: Option<GraphProto>,
    #[prost(message, repeated, tag = "8")]
    opset_import: Vec<OperatorSetProto>,
}

#[derive(Clone, PartialEq, Message)]
struct OperatorSetProto {
    #[prost(int64, tag = "2")]
    version: i64,
}

#[derive(Clone, PartialEq, Message)]
struct GraphProto {
    #[prost(message, repeated, tag = "1")]
    node: Vec<NodeProto>,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(message, repeated, tag = "5")]
    initializer: Vec<TensorProto>,
    #[prost(message, repeated, tag = "11")]
    input: Vec<ValueProto>,
    #[prost(message, repeated, tag = "12")]
    output: Vec<ValueProto>,
}

#[derive(Clone, PartialEq, Message)]
struct NodeProto {
    #[prost(string, repeated, tag = "1")]
    input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    output: Vec<String>,
    #[prost(string, tag = "4")]
    op_type: String,
    #[prost(message, repeated, tag = "5")]
    attribute: Vec<AttributeProto>,
}

#[derive(Clone, PartialEq, Message)]
struct AttributeProto {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(float, tag = "2")]
    f: f32,
    #[prost(int64, tag = "3")]
    i: i64,
    #[prost(bytes = "vec", tag = "4")]
    s: Vec<u8>,
    #[prost(int64, repeated, tag = "8")]
    ints: Vec<i64>,
    #[prost(int32, tag = "20")]
    r#type: i32,
}

#[derive(Clone, PartialEq, Message)]
struct TensorProto {
    #[prost(int64, repeated, tag = "1")]
    dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    data_type: i32,
    #[prost(string, tag = "8")]
    name: String,
    #[prost(bytes = "vec", tag = "9")]
    raw_data: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct ValueProto {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    r#type: Option<TypeProto>,
}

#[derive(Clone, PartialEq, Message)]
struct TypeProto {
    #[prost(message, optional, tag = "1")]
    tensor_type: Option<TensorTypeProto>,
}

#[derive(Clone, PartialEq, Message)]
struct TensorTypeProto {
    #[prost(int32, tag = "1")]
    elem_type: i32,
    #[prost(message, optional, tag = "2")]
    shape: Option<ShapeProto>,
}

#[derive(Clone, PartialEq, Message)]
struct ShapeProto {
    #[prost(message, repeated, tag = "1")]
    dim: Vec<DimensionProto>,
}

#[derive(Clone, PartialEq, Message)]
struct DimensionProto {
    #[prost(int64, optional, tag = "1")]
    dim_value: Option<i64>,
}

/// The number of an element type in ONNX.
fn code(element: ElementType) -> i32 {
    use ElementType::*;
    match element {
        F32 => 1,
        U8 => 2,
        I8 => 3,
        U16 => 4,
        I16 => 5,
        I32 => 6,
        I64 => 7,
        Bool => 9,
        F16 => 10,
        F64 => 11,
        U32 => 12,
        U64 => 13,
        Bf16 => 16,
    }
}

/// A graph while it is written.
struct Writer<'a, 'b> {
    choices: &'a mut Choices<'b>,
    opset: i64,
    graph: GraphProto,
    /// Names that were made up.
    made: usize,
}

/// A function as an ONNX file; `None` if an operation of it has no operator in the version that is chosen.
pub fn to_onnx(func: &Func, choices: &mut Choices<'_>) -> Option<Vec<u8>> {
    let opset = choices.pick(&[23, 23, 18, 13]);
    let graph = GraphProto { name: func.name().into(), ..GraphProto::default() };
    let mut writer = Writer { choices, opset, graph, made: 0 };
    for (id, value) in func.values() {
        let name = name(id.index());
        match &value.def {
            Def::Argument => writer.graph.input.push(typed(&name, &value.ty)),
            Def::Constant(_) => writer.initializer(&name, &value.constant()?),
            Def::Result { op, operands } => {
                let on: Vec<String> = operands.iter().map(|o| self::name(o.index())).collect();
                let types: Vec<&TensorType> = operands.iter().map(|o| &func.value(*o).ty).collect();
                writer.operation(op, &on, &types, value, &name)?;
            }
        }
    }
    for (position, id) in func.results().iter().enumerate() {
        let is_computed = !func.value(*id).operands().is_empty();
        let is_first = !func.results()[..position].contains(id);
        // A name is given back once; an input under its own name or another.
        let output = match is_first && (is_computed || writer.choices.one_in(2)) {
            true => name(id.index()),
            false => {
                let output = format!("out{position}");
                writer.node("Identity", &[name(id.index())], &output, vec![]);
                output
            }
        };
        writer.graph.output.push(typed(&output, &func.value(*id).ty));
    }
    let opset_import = vec![OperatorSetProto { version: opset }];
    Some(ModelProto { ir_version: 9, graph: Some(writer.graph), opset_import }.encode_to_vec())
}

fn name(index: usize) -> String {
    format!("v{index}")
}

fn typed(name: &str, ty: &TensorType) -> ValueProto {
    let dim = ty.shape().iter().map(|n| DimensionProto { dim_value: Some(*n as i64) }).collect();
    let tensor_type = Some(TensorTypeProto { elem_type: code(ty.element()), shape: Some(ShapeProto { dim }) });
    ValueProto { name: name.into(), r#type: Some(TypeProto { tensor_type }) }
}

fn attribute(name: &str) -> AttributeProto {
    AttributeProto { name: name.into(), ..AttributeProto::default() }
}

fn float(name: &str, f: f64) -> AttributeProto {
    AttributeProto { f: f as f32, r#type: 1, ..attribute(name) }
}

fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { i, r#type: 2, ..attribute(name) }
}

fn word(name: &str, word: &str) -> AttributeProto {
    AttributeProto { s: word.into(), r#type: 3, ..attribute(name) }
}

fn ints(name: &str, list: impl IntoIterator<Item = i64>) -> AttributeProto {
    AttributeProto { ints: list.into_iter().collect(), r#type: 7, ..attribute(name) }
}

fn numbers(list: &[u64]) -> impl Iterator<Item = i64> {
    list.iter().map(|n| *n as i64)
}

impl Writer<'_, '_> {
    fn node(&mut self, op: &str, input: &[String], output: &str, attribute: Vec<AttributeProto>) {
        let (input, output) = (input.to_vec(), vec![output.into()]);
        self.graph.node.push(NodeProto { input, output, op_type: op.into(), attribute });
    }

    fn initializer(&mut self, name: &str, tensor: &Tensor) {
        self.graph.initializer.push(TensorProto {
            dims: numbers(tensor.ty().shape()).collect(),
            data_type: code(tensor.ty().element()),
            name: name.into(),
            raw_data: tensor.data().to_vec(),
        });
    }

    fn new_name(&mut self) -> String {
        self.made += 1;
        format!("m{}", self.made)
    }

    /// A constant that an operator takes as an input.
    fn given(&mut self, tensor: &Tensor) -> String {
        let name = self.new_name();
        self.initializer(&name, tensor);
        name
    }

    fn list(&mut self, list: Vec<i64>) -> String {
        self.given(&Tensor::from_elements([list.len() as u64], list).expect("as many as there are"))
    }

    /// An axis, from the first or from the last.
    fn axis(&mut self, axis: u64, rank: usize) -> i64 {
        if self.choices.one_in(2) { axis as i64 - rank as i64 } else { axis as i64 }
    }

    fn operation(
        &mut self,
        op: &TensorOp,
        on: &[String],
        types: &[&TensorType],
        value: &Value,
        name: &str,
    ) -> Option<()> {
        match op {
            TensorOp::Unary(Unary::Clamp { low, high }) => {
                let mut limit = |of: f64| match of.is_finite() {
                    true => {
                        let ty = TensorType::new(types[0].element(), []).expect("a scalar");
                        self.given(&Tensor::from_f64(ty, &[of]))
                    }
                    false => String::new(),
                };
                let on = [on[0].clone(), limit(low.0), limit(high.0)];
                self.node("Clip", &on, name, vec![]);
            }
            TensorOp::Unary(op) => {
                let (op, attributes) = unary(op, self.opset)?;
                self.node(op, on, name, attributes);
            }
            // A slope stretches to the operand, not the other way.
            TensorOp::Binary(Binary::PRelu {}) if value.ty.shape() != types[0].shape() => return None,
            TensorOp::Binary(op) => self.node(binary(op), on, name, vec![]),
            TensorOp::Structured(op) => self.structured(op, on, types, &value.ty, name)?,
            _ => return None,
        }
        Some(())
    }

    fn structured(
        &mut self,
        op: &Structured,
        on: &[String],
        types: &[&TensorType],
        ty: &TensorType,
        name: &str,
    ) -> Option<()> {
        let shape = types[0].shape();
        let rank = shape.len();
        let windows = |[strides, pads, dilations]: [&Vec<u64>; 3]| {
            vec![ints("strides", numbers(strides)), ints("pads", numbers(pads)), ints("dilations", numbers(dilations))]
        };
        match op {
            Structured::Cast { to } => self.node("Cast", on, name, vec![int("to", code(*to).into())]),
            Structured::Where {} => self.node("Where", on, name, vec![]),
            Structured::Matmul {} => self.node("MatMul", on, name, vec![]),
            Structured::Conv { strides, pads, dilations, groups, channels_last: false } => {
                let mut attributes = windows([strides, pads, dilations]);
                attributes.push(int("group", *groups as i64));
                self.node("Conv", on, name, attributes);
            }
            Structured::ConvTranspose { strides, pads, dilations, output_pads, groups } => {
                let mut attributes = windows([strides, pads, dilations]);
                attributes.extend([int("group", *groups as i64), ints("output_padding", numbers(output_pads))]);
                self.node("ConvTranspose", on, name, attributes);
            }
            Structured::Pool { kind, kernel, strides, pads, dilations, channels_last: false, .. } => {
                let mut attributes = windows([strides, pads, dilations]);
                attributes.push(ints("kernel_shape", numbers(kernel)));
                let op = match kind {
                    PoolKind::Max => "MaxPool",
                    // The older operator has no dilations.
                    _ if self.opset < 19 && dilations.iter().any(|d| *d != 1) => return None,
                    PoolKind::Lp => return None,
                    _ => {
                        attributes.retain(|a| self.opset >= 19 || a.name != "dilations");
                        attributes.push(int("count_include_pad", i64::from(*kind == PoolKind::AveragePadded)));
                        "AveragePool"
                    }
                };
                self.node(op, on, name, attributes);
            }
            Structured::Reduce { kind, axes, keep } => self.reduce(*kind, axes, *keep, on, rank, name)?,
            Structured::ArgReduce { max, axis, keep, last } => {
                let axis = self.axis(*axis, rank);
                let attributes = vec![
                    int("axis", axis),
                    int("keepdims", i64::from(*keep)),
                    int("select_last_index", i64::from(*last)),
                ];
                self.node(if *max { "ArgMax" } else { "ArgMin" }, on, name, attributes);
            }
            Structured::CumSum { axis, exclusive, reverse } => {
                let axis = self.axis(*axis, rank);
                let axis = self.given(&Tensor::scalar(axis));
                let attributes = vec![int("exclusive", i64::from(*exclusive)), int("reverse", i64::from(*reverse))];
                self.node("CumSum", &[on[0].clone(), axis], name, attributes);
            }
            Structured::Softmax { axis } | Structured::LogSoftmax { axis } => {
                let axis = self.axis(*axis, rank);
                let word = if matches!(op, Structured::Softmax { .. }) { "Softmax" } else { "LogSoftmax" };
                self.node(word, on, name, vec![int("axis", axis)]);
            }
            Structured::LayerNorm { axis, epsilon } | Structured::RmsNorm { axis, epsilon } => {
                let is_layer_norm = matches!(op, Structured::LayerNorm { .. });
                if self.opset < if is_layer_norm { 17 } else { 23 } {
                    return None;
                }
                let mut on = on.to_vec();
                if on.len() == 1 {
                    // ONNX always has a scale.
                    let row = TensorType::new(types[0].element(), &shape[*axis as usize..]).expect("a part of a shape");
                    on.push(self.given(&Tensor::from_f64(row.clone(), &vec![1.0; row.elements() as usize])));
                }
                let attributes = vec![int("axis", self.axis(*axis, rank)), float("epsilon", epsilon.0)];
                self.node(if is_layer_norm { "LayerNormalization" } else { "RMSNormalization" }, &on, name, attributes);
            }
            Structured::BatchNorm { epsilon, channels_last: false } => {
                self.node("BatchNormalization", on, name, vec![float("epsilon", epsilon.0)]);
            }
            Structured::Reshape { shape: to } => self.reshape(&on[0], shape, to, name)?,
            Structured::Transpose { perm } => {
                let is_reversed = perm.iter().copied().eq((0..rank as u64).rev());
                let attributes = match is_reversed && self.choices.one_in(2) {
                    true => vec![],
                    false => vec![ints("perm", numbers(perm))],
                };
                self.node("Transpose", on, name, attributes);
            }
            Structured::Broadcast { .. } => {
                // A 1 in the shape stretches to what the tensor has.
                let from = ty.rank() - rank;
                let open = |a: usize| a >= from && ty.shape()[a] == shape[a - from];
                let to: Vec<i64> = (0..ty.rank())
                    .map(|a| if open(a) && self.choices.one_in(2) { 1 } else { ty.shape()[a] as i64 })
                    .collect();
                let to = self.list(to);
                self.node("Expand", &[on[0].clone(), to], name, vec![]);
            }
            Structured::Slice { starts, steps, counts } => self.slice(&on[0], shape, [starts, counts], steps, name),
            Structured::Concat { axis } => {
                let axis = self.axis(*axis, rank);
                self.node("Concat", on, name, vec![int("axis", axis)]);
            }
            Structured::Pad { mode, before, after, value } => {
                let element = types[0].element();
                let value = TensorType::new(element, []).map(|ty| Tensor::from_f64(ty, &[value.0])).expect("a scalar");
                let some_axes = self.opset >= 18 && self.choices.one_in(2);
                let axes: Vec<usize> = (0..rank).filter(|a| !some_axes || before[*a] + after[*a] > 0).collect();
                let pads = axes.iter().map(|a| before[*a]).chain(axes.iter().map(|a| after[*a])).map(|n| n as i64);
                let pads = self.list(pads.collect());
                let mut on = vec![on[0].clone(), pads, self.given(&value)];
                if some_axes {
                    let axes = axes.iter().map(|a| self.axis(*a as u64, rank)).collect();
                    on.push(self.list(axes));
                }
                let mode = match mode {
                    PadMode::Constant => "constant",
                    PadMode::Reflect => "reflect",
                    PadMode::Edge => "edge",
                    PadMode::Wrap if self.opset < 19 => return None,
                    PadMode::Wrap => "wrap",
                };
                self.node("Pad", &on, name, vec![word("mode", mode)]);
            }
            Structured::Gather { axis } => {
                let axis = self.axis(*axis, rank);
                self.node("Gather", on, name, vec![int("axis", axis)]);
            }
            _ => return None,
        }
        Some(())
    }

    fn reduce(
        &mut self,
        kind: ReduceKind,
        axes: &[u64],
        keep: bool,
        on: &[String],
        rank: usize,
        name: &str,
    ) -> Option<()> {
        let op = match kind {
            ReduceKind::Sum => "ReduceSum",
            ReduceKind::Mean => "ReduceMean",
            ReduceKind::Max => "ReduceMax",
            ReduceKind::Min => "ReduceMin",
            ReduceKind::Prod => "ReduceProd",
            ReduceKind::L1 => "ReduceL1",
            ReduceKind::L2 => "ReduceL2",
            ReduceKind::SumSquare => "ReduceSumSquare",
            ReduceKind::LogSumExp => "ReduceLogSumExp",
        };
        let mut attributes = vec![int("keepdims", i64::from(keep))];
        let are_inputs = self.opset >= if kind == ReduceKind::Sum { 13 } else { 18 };
        // No axes are all of them.
        let is_left_out = axes.len() == rank && self.choices.one_in(2);
        let list: Vec<i64> = axes.iter().map(|a| self.axis(*a, rank)).collect();
        let mut on = on.to_vec();
        match (is_left_out, are_inputs) {
            (true, _) => {}
            (false, true) => {
                attributes.extend(axes.is_empty().then(|| int("noop_with_empty_axes", 1)));
                on.push(self.list(list));
            }
            (false, false) if axes.is_empty() => return None,
            (false, false) => attributes.push(ints("axes", list)),
        }
        self.node(op, &on, name, attributes);
        Some(())
    }

    /// A reshape, or operators that only add, remove or join dimensions, where they do it.
    fn reshape(&mut self, x: &str, from: &[u64], to: &[u64], name: &str) -> Option<()> {
        let significant = |shape: &[u64]| shape.iter().copied().filter(|d| *d != 1).collect::<Vec<_>>();
        match self.choices.below(3) {
            0 if significant(from) == significant(to) => {
                let ones =
                    |shape: &[u64]| (0..shape.len() as u64).filter(|a| shape[*a as usize] == 1).collect::<Vec<_>>();
                let without = self.new_name();
                let mut on = vec![x.to_owned()];
                if self.choices.one_in(2) {
                    let axes = ones(from).into_iter().map(|a| self.axis(a, from.len())).collect();
                    on.push(self.list(axes));
                }
                self.node("Squeeze", &on, &without, vec![]);
                let axes = ones(to).into_iter().map(|a| self.axis(a, to.len())).collect();
                let axes = self.list(axes);
                self.node("Unsqueeze", &[without, axes], name, vec![]);
            }
            1 if to.len() == 2 => {
                let product = |dims: &[u64]| dims.iter().product::<u64>();
                let is_cut = |a: &usize| product(&from[..*a]) == to[0] && product(&from[*a..]) == to[1];
                let Some(axis) = (0..=from.len()).find(is_cut) else { return self.reshaped(x, from, to, name) };
                let axis = if axis < from.len() { self.axis(axis as u64, from.len()) } else { axis as i64 };
                self.node("Flatten", &[x.to_owned()], name, vec![int("axis", axis)]);
            }
            _ => return self.reshaped(x, from, to, name),
        }
        Some(())
    }

    fn reshaped(&mut self, x: &str, from: &[u64], to: &[u64], name: &str) -> Option<()> {
        let mut shape: Vec<i64> = numbers(to).collect();
        let mut attributes = vec![];
        if to.contains(&0) {
            // Without the attribute a 0 is what the operand has.
            if (0..to.len()).any(|a| to[a] == 0 && from.get(a) != Some(&0)) {
                attributes.push(int("allowzero", 1));
                (self.opset >= 14).then_some(())?;
            }
        } else {
            for (a, slot) in shape.iter_mut().enumerate() {
                if from.get(a) == Some(&to[a]) && self.choices.one_in(3) {
                    *slot = 0;
                }
            }
            if !shape.is_empty() && self.choices.one_in(2) {
                let at = self.choices.below(shape.len() as u64) as usize;
                shape[at] = -1;
            }
        }
        let shape = self.list(shape);
        self.node("Reshape", &[x.to_owned(), shape], name, attributes);
        Some(())
    }

    /// A slice, of some axes or of all, whose starts and ends are counted from either end and may be beyond it; or a part of a split.
    fn slice(&mut self, x: &str, shape: &[u64], [starts, counts]: [&Vec<u64>; 2], steps: &[i64], name: &str) {
        let rank = shape.len();
        let is_whole =
            |a: usize| counts[a] == shape[a] && (steps[a] == 1 || counts[a] == 0) && (starts[a] == 0 || counts[a] == 0);
        let cut: Vec<usize> = (0..rank).filter(|a| !is_whole(*a)).collect();
        if let &[axis] = &cut[..]
            && steps[axis] == 1
            && counts[axis] > 0
            && self.choices.one_in(2)
        {
            let rest = shape[axis] - starts[axis] - counts[axis];
            let parts = self.list(vec![starts[axis] as i64, counts[axis] as i64, rest as i64]);
            let output = vec![self.new_name(), name.to_owned(), self.new_name()];
            let attribute = vec![int("axis", self.axis(axis as u64, rank))];
            self.graph.node.push(NodeProto {
                input: vec![x.to_owned(), parts],
                output,
                op_type: "Split".into(),
                attribute,
            });
            return;
        }
        let axes: Vec<usize> = (0..rank).filter(|a| cut.contains(a) || self.choices.one_in(2)).collect();
        let (mut from, mut to, mut by) = (vec![], vec![], vec![]);
        for a in &axes {
            let (n, start, count, step) =
                (shape[*a] as i128, i128::from(starts[*a]), i128::from(counts[*a]), i128::from(steps[*a]));
            let (first, end, step) = if count == 0 {
                // Nothing, by an end that is not behind the start.
                let at = self.choices.below(shape[*a] + 2).into();
                self.choices.pick(&[(at, at, 1), (at, 0, 1), (0, n, -1)])
            } else {
                // Of one element the step may be anything that is not 0, but for the end.
                let last = start + (count - 1) * step;
                (start, last + if step > 0 { self.choices.below(step.min(3) as u64) as i128 + 1 } else { -1 }, step)
            };
            let mut place = |at: i128, is_end: bool| -> i64 {
                // Beyond the axis is as good as its end, if that is meant.
                let far = self.choices.one_in(3);
                let encoded = match at {
                    _ if at >= n && far => self.choices.pick(&[i64::MAX.into(), i32::MAX.into(), n + 7]),
                    _ if at < 0 => {
                        let before = -n - 1;
                        if far { self.choices.pick(&[i64::MIN.into(), before - 3, i32::MIN.into()]) } else { before }
                    }
                    _ if at >= n => at,
                    _ if !is_end && step < 0 && at == n - 1 && far => self.choices.pick(&[i64::MAX.into(), n]),
                    _ if self.choices.one_in(2) => at - n,
                    _ => at,
                };
                encoded.clamp(i64::MIN.into(), i64::MAX.into()) as i64
            };
            from.push(place(first, false));
            to.push(place(end, true));
            by.push(step as i64);
        }
        let all = axes.len() == rank && self.choices.one_in(2);
        let mut on = vec![x.to_owned(), self.list(from), self.list(to)];
        let axes = axes.iter().map(|a| self.axis(*a as u64, rank)).collect();
        on.push(if all { String::new() } else { self.list(axes) });
        if by.iter().any(|step| *step != 1) || self.choices.one_in(2) {
            on.push(self.list(by));
        }
        self.node("Slice", &on, name, vec![]);
    }
}

fn unary(op: &Unary, opset: i64) -> Option<(&'static str, Vec<AttributeProto>)> {
    let plain = |word| Some((word, vec![]));
    let since = |version, word| (opset >= version).then_some((word, vec![]));
    match op {
        Unary::Abs {} => plain("Abs"),
        Unary::Neg {} => plain("Neg"),
        Unary::Exp {} => plain("Exp"),
        Unary::Log {} => plain("Log"),
        Unary::Sqrt {} => plain("Sqrt"),
        Unary::Reciprocal {} => plain("Reciprocal"),
        Unary::Erf {} => plain("Erf"),
        Unary::Tanh {} => plain("Tanh"),
        Unary::Sin {} => plain("Sin"),
        Unary::Cos {} => plain("Cos"),
        Unary::Sigmoid {} => plain("Sigmoid"),
        Unary::Relu {} => plain("Relu"),
        Unary::LeakyRelu { alpha } => Some(("LeakyRelu", vec![float("alpha", alpha.0)])),
        Unary::ThresholdedRelu { alpha } => Some(("ThresholdedRelu", vec![float("alpha", alpha.0)])),
        Unary::Elu { alpha } => Some(("Elu", vec![float("alpha", alpha.0)])),
        Unary::Selu { alpha, gamma } => Some(("Selu", vec![float("alpha", alpha.0), float("gamma", gamma.0)])),
        Unary::Celu { alpha } => Some(("Celu", vec![float("alpha", alpha.0)])),
        Unary::Softplus {} => plain("Softplus"),
        Unary::Softsign {} => plain("Softsign"),
        Unary::HardSigmoid { alpha, beta } => {
            Some(("HardSigmoid", vec![float("alpha", alpha.0), float("beta", beta.0)]))
        }
        Unary::HardSwish {} => since(14, "HardSwish"),
        Unary::GeluErf {} => since(20, "Gelu"),
        Unary::GeluTanh {} => (opset >= 20).then(|| ("Gelu", vec![word("approximate", "tanh")])),
        Unary::Mish {} => since(18, "Mish"),
        Unary::Floor {} => plain("Floor"),
        Unary::Ceil {} => plain("Ceil"),
        Unary::Round {} => plain("Round"),
        Unary::Sign {} => plain("Sign"),
        Unary::Not {} => plain("Not"),
        // A limit is an input, and the other has an operator of a later version only.
        Unary::Clamp { .. } | Unary::Silu {} => None,
        Unary::Tan {} => plain("Tan"),
        Unary::Asin {} => plain("Asin"),
        Unary::Acos {} => plain("Acos"),
        Unary::Atan {} => plain("Atan"),
        Unary::Sinh {} => plain("Sinh"),
        Unary::Cosh {} => plain("Cosh"),
        Unary::Asinh {} => plain("Asinh"),
        Unary::Acosh {} => plain("Acosh"),
        Unary::Atanh {} => plain("Atanh"),
        Unary::BitNot {} => since(18, "BitwiseNot"),
    }
}

fn binary(op: &Binary) -> &'static str {
    match op {
        Binary::Add {} => "Add",
        Binary::Sub {} => "Sub",
        Binary::Mul {} => "Mul",
        Binary::Div {} => "Div",
        Binary::Rem {} => "Mod",
        Binary::Pow {} => "Pow",
        Binary::Max {} => "Max",
        Binary::Min {} => "Min",
        Binary::PRelu {} => "PRelu",
        Binary::Equal {} => "Equal",
        Binary::Less {} => "Less",
        Binary::LessOrEqual {} => "LessOrEqual",
        Binary::Greater {} => "Greater",
        Binary::GreaterOrEqual {} => "GreaterOrEqual",
        Binary::And {} => "And",
        Binary::Or {} => "Or",
        Binary::Xor {} => "Xor",
        other => unreachable!("no graph is made with `{}`", other.name()),
    }
}
