//! A function as a list of steps: kernels, operations between them, and where in memory everything lies.

mod action;
mod aligned;
pub mod arena;
mod constants;
mod control;
mod elements;
pub(crate) mod error;
mod families;
mod general;
mod kernels;
pub mod memory;
mod native;
mod planned;
mod planner;
mod run;
mod step;
mod threads;
mod verify;

use kiln_ir::Func;
use kiln_ir::func::{Def, Value, ValueId};
use kiln_jit::Runtime;

use crate::error::ModelError;
use planner::Planner;

pub use action::Code;
pub(crate) use action::{Action, Input};
pub use error::{PlanError, PlanFault};
pub(crate) use families::{Families, Family};
pub use kernels::Progress;
pub(crate) use kernels::{KernelAction, Kernels, Known, pack};
pub(crate) use planned::Compiled;
pub(crate) use planner::{Asked, Make};
pub(crate) use run::Plan;
pub(crate) use threads::RuntimeThreads;

impl Plan {
    /// Plans a function whose kernels are there, with what is known of its weights.
    pub(crate) fn new(func: Func, runtime: &Runtime, kernels: &Kernels, known: Known<'_>) -> Result<Self, ModelError> {
        let results = func.results().to_vec();
        let texts = texts(&func);
        let mut values = func.into_values();
        let packed = kernels.pack(&mut values, &results, runtime, known)?;
        let is_packed = |at: usize| packed[at].is_some();
        constants::settle(&mut values, &results, &is_packed)?;
        let mut nested = vec![];
        let mut plan = Self::of(&values, texts, &results, &mut |at, asked| {
            let (control, operands) = match asked {
                Asked::Kernel { problem, constant } => {
                    let packed = packed[at].as_ref().map(|weights| weights.packed.clone());
                    return Ok(Box::new(kernels.action(&values[at].label(), problem, constant, packed)));
                }
                Asked::Control { control, operands } => (control, operands),
            };
            let bodies = control.bodies().map(|body| Plan::new((**body).clone(), runtime, kernels, known));
            let mut bodies = bodies.collect::<Result<Vec<_>, _>>()?;
            bodies.iter_mut().for_each(|plan| nested.append(&mut plan.weights));
            Ok(control::action(&values[at].label(), control, operands, bodies))
        })?;
        plan.weights = packed.into_iter().flatten().chain(nested).collect();
        Ok(plan)
    }

    /// Plans values in order, and verifies the plan. `make` makes the action of what the planner has none for.
    pub(crate) fn of(
        values: &[Value],
        texts: Vec<String>,
        results: &[ValueId],
        make: &mut Make<'_>,
    ) -> Result<Self, ModelError> {
        let mut planner = Planner::default();
        for (at, text) in texts.into_iter().enumerate() {
            planner.add(values, at, text, make)?;
        }
        let arguments = values.iter().filter(|v| v.def == Def::Argument).map(|v| v.ty.clone()).collect();
        let places = results.iter().map(|id| (values[id.index()].ty.clone(), planner.places[id.index()])).collect();
        let plan = planner.finish(arguments, places);
        verify::verify(&plan, values, results)?;
        Ok(plan)
    }
}

/// The text of each value that is computed.
fn texts(func: &Func) -> Vec<String> {
    func.values().map(|(id, v)| if v.operands().is_empty() { String::new() } else { func.headline(id) }).collect()
}
