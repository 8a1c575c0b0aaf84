//! The assignment of a vector unit's registers to the values of a program.
//!
//! This is a linear scan (Poletto and Sarkar, "Linear Scan Register Allocation", TOPLAS 21(5), 1999) that decides at each operation, in
//! the order of the program, and knows all later uses. A value gets a register when it is defined or needed and keeps it until its last
//! use. When there is none left, the value whose next use is farthest loses its register (Belady's rule): values that depend on no
//! register and no memory that is written are computed again where they are needed, all others are kept in a slot of the function's frame.
//!
//! In a loop, values that come from before it keep their registers, so that every trip finds them where the first did. What has to make room
//! for a loop leaves before it.
//!
//! Operations can ask for registers besides those they name, for a result apart from their operands, and for operands whose elements are
//! taken one by one, which only the first registers of some units can be: see [`Need`] and [`Op::scalars`].

mod check;
mod live;
mod registers;

pub use check::{AssignmentError, check_assignment};

use std::sync::Arc;

use live::{At, Live};
use registers::{Registers, Set};

use super::{Inst, MicroKernel, Op, Stmt, Temps, Unary, V};
use crate::target::{Multiplier, VectorUnit};

/// The registers that the instructions of an operation need besides those that it names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Need {
    /// Registers that are overwritten, at most [`Temps::MOST`].
    pub temps: u8,
    /// The result is in another register than the operands, whatever the table says.
    pub is_apart: bool,
}

/// A program that cannot be assigned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AssignError {
    /// The values that an operation or a loop needs at once are more than there are registers.
    #[error("`{name}` needs more than {registers} registers at `{place}`")]
    Registers {
        /// The program.
        name: String,
        /// The operation, or the loop.
        place: String,
        /// Registers of the unit.
        registers: u8,
    },
    /// A value is defined by two operations, or by none before its first use.
    #[error("`{name}`: {value} is defined twice, or used before it is defined")]
    Definition {
        /// The program.
        name: String,
        /// The value.
        value: V,
    },
    /// The frame cannot have so many slots.
    #[error("`{name}` keeps more than {most} values in its frame", most = super::op::MAX_SLOTS)]
    Slots {
        /// The program.
        name: String,
    },
}

/// The origin of an operation of an assigned program: what it claims to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The next operation of the program of values.
    Program,
    /// The definition of this value once more.
    Again(V),
    /// The next operation of the program, which is a copy of a value: this is the definition of that value.
    Copy,
    /// A value on its way to or from the frame.
    Move,
}

/// A program with registers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assigned {
    /// The program.
    pub kernel: MicroKernel,
    /// For each operation in the order they are written down, its origin.
    pub origins: Vec<Origin>,
}

/// Assigns registers of `unit` to the values of `program`, each of which is defined once and after that only added to. `need` is asked once
/// for each operation, in order.
pub fn assign(program: &MicroKernel, unit: &VectorUnit, needs: &[Need]) -> Result<Assigned, AssignError> {
    let live = Live::of(program)?;
    let mut a = Assigner::new(program, unit, needs, &live);
    let mut body = Vec::with_capacity(program.body.len());
    let mut at = At::START;
    for stmt in &program.body {
        match stmt {
            Stmt::Inst(inst) => {
                a.inst(inst, at)?;
                at = at.next();
            }
            Stmt::Loop { trips, why, body: insts } => {
                let end = at.after(insts.len());
                a.enter_loop(insts, at, end)?;
                body.extend(a.out.drain(..).map(Stmt::Inst));
                for inst in insts {
                    a.inst(inst, at)?;
                    at = at.next();
                }
                let insts = std::mem::take(&mut a.out);
                body.push(Stmt::Loop { trips: *trips, why: why.clone(), body: insts });
                a.leave_loop(end);
            }
        }
    }
    body.extend(a.out.drain(..).map(Stmt::Inst));
    let kernel = MicroKernel {
        name: program.name.clone(),
        isa: program.isa,
        lanes: program.lanes,
        registers: unit.registers.into(),
        params: program.params.clone(),
        body,
    };
    Ok(Assigned { kernel, origins: a.origins })
}

