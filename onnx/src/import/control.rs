//! Branches and loops.
//!
//! Values that are known at load are not in the function: of a branch whose condition is known only that is imported which is taken, and
//! a loop whose number of trips is known is unrolled, if that is few nodes. What is left becomes an operation that runs a function
//! of its own, and that function takes the values around it that the graph uses as arguments.

use std::collections::HashMap;
use std::rc::Rc;

use kiln_ir::Func;
use kiln_ir::func::{Control, ElementType, Structured, Tensor, TensorType};

use super::error::{Fault, ImportError};
use super::node::{Ctx, axis_of};
use super::program::{Recipe, Unknown, Val, boolean};
use super::scope::{Item, Scope};
use super::state::{Import, MOST_NODES};
use crate::graph::{Attribute, Graph, Node};

type Made = Result<Vec<Item>, Fault>;

/// Adds a node that has graphs, and gives what it makes.
pub(super) type ImportControl = fn(&mut Import<'_>, &mut Scope<'_>, &Node, i64, Vec<Option<Item>>) -> Made;

pub(super) const OPS: &[(&str, ImportControl)] =
    &[("If", branch), ("Loop", repeat), ("Scan", scan), ("SequenceMap", sequence_map)];

/// Nodes that a loop may become when it is unrolled. One of more is compiled once and runs in a loop, if it can.
const UNROLLED: usize = 1024;

/// A graph that is an attribute.
fn graph<'n>(node: &'n Node, name: &str) -> Result<&'n Graph, Fault> {
    match node.attributes.get(name) {
        Some(Attribute::Graph(graph)) => Ok(graph),
        Some(_) => Err(format!("attribute `{name}` is not a graph").into()),
        None => Err(format!("lacks its attribute `{name}`").into()),
    }
}

/// An input of one element of a type, if it is there.
fn number(import: &Import<'_>, item: Option<&Item>, input: usize, element: ElementType) -> Result<Option<Val>, Fault> {
    let Some(item) = item else { return Ok(None) };
    let value = item.clone().tensor(input)?;
    let ty = import.program.ty(&value);
    match ty.element() == element && ty.elements() == 1 {
        true => Ok(Some(value)),
        false => Err(format!("its input {input} is {ty}: expected one {element}").into()),
    }
}

/// Nodes of a graph and of those in it.
fn count(graph: &Graph) -> usize {
    let inner = |value: &Attribute| if let Attribute::Graph(graph) = value { count(graph) } else { 0 };
    graph.nodes.iter().map(|node| 1 + node.attributes.values().map(inner).sum::<usize>()).sum()
}

/// Values around a graph that it uses.
struct Captured {
    items: HashMap<String, Option<Item>>,
    /// Those that a function of the graph takes as arguments, with the model's names.
    arguments: Vec<(String, Val)>,
    /// The recipes by which the others are computed of constants.
    constants: Vec<(Val, Recipe)>,
}

/// The same value of the function that is being made.
fn same(a: &Val, b: &Val) -> bool {
    matches!((a, b), (Val::Dynamic(a), Val::Dynamic(b)) if a == b)
}

