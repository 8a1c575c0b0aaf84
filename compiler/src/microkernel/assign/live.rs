//! The uses of the values of a program.

use super::super::op::Operands;
use super::super::{Access, Inst, MicroKernel, Stmt, V};
use super::{AssignError, Need};

/// A place in a program: an operation, or the end of a loop, which lies between two operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct At(u32);

impl At {
    /// The first operation.
    pub const START: At = At(2);

    /// The next operation.
    pub fn next(self) -> At {
        At(self.0 + 2)
    }

    /// The operation `count` operations later.
    pub fn after(self, count: usize) -> At {
        At(self.0 + 2 * count as u32)
    }

    /// The end of the loop whose last operation is before this one.
    pub fn before(self) -> At {
        At(self.0 - 1)
    }

    /// The number of the operation.
    pub fn index(self) -> usize {
        (self.0 / 2 - 1) as usize
    }

    /// A number that grows along the program.
    pub fn number(self) -> u32 {
        self.0
    }
}

/// The definition of a value, and what is known of it.
#[derive(Clone, Copy)]
struct Value<'a> {
    definition: Option<&'a Inst>,
    at: At,
    /// It can be computed again anywhere.
    can_repeat: bool,
    /// Its elements are taken one by one somewhere.
    is_scalars: bool,
    /// The first of its uses and the end of them, in the list of all uses.
    uses: (u32, u32),
}

/// The definitions and uses of all values.
pub(super) struct Live<'a> {
    values: Vec<Value<'a>>,
    uses: Vec<At>,
    /// The registers of each operation.
    pub operands: Vec<Operands>,
    /// The values from before each loop that it reads, each once.
    pub read_in: Vec<Vec<V>>,
    /// The most values at once whose elements are taken one by one.
    pub most_scalars: u32,
}

impl<'a> Live<'a> {
    /// Finds them. A value that a loop reads and that comes from before it is used at the end of the loop, too.
    pub fn of(program: &'a MicroKernel) -> Result<Self, AssignError> {
        let fail = |value| AssignError::Definition { name: program.name.clone(), value };
        let none = Value { definition: None, at: At(0), can_repeat: false, is_scalars: false, uses: (0, 0) };
        let mut values = vec![none; program.registers as usize];
        let count = program.body.iter().map(|s| s.insts().len()).sum();
        let (mut all_operands, mut read_in) = (Vec::with_capacity(count), vec![]);
        // All uses as (value, place); those of a value are ascending.
        let mut all: Vec<(V, At)> = Vec::with_capacity(3 * count);
        let mut at = At::START;
        for stmt in &program.body {
            let is_loop = matches!(stmt, Stmt::Loop { .. });
            let start = at;
            let first = all.len();
            for inst in stmt.insts() {
                let operands = inst.op.operands();
                for &v in operands.used() {
                    let value = values.get_mut(v.0 as usize).ok_or_else(|| fail(v))?;
                    if value.definition.is_none() {
                        return Err(fail(v));
                    }
                    all.push((v, at));
                }
                if let Some(v) = operands.scalars {
                    values[v.0 as usize].is_scalars = true;
                }
                if let Some(d) = operands.defined {
                    let value = values.get_mut(d.0 as usize).ok_or_else(|| fail(d))?;
                    if operands.accumulates {
                        value.can_repeat = false;
                    } else if value.definition.is_some() {
                        return Err(fail(d));
                    } else {
                        value.definition = Some(inst);
                        value.at = at;
                        value.can_repeat = can_repeat(program, inst, is_loop);
                    }
                }
                all_operands.push(operands);
                at = at.next();
            }
            if is_loop {
                let mut carried: Vec<V> =
                    all[first..].iter().map(|(v, _)| *v).filter(|v| values[v.0 as usize].at < start).collect();
                carried.sort_unstable();
                carried.dedup();
                all.extend(carried.iter().map(|v| (*v, at.before())));
                read_in.push(carried);
            }
        }
        let mut live = Live { values, uses: vec![], operands: all_operands, read_in, most_scalars: 0 };
        live.sort(&all);
        live.most_scalars = live.most_of_scalars();
        Ok(live)
    }