/// The place of a value, and its uses that are left. It can be in a register, in a slot, in both, or nowhere: before its definition, and if
/// it can be computed again.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    register: Option<u8>,
    slot: Option<u16>,
    /// The next use and the end of the uses, in the list of all.
    uses: (u32, u32),
}

struct Assigner<'a> {
    program: &'a MicroKernel,
    unit: &'a VectorUnit,
    needs: std::slice::Iter<'a, Need>,
    live: &'a Live<'a>,
    places: Vec<Place>,
    /// Loops that were entered.
    loops: usize,
    registers: Registers,
    /// The registers whose values stay where they are until the loop ends.
    pinned: Set,
    /// The registers whose elements can be taken one by one.
    scalars: Set,
    free_slots: Vec<u16>,
    slots: u16,
    out: Vec<Inst>,
    origins: Vec<Origin>,
}

impl<'a> Assigner<'a> {
    fn new(program: &'a MicroKernel, unit: &'a VectorUnit, needs: &'a [Need], live: &'a Live<'a>) -> Self {
        let scalars = match unit.multiplier {
            Multiplier::Lane { max_reg } => Set::below(max_reg.min(unit.registers)),
            Multiplier::Broadcast => Set::below(unit.registers),
        };
        let reserved = Set::below(live.most_scalars.min(u32::from(unit.registers)) as u8) & scalars;
        let is_short = scalars != Set::below(unit.registers);
        Assigner {
            program,
            unit,
            needs: needs.iter(),
            live,
            places: live.all_uses().map(|uses| Place { uses, ..Place::default() }).collect(),
            loops: 0,
            registers: Registers::new(unit, if is_short { reserved } else { Set::NONE }),
            pinned: Set::NONE,
            scalars,
            free_slots: vec![],
            slots: 0,
            out: Vec::with_capacity(live.operands.len()),
            origins: Vec::with_capacity(live.operands.len()),
        }
    }

    fn emit(&mut self, inst: Inst, origin: Origin) {
        self.out.push(inst);
        self.origins.push(origin);
    }

    fn place(&mut self, v: V) -> &mut Place {
        &mut self.places[v.0 as usize]
    }

    /// The next use of a value, if there is one.
    fn next_use(&self, v: V) -> Option<At> {
        let (next, end) = self.places[v.0 as usize].uses;
        if next < end { Some(self.live.use_at(next)) } else { None }
    }

    /// Forgets the uses of a value up to `at`; tells whether any is left.
    fn advance(&mut self, v: V, at: At) -> bool {
        let live = self.live;
        let (next, end) = &mut self.place(v).uses;
        while *next < *end && live.use_at(*next) <= at {
            *next += 1;
        }
        *next < *end
    }

    fn too_many(&self, place: String) -> AssignError {
        AssignError::Registers { name: self.program.name.clone(), place, registers: self.unit.registers }
    }

    fn definition(&self, value: V) -> AssignError {
        AssignError::Definition { name: self.program.name.clone(), value }
    }

    /// Gives back what a value that is not used again holds.
    fn release(&mut self, v: V) {
        let place = self.place(v);
        let (register, slot) = (place.register.take(), place.slot.take());
        if let Some(r) = register {
            self.registers.give(r);
        }
        self.free_slots.extend(slot);
    }

    /// The registers among which that of a value must be.
    fn class(&self, v: V) -> Set {
        if self.live.is_scalars(v) { self.scalars } else { Set::below(self.unit.registers) }
    }