impl Import<'_> {
    /// Imports a graph's nodes where its node is. Gives what it makes.
    fn graph(
        &mut self,
        scope: &Scope<'_>,
        graph: &Graph,
        captured: &HashMap<String, Option<Item>>,
        inputs: Vec<Item>,
    ) -> Made {
        if inputs.len() != graph.inputs.len() {
            let (found, given) = (graph.inputs.len(), inputs.len());
            return Err(format!("its graph `{}` takes {found} values: it is given {given}", graph.name).into());
        }
        let mut inner = scope.inner(graph, captured);
        for (value, item) in graph.inputs.iter().zip(inputs) {
            inner.set(&value.name, item);
        }
        self.within(|import| {
            import.nodes(&mut inner, &graph.nodes)?;
            let outputs = graph.outputs.iter().map(|output| {
                let item = inner.get(&output.name)?;
                item.ok_or_else(|| Fault::Why(format!("its graph gives `{}`, which is left out", output.name)))
            });
            outputs.collect()
        })
    }

    /// The values around that a function of a graph needs to see.
    fn capture(&self, items: HashMap<String, Option<Item>>) -> Captured {
        let mut names: Vec<&String> = items.keys().collect();
        names.sort_unstable();
        let mut arguments: Vec<(String, Val)> = vec![];
        let mut constants: Vec<(Val, Recipe)> = vec![];
        for name in names {
            let mut tensors = vec![];
            items[name].iter().for_each(|item| item.tensors(&mut tensors));
            for value in tensors.into_iter().filter(|value| matches!(value, Val::Dynamic(_))) {
                let is_there =
                    arguments.iter().any(|(_, v)| same(v, value)) || constants.iter().any(|(v, _)| same(v, value));
                match self.program.recipe(value) {
                    _ if is_there => {}
                    Some(recipe) => constants.push((value.clone(), recipe)),
                    None => arguments.push((name.clone(), value.clone())),
                }
            }
        }
        Captured { items, arguments, constants }
    }

    /// A function that takes arguments of its own, and then what is captured. `make` gives its results for the former, with the
    /// values that its graph sees.
    fn function<T>(
        &mut self,
        name: &str,
        own: &[(String, TensorType)],
        captured: &Captured,
        make: impl FnOnce(&mut Self, Vec<Val>, HashMap<String, Option<Item>>) -> Result<(Vec<Val>, T), Fault>,
    ) -> Result<(Func, T), Fault> {
        let depth = self.program.depth();
        let types: Vec<_> = captured.arguments.iter().map(|(_, value)| self.program.ty(value)).collect();
        self.program.begin();
        let made = || {
            let given = own.iter().map(|(name, ty)| self.program.argument(name, ty.clone()));
            let given = given.collect::<Result<Vec<_>, _>>()?;
            let mut inside = vec![];
            for ((name, value), ty) in captured.arguments.iter().zip(types) {
                let argument = self.program.argument(name, ty)?;
                inside.push((value, argument));
            }
            inside.iter().for_each(|(value, argument)| self.program.promise(argument, value));
            for (value, recipe) in &captured.constants {
                inside.push((value, self.program.cook(recipe)?));
            }
            let mut moved = |value: &Val| {
                let found = inside.iter().find(|(outer, _)| same(outer, value));
                Ok(found.map_or_else(|| value.clone(), |(_, inner)| inner.clone()))
            };
            let items = captured.items.iter().map(|(name, item)| {
                let item = item.as_ref().map(|item| item.map(&mut moved)).transpose()?;
                Ok((name.clone(), item))
            });
            let items = items.collect::<Result<_, Fault>>()?;
            let (results, more) = make(self, given, items)?;
            Ok((self.program.end(name, &results)?, more))
        };
        let made = made();
        // What failed is not a part of anything.
        self.program.abandon(depth);
        made
    }
}

/// `If`.
fn branch(import: &mut Import<'_>, scope: &mut Scope<'_>, node: &Node, _: i64, inputs: Vec<Option<Item>>) -> Made {
    let graphs = [graph(node, "then_branch")?, graph(node, "else_branch")?];
    let condition = number(import, inputs.first().and_then(Option::as_ref), 0, ElementType::Bool)?;
    let condition = condition.ok_or("lacks its input 0")?;
    let source = match import.program.known(&condition) {
        Ok(known) => {
            let taken = if known.to_f64()[0] != 0.0 { graphs[0] } else { graphs[1] };
            let captured = scope.captured(taken)?;
            return import.graph(scope, taken, &captured, vec![]);
        }
        Err(Unknown::Input(source)) => Some(source),
        Err(_) => None,
    };
    let mut items = scope.captured(graphs[0])?;
    items.extend(scope.captured(graphs[1])?);
    let captured = import.capture(items);
    let mut branches = vec![];
    for (at, (name, graph)) in ["then", "otherwise"].into_iter().zip(graphs).enumerate() {
        let made = import.function(name, &[], &captured, |import, _, items| {
            let outputs = import.graph(scope, graph, &items, vec![])?;
            let mut results = vec![];
            outputs.iter().for_each(|item| item.tensors(&mut results));
            let mut results: Vec<Val> = results.into_iter().cloned().collect();
            // A function gives one value at least.
            if results.is_empty() {
                results.push(boolean(false));
            }
            let types = outputs.iter().map(|item| shape(import, item)).collect::<Vec<_>>();
            Ok((results, (outputs, types)))
        });
        branches.push(made.map_err(|fault| without_branch(node, at, fault, source.clone()))?);
    }
    let (otherwise, (others, other_types)) = branches.pop().expect("there are two");
    let (then, (outputs, types)) = branches.pop().expect("there are two");
    let differing = if types.len() == other_types.len() {
        (0..types.len()).find(|at| types[*at] != other_types[*at]).map(|at| {
            let name = node.outputs.get(at).filter(|name| !name.is_empty());
            let what = name.map_or(format!("value {at}"), |name| format!("`{name}`"));
            format!("its branches give different types for {what}: {} and {}", types[at], other_types[at])
        })
    } else {
        Some(format!("its branches give {} and {} values", types.len(), other_types.len()))
    };
    if let Some(why) = differing {
        return Err(needed(node, 0, format!("condition ({why})"), source));
    }
    drop(others);
    let operands: Vec<&Val> = std::iter::once(&condition).chain(captured.arguments.iter().map(|(_, v)| v)).collect();
    let control = Control::If { then: then.into(), otherwise: otherwise.into() };
    let mut results = import.program.control(control, &operands)?.into_iter();
    let mut next = |_: &Val| results.next().ok_or_else(|| Fault::from("its branches give fewer values"));
    outputs.iter().map(|item| item.map(&mut next)).collect()
}

