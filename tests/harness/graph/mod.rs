//! Graphs at random: what whole networks are tested with.
//!
//! A graph is made of any bytes, each of which is a choice, so that a fuzzer's bytes are a graph as much as a generator's are. It is
//! a [`Func`] of operations that networks have, with what makes planners and passes err: parts and views of parts, axes turned
//! round, values that are read twice or given back as they are, empty and single axes, products with whatever may follow them.
//! Elements are small integers as long as they can be, so that results are compared exactly; where operations round, a bound of the
//! error is carried along ([`Known`]).

mod arithmetic;
mod check;
mod choices;
mod known;
mod layers;
mod movement;
mod onnx;

use kiln_ir::Func;
use kiln_ir::func::{Builder, Def, ElementType, Tensor, TensorOp, TensorType, ValueId};

pub use check::{Outcome, check, check_any, check_flexible, check_onnx, runtime};
pub use choices::Choices;
pub use known::Known;
pub use onnx::to_onnx;

/// Elements of a value at most: a graph is compiled and run in milliseconds.
const MOST_ELEMENTS: u64 = 1 << 12;

/// A function, and what is known of each of its values.
#[derive(Clone, Debug)]
pub struct Graph {
    /// The function.
    pub func: Func,
    /// By the position of the value.
    pub known: Vec<Known>,
}

/// The function while it is made.
struct Maker<'a, 'b> {
    builder: Builder,
    values: Vec<(ValueId, Known)>,
    choices: &'a mut Choices<'b>,
    /// The extent of the first axis of every value but constants, which no operation changes or mixes; `None` where there is no
    /// such axis.
    length: Option<u64>,
}

impl Graph {
    /// The graph of these choices.
    pub fn of(choices: &mut Choices<'_>) -> Self {
        Self::with(choices, None)
    }

    /// A graph whose first axis has this length: that of another length has the same operations.
    pub fn of_length(choices: &mut Choices<'_>, length: u64) -> Self {
        Self::with(choices, Some(length))
    }

    fn with(choices: &mut Choices<'_>, length: Option<u64>) -> Self {
        let mut maker = Maker { builder: Func::builder("graph"), values: vec![], choices, length };
        for number in 0..=maker.choices.below(3) {
            maker.argument(number);
        }
        let steps = 3 + maker.choices.below(14);
        for _ in 0..steps {
            // Some choices are of operations that do not take what there is.
            (0..4).find(|_| maker.step().is_some());
        }
        let results = maker.results();
        let known = maker.values.iter().map(|(_, known)| *known).collect();
        let func = maker.builder.finish_all(&results).expect("results are values");
        Graph { func, known }
    }

    /// Arguments, small integers that `seed` decides.
    pub fn arguments(&self, seed: u64) -> Vec<Tensor> {
        let arguments = self.func.arguments();
        arguments.enumerate().map(|(i, (_, v))| small(&v.ty, seed.wrapping_mul(31).wrapping_add(i as u64))).collect()
    }
}

/// Small integers without a pattern, from -3 to 3 where there are such.
fn small(ty: &TensorType, seed: u64) -> Tensor {
    let mut random = crate::data::Random(seed);
    let signed = !matches!(
        ty.element(),
        ElementType::Bool | ElementType::U8 | ElementType::U16 | ElementType::U32 | ElementType::U64
    );
    let mut number = || match ty.element() {
        ElementType::Bool => random.below(2) as f64,
        _ if signed => random.below(7) as f64 - 3.0,
        _ => random.below(4) as f64,
    };
    Tensor::from_f64(ty.clone(), &(0..ty.elements()).map(|_| number()).collect::<Vec<_>>())
}

impl Maker<'_, '_> {
    fn element(&mut self) -> ElementType {
        use ElementType::{Bf16, Bool, F16, F32, F64, I8, I32, I64, U8};
        match self.choices.below(12) {
            0 => self.choices.pick(&[Bf16, F16, F64, I8, U8, I32, I64, Bool]),
            _ => F32,
        }
    }

    fn dim(&mut self) -> u64 {
        match self.choices.below(40) {
            0 => 0,
            1..10 => 1,
            _ => self.choices.pick(&[2, 3, 4, 5, 7, 8, 16, 17]),
        }
    }

