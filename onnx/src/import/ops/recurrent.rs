//! Recurrent networks. What all steps take from the input is one product; the steps are a loop over what is left.
//!
//! Weights may be integers, as ONNX Runtime's quantization writes them: then the input and each state are made integers before a
//! product, with a scale for all of their elements.

use kiln_ir::func::{Binary, Control, ElementType, Structured, Tensor, TensorType, Unary};

use super::super::error::Fault;
use super::super::node::{Ctx, Outputs};
use super::super::program::{Recipe, Val};
use super::Row;
use super::quantization::{centred, dynamically};
use crate::graph::Attribute;

pub(super) const OPS: &[Row] = &[
    ("GRU", |c| recurrent(c, Cell::Gru, false)),
    ("LSTM", |c| recurrent(c, Cell::Lstm, false)),
    ("RNN", |c| recurrent(c, Cell::Rnn, false)),
];

/// Those of ONNX Runtime.
pub(super) const MICROSOFT: &[Row] = &[("DynamicQuantizeLSTM", |c| recurrent(c, Cell::Lstm, true))];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Cell {
    Gru,
    Lstm,
    Rnn,
}

impl Cell {
    fn gates(self) -> u64 {
        match self {
            Cell::Gru => 3,
            Cell::Lstm => 4,
            Cell::Rnn => 1,
        }
    }

    /// Its activations where a node says nothing.
    fn activations(self) -> &'static [&'static str] {
        match self {
            Cell::Gru => &["Sigmoid", "Tanh"],
            Cell::Lstm => &["Sigmoid", "Tanh", "Tanh"],
            Cell::Rnn => &["Tanh"],
        }
    }
}

/// A function of gates or states.
#[derive(Clone, Debug, PartialEq)]
struct Activation {
    name: String,
    alpha: f64,
    beta: f64,
}

/// Functions with the values of their parameters where a node says nothing; `None` of those that they have not.
const ACTIVATIONS: &[(&str, Option<f32>, Option<f32>)] = &[
    ("Affine", Some(1.0), Some(0.0)),
    ("Elu", Some(1.0), None),
    ("HardSigmoid", Some(0.2), Some(0.5)),
    ("LeakyRelu", Some(0.01), None),
    ("Relu", None, None),
    ("ScaledTanh", Some(1.0), Some(1.0)),
    ("Sigmoid", None, None),
    ("Softplus", None, None),
    ("Softsign", None, None),
    ("Tanh", None, None),
    ("ThresholdedRelu", Some(1.0), None),
];

impl Activation {
    fn apply(&self, c: &mut Ctx<'_>, x: &Val) -> Result<Val, Fault> {
        use kiln_ir::func::Real;
        let (alpha, beta) = (Real(self.alpha), Real(self.beta));
        let op = match self.name.as_str() {
            "Affine" | "ScaledTanh" => {
                let is_affine = self.name == "Affine";
                let inner = if is_affine { x.clone() } else { c.scaled(x, self.beta)? };
                if !is_affine {
                    let curve = c.unary(Unary::Tanh {}, &inner)?;
                    return c.scaled(&curve, self.alpha);
                }
                let scaled = c.scaled(&inner, self.alpha)?;
                let shift = c.number_like(x, self.beta);
                return if self.beta == 0.0 { Ok(scaled) } else { c.add(&scaled, &shift) };
            }
            "Elu" => Unary::Elu { alpha },
            "HardSigmoid" => Unary::HardSigmoid { alpha, beta },
            "LeakyRelu" => Unary::LeakyRelu { alpha },
            "Relu" => Unary::Relu {},
            "Sigmoid" => Unary::Sigmoid {},
            "Softplus" => Unary::Softplus {},
            "Softsign" => Unary::Softsign {},
            "Tanh" => Unary::Tanh {},
            "ThresholdedRelu" => Unary::ThresholdedRelu { alpha },
            other => unreachable!("`{other}` was looked up"),
        };
        c.unary(op, x)
    }
}