/// The fault of a branch that cannot be imported. It may be fit for other inputs alone, and whoever says the condition gets the branch
/// that is taken.
fn without_branch(node: &Node, branch: usize, fault: Fault, source: Option<String>) -> Fault {
    let inner = match fault {
        Fault::Inner(inner) if source.is_some() && !matches!(*inner, ImportError::NeedsValue { .. }) => inner,
        other => return other,
    };
    let name = ["then", "else"][branch];
    needed(node, 0, format!("condition (its {name} branch cannot be imported: {inner})"), source)
}

/// The type of what an item is, as text.
fn shape(import: &Import<'_>, item: &Item) -> String {
    match item {
        Item::Tensor(value) => import.program.ty(value).to_string(),
        Item::Sequence(items) => {
            format!("[{}]", items.iter().map(|item| shape(import, item)).collect::<Vec<_>>().join(", "))
        }
        Item::Optional(None) => "none".into(),
        Item::Optional(Some(item)) => format!("some {}", shape(import, item)),
    }
}

/// A loop as its graph has it.
struct Trips<'g> {
    body: &'g Graph,
    captured: HashMap<String, Option<Item>>,
    states: Vec<Item>,
    /// The values that are read slice by slice along the first axis, and true if from the last on.
    read: Vec<(Val, bool)>,
    /// True if slices that are made are put together from the last on.
    made_backward: Vec<bool>,
    /// `Loop`, whose graph also takes the number of the trip and a condition, and gives one.
    is_loop: bool,
}

/// The outcome of an attempt to unroll a loop.
enum Unrolled {
    /// The states in the end, and slices for each value of such.
    Done(Vec<Item>, Vec<Vec<Val>>),
    /// It is not known at load whether the loop goes on.
    Unknown,
    /// It went on for as many trips as were allowed.
    TooLong,
}