    /// One operation.
    fn inst(&mut self, inst: &Inst, at: At) -> Result<(), AssignError> {
        let need = self.needs.next().copied().unwrap_or_default();
        let op = &inst.op;
        let live = self.live;
        let operands = &live.operands[at.index()];
        if let Op::Unary { f: Unary::Move, d, a } = *op
            && matches!(self.places[a.0 as usize], Place { register: None, slot: None, .. })
            && self.live.can_repeat(a)
        {
            return self.copy(inst, at, [d, a]);
        }
        let mut held = Set::NONE;
        let mut are_there = true;
        for v in operands.used() {
            match self.places[v.0 as usize].register {
                Some(r) => held = held | Set::of(r),
                None => are_there = false,
            }
        }
        if !are_there {
            for v in operands.used() {
                let r = self.fetch(*v, held, inst)?;
                held = held | Set::of(r);
            }
        }
        // An accumulator's copy in the frame is of its old value.
        if operands.accumulates
            && let Some(d) = operands.defined
            && let Some(slot) = self.place(d).slot.take()
        {
            self.free_slots.push(slot);
        }
        let mut temps = [V(0); Temps::MOST];
        let temps = &mut temps[..usize::from(need.temps).min(Temps::MOST)];
        let mut taken = Set::NONE;
        for t in temps.iter_mut() {
            let r = self.take(Set::below(self.unit.registers), held | taken, inst)?;
            taken = taken | Set::of(r);
            *t = V(r.into());
        }
        let mut sources = [None; 3];
        let mut are_dead = [false; 3];
        for ((source, is_dead), v) in sources.iter_mut().zip(&mut are_dead).zip(operands.used()) {
            *source = self.places[v.0 as usize].register.map(|r| (*v, r));
            *is_dead = !self.advance(*v, at);
        }
        let defined = operands.defined;
        let is_apart = need.is_apart || operands.is_early;
        let mut hint = None;
        if !is_apart {
            for (&v, is_dead) in operands.used().iter().zip(are_dead) {
                if is_dead
                    && defined != Some(v)
                    && let Some(r) = self.places[v.0 as usize].register
                {
                    hint = hint.or(Some(r));
                    self.release(v);
                }
            }
        }
        let mut result = u8::MAX;
        if let Some(d) = defined
            && !operands.accumulates
        {
            // Operands that go on living keep their registers, as do all if the result is apart.
            let keep = if is_apart { held | taken } else { (held & !self.registers.free()) | taken };
            let class = self.class(d);
            result = match hint.filter(|r| class.has(*r) && self.registers.free().has(*r)) {
                Some(r) => {
                    self.registers.claim(r);
                    r
                }
                None => self.take(class, keep, inst)?,
            };
            self.registers.own(result, d);
            let place = self.place(d);
            (place.register, place.slot) = (Some(result), None);
        }
        let register = |v: V| sources.iter().flatten().find(|(s, _)| *s == v).map_or(result, |(_, r)| *r);
        let renamed = op.renamed(|v| V(register(v).into()));
        let temps_of = Temps::new(temps).unwrap_or_default();
        self.emit(Inst { op: renamed, temps: temps_of, why: inst.why.clone() }, Origin::Program);
        taken.each(|r| self.registers.give(r));
        for (&v, is_dead) in operands.used().iter().zip(are_dead) {
            if is_dead && defined != Some(v) {
                self.release(v);
            }
        }
        if let Some(d) = defined
            && self.next_use(d).is_none()
        {
            self.release(d);
        }
        Ok(())
    }

    /// The copy of a value that is in no register and can be computed again: it is computed where the copy goes.
    fn copy(&mut self, inst: &Inst, at: At, [d, a]: [V; 2]) -> Result<(), AssignError> {
        self.advance(a, at);
        let r = self.take(self.class(d), Set::NONE, inst)?;
        self.registers.own(r, d);
        self.place(d).register = Some(r);
        let op = self.live.definition(a).op.renamed(|_| V(r.into()));
        self.emit(Inst { op, temps: Temps::NONE, why: inst.why.clone() }, Origin::Copy);
        if self.next_use(d).is_none() {
            self.release(d);
        }
        Ok(())
    }

    /// The register of a value that an operation reads, into which it is brought if it is not there.
    fn fetch(&mut self, v: V, held: Set, inst: &Inst) -> Result<u8, AssignError> {
        let Place { register, slot, .. } = self.places[v.0 as usize];
        if let Some(r) = register {
            return Ok(r);
        }
        let definition = self.live.definition(v);
        if slot.is_none() && !self.live.can_repeat(v) {
            return Err(self.definition(v));
        }
        let r = self.take(self.class(v), held, inst)?;
        self.registers.own(r, v);
        self.place(v).register = Some(r);
        let d = V(r.into());
        match slot {
            Some(slot) => {
                let why = definition.why.clone();
                self.emit(Inst { op: Op::Reload { d, slot }, temps: Temps::NONE, why }, Origin::Move);
            }
            None => {
                let op = definition.op.renamed(|_| d);
                self.emit(Inst { op, temps: Temps::NONE, why: definition.why.clone() }, Origin::Again(v));
            }
        }
        Ok(r)
    }

