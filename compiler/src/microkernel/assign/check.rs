//! An independent proof that an assigned program does what the program of its values does.
//!
//! The idea is that of regalloc2's checker: the assigned program is executed on what each register and each slot *holds*, which is a value of
//! the original program or nothing. Operations come in the original order; each must read the registers that hold its operands and then
//! makes its result's register hold the result. What was added may only move values and repeat definitions that give the same wherever they
//! are. Of a loop, what holds at its start is what holds both before it and at its end.
//!
//! This knows nothing of how registers were chosen. What the assigner says about the [`Origin`] of an operation is a claim that is checked.

use std::collections::BTreeMap;

use super::super::{Access, Inst, MicroKernel, Op, Stmt, Unary, V};
use super::{Need, Origin};

/// An assigned program that is not, or cannot be shown to be, what the program of its values is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{name}`: `{place}`: {fault}")]
pub struct AssignmentError {
    /// The program.
    pub name: String,
    /// The operation of the assigned program, or what stands for its end.
    pub place: String,
    /// What is wrong with it.
    pub fault: Fault,
}

/// A fault of an assignment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// Loops, parameters or lanes differ, or operations are missing or too many.
    #[error("the programs differ in what is no register")]
    Shape,
    /// Another operation than that of the program.
    #[error("this is not `{0}` with registers")]
    Other(String),
    /// A register does not hold the operand.
    #[error("{register} does not hold {value}")]
    Operand {
        /// The register.
        register: V,
        /// The value that is needed.
        value: V,
    },
    /// A register that there is not.
    #[error("there is no register {0}")]
    NoRegister(V),
    /// Fewer temporary registers than the operation needs, or one that it also names.
    #[error("the temporary registers are too few, or named by the operation, too")]
    Temps,
    /// A result in the register of an operand, where it must be in another.
    #[error("the result is in the register of an operand")]
    Overlap,
    /// The definition that is repeated reads registers or memory that is written.
    #[error("what is computed again need not be the same here")]
    Repeated,
    /// An operation that claims to move a value and does not.
    #[error("this moves no value")]
    NoMove,
}

/// What a register or a slot holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Register(V),
    Slot(u16),
}

/// The values in registers and slots; those that are not listed hold nothing of use.
type State = BTreeMap<Place, V>;

/// Proves that `assigned`, whose operations are of these origins, does what `program` does, where operations of the program need these
/// registers besides their own.
pub fn check_assignment(
    program: &MicroKernel,
    assigned: &MicroKernel,
    origins: &[Origin],
    needs: &[Need],
) -> Result<(), AssignmentError> {
    let fail = |place: &str, fault| AssignmentError { name: assigned.name.clone(), place: place.into(), fault };
    let same = program.params == assigned.params && program.lanes == assigned.lanes && program.isa == assigned.isa;
    let total = assigned.body.iter().map(|s| s.insts().len()).sum::<usize>();
    let of_program = program.body.iter().map(|s| s.insts().len()).sum::<usize>();
    if !same || origins.len() != total || needs.len() != of_program {
        return Err(fail("header", Fault::Shape));
    }
    let mut checker = Checker { program, assigned, definitions: definitions(program), state: State::new() };
    let (mut ours, mut theirs) = (assigned.body.iter(), program.body.iter());
    let (mut origins, mut needs) = (origins, needs);
    let mut next = ours.next();
    loop {
        match (next, theirs.as_slice().first()) {
            (None, None) => return Ok(()),
            (Some(Stmt::Inst(inst)), expected) => {
                let (origin, rest) = origins.split_first().ok_or_else(|| fail("end", Fault::Shape))?;
                origins = rest;
                let is_next = matches!(origin, Origin::Program | Origin::Copy);
                let original = match (is_next, expected) {
                    (true, Some(Stmt::Inst(original))) => {
                        theirs.next();
                        let (need, rest) = needs.split_first().ok_or_else(|| fail("end", Fault::Shape))?;
                        needs = rest;
                        Some((original, *need))
                    }
                    (true, _) => return Err(checker.fail(inst, Fault::Shape)),
                    (false, _) => None,
                };
                checker.inst(inst, *origin, original)?;
                next = ours.next();
            }
            (Some(Stmt::Loop { trips, body, .. }), Some(Stmt::Loop { trips: expected, body: originals, .. }))
                if trips == expected =>
            {
                theirs.next();
                let (of_loop, rest) = origins.split_at_checked(body.len()).ok_or_else(|| fail("end", Fault::Shape))?;
                origins = rest;
                let (of_originals, rest) =
                    needs.split_at_checked(originals.len()).ok_or_else(|| fail("end", Fault::Shape))?;
                needs = rest;
                checker.repeat(body, of_loop, originals, of_originals)?;
                next = ours.next();
            }
            _ => return Err(fail("end", Fault::Shape)),
        }
    }
}

/// The operation that defines each value.
fn definitions(program: &MicroKernel) -> BTreeMap<V, (&Op, bool)> {
    let mut definitions = BTreeMap::new();
    let mut changed = vec![];
    for stmt in &program.body {
        let is_loop = matches!(stmt, Stmt::Loop { .. });
        for inst in stmt.insts() {
            match inst.op.defined() {
                Some(d) if inst.op.accumulates() => changed.push(d),
                Some(d) => {
                    definitions.insert(d, (&inst.op, is_loop));
                }
                None => {}
            }
        }
    }
    // What is added to later is not what was defined.
    for d in changed {
        definitions.remove(&d);
    }
    definitions
}

struct Checker<'a> {
    program: &'a MicroKernel,
    assigned: &'a MicroKernel,
    /// The definitions of values that nothing is added to, and whether each is in a loop.
    definitions: BTreeMap<V, (&'a Op, bool)>,
    state: State,
}