impl Trips<'_> {
    /// Fails unless the graph takes and gives as many values as there are.
    fn check(&self) -> Result<(), Fault> {
        let more = if self.is_loop { 2 } else { 0 };
        let (takes, given) = (self.body.inputs.len(), more + self.states.len() + self.read.len());
        let (gives, least) = (self.body.outputs.len(), more / 2 + self.states.len() + self.made_backward.len());
        if takes != given {
            return Err(format!("its graph takes {takes} values: it is given {given}").into());
        }
        if gives != least {
            return Err(format!("its graph gives {gives} values: expected {least}").into());
        }
        Ok(())
    }

    /// The inputs of the graph for a trip.
    fn inputs(&self, number: Val, states: Vec<Item>, slices: Vec<Val>) -> Vec<Item> {
        let mut inputs = vec![];
        if self.is_loop {
            // It runs because its condition is true.
            inputs.extend([Item::Tensor(number), Item::Tensor(boolean(true))]);
        }
        inputs.extend(states);
        inputs.extend(slices.into_iter().map(Item::Tensor));
        inputs
    }

    /// The outputs of the graph: whether to go on, states, and slices.
    fn outputs(&self, import: &Import<'_>, mut outputs: Vec<Item>) -> Result<(Val, Vec<Item>, Vec<Val>), Fault> {
        let mut goes_on = boolean(true);
        if self.is_loop {
            let first = outputs.remove(0);
            goes_on = number(import, Some(&first), 0, ElementType::Bool)
                .map_err(|_| {
                    format!("its graph gives {} as its condition: expected one boolean", shape(import, &first))
                })?
                .unwrap_or(goes_on);
        }
        let slices = outputs.split_off(self.states.len());
        let slices = slices.into_iter().map(|item| match item {
            Item::Tensor(value) => Ok(value),
            other => Err(Fault::Why(format!("its graph gives {} to be stacked: expected a tensor", other.what()))),
        });
        Ok((goes_on, outputs, slices.collect::<Result<_, _>>()?))
    }

    /// A slice of what is read.
    fn slice(ctx: &mut Ctx<'_>, of: &Val, at: u64) -> Result<Val, Fault> {
        let slice = ctx.slice(of, 0, at, 1, 1)?;
        let shape = ctx.shape(of)[1..].to_vec();
        ctx.reshape(&slice, shape)
    }

    /// The trips one after another, as long as the loop goes on, of which there are `trips`, or as many as it says.
    fn unroll(
        &self,
        import: &mut Import<'_>,
        scope: &Scope<'_>,
        node: &Node,
        opset: i64,
        trips: Option<u64>,
        most: u64,
    ) -> Result<Unrolled, Fault> {
        let mut states = self.states.clone();
        let mut made = vec![vec![]; self.made_backward.len()];
        for trip in 0..trips.unwrap_or(u64::MAX) {
            if trip == most {
                return Ok(Unrolled::TooLong);
            }
            import.spend(1)?;
            let mut ctx = Ctx::new(node, opset, vec![], &mut import.program);
            let at = |backward: bool| if backward { trips.unwrap_or(0) - 1 - trip } else { trip };
            let slices = self.read.iter().map(|(of, backward)| Self::slice(&mut ctx, of, at(*backward)));
            let slices = slices.collect::<Result<_, _>>()?;
            let number = Val::Known(Tensor::scalar(trip as i64));
            let outputs = import.graph(scope, self.body, &self.captured, self.inputs(number, states, slices))?;
            let (goes_on, next, slices) = self.outputs(import, outputs)?;
            states = next;
            made.iter_mut().zip(slices).for_each(|(all, slice)| all.push(slice));
            match import.program.known(&goes_on) {
                Ok(known) if known.to_f64()[0] == 0.0 => break,
                Ok(_) => {}
                Err(_) => return Ok(Unrolled::Unknown),
            }
        }
        Ok(Unrolled::Done(states, made))
    }

    /// The function of a trip, whether the loop goes on after it, if that is known, and the types of slices that it makes. Its
    /// arguments are the number of the trip, states, slices, and what is captured; its results `goes_on` if that is asked for,
    /// states, and slices.
    fn function(
        &self,
        import: &mut Import<'_>,
        scope: &Scope<'_>,
        captured: &Captured,
        with_condition: bool,
        with_slices: bool,
    ) -> Result<(Func, Option<bool>, Vec<TensorType>), Fault> {
        let mut own = vec![("trip".to_owned(), TensorType::new(ElementType::I64, [])?)];
        let mut types = vec![];
        let names = self.body.inputs.iter().skip(if self.is_loop { 2 } else { 0 }).map(|v| v.name.clone());
        for (item, name) in self.states.iter().zip(names.clone()) {
            let Item::Tensor(state) = item else {
                return Err(format!(
                    "its state `{name}` is {}, which a loop cannot have that is not unrolled",
                    item.what()
                )
                .into());
            };
            types.push(import.program.ty(state));
            own.push((name, import.program.ty(state)));
        }
        for ((of, _), name) in self.read.iter().zip(names.clone().skip(self.states.len())) {
            let ty = import.program.ty(of);
            own.push((name, TensorType::new(ty.element(), &ty.shape()[1..])?));
        }
        let count = types.len();
        let (func, (goes_on, slices)) = import.function("body", &own, captured, |import, mut given, items| {
            let number = given.remove(0);
            let slices = given.split_off(count);
            let states = given.into_iter().map(Item::Tensor).collect();
            let outputs = import.graph(scope, self.body, &items, self.inputs(number, states, slices))?;
            let (goes_on, states, slices) = self.outputs(import, outputs)?;
            let slice_types: Vec<_> = slices.iter().map(|v| import.program.ty(v)).collect();
            let known = import.program.known(&goes_on).ok().map(|known| known.to_f64()[0] != 0.0);
            let mut results = vec![];
            if with_condition {
                let shape = Structured::Reshape { shape: vec![] };
                results.push(import.program.push(shape, &[&goes_on])?);
            }
            for ((item, before), name) in states.into_iter().zip(&types).zip(names) {
                let after = shape(import, &item);
                match item {
                    Item::Tensor(value) if import.program.ty(&value) == *before => results.push(value),
                    _ => {
                        let why = "a loop that is not unrolled has states of one type";
                        return Err(format!(
                            "its state `{name}` is {before} before a trip and {after} after it: {why}"
                        )
                        .into());
                    }
                }
            }
            if with_slices {
                results.extend(slices);
            }
            // A function gives one value at least.
            if results.is_empty() {
                results.push(boolean(false));
            }
            Ok((results, (known, slice_types)))
        })?;
        Ok((func, goes_on, slices))
    }

    /// The loop of so many trips over one function.
    fn counted(&self, import: &mut Import<'_>, scope: &Scope<'_>, trips: u64) -> Result<Option<Vec<Val>>, Fault> {
        let captured = import.capture(self.captured.clone());
        let (body, goes_on, _) = self.function(import, scope, &captured, false, true)?;
        if goes_on != Some(true) {
            return Ok(None);
        }
        let mut operands = vec![];
        for item in &self.states {
            operands.push(item.clone().tensor(0)?);
        }
        operands.extend(self.read.iter().map(|(of, _)| of.clone()));
        operands.extend(captured.arguments.iter().map(|(_, value)| value.clone()));
        if operands.is_empty() {
            return Err("it depends on nothing, and has too many trips to be computed at load".into());
        }
        let backward = self.read.iter().map(|(_, backward)| *backward).chain(self.made_backward.iter().copied());
        let control = Control::Scan {
            trips,
            states: self.states.len() as u64,
            backward: backward.map(u64::from).collect(),
            body: body.into(),
        };
        Ok(Some(import.program.control(control, &operands.iter().collect::<Vec<_>>())?))
    }

    /// All results of a loop of so many trips: states, then slices stacked along the first axis. `None` if it may end earlier.
    fn run(
        &self,
        import: &mut Import<'_>,
        scope: &Scope<'_>,
        node: &Node,
        opset: i64,
        trips: u64,
    ) -> Result<Option<Vec<Item>>, Fault> {
        let nodes = trips.saturating_mul(count(self.body).max(1) as u64);
        if nodes > UNROLLED as u64 {
            match self.counted(import, scope, trips) {
                Ok(Some(results)) => return Ok(Some(results.into_iter().map(Item::Tensor).collect())),
                Ok(None) if nodes > MOST_NODES as u64 => return Ok(None),
                Err(fault) if nodes > MOST_NODES as u64 => return Err(fault),
                // What changes its type from trip to trip, or ends for a known reason, can be unrolled.
                Ok(None) | Err(_) => {}
            }
        }
        match self.unroll(import, scope, node, opset, Some(trips), u64::MAX)? {
            Unrolled::Done(states, made) => Ok(Some(self.stacked(import, scope, node, opset, states, made)?)),
            Unrolled::Unknown | Unrolled::TooLong => Ok(None),
        }
    }

    /// States, then slices stacked along the first axis.
    fn stacked(
        &self,
        import: &mut Import<'_>,
        scope: &Scope<'_>,
        node: &Node,
        opset: i64,
        mut states: Vec<Item>,
        made: Vec<Vec<Val>>,
    ) -> Made {
        let mut types = None;
        for (at, mut slices) in made.into_iter().enumerate() {
            if slices.is_empty() {
                // Nothing ran, and the types of what would have been made are found by a trip that goes nowhere.
                if types.is_none() {
                    let captured = import.capture(self.captured.clone());
                    types = Some(self.function(import, scope, &captured, false, true)?.2);
                }
                let slice = &types.as_ref().expect("it was found")[at];
                let ty = TensorType::new(slice.element(), [&[0], slice.shape()].concat())?;
                states.push(Item::Tensor(Val::Known(Tensor::from_f64(ty, &[]))));
                continue;
            }
            if self.made_backward[at] {
                slices.reverse();
            }
            let mut ctx = Ctx::new(node, opset, vec![], &mut import.program);
            let rows = slices.iter().map(|slice| {
                let shape = [&[1], &ctx.shape(slice)[..]].concat();
                ctx.reshape(slice, shape)
            });
            let rows = rows.collect::<Result<Vec<_>, _>>()?;
            states.push(Item::Tensor(ctx.concat(&rows.iter().collect::<Vec<_>>(), 0)?));
        }
        Ok(states)
    }
}