/// Numbers of an attribute in the order in which functions take them.
fn floats(c: &Ctx<'_>, name: &str) -> Result<Vec<f64>, Fault> {
    match c.attribute(name) {
        None => Ok(vec![]),
        Some(Attribute::Floats(list)) => Ok(list.iter().map(|v| f64::from(*v)).collect()),
        Some(_) => Err(format!("attribute `{name}` is not a list of floating-point numbers").into()),
    }
}

/// The activations of all directions.
fn activations(c: &Ctx<'_>, cell: Cell, directions: usize) -> Result<Vec<Vec<Activation>>, Fault> {
    let each = cell.activations();
    let names: Vec<String> = match c.attribute("activations") {
        Some(Attribute::Strings(names)) if !names.is_empty() => {
            names.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect()
        }
        None | Some(Attribute::Strings(_)) => {
            each.iter().map(|name| (*name).into()).cycle().take(each.len() * directions).collect()
        }
        Some(_) => return Err("attribute `activations` is not a list of names".into()),
    };
    if names.len() != each.len() * directions {
        return Err(format!("has {} activations: expected {}", names.len(), each.len() * directions).into());
    }
    let (mut alphas, mut betas) =
        (floats(c, "activation_alpha")?.into_iter(), floats(c, "activation_beta")?.into_iter());
    let mut all = vec![];
    for name in names {
        let row = ACTIVATIONS.iter().find(|(known, ..)| known.eq_ignore_ascii_case(&name));
        let (name, alpha, beta) = row.ok_or_else(|| {
            let known: Vec<_> = ACTIVATIONS.iter().map(|(name, ..)| *name).collect();
            format!("there is no activation `{name}`: expected one of {}", known.join(", "))
        })?;
        let take = |default: &Option<f32>, list: &mut std::vec::IntoIter<f64>| {
            default.map_or(0.0, |default| list.next().unwrap_or(default.into()))
        };
        let (alpha, beta) = (take(alpha, &mut alphas), take(beta, &mut betas));
        all.push(Activation { name: (*name).into(), alpha, beta });
    }
    Ok(all.chunks(each.len()).map(<[Activation]>::to_vec).collect())
}

/// One direction of a node.
struct Direction {
    cell: Cell,
    hidden: u64,
    /// `[hidden, gates * hidden]`.
    recurrent: Val,
    /// The scale that they were divided by, if they are integers.
    scale: Option<Val>,
    /// The bias that is added to the product with it, if that is not in the gates already.
    bias: Option<Val>,
    /// `[3, hidden]`.
    peepholes: Option<Val>,
    activations: Vec<Activation>,
    clip: Option<f64>,
    /// Of an LSTM: the forget gate is what the input gate is not.
    couples: bool,
    /// Of a GRU: the reset gate is applied to the product, not to the state.
    resets_after: bool,
}

/// The state of a network: hidden, and of an LSTM its cell.
type State = Vec<Val>;

impl Direction {
    fn activate(&self, c: &mut Ctx<'_>, which: usize, x: &Val) -> Result<Val, Fault> {
        let clipped = match self.clip {
            Some(most) => {
                use kiln_ir::func::Real;
                c.unary(Unary::Clamp { low: Real(-most), high: Real(most) }, x)?
            }
            None => x.clone(),
        };
        self.activations[which].apply(c, &clipped)
    }

    fn is_plain(&self) -> bool {
        let names = self.activations.iter().map(|a| a.name.as_str());
        self.clip.is_none() && !self.couples && names.eq(self.cell.activations().iter().copied())
    }

    /// Some gates of a row of such.
    fn gates(&self, c: &mut Ctx<'_>, of: &Val, first: u64, count: u64) -> Result<Val, Fault> {
        c.slice(of, 1, first * self.hidden, 1, count * self.hidden)
    }

    /// The product of a state with some columns of the recurrent weights.
    fn product(&self, c: &mut Ctx<'_>, state: &Val, weights: &Val, bias: Option<&Val>) -> Result<Val, Fault> {
        let product = product(c, state, weights, self.scale.as_ref())?;
        match bias {
            Some(bias) => c.add(&product, bias),
            None => Ok(product),
        }
    }