impl Checker<'_> {
    fn fail(&self, inst: &Inst, fault: Fault) -> AssignmentError {
        let place = inst.display(&self.assigned.params).to_string();
        AssignmentError { name: self.assigned.name.clone(), place, fault }
    }

    /// A loop: its body is executed until what holds at its start does not change.
    fn repeat(
        &mut self,
        body: &[Inst],
        origins: &[Origin],
        originals: &[Inst],
        needs: &[Need],
    ) -> Result<(), AssignmentError> {
        loop {
            let start = self.state.clone();
            let (mut theirs, mut needs) = (originals.iter(), needs.iter());
            for (inst, origin) in body.iter().zip(origins) {
                let original = match origin {
                    Origin::Program | Origin::Copy => {
                        let next = theirs.next().zip(needs.next().copied());
                        Some(next.ok_or_else(|| self.fail(inst, Fault::Shape))?)
                    }
                    Origin::Again(_) | Origin::Move => None,
                };
                self.inst(inst, *origin, original)?;
            }
            if theirs.next().is_some() {
                let place = "end of a loop".to_owned();
                return Err(AssignmentError { name: self.assigned.name.clone(), place, fault: Fault::Shape });
            }
            // A value that the body defines may be another one in the next trip: it holds nothing at the start.
            let mut both = start.clone();
            both.retain(|place, v| self.state.get(place) == Some(v));
            if both == start {
                return Ok(());
            }
            self.state = both;
        }
    }

    fn inst(&mut self, inst: &Inst, origin: Origin, original: Option<(&Inst, Need)>) -> Result<(), AssignmentError> {
        self.fault(inst, origin, original).map_err(|fault| self.fail(inst, fault))
    }

    fn fault(&mut self, inst: &Inst, origin: Origin, original: Option<(&Inst, Need)>) -> Result<(), Fault> {
        let op = &inst.op;
        for v in op.used().chain(op.defined()).chain(inst.temps.as_slice().iter().copied()) {
            if v.0 >= self.assigned.registers {
                return Err(Fault::NoRegister(v));
            }
        }
        match (origin, original) {
            (Origin::Program, Some((original, need))) => self.program(inst, &original.op, need),
            (Origin::Copy, Some((original, _))) => {
                let Op::Unary { f: Unary::Move, d: value, a } = original.op else { return Err(Fault::NoMove) };
                let d = self.again(op, a)?;
                self.defines(value, d);
                Ok(())
            }
            (Origin::Again(v), None) => {
                let d = self.again(op, v)?;
                self.state.insert(Place::Register(d), v);
                Ok(())
            }
            (Origin::Move, None) => {
                let (from, to) = match *op {
                    Op::Spill { s, slot } => (Place::Register(s), Place::Slot(slot)),
                    Op::Reload { d, slot } => (Place::Slot(slot), Place::Register(d)),
                    Op::Unary { f: Unary::Move, d, a } => (Place::Register(a), Place::Register(d)),
                    _ => return Err(Fault::NoMove),
                };
                match self.state.get(&from).copied() {
                    Some(v) => self.state.insert(to, v),
                    None => self.state.remove(&to),
                };
                Ok(())
            }
            _ => Err(Fault::Shape),
        }
    }

    /// The register that `op` writes, which repeats the definition of `v`.
    fn again(&self, op: &Op, v: V) -> Result<V, Fault> {
        let (definition, is_in_loop) = self.definitions.get(&v).copied().ok_or(Fault::Repeated)?;
        let d = op.defined().ok_or(Fault::NoMove)?;
        let reads = definition.used().next().is_some() || definition.slot().is_some();
        let changes = definition.touched().is_some_and(|t| {
            is_in_loop || self.program.params.get(usize::from(t.addr.param.0)).is_none_or(|p| p.access != Access::Read)
        });
        if reads || changes {
            return Err(Fault::Repeated);
        }
        if definition.renamed(|_| d) != *op {
            return Err(Fault::Other(definition.to_string()));
        }
        Ok(d)
    }

    /// The next operation of the program.
    fn program(&mut self, inst: &Inst, original: &Op, need: Need) -> Result<(), Fault> {
        let op = &inst.op;
        // Registers are named in the order of fields, an accumulator once.
        let mut fields = vec![];
        op.renamed(|v| {
            fields.push(v);
            v
        });
        let mut fields = fields.into_iter();
        if original.renamed(|v| fields.next().unwrap_or(v)) != *op {
            return Err(Fault::Other(original.to_string()));
        }
        for (register, value) in op.used().zip(original.used()) {
            if self.state.get(&Place::Register(register)) != Some(&value) {
                return Err(Fault::Operand { register, value });
            }
        }
        let temps = inst.temps.as_slice();
        let is_named = |t: &V| op.used().chain(op.defined()).any(|v| v == *t);
        let are_twice = temps.len() == 2 && temps[0] == temps[1];
        if temps.len() < usize::from(need.temps) || temps.iter().any(is_named) || are_twice {
            return Err(Fault::Temps);
        }
        if (need.is_apart || original.is_early())
            && !original.accumulates()
            && op.defined().is_some_and(|d| op.used().any(|u| u == d))
        {
            return Err(Fault::Overlap);
        }
        for t in temps {
            self.state.remove(&Place::Register(*t));
        }
        if let (Some(value), Some(register)) = (original.defined(), op.defined()) {
            self.defines(value, register);
        }
        Ok(())
    }

    /// A value was defined, or added to: what held it before holds another value.
    fn defines(&mut self, value: V, register: V) {
        self.state.retain(|_, v| *v != value);
        self.state.insert(Place::Register(register), value);
    }
}