/// `Loop`.
fn repeat(import: &mut Import<'_>, scope: &mut Scope<'_>, node: &Node, opset: i64, inputs: Vec<Option<Item>>) -> Made {
    let body = graph(node, "body")?;
    let input = |at: usize| inputs.get(at).and_then(Option::as_ref);
    let limit = number(import, input(0), 0, ElementType::I64)?;
    let condition = number(import, input(1), 1, ElementType::Bool)?;
    let states =
        (2..inputs.len()).map(|at| input(at).cloned().ok_or_else(|| Fault::Why(format!("lacks its input {at}"))));
    let states: Vec<Item> = states.collect::<Result<_, _>>()?;
    let made = body.outputs.len().checked_sub(1 + states.len()).ok_or("its graph gives fewer values than it takes")?;
    let captured = scope.captured(body)?;
    let trips = Trips { body, captured, states, read: vec![], made_backward: vec![false; made], is_loop: true };
    trips.check()?;
    // How many trips there are at most; `None` if that is not known at load, or not said.
    let (known_limit, limit_source) = known_or_source(import, limit.as_ref());
    let mut known_limit = known_limit.map(|limit| limit.max(0.0) as u64);
    let (begins, condition_source) = known_or_source(import, condition.as_ref());
    let begins = if condition.is_none() { Some(true) } else { begins.map(|number| number != 0.0) };
    if begins == Some(false) {
        known_limit = Some(0);
    }
    let is_open = limit.is_none();
    match (begins, known_limit) {
        (Some(_), Some(count)) => {
            if let Some(results) = trips.run(import, scope, node, opset, count)? {
                return Ok(results);
            }
        }
        // It may end by itself, with all that decides known.
        (Some(true), None) if is_open => {
            let most = (UNROLLED / count(body).max(1)) as u64;
            if let Unrolled::Done(states, made) = trips.unroll(import, scope, node, opset, None, most)? {
                return trips.stacked(import, scope, node, opset, states, made);
            }
        }
        _ => {}
    }
    let captured = import.capture(trips.captured.clone());
    // Where the loop cannot be run as it is, it may be unrolled if the caller promises a value.
    let promised = |why: String| match (limit_source.clone(), condition_source.clone()) {
        (Some(source), _) => needed(node, 0, format!("trip count ({why})"), Some(source)),
        (None, source) => needed(node, 1, format!("condition ({why})"), source),
    };
    let function = trips.function(import, scope, &captured, true, false);
    let (func, goes_on, _) = function.map_err(|fault| match fault {
        Fault::Why(why) if limit_source.is_some() || condition_source.is_some() => promised(why),
        Fault::Inner(error) if limit_source.is_some() || condition_source.is_some() => promised(error.to_string()),
        other => other,
    })?;
    if goes_on == Some(true) && is_open && begins != Some(false) {
        return Err("it never ends: it has no trip count, and its condition stays true".into());
    }
    let first_made = trips.states.len();
    if let Some(name) = node.outputs.iter().skip(first_made).find(|name| !name.is_empty()) {
        return Err(promised(format!("its output `{name}` has as many elements as the loop has trips")));
    }
    if trips.states.is_empty() {
        return Ok(vec![]);
    }
    let mut operands =
        vec![limit.unwrap_or_else(|| Val::Known(Tensor::scalar(i64::MAX))), condition.unwrap_or_else(|| boolean(true))];
    for item in &trips.states {
        operands.push(item.clone().tensor(0)?);
    }
    operands.extend(captured.arguments.iter().map(|(_, value)| value.clone()));
    let control = Control::While { states: trips.states.len() as u64, body: func.into() };
    let results = import.program.control(control, &operands.iter().collect::<Vec<_>>())?;
    Ok(results.into_iter().map(Item::Tensor).collect())
}

