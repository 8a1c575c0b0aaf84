//! The rules that every micro-kernel must satisfy before it is emitted, interpreted or called.
//!
//! A micro-kernel that verifies reads no register before it was written, stays within its register budget, and in every
//! trip of every loop touches only the [`Region`]s of its parameters, in the ways their [`Access`] allows.

mod region;

use std::collections::HashSet;
use std::sync::Arc;

use super::op::Rule;
use super::words::is_identifier;
use super::{Access, Addr, Inst, MicroKernel, P, Param, Region, Stmt, V};
use crate::target::VectorIsa;

/// Most registers, and so most values of a program whose registers are not assigned.
pub const MAX_REGISTERS: u32 = 1 << 20;

/// Most f32 lanes a register can have: those of SVE's longest vectors, 2048 bits.
pub const MAX_LANES: u32 = 64;

/// A micro-kernel that breaks a rule: a defect of what built it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("micro-kernel `{name}`: {place}: {fault}")]
pub struct VerifyError {
    /// The micro-kernel.
    pub name: String,
    /// The operation, parameter, loop or header at fault, as it prints.
    pub place: String,
    /// The rule that is broken, and how.
    pub fault: Fault,
}

/// The rules.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// Names are letters, digits and `_`, and do not start with a digit.
    #[error("the name is no identifier")]
    Name,
    /// Parameters are told apart by name.
    #[error("another parameter has this name")]
    DuplicateName,
    /// [`P`] can name 256 parameters.
    #[error("more than 256 parameters")]
    TooManyParams,
    /// Reasons print as the comment of a line.
    #[error("the reason is not one line without space around it")]
    Reason,
    /// [`Op::LoadLanes`](super::Op::LoadLanes) and [`Op::FmaLane`](super::Op::FmaLane) work in groups of 4 lanes.
    #[error("registers of {0} lanes: expected a multiple of 4 up to {MAX_LANES}")]
    RegisterLanes(u32),
    /// Rows must not overlap, end within `i64`, and consist of whole elements.
    #[error("the region's rows overlap, are not whole elements, or end beyond 2^63 bytes")]
    Region,
    /// Loops run at least once.
    #[error("a loop of no trips")]
    NoTrips,
    /// Registers are below the budget.
    #[error("{register} is not among the {budget} registers")]
    NoRegister {
        /// The register.
        register: V,
        /// [`MicroKernel::registers`].
        budget: u32,
    },
    /// There are at most [`MAX_REGISTERS`].
    #[error("{0} registers: expected at most {MAX_REGISTERS}")]
    TooManyRegisters(u32),
    /// Slots are written before they are read, in a loop's first trip too.
    #[error("slot {0} is read before it is written")]
    UnwrittenSlot(u16),
    /// Temporary registers differ from each other and from those that the operation names.
    #[error("a temporary register that the operation also names, or twice the same one")]
    Temps,
    /// Registers are written before they are read, in a loop's first trip too.
    #[error("{0} is read before it is written")]
    Unwritten(V),
    /// Loads and stores touch between 1 element and a whole register.
    #[error("{found} elements: expected 1 to {max}")]
    Elements {
        /// Elements touched.
        found: u16,
        /// Most that can be.
        max: u32,
    },
    /// Numbers keep the rules of the table.
    #[error("{0}")]
    Number(Rule),
    /// Elements that are not converted have one or two bytes.
    #[error("elements of `{0}` have four bytes, and those that are not converted must have one or two")]
    NotNarrow(String),
    /// No operation narrows words to integers of 8 or 16 bits.
    #[error("`{0}` has integers of 8 or 16 bits, to which no store converts")]
    StoresNarrowIntegers(String),
    /// The instruction set has the operation.
    #[error("there is no such operation on {0}")]
    Isa(VectorIsa),
    /// The result of a conversion is in another register than its operands.
    #[error("a conversion whose result is in the register of an operand")]
    Overlap,
    /// Addresses start at a parameter.
    #[error("there is no parameter {}", .0.0)]
    NoParam(P),
    /// Parameters that are only read are not stored to, and the reverse.
    #[error("`{param}` is {access} only")]
    Forbidden {
        /// The parameter's name.
        param: String,
        /// The use that is allowed.
        access: Access,
    },
    /// Outside of loops there is no trip to multiply a step with.
    #[error("a step outside of a loop")]
    StepOutsideLoop,
    /// Accesses are aligned to elements.
    #[error("offset or step is not a multiple of {0} bytes")]
    Misaligned(usize),
    /// Accesses stay inside the parameter's region.
    #[error("in trip {trip}, {bytes} bytes at byte {byte} of `{param}` are outside of its region")]
    Outside {
        /// The parameter's name.
        param: String,
        /// First trip for which it happens.
        trip: u64,
        /// First byte touched.
        byte: i128,
        /// Bytes touched.
        bytes: u64,
    },
}