    /// A register of a class, none of `keep`. If none is free, a value makes room.
    fn take(&mut self, class: Set, keep: Set, inst: &Inst) -> Result<u8, AssignError> {
        if let Some(r) = self.registers.take(class) {
            return Ok(r);
        }
        let r = self
            .victim(class & !keep & !self.pinned)
            .ok_or_else(|| self.too_many(inst.display(&self.program.params).to_string()))?;
        self.evict(r)?;
        self.registers.claim(r);
        Ok(r)
    }

    /// The register of a set whose value is used farthest from here. Values that have to be stored count half the distance.
    fn victim(&self, among: Set) -> Option<u8> {
        let distance = |r: u8| {
            let v = self.registers.owner(r)?;
            let next = self.next_use(v).map_or(u32::MAX / 2, At::number);
            let is_free = self.live.can_repeat(v) || self.places[v.0 as usize].slot.is_some();
            let here = self.used_up_to();
            Some((next.saturating_sub(here)) * if is_free { 2 } else { 1 })
        };
        (0..self.unit.registers).filter(|r| among.has(*r)).filter_map(|r| Some((distance(r)?, r))).max().map(|(_, r)| r)
    }

    /// Operations so far, in the unit of [`At::number`].
    fn used_up_to(&self) -> u32 {
        self.live.operations_before(self.needs.len())
    }

    /// Takes the register of its value away.
    fn evict(&mut self, r: u8) -> Result<(), AssignError> {
        let Some(v) = self.registers.owner(r) else { return Ok(()) };
        if self.places[v.0 as usize].slot.is_none() && !self.live.can_repeat(v) {
            let slot = match self.free_slots.pop() {
                Some(slot) => slot,
                None if self.slots < super::op::MAX_SLOTS => {
                    self.slots += 1;
                    self.slots - 1
                }
                None => return Err(AssignError::Slots { name: self.program.name.clone() }),
            };
            let why: Arc<str> = format!("keep {}", self.live.definition(v).why).trim_end().into();
            self.emit(Inst { op: Op::Spill { s: V(r.into()), slot }, temps: Temps::NONE, why }, Origin::Move);
            self.place(v).slot = Some(slot);
        }
        self.place(v).register = None;
        self.registers.give(r);
        Ok(())
    }

    /// Brings what a loop reads into registers, makes room for what it defines, and pins everything until it ends.
    fn enter_loop(&mut self, body: &[Inst], start: At, end: At) -> Result<(), AssignError> {
        let live = self.live;
        let Some(read) = live.read_in.get(self.loops) else { return Ok(()) };
        self.loops += 1;
        let mut held = Set::NONE;
        for v in read {
            if let Some(r) = self.places[v.0 as usize].register {
                held = held | Set::of(r);
            }
        }
        let Some(first) = body.first() else { return Ok(()) };
        for v in read {
            let r = self.fetch(*v, held, first)?;
            held = held | Set::of(r);
            if let Some(slot) = self.place(*v).slot.take() {
                self.free_slots.push(slot);
            }
        }
        // Values that live through the loop and are not read in it.
        let through = |a: &Self| Set::below(a.unit.registers) & !held & !a.registers.free();
        if through(self) != Set::NONE {
            let needs = self.needs.as_slice();
            let room = live.most_local(&needs[..body.len().min(needs.len())], start, end);
            while self.registers.free().count() < room {
                // What is defined in the loop can make room for others there.
                let Some(r) = self.victim(through(self)) else { break };
                self.evict(r)?;
            }
            // Operands by element that the loop defines need some of the first registers.
            let scalars = live.scalars_in(body);
            while (self.registers.free() & self.scalars).count() < scalars {
                let Some(r) = self.victim(through(self) & self.scalars) else { break };
                self.evict(r)?;
            }
        }
        self.pinned = !self.registers.free() & Set::below(self.unit.registers);
        Ok(())
    }

    /// Ends the loop that ends at `end`.
    fn leave_loop(&mut self, end: At) {
        self.pinned = Set::NONE;
        for r in 0..self.unit.registers {
            if let Some(v) = self.registers.owner(r) {
                self.advance(v, end.before());
                if self.next_use(v).is_none() {
                    self.release(v);
                }
            }
        }
    }
}