/// A number, or the input that it depends on.
fn known_or_source(import: &mut Import<'_>, value: Option<&Val>) -> (Option<f64>, Option<String>) {
    match value.map(|value| import.program.known(value)) {
        Some(Ok(known)) => (Some(known.to_f64()[0]), None),
        Some(Err(Unknown::Input(source))) => (None, Some(source)),
        _ => (None, None),
    }
}

/// The error for a value that must be known at load, and depends on an input or on what is computed.
fn needed(node: &Node, input: usize, what: String, source: Option<String>) -> Fault {
    match source {
        Some(source) => {
            Fault::Needs { input: what, value: node.inputs.get(input).cloned().unwrap_or_default(), source }
        }
        None => format!("its {what} must be known at load, and depends on what is computed").into(),
    }
}

/// Integers of an attribute, as many as there are values; without it, the same for all.
fn per_value(ctx: &Ctx<'_>, name: &str, values: usize, default: i64) -> Result<Vec<i64>, Fault> {
    let Some(ints) = ctx.ints(name)? else { return Ok(vec![default; values]) };
    if ints.len() != values {
        return Err(format!("attribute `{name}` is {ints:?}: expected {values} numbers").into());
    }
    Ok(ints)
}

/// True if values are read or made from the last on.
fn directions(ctx: &Ctx<'_>, name: &str, values: usize) -> Result<Vec<bool>, Fault> {
    let ints = per_value(ctx, name, values, 0)?;
    match ints.iter().find(|direction| !(0..=1).contains(*direction)) {
        None => Ok(ints.iter().map(|direction| *direction == 1).collect()),
        Some(other) => Err(format!("attribute `{name}` has {other}: expected 0 or 1").into()),
    }
}