    /// Orders the uses by value.
    fn sort(&mut self, all: &[(V, At)]) {
        for (v, _) in all {
            self.values[v.0 as usize].uses.1 += 1;
        }
        let mut next = 0;
        for value in &mut self.values {
            let count = value.uses.1;
            value.uses = (next, next);
            next += count;
        }
        self.uses = vec![At(0); all.len()];
        for (v, at) in all {
            let end = &mut self.values[v.0 as usize].uses.1;
            self.uses[*end as usize] = *at;
            *end += 1;
        }
    }

    /// The most values whose elements are taken one by one that live at once.
    fn most_of_scalars(&self) -> u32 {
        let mut changes: Vec<(At, i32)> = vec![];
        for value in self.values.iter().filter(|v| v.is_scalars) {
            let last = self.uses[value.uses.0 as usize..value.uses.1 as usize].last();
            changes.push((value.at, 1));
            changes.extend(last.map(|at| (*at, -1)));
        }
        // A value that dies where another is defined makes room for it.
        changes.sort_unstable();
        let (mut now, mut most) = (0, 0);
        for (_, change) in changes {
            now += change;
            most = most.max(now);
        }
        most.unsigned_abs()
    }

    /// The uses of a value, ascending.
    pub fn uses(&self, v: V) -> &[At] {
        let (start, end) = self.values[v.0 as usize].uses;
        &self.uses[start as usize..end as usize]
    }

    /// By value: the first and the end of its uses in the list of all.
    pub fn all_uses(&self) -> impl Iterator<Item = (u32, u32)> {
        self.values.iter().map(|v| v.uses)
    }

    /// A use in the list of all.
    #[inline]
    pub fn use_at(&self, n: u32) -> At {
        self.uses[n as usize]
    }

    /// The definition of a value that is used.
    pub fn definition(&self, v: V) -> &'a Inst {
        self.values[v.0 as usize].definition.expect("a value that is used was defined")
    }

    /// Tells whether a value can be computed again anywhere: it depends on no register and on no memory that is written.
    pub fn can_repeat(&self, v: V) -> bool {
        self.values[v.0 as usize].can_repeat
    }

    /// Tells whether elements of a value are taken one by one.
    pub fn is_scalars(&self, v: V) -> bool {
        self.values[v.0 as usize].is_scalars
    }

    /// The place of the operation after which `left` are left.
    pub fn operations_before(&self, left: usize) -> u32 {
        At::START.after(self.operands.len() - left.min(self.operands.len())).number()
    }

    /// The most registers that values defined in a loop from `start` to `end` and temporary registers take at once.
    pub fn most_local(&self, needs: &[Need], start: At, end: At) -> u32 {
        let is_local = |v: V| self.values[v.0 as usize].at >= start;
        let (mut now, mut most) = (0u32, 0);
        let mut at = start;
        for need in needs {
            let op = &self.operands[at.index()];
            let used = op.used();
            let is_first = |n: usize| !used[..n].contains(&used[n]);
            let dies = |n: &usize| is_local(used[*n]) && is_first(*n) && self.uses(used[*n]).last() == Some(&at);
            let dying = (0..used.len()).filter(dies).count() as u32;
            let defines = op.defined.is_some() && !op.accumulates;
            let is_apart = need.is_apart || op.is_early;
            let result = u32::from(defines && (is_apart || dying == 0));
            most = most.max(now + u32::from(need.temps) + result);
            now = (now + u32::from(defines)).saturating_sub(dying);
            most = most.max(now);
            if let Some(d) = op.defined.filter(|_| defines)
                && self.uses(d).is_empty()
            {
                now = now.saturating_sub(1);
            }
            at = at.next();
        }
        debug_assert!(at == end);
        most
    }

    /// The number of values defined in a loop whose elements are taken one by one, at most those that live at once anywhere.
    pub fn scalars_in(&self, body: &[Inst]) -> u32 {
        let defined = body.iter().filter(|i| !i.op.accumulates()).filter_map(|i| i.op.defined());
        (defined.filter(|d| self.is_scalars(*d)).count() as u32).min(self.most_scalars)
    }
}

/// Tells whether an operation gives the same result wherever it is executed.
fn can_repeat(program: &MicroKernel, inst: &Inst, is_in_loop: bool) -> bool {
    if inst.op.used().next().is_some() || inst.op.slot().is_some() {
        return false;
    }
    match inst.op.touched() {
        None => true,
        Some(touched) => {
            let param = program.params.get(usize::from(touched.addr.param.0));
            !is_in_loop && param.is_some_and(|p| p.access == Access::Read)
        }
    }
}