    fn argument(&mut self, number: u64) {
        // Images are what most contractions want.
        let rank = self.choices.pick(&[2, 4, 3, 1, 0, 4, 2, 3]);
        let mut shape: Vec<u64> = (0..rank).map(|_| self.dim()).collect();
        while shape.iter().map(|d| d.max(&1)).product::<u64>() > MOST_ELEMENTS / 4 {
            let largest = (0..rank).max_by_key(|a| shape[*a]).expect("there are elements");
            shape[largest] = 2;
        }
        shape.splice(0..0, self.length);
        let ty = TensorType::new(self.element(), shape).expect("a small shape");
        let id = self.builder.arg(&format!("x{number}"), ty.clone()).expect("a name of its own");
        self.values.push((id, Known::small(ty.element())));
    }

    /// A value, the last ones more often than others.
    fn value(&mut self) -> usize {
        let all: Vec<usize> = (0..self.values.len()).filter(|value| self.has_length(*value)).collect();
        let count = all.len() as u64;
        let back = match self.choices.below(3) {
            0 => 0,
            1 => self.choices.below(count.min(4)),
            _ => self.choices.below(count),
        };
        all[(count - 1 - back) as usize]
    }

    /// The first axes that operations leave as they are.
    fn fixed(&self) -> usize {
        usize::from(self.length.is_some())
    }

    /// True if a value has the axis that all have that are computed: constants do not.
    fn has_length(&self, value: usize) -> bool {
        self.length.is_none()
            || self.builder.value(self.values[value].0).is_some_and(|v| !matches!(v.def, Def::Constant(_)))
    }

    /// An axis that may be changed.
    fn any_axis(&mut self, rank: usize) -> Option<usize> {
        let fixed = self.fixed();
        (rank > fixed).then(|| fixed + self.choices.below((rank - fixed) as u64) as usize)
    }

    /// True if a value broadcasts with one of a shape.
    fn meets(&self, value: usize, shape: &[u64]) -> bool {
        let ty = self.ty(value);
        let pairs = ty.shape().iter().rev().zip(shape.iter().rev());
        // The first axes of values meet each other, and a constant none of them.
        let aligned = match (self.length, self.has_length(value)) {
            (None, _) => true,
            (_, true) => ty.rank() == shape.len(),
            (_, false) => ty.rank() < shape.len(),
        };
        aligned && pairs.clone().all(|(a, b)| a == b || *a == 1 || *b == 1)
    }

    fn ty(&self, value: usize) -> &TensorType {
        self.builder.ty(self.values[value].0).expect("it was added")
    }

    fn shape(&self, value: usize) -> Vec<u64> {
        self.ty(value).shape().to_vec()
    }

    fn known(&self, value: usize) -> Known {
        self.values[value].1
    }

    /// A constant of small integers.
    fn constant(&mut self, element: ElementType, shape: &[u64]) -> usize {
        let ty = TensorType::new(element, shape).expect("a small shape");
        let tensor = small(&ty, self.choices.below(256));
        self.given(&tensor, Known::small(element))
    }

    /// A constant of these elements.
    fn given(&mut self, tensor: &Tensor, known: Known) -> usize {
        let id = self.builder.constant(tensor);
        self.values.push((id, known));
        self.values.len() - 1
    }

    /// Adds an operation on values, if it takes them, its result is small, and what is known of that is enough.
    fn push(&mut self, op: impl Into<TensorOp>, on: &[usize], known: Known) -> Option<usize> {
        let op = op.into();
        let ids: Vec<ValueId> = on.iter().map(|value| self.values[*value].0).collect();
        let types: Vec<&TensorType> = on.iter().map(|value| self.ty(*value)).collect();
        let length = self.length.unwrap_or(1);
        let ty = op.infer(&types).ok().filter(|ty| ty.elements() <= MOST_ELEMENTS * length)?;
        // What was inferred of constants alone has no such axis; neither would what is made of it.
        if self.length.is_some()
            && (ty.shape().first() != self.length.as_ref() || !on.iter().any(|v| self.has_length(*v)))
        {
            return None;
        }
        let known = known.of_type(ty.element())?;
        let id = self.builder.push(op, &ids).expect("it was inferred");
        self.values.push((id, known));
        Some(self.values.len() - 1)
    }

    /// Adds an operation of some kind.
    fn step(&mut self) -> Option<usize> {
        match self.choices.below(16) {
            0..5 => self.movement(),
            5..10 => self.arithmetic(),
            10..13 => self.contraction(),
            _ => self.layer(),
        }
    }

    /// The results of the function: the last value, and perhaps others, an argument, a constant or the same again among them.
    fn results(&mut self) -> Vec<ValueId> {
        let mut results = vec![self.values.last().expect("there is an argument").0];
        for _ in 0..self.choices.below(4) {
            let value = self.choices.below(self.values.len() as u64) as usize;
            results.push(self.values[value].0);
        }
        results
    }
}