fn is_reason(why: &str) -> bool {
    // Nearly all are of these. All bytes are looked at, in vectors.
    let printable = why.bytes().fold(true, |all, b| all & matches!(b, b' '..=b'~'));
    let plain = printable && !why.starts_with(' ') && !why.ends_with(' ');
    plain || why == why.trim() && !why.contains(char::is_control)
}

impl MicroKernel {
    /// Checks every rule of [`Fault`]. The time does not depend on trip counts.
    pub fn verify(&self) -> Result<(), VerifyError> {
        self.verify_header()?;
        let written = vec![false; self.registers as usize];
        let mut verifier = Verifier { mk: self, written, slots: HashSet::new(), reason: None };
        for stmt in &self.body {
            match stmt {
                Stmt::Inst(inst) => verifier.inst(inst, None)?,
                Stmt::Loop { trips, why, body } => {
                    let fail = |fault| self.fail(format!("loop {trips}"), fault);
                    ensure(*trips >= 1, || Fault::NoTrips).or_else(fail)?;
                    ensure(is_reason(why), || Fault::Reason).or_else(fail)?;
                    // What the first trip may read, later trips may too: nothing is unwritten again.
                    body.iter().try_for_each(|inst| verifier.inst(inst, Some(*trips)))?;
                }
            }
        }
        Ok(())
    }

    fn fail<T>(&self, place: String, fault: Fault) -> Result<T, VerifyError> {
        Err(VerifyError { name: self.name.clone(), place, fault })
    }

    fn verify_header(&self) -> Result<(), VerifyError> {
        let fail = |fault| self.fail("header".into(), fault);
        ensure(is_identifier(&self.name), || Fault::Name).or_else(fail)?;
        let whole = self.lanes.is_multiple_of(4) && (4..=MAX_LANES).contains(&self.lanes);
        ensure(whole, || Fault::RegisterLanes(self.lanes)).or_else(fail)?;
        ensure(self.registers <= MAX_REGISTERS, || Fault::TooManyRegisters(self.registers)).or_else(fail)?;
        ensure(self.params.len() <= 256, || Fault::TooManyParams).or_else(fail)?;
        let mut names = HashSet::new();
        for param in &self.params {
            let fail = |fault| self.fail(param.to_string(), fault);
            ensure(is_identifier(&param.name), || Fault::Name).or_else(fail)?;
            ensure(names.insert(&param.name), || Fault::DuplicateName).or_else(fail)?;
            ensure(is_region(param), || Fault::Region).or_else(fail)?;
        }
        Ok(())
    }
}

fn is_region(param: &Param) -> bool {
    let Region { rows, row_bytes, row_stride } = param.region;
    let element = param.dtype.bytes() as u64;
    let apart = rows <= 1 || (row_stride >= row_bytes && row_stride.is_multiple_of(element));
    apart && row_bytes.is_multiple_of(element) && param.region.end().is_some()
}

fn ensure(holds: bool, fault: impl FnOnce() -> Fault) -> Result<(), Fault> {
    if holds { Ok(()) } else { Err(fault()) }
}

struct Verifier<'a> {
    mk: &'a MicroKernel,
    /// By register: whether it was written on every path to here.
    written: Vec<bool>,
    /// The slots that were written on every path to here.
    slots: HashSet<u16>,
    /// The last reason, which is one: neighbouring instructions often share theirs.
    reason: Option<&'a Arc<str>>,
}

impl<'a> Verifier<'a> {
    /// `trips` is those of the enclosing loop.
    fn inst(&mut self, inst: &'a Inst, trips: Option<u64>) -> Result<(), VerifyError> {
        let is_known = self.reason.is_some_and(|last| Arc::ptr_eq(last, &inst.why));
        self.reason = Some(&inst.why);
        self.op(inst, trips)
            .and_then(|()| ensure(is_known || is_reason(&inst.why), || Fault::Reason))
            .or_else(|fault| self.mk.fail(inst.display(&self.mk.params).to_string(), fault))
    }