/// With one axis moved to another place.
fn moved_axis(ctx: &mut Ctx<'_>, x: &Val, from: usize, to: usize) -> Result<Val, Fault> {
    let mut perm: Vec<usize> = (0..ctx.rank(x)).collect();
    let axis = perm.remove(from);
    perm.insert(to, axis);
    ctx.transpose(x, &perm)
}

/// `Scan`. In its first version everything has a batch in front, whose parts are scanned one after another.
fn scan(import: &mut Import<'_>, scope: &mut Scope<'_>, node: &Node, opset: i64, inputs: Vec<Option<Item>>) -> Made {
    let is_batched = opset < 9;
    let body = graph(node, "body")?;
    let mut values = inputs;
    if is_batched {
        // The lengths of what is scanned are the first input.
        if values.is_empty() || values.remove(0).is_some() {
            return Err("lengths of sequences are not supported: leave its input 0 out".into());
        }
    }
    let values = values.into_iter().enumerate().map(|(at, item)| match item {
        Some(item) => item.tensor(at),
        None => Err(Fault::Why(format!("lacks its input {at}"))),
    });
    let values = values.collect::<Result<Vec<Val>, _>>()?;
    let ctx = Ctx::new(node, opset, vec![], &mut import.program);
    let read = usize::try_from(ctx.int("num_scan_inputs", 0)?).ok().filter(|n| (1..=values.len()).contains(n));
    let read = read.ok_or_else(|| format!("scans one or more of its {} inputs", values.len()))?;
    let states = values.len() - read;
    let made = body.outputs.len().checked_sub(states).ok_or("its graph gives fewer values than it takes")?;
    let names = if is_batched { ["directions", ""] } else { ["scan_input_directions", "scan_output_directions"] };
    let (backward, made_backward) = (directions(&ctx, names[0], read)?, directions(&ctx, names[1], made)?);
    let axes = per_value(&ctx, "scan_input_axes", read, 0)?;
    let made_axes = per_value(&ctx, "scan_output_axes", made, 0)?;
    let batch = match is_batched {
        true => {
            let sizes: Vec<_> = values.iter().map(|value| ctx.shape(value).first().copied()).collect();
            let first = sizes[0].ok_or("its inputs have no batch")?;
            if sizes.iter().any(|size| *size != Some(first)) || first == 0 {
                return Err(format!("its inputs have batches of {sizes:?}: expected one size above 0").into());
            }
            first
        }
        false => 1,
    };
    let mut all: Vec<Vec<Val>> = vec![];
    for part in 0..batch {
        let mut ctx = Ctx::new(node, opset, vec![], &mut import.program);
        let mut inputs = vec![];
        for value in &values {
            inputs.push(if is_batched { Trips::slice(&mut ctx, value, part)? } else { value.clone() });
        }
        let scanned = inputs.split_off(states);
        let mut read = vec![];
        let mut length = None;
        for ((value, axis), backward) in scanned.iter().zip(&axes).zip(&backward) {
            let axis = axis_of(*axis, ctx.rank(value))?;
            let size = ctx.shape(value)[axis];
            if *length.get_or_insert(size) != size {
                return Err(format!("scans values of {} and {size} slices", length.unwrap_or_default()).into());
            }
            read.push((moved_axis(&mut ctx, value, axis, 0)?, *backward));
        }
        let trips = Trips {
            body,
            captured: scope.captured(body)?,
            states: inputs.into_iter().map(Item::Tensor).collect(),
            read,
            made_backward: made_backward.clone(),
            is_loop: false,
        };
        trips.check()?;
        let results = trips.run(import, scope, node, opset, length.unwrap_or_default())?;
        let results = results.ok_or("its graph has a condition")?;
        let mut ctx = Ctx::new(node, opset, vec![], &mut import.program);
        let mut finished = vec![];
        for (at, item) in results.into_iter().enumerate() {
            let value = item.tensor(at)?;
            finished.push(match at.checked_sub(states) {
                None => value,
                Some(at) => {
                    let axis = axis_of(made_axes[at], ctx.rank(&value))?;
                    moved_axis(&mut ctx, &value, 0, axis)?
                }
            });
        }
        all.push(finished);
    }
    let mut ctx = Ctx::new(node, opset, vec![], &mut import.program);
    let results = (0..all[0].len()).map(|at| {
        if !is_batched {
            return Ok(Item::Tensor(all[0][at].clone()));
        }
        let parts = all.iter().map(|results| {
            let shape = [&[1], &ctx.shape(&results[at])[..]].concat();
            ctx.reshape(&results[at], shape)
        });
        let parts = parts.collect::<Result<Vec<_>, _>>()?;
        ctx.concat(&parts.iter().collect::<Vec<_>>(), 0).map(Item::Tensor)
    });
    results.collect()
}