    /// The state after a step. `given` is what the gates take from the input.
    fn step(&self, c: &mut Ctx<'_>, state: &State, given: &Val) -> Result<State, Fault> {
        match self.cell {
            Cell::Rnn => {
                let product = self.product(c, &state[0], &self.recurrent, None)?;
                let sum = c.add(&product, given)?;
                Ok(vec![self.activate(c, 0, &sum)?])
            }
            Cell::Lstm => self.lstm(c, state, given),
            Cell::Gru if self.resets_after => {
                let product = self.product(c, &state[0], &self.recurrent, self.bias.as_ref())?;
                if self.is_plain() {
                    return Ok(vec![c.push(Structured::GruCell {}, &[given, &product, &state[0]])?]);
                }
                let (mut first, mut own) = (vec![], vec![]);
                for gate in 0..3 {
                    first.push(self.gates(c, given, gate, 1)?);
                    own.push(self.gates(c, &product, gate, 1)?);
                }
                let sum = c.add(&first[1], &own[1])?;
                let reset = self.activate(c, 0, &sum)?;
                let kept = c.mul(&reset, &own[2])?;
                let new = c.add(&first[2], &kept)?;
                let update = c.add(&first[0], &own[0])?;
                self.gru(c, &state[0], &update, &new)
            }
            Cell::Gru => {
                let h = &state[0];
                let gates = c.slice(&self.recurrent, 1, 0, 1, 2 * self.hidden)?;
                let product = self.product(c, h, &gates, None)?;
                let given_gates = self.gates(c, given, 0, 2)?;
                let sum = c.add(&product, &given_gates)?;
                let reset = self.gates(c, &sum, 1, 1)?;
                let reset = self.activate(c, 0, &reset)?;
                let kept = c.mul(&reset, h)?;
                let new = c.slice(&self.recurrent, 1, 2 * self.hidden, 1, self.hidden)?;
                let new = self.product(c, &kept, &new, None)?;
                let given_new = self.gates(c, given, 2, 1)?;
                let new = c.add(&new, &given_new)?;
                let update = self.gates(c, &sum, 0, 1)?;
                self.gru(c, h, &update, &new)
            }
        }
    }

    /// `(1 - update) * new + update * state`.
    fn gru(&self, c: &mut Ctx<'_>, state: &Val, update: &Val, new: &Val) -> Result<State, Fault> {
        let update = self.activate(c, 0, update)?;
        let new = self.activate(c, 1, new)?;
        let far = c.sub(state, &new)?;
        let part = c.mul(&update, &far)?;
        Ok(vec![c.add(&new, &part)?])
    }