    fn op(&mut self, inst: &Inst, trips: Option<u64>) -> Result<(), Fault> {
        let op = &inst.op;
        let budget = self.mk.registers;
        let in_budget = |register: V| ensure(register.0 < budget, || Fault::NoRegister { register, budget });
        for register in op.used() {
            in_budget(register)?;
            ensure(self.written[register.0 as usize], || Fault::Unwritten(register))?;
        }
        if let Some(register) = op.defined() {
            in_budget(register)?;
            self.written[register.0 as usize] = true;
        }
        let temps = inst.temps.as_slice();
        for (n, register) in temps.iter().enumerate() {
            in_budget(*register)?;
            let is_named = op.used().chain(op.defined()).chain(temps[..n].iter().copied()).any(|v| v == *register);
            ensure(!is_named, || Fault::Temps)?;
            self.written[register.0 as usize] = false;
        }
        match (op.slot(), op.defined()) {
            (Some(slot), Some(_)) => ensure(self.slots.contains(&slot), || Fault::UnwrittenSlot(slot))?,
            (Some(slot), None) => {
                self.slots.insert(slot);
            }
            (None, _) => {}
        }
        ensure(op.exists_on(self.mk.isa), || Fault::Isa(self.mk.isa))?;
        op.check().map_err(Fault::Number)?;
        ensure(op.are_apart(), || Fault::Overlap)?;
        if let Some(touched) = op.touched() {
            let found = touched.elements;
            if let Some(param) = self.mk.params.get(usize::from(touched.addr.param.0)) {
                let max =
                    op.most_touched(self.mk.lanes) / touched.extent(param.dtype).checked_div(found.into()).unwrap_or(1);
                ensure(found >= 1 && u32::from(found) <= max, || Fault::Elements { found, max })?;
                ensure(!touched.raw || param.dtype.is_narrow(), || Fault::NotNarrow(param.name.clone()))?;
                let is_rounded = touched.raw || !param.dtype.is_integer() || !param.dtype.is_narrow();
                ensure(!touched.store || is_rounded, || Fault::StoresNarrowIntegers(param.name.clone()))?;
            }
            self.addr(&touched.addr, touched.store, found, trips)?;
        }
        Ok(())
    }