/// `SequenceMap`: its graph for each element of a sequence.
fn sequence_map(
    import: &mut Import<'_>,
    scope: &mut Scope<'_>,
    node: &Node,
    _: i64,
    inputs: Vec<Option<Item>>,
) -> Made {
    let body = graph(node, "body")?;
    let inputs = inputs.into_iter().enumerate();
    let inputs = inputs.map(|(at, item)| item.ok_or_else(|| Fault::Why(format!("lacks its input {at}"))));
    let inputs = inputs.collect::<Result<Vec<_>, _>>()?;
    let Some(Item::Sequence(first)) = inputs.first() else { return Err("its input 0 is not a sequence".into()) };
    let captured = scope.captured(body)?;
    let mut outputs = vec![vec![]; body.outputs.len()];
    for at in 0..first.len() {
        let given = inputs.iter().map(|item| match item {
            Item::Sequence(items) => {
                let item = items.get(at).cloned();
                item.ok_or_else(|| Fault::Why(format!("maps sequences of {} and {}", first.len(), items.len())))
            }
            other => Ok(other.clone()),
        });
        let given = given.collect::<Result<_, _>>()?;
        let results = import.graph(scope, body, &captured, given)?;
        outputs.iter_mut().zip(results).for_each(|(all, item)| all.push(item));
    }
    Ok(outputs.into_iter().map(|items| Item::Sequence(Rc::new(items))).collect())
}