    fn lstm(&self, c: &mut Ctx<'_>, state: &State, given: &Val) -> Result<State, Fault> {
        let product = self.product(c, &state[0], &self.recurrent, None)?;
        let gates = c.add(&product, given)?;
        let cell = &state[1];
        if self.is_plain() {
            let operands = [&gates, cell].into_iter().chain(&self.peepholes);
            let both = c.push(Structured::LstmCell {}, &operands.collect::<Vec<_>>())?;
            let shape = c.shape(cell);
            let mut next = vec![];
            for at in 0..2 {
                let one = c.slice(&both, 0, at, 1, 1)?;
                next.push(c.reshape(&one, shape.clone())?);
            }
            return Ok(next);
        }
        let mut parts = vec![];
        for gate in 0..4 {
            parts.push(self.gates(c, &gates, gate, 1)?);
        }
        let seen = |c: &mut Ctx<'_>, gate: &Val, which: u64, cell: &Val| match &self.peepholes {
            None => Ok(gate.clone()),
            Some(p) => {
                let p = c.slice(p, 0, which, 1, 1)?;
                let part = c.mul(&p, cell)?;
                c.add(gate, &part)
            }
        };
        let input = seen(c, &parts[0], 0, cell)?;
        let input = self.activate(c, 0, &input)?;
        let forget = if self.couples {
            let one = c.number_like(&input, 1.0);
            c.sub(&one, &input)?
        } else {
            let forget = seen(c, &parts[2], 2, cell)?;
            self.activate(c, 0, &forget)?
        };
        let new = self.activate(c, 1, &parts[3])?;
        let (kept, added) = (c.mul(&forget, cell)?, c.mul(&input, &new)?);
        let next = c.add(&kept, &added)?;
        let output = seen(c, &parts[1], 1, &next)?;
        let output = self.activate(c, 0, &output)?;
        let curve = self.activate(c, 2, &next)?;
        Ok(vec![c.mul(&output, &curve)?, next])
    }

    /// The same in the function that was begun: with values of the function around as constants, or as arguments, which `argument`
    /// makes.
    fn inside(&self, mut value: impl FnMut(&Val) -> Result<Val, Fault>) -> Result<Self, Fault> {
        Ok(Direction {
            recurrent: value(&self.recurrent)?,
            scale: self.scale.as_ref().map(&mut value).transpose()?,
            bias: self.bias.as_ref().map(&mut value).transpose()?,
            peepholes: self.peepholes.as_ref().map(&mut value).transpose()?,
            activations: self.activations.clone(),
            ..*self
        })
    }

    fn values(&self) -> impl Iterator<Item = &Val> {
        [&self.recurrent].into_iter().chain(&self.scale).chain(&self.bias).chain(&self.peepholes)
    }
}

/// The product of rows with weights, or with integers that are weights by a scale, a single one or one for each column.
fn product(c: &mut Ctx<'_>, rows: &Val, weights: &Val, scale: Option<&Val>) -> Result<Val, Fault> {
    let Some(scale) = scale else { return c.matmul(rows, weights) };
    let [codes, own, zero] = dynamically(c, rows)?;
    let codes = centred(c, &codes, Some(zero))?;
    let sum = c.matmul(&codes, weights)?;
    let sum = c.cast(&sum, ElementType::F32)?;
    let factor = c.mul(&own, scale)?;
    let factor = c.rounded(&factor)?;
    c.mul(&sum, &factor)
}