    fn addr(&self, addr: &Addr, store: bool, elements: u16, trips: Option<u64>) -> Result<(), Fault> {
        let param = self.mk.params.get(usize::from(addr.param.0)).ok_or(Fault::NoParam(addr.param))?;
        let forbidden = if store { Access::Read } else { Access::Write };
        let access = param.access;
        ensure(access != forbidden, || Fault::Forbidden { param: param.name.clone(), access })?;
        ensure(trips.is_some() || addr.step == 0, || Fault::StepOutsideLoop)?;
        let element = param.dtype.bytes();
        let aligned = |bytes: i64| bytes.unsigned_abs().is_multiple_of(element as u64);
        ensure(aligned(addr.offset) && aligned(addr.step), || Fault::Misaligned(element))?;
        let bytes = u64::from(elements) * element as u64;
        match param.region.first_outside(addr, bytes, trips.unwrap_or(1)) {
            None => Ok(()),
            Some(trip) => Err(Fault::Outside { param: param.name.clone(), trip, byte: addr.byte(trip), bytes }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = "microkernel uk sve lanes=8 registers=4 {
        param lhs: f32 read 2x32 stride 64
        param dst: f32 write 2x32 stride 64
        v0 = load lhs[0] x8
        v3 = zero
        loop 8 {
            v1 = broadcast lhs[64 + 4*t]
            v3 += v0 * v1
        }
        v2 = loadlanes lhs[80] x4
        v3 += v0 * v2.lane[3]
        store dst[72], v3 x6
    }";

    /// The fault after replacing `from` by `to` in [`VALID`].
    fn fault(from: &str, to: &str) -> Fault {
        assert!(VALID.contains(from), "{from}");
        let mk: MicroKernel = VALID.replacen(from, to, 1).parse().unwrap();
        mk.verify().unwrap_err().fault
    }

    #[test]
    fn each_rule_is_enforced() {
        let mk: MicroKernel = VALID.parse().unwrap();
        mk.verify().unwrap();

        assert_eq!(fault("lanes=8", "lanes=6"), Fault::RegisterLanes(6));
        assert_eq!(fault("lanes=8", "lanes=68"), Fault::RegisterLanes(68));
        assert_eq!(fault("registers=4", "registers=3"), Fault::NoRegister { register: V(3), budget: 3 });
        assert_eq!(fault("2x32 stride 64", "2x32 stride 28"), Fault::Region);
        assert_eq!(fault("2x32 stride 64", "2x32 stride 9223372036854775804"), Fault::Region);
        assert_eq!(fault("2x32 stride 64", "2x30 stride 64"), Fault::Region);
        assert_eq!(fault("loop 8", "loop 0"), Fault::NoTrips);
        assert_eq!(fault("v3 = zero", "v2 = zero"), Fault::Unwritten(V(3)));
        assert_eq!(fault("v3 += v0 * v1", "v3 += v0 * v2"), Fault::Unwritten(V(2)));
        assert_eq!(fault("lhs[0] x8", "lhs[0] x0"), Fault::Elements { found: 0, max: 8 });
        assert_eq!(fault("lhs[0] x8", "lhs[0] x9"), Fault::Elements { found: 9, max: 8 });
        assert_eq!(fault("lhs[80] x4", "lhs[80] x5"), Fault::Elements { found: 5, max: 4 });
        assert_eq!(fault("lane[3]", "lane[4]"), Fault::Number(Rule::Lane(4)));
        assert_eq!(fault("store dst", "store lhs"), Fault::Forbidden { param: "lhs".into(), access: Access::Read });
        assert_eq!(fault("load lhs", "load dst"), Fault::Forbidden { param: "dst".into(), access: Access::Write });
        assert_eq!(fault("lhs[0] x8", "lhs[0 + 4*t] x8"), Fault::StepOutsideLoop);
        assert_eq!(fault("lhs[0] x8", "lhs[2] x4"), Fault::Misaligned(4));
        assert_eq!(fault("64 + 4*t", "64 + 3*t"), Fault::Misaligned(4));
    }

    #[test]
    fn accesses_outside_of_the_region_name_the_trip() {
        let outside = |param: &str, trip, byte, bytes| Fault::Outside { param: param.into(), trip, byte, bytes };
        assert_eq!(fault("lhs[0] x8", "lhs[-4] x8"), outside("lhs", 0, -4, 32));
        assert_eq!(fault("lhs[0] x8", "lhs[4] x8"), outside("lhs", 0, 4, 32));
        assert_eq!(fault("dst[72], v3 x6", "dst[76], v3 x6"), outside("dst", 0, 76, 24));
        assert_eq!(fault("64 + 4*t", "68 + 4*t"), outside("lhs", 7, 96, 4));
        assert_eq!(fault("64 + 4*t", "0 + 12*t"), outside("lhs", 3, 36, 4));
        assert_eq!(fault("64 + 4*t", "64 - 12*t"), outside("lhs", 1, 52, 4));
        assert_eq!(fault("loop 8", "loop 18446744073709551615"), outside("lhs", 8, 96, 4));
    }

    #[test]
    fn names_and_reasons_must_survive_printing() {
        let edited = |edit: fn(&mut MicroKernel)| {
            let mut mk: MicroKernel = VALID.parse().unwrap();
            edit(&mut mk);
            mk.verify().unwrap_err().fault
        };
        assert_eq!(edited(|mk| mk.name = "6x16".into()), Fault::Name);
        assert_eq!(edited(|mk| mk.params[1].name = "a[0]".into()), Fault::Name);
        assert_eq!(edited(|mk| mk.params[1].name = "lhs".into()), Fault::DuplicateName);
        assert_eq!(edited(|mk| mk.params.truncate(1)), Fault::NoParam(P(1)));
        let op = crate::microkernel::Op::Zero { d: V(0) };
        assert_eq!(VALID.parse::<MicroKernel>().unwrap().body.len(), 6);
        let why = "two\nlines".into();
        let mut mk: MicroKernel = VALID.parse().unwrap();
        mk.body.push(Stmt::Inst(Inst { op, temps: crate::microkernel::Temps::NONE, why }));
        assert_eq!(mk.verify().unwrap_err().fault, Fault::Reason);
    }
}