/// All steps of a direction: the states in the end, and the hidden ones of all steps if they are wanted. `mask` says for each step
/// which of the batch still have one.
fn steps(
    c: &mut Ctx<'_>,
    direction: &Direction,
    initial: State,
    given: &Val,
    mask: Option<&Val>,
    is_backward: bool,
    wants_all: bool,
) -> Result<(State, Option<Val>), Fault> {
    let shape = c.shape(given);
    let (trips, slice) = (shape[0], shape[1..].to_vec());
    let ty = c.ty(&initial[0]);
    let (batch, hidden) = (ty.shape()[0], ty.shape()[1]);
    let step = |c: &mut Ctx<'_>, direction: &Direction, state: &State, given: &Val, mask: Option<&Val>| {
        let next = direction.step(c, state, given)?;
        let Some(mask) = mask else { return Ok((next[0].clone(), next)) };
        let zero = c.number_like(&next[0], 0.0);
        let made = c.select(mask, &next[0], &zero)?;
        let kept = next.iter().zip(state).map(|(next, state)| c.select(mask, next, state));
        Ok::<_, Fault>((made, kept.collect::<Result<State, Fault>>()?))
    };
    let all_shape = vec![trips, batch, hidden];
    if trips == 0 {
        let ty = TensorType::new(ty.element(), all_shape)?;
        return Ok((initial, wants_all.then(|| Val::Known(Tensor::from_f64(ty, &[])))));
    }
    // One step is no loop.
    if trips == 1 {
        let given = c.reshape(given, slice)?;
        let mask = mask.map(|mask| c.reshape(mask, [batch, 1])).transpose()?;
        let (made, state) = step(c, direction, &initial, &given, mask.as_ref())?;
        let all = if wants_all { Some(c.reshape(&made, all_shape)?) } else { None };
        return Ok((state, all));
    }
    let recipes: Vec<Option<Recipe>> = direction.values().map(|value| c.program.recipe(value)).collect();
    let captured: Vec<Val> = direction
        .values()
        .zip(&recipes)
        .filter(|(_, recipe)| recipe.is_none())
        .map(|(value, _)| value.clone())
        .collect();
    let types: Vec<TensorType> = captured.iter().map(|value| c.ty(value)).collect();
    let element = ty.element();
    let depth = c.program.depth();
    c.program.begin();
    let body = || {
        let trip = c.program.argument("trip", TensorType::new(ElementType::I64, [])?)?;
        let _ = trip;
        let mut state = vec![];
        for (_, name) in initial.iter().zip(["hidden", "cell"]) {
            state.push(c.program.argument(name, ty.clone())?);
        }
        let given = c.program.argument("given", TensorType::new(element, slice)?)?;
        let mask = match mask {
            Some(_) => Some(c.program.argument("mask", TensorType::new(ElementType::Bool, [batch, 1])?)?),
            None => None,
        };
        let mut arguments = vec![];
        for ty in types {
            arguments.push(c.program.argument("weights", ty)?);
        }
        let (mut arguments, mut recipes) = (arguments.into_iter(), recipes.iter());
        let inside = direction.inside(|_| match recipes.next().expect("one for each") {
            Some(recipe) => c.program.cook(recipe),
            None => Ok(arguments.next().expect("one for each that is not constant")),
        })?;
        let (made, mut results) = step(c, &inside, &state, &given, mask.as_ref())?;
        results.extend(wants_all.then_some(made));
        c.program.end("step", &results)
    };
    let body = body();
    c.program.abandon(depth);
    let flag = u64::from(is_backward);
    let tensors = 1 + usize::from(mask.is_some()) + usize::from(wants_all);
    let control =
        Control::Scan { trips, states: initial.len() as u64, backward: vec![flag; tensors], body: body?.into() };
    let operands: Vec<&Val> = initial.iter().chain([given]).chain(mask).chain(&captured).collect();
    let mut results = c.program.control(control, &operands)?;
    let all = if wants_all { results.pop() } else { None };
    Ok((results, all))
}

/// One of the directions of a tensor that has them in front.
fn one_of(c: &mut Ctx<'_>, x: &Val, at: u64) -> Result<Val, Fault> {
    let one = c.slice(x, 0, at, 1, 1)?;
    let shape = c.shape(x)[1..].to_vec();
    c.reshape(&one, shape)
}

fn expect_shape(c: &Ctx<'_>, what: &str, x: &Val, expected: &[u64]) -> Result<(), Fault> {
    if c.shape(x) == expected {
        return Ok(());
    }
    Err(format!("its {what} is {}: expected a shape of {expected:?}", c.ty(x)).into())
}

fn recurrent(c: &mut Ctx<'_>, cell: Cell, is_quantized: bool) -> Outputs {
    let word = c.string("direction", "forward")?;
    let backward: &[bool] = match word.as_str() {
        "forward" => &[false],
        "reverse" => &[true],
        "bidirectional" => &[false, true],
        other => {
            return Err(format!(
                "attribute `direction` is `{other}`: expected `forward`, `reverse` or `bidirectional`"
            )
            .into());
        }
    };
    let directions = backward.len() as u64;
    let is_batch_first = match c.int("layout", 0)? {
        0 => false,
        1 => true,
        other => return Err(format!("attribute `layout` is {other}: expected 0 or 1").into()),
    };
    // Of the first version: whether all states are wanted, which outputs say.
    c.int_or_none("output_sequence")?;
    let activations = activations(c, cell, backward.len())?;
    let clip = c.float_or_none("clip")?.filter(|clip| *clip > 0.0);
    let couples = cell == Cell::Lstm && c.flag("input_forget", false)?;
    let resets_after = cell == Cell::Gru && c.flag("linear_before_reset", false)?;
    let swapped = |c: &mut Ctx<'_>, x: &Val| {
        if !is_batch_first {
            return Ok(x.clone());
        }
        if c.rank(x) != 3 {
            return Err(Fault::Why(format!("has an input of {}: expected rank 3", c.ty(x))));
        }
        c.transpose(x, &[1, 0, 2])
    };
    let (x, weights, recurrent) = (c.input(0)?, c.input(1)?, c.input(2)?);
    let x = swapped(c, &x)?;
    let (&[steps_in, batch, size], &[_, first, second]) = (&c.shape(&x)[..], &c.shape(&recurrent)[..]) else {
        return Err(format!("its X is {} and its R {}: expected rank 3", c.ty(&x), c.ty(&recurrent)).into());
    };
    let hidden = if is_quantized { first } else { second };
    if let Some(said) = c.int_or_none("hidden_size")?
        && u64::try_from(said) != Ok(hidden)
    {
        return Err(format!("attribute `hidden_size` is {said}, and its R is {}", c.ty(&recurrent)).into());
    }
    let element = c.element(&x);
    let rows = cell.gates().checked_mul(hidden).ok_or("its weights are too large")?;
    let shape = |size| if is_quantized { [directions, size, rows] } else { [directions, rows, size] };
    expect_shape(c, "W", &weights, &shape(size))?;
    expect_shape(c, "R", &recurrent, &shape(hidden))?;
    if is_quantized && element != ElementType::F32 {
        return Err(format!("its X is {}: expected f32", c.ty(&x)).into());
    }
    let scales = if is_quantized {
        let of = |c: &mut Ctx<'_>, at: usize, what: &str| Scales::of(c, at, what, [directions, rows]);
        Some((of(c, 8, "W")?, of(c, 10, "R")?))
    } else {
        None
    };
    let bias = c.optional(3);
    if let Some(bias) = &bias {
        expect_shape(c, "B", bias, &[directions, 2 * rows])?;
    }
    let mask = lengths(c, steps_in, batch)?;
    let state_shape = [directions, batch, hidden];
    let zeros = |c: &mut Ctx<'_>| -> Result<Val, Fault> {
        let ty = TensorType::new(element, [batch, hidden])?;
        c.program.allow(&ty)?;
        let zeros = vec![0.0; ty.elements() as usize];
        Ok(Val::Known(Tensor::from_f64(ty, &zeros)))
    };
    let states = if cell == Cell::Lstm { 2 } else { 1 };
    let mut initial = vec![];
    for (at, what) in [(5, "initial_h"), (6, "initial_c")].into_iter().take(states) {
        let value = match c.optional(at) {
            Some(value) => {
                let value = swapped(c, &value)?;
                expect_shape(c, what, &value, &state_shape)?;
                Some(value)
            }
            None => None,
        };
        initial.push(value);
    }
    let peepholes = if cell == Cell::Lstm { c.optional(7) } else { None };
    if let Some(p) = &peepholes {
        expect_shape(c, "P", p, &[directions, 3 * hidden])?;
    }
    let wants_all = c.wants(0);
    let mut finals: Vec<Vec<Val>> = vec![vec![]; states];
    let mut sequences = vec![];
    for (at, is_backward) in backward.iter().enumerate() {
        let d = at as u64;
        let (weights, own) = (one_of(c, &weights, d)?, one_of(c, &recurrent, d)?);
        let [(weights, scale), (own, own_scale)] = match &scales {
            None => [(c.transpose(&weights, &[1, 0])?, None), (c.transpose(&own, &[1, 0])?, None)],
            Some((of_weights, of_own)) => [of_weights.centred(c, &weights, d)?, of_own.centred(c, &own, d)?],
        };
        let mut given = product(c, &x, &weights, scale.as_ref())?;
        let mut own_bias = None;
        if let Some(bias) = &bias {
            let bias = one_of(c, bias, d)?;
            let (first, second) = (c.slice(&bias, 0, 0, 1, rows)?, c.slice(&bias, 0, rows, 1, rows)?);
            if resets_after {
                given = c.add(&given, &first)?;
                own_bias = Some(second);
            } else {
                let sum = c.push(Binary::Add {}, &[&first, &second])?;
                given = c.add(&given, &sum)?;
            }
        }
        let peepholes = match &peepholes {
            Some(p) => {
                let p = one_of(c, p, d)?;
                Some(c.reshape(&p, [3, hidden])?)
            }
            None => None,
        };
        let direction = Direction {
            cell,
            hidden,
            recurrent: own,
            scale: own_scale,
            bias: own_bias,
            peepholes,
            activations: activations[at].clone(),
            clip,
            couples,
            resets_after,
        };
        let mut state = vec![];
        for value in &initial {
            state.push(match value {
                Some(value) => one_of(c, value, d)?,
                None => zeros(c)?,
            });
        }
        let (state, all) = steps(c, &direction, state, &given, mask.as_ref(), *is_backward, wants_all)?;
        for (of, value) in finals.iter_mut().zip(state) {
            of.push(c.reshape(&value, [1, batch, hidden])?);
        }
        if let Some(all) = all {
            sequences.push(c.reshape(&all, [steps_in, 1, batch, hidden])?);
        }
    }
    let mut outputs = vec![];
    let all = if wants_all {
        let all = c.concat(&sequences.iter().collect::<Vec<_>>(), 1)?;
        if is_batch_first { c.transpose(&all, &[2, 0, 1, 3])? } else { all }
    } else {
        // Nobody asks for it.
        finals[0][0].clone()
    };
    outputs.push(all);
    for values in finals {
        let value = c.concat(&values.iter().collect::<Vec<_>>(), 0)?;
        outputs.push(swapped(c, &value)?);
    }
    Ok(outputs)
}

/// The quantization of weights that are integers: for each direction a scale and a zero point, or such for each column.
struct Scales {
    scale: Val,
    zero: Val,
}

impl Scales {
    /// Those of weights `[directions, .., columns]`, from two inputs.
    fn of(c: &mut Ctx<'_>, at: usize, what: &str, [directions, columns]: [u64; 2]) -> Result<Self, Fault> {
        let (scale, zero) = (c.input(at)?, c.input(at + 1)?);
        let shape = c.shape(&scale);
        if shape != [directions] && shape != [directions, columns] {
            let expected = format!("[{directions}] or [{directions}, {columns}]");
            return Err(format!("its scale of {what} is {}: expected a shape of {expected}", c.ty(&scale)).into());
        }
        expect_shape(c, &format!("zero point of {what}"), &zero, &shape)?;
        Ok(Scales { scale, zero })
    }

    /// The weights of a direction less their zero point, and their scale.
    fn centred(&self, c: &mut Ctx<'_>, weights: &Val, direction: u64) -> Result<(Val, Option<Val>), Fault> {
        let (scale, zero) = (one_of(c, &self.scale, direction)?, one_of(c, &self.zero, direction)?);
        Ok((centred(c, weights, Some(zero))?, Some(scale)))
    }
}

/// For each step which of the batch still have one, `[steps, batch, 1]`, where not all always do.
fn lengths(c: &mut Ctx<'_>, steps: u64, batch: u64) -> Result<Option<Val>, Fault> {
    let Some(lengths) = c.optional(4) else { return Ok(None) };
    let ty = c.ty(&lengths);
    if ty.shape() != [batch] || !matches!(ty.element(), ElementType::I32 | ElementType::I64) {
        return Err(format!("its sequence_lens is {ty}: expected i32[{batch}]").into());
    }
    if let Val::Known(known) = &lengths {
        let all = known.to_f64();
        if let Some(length) = all.iter().find(|length| !(0.0..=steps as f64).contains(*length)) {
            return Err(format!("its sequence_lens has {length}, of {steps} steps").into());
        }
        if all.iter().all(|length| *length == steps as f64) {
            return Ok(None);
        }
    }
    let ty = TensorType::new(ty.element(), [steps, 1])?;
    c.program.allow(&ty)?;
    let numbers: Vec<f64> = (0..steps).map(|step| step as f64).collect();
    let mask = c.push(Binary::Less {}, &[&Val::Known(Tensor::from_f64(ty, &numbers)), &lengths])?;
    Ok(Some(c.reshape(&mask, [steps, batch, 1])?))
}
