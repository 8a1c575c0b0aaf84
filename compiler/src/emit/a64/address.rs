//! The choice of registers that address the memory of a loop.
//!
//! An access is `param + offset + trip * step`. Short distances fit the instructions, so accesses of equal parameter
//! and step are gathered in *clusters* that one register serves. Then, in order of preference:
//!
//! - A cluster that does not move and lies at its parameter's pointer uses that.
//! - Clusters of one address each that move by the same step, the rows of a matrix in place, keep one register per row
//!   that does not change and share an index register: however many rows, one addition per iteration.
//! - Any other cluster has a pointer of its own, advanced once per iteration.
//! - If there are more of these than registers, the least used clusters are computed before each use, from the
//!   parameter and the index of their step.
//!
//! Parameters themselves are never changed, so that code after the loop finds them as it was called with them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::asm;
use super::operand::X;
use super::roles::Roles;
use crate::microkernel::{Addr, P};

/// The form of an instruction's address: a displacement in a range, or an index register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Form {
    /// Displacements are multiples of this, and...
    unit: i64,
    /// ... at least this, in units, ...
    least: i64,
    /// ... and at most this.
    most: i64,
    /// There is another form with any displacement from -256 to 255.
    unscaled: bool,
    /// Index registers count `1 << shift` bytes.
    pub shift: u8,
    /// The instruction takes an index register too.
    pub indexed: bool,
}

impl Form {
    /// LD1W, LD1H, LD1B, ST1W, ST1H: a displacement in what a whole register takes in memory, or an index in elements.
    pub fn vector(bytes: i64, element: usize) -> Form {
        let shift = element.ilog2() as u8;
        Form { unit: bytes, least: -8, most: 7, unscaled: false, shift, indexed: true }
    }

    /// LD1RQW, LD1RQH: a displacement in quadwords, or an index in elements.
    pub fn quad(element: usize) -> Form {
        Form::vector(16, element)
    }

    /// LD1RW, LD1RH, LD1RB, LD1RD: a displacement of 0 to 63 times the `bytes` that are loaded.
    pub fn scalar(bytes: usize, element: usize) -> Form {
        Form { least: 0, most: 63, indexed: false, ..Form::vector(bytes as i64, element) }
    }

    /// LDR of 1 to 16 bytes, STR of 2 to 16: a displacement of 0 to 4095 times these, or -256 to 255 bytes, or an index in bytes if
    /// the access is no more than this instruction.
    pub fn neon(bytes: usize, indexed: bool) -> Form {
        Form { unit: bytes as i64, least: 0, most: 4095, unscaled: true, shift: 0, indexed }
    }

    /// True if the instruction can add `distance` bytes to its base register.
    pub fn reaches(self, distance: i64) -> bool {
        (distance % self.unit == 0 && (self.least..=self.most).contains(&(distance / self.unit)))
            || (self.unscaled && (-256..256).contains(&distance))
    }
}

/// A place in memory and the form of the instruction that goes there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Access {
    /// Whose pointer.
    pub param: P,
    /// Bytes per iteration.
    pub step: i64,
    /// Bytes from the pointer.
    pub offset: i64,
    /// The displacements that can be encoded.
    pub form: Form,
}

impl Access {
    /// An access to `addr`.
    pub fn new(addr: Addr, form: Form) -> Access {
        Access { param: addr.param, step: addr.step, offset: addr.offset, form }
    }
}

/// The registers and the displacement of an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// `base + distance`, within the form's reach.
    Displaced {
        /// Base register.
        base: X,
        /// Bytes.
        distance: i64,
    },
    /// `base + (index << shift)` of the form.
    Indexed {
        /// Base register.
        base: X,
        /// Index register.
        index: X,
    },
    /// `param + offset + (index << shift)`, to be computed just before.
    Computed {
        /// Index register, unless the access does not move.
        index: Option<X>,
    },
}

/// A register to be set before the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setup {
    /// `x = param + at`.
    Pointer {
        /// Set.
        x: X,
        /// Whose pointer.
        param: P,
        /// Bytes.
        at: i64,
    },
    /// `x = value`.
    Constant {
        /// Set.
        x: X,
        /// Two's complement.
        value: i64,
    },
}

/// An addition at the end of each iteration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advance {
    /// Changed.
    pub x: X,
    /// Added.
    pub by: i64,
    /// A register that holds `by`, where no single instruction adds the constant.
    pub register: Option<X>,
}

/// The address registers of one loop.
#[derive(Clone, Debug)]
pub struct LoopPlan {
    /// Before the loop.
    pub setup: Vec<Setup>,
    /// At the end of each iteration.
    pub advances: Vec<Advance>,
    /// Counts the iterations that are left.
    pub counter: X,
    /// Every register that is set.
    pub registers: BTreeSet<X>,
    places: BTreeMap<Access, Place>,
}

impl LoopPlan {
    /// Chooses registers for a loop with these accesses.
    pub fn new(accesses: &[Access], roles: &Roles) -> Result<LoopPlan, TooManySteps> {
        let mut pool = roles.for_loops();
        let mut clusters = clusters(accesses, roles);
        fit(&mut clusters, pool.len())?;

        let mut plan = LoopPlan {
            setup: vec![],
            advances: vec![],
            counter: pool.remove(0),
            registers: BTreeSet::new(),
            places: BTreeMap::new(),
        };
        let mut free = pool.into_iter();
        let mut take = || free.next().expect("the clusters were made to fit");
        let mut indexes = BTreeMap::new();
        for (step, shift) in indexed_steps(&clusters) {
            let x = take();
            plan.setup.push(Setup::Constant { x, value: 0 });
            plan.advances.push(Advance { x, by: step >> shift, register: None });
            indexes.insert((step, shift), x);
        }
        for c in &clusters {
            let base = match c.base {
                Base::Computed => None,
                Base::Pointer | Base::Indexed if !c.needs_register() => c.home,
                Base::Pointer | Base::Indexed => {
                    let x = take();
                    plan.setup.push(Setup::Pointer { x, param: c.param, at: c.at });
                    if c.base == Base::Pointer && c.step != 0 {
                        plan.advances.push(Advance { x, by: c.step, register: None });
                    }
                    Some(x)
                }
            };
            for member in &c.members {
                let place = match (c.base, base) {
                    (Base::Indexed, Some(base)) => Place::Indexed { base, index: indexes[&c.index()] },
                    (_, Some(base)) => Place::Displaced { base, distance: member.offset - c.at },
                    (_, None) => Place::Computed { index: indexes.get(&c.index()).copied() },
                };
                plan.places.insert(*member, place);
            }
        }
        plan.keep_long_steps(free);
        plan.registers = plan.setup.iter().map(|(Setup::Pointer { x, .. } | Setup::Constant { x, .. })| *x).collect();
        plan.registers.insert(plan.counter);
        Ok(plan)
    }

    /// The address of an access that the plan was made for.
    pub fn place(&self, access: Access) -> Place {
        self.places[&access]
    }

    /// Puts increments that one instruction cannot hold in registers, while there are `free` ones.
    fn keep_long_steps(&mut self, mut free: impl Iterator<Item = X>) {
        let mut kept = BTreeMap::new();
        for advance in self.advances.iter_mut().filter(|a| !asm::is_one_addition(a.by)) {
            if let Some(x) = kept.get(&advance.by).copied().or_else(|| free.next()) {
                if kept.insert(advance.by, x).is_none() {
                    self.setup.push(Setup::Constant { x, value: advance.by });
                }
                advance.register = Some(x);
            }
        }
    }
}

/// A loop whose accesses move by more different steps than there are registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("its memory accesses move by {0} different steps, and there are not as many registers")]
pub struct TooManySteps(usize);

/// The registers that a cluster's addresses are made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Base {
    Pointer,
    Indexed,
    Computed,
}

#[derive(Clone, Debug)]
struct Cluster {
    param: P,
    /// The register that holds the parameter throughout, if there is one.
    home: Option<X>,
    step: i64,
    /// Offset of the base register from the parameter.
    at: i64,
    members: Vec<Access>,
    /// Instructions that use it.
    uses: usize,
    base: Base,
}

impl Cluster {
    /// Step and shift of the index register that serves or would serve it.
    fn index(&self) -> (i64, u8) {
        (self.step, self.members[0].form.shift)
    }

    fn needs_register(&self) -> bool {
        let moved = self.at != 0 || self.home.is_none();
        match self.base {
            Base::Pointer => moved || self.step != 0,
            Base::Indexed => moved,
            Base::Computed => false,
        }
    }

    /// True if an index register could serve it: it is one address, and its instructions have that form.
    fn is_one_row(&self) -> bool {
        let first = self.members[0];
        let alike = |m: &Access| m.offset == first.offset && m.form.indexed && m.form.shift == first.form.shift;
        self.step != 0 && self.members.iter().all(alike)
    }
}

/// Gathers the accesses in clusters and decides which of them are indexed.
fn clusters(accesses: &[Access], roles: &Roles) -> Vec<Cluster> {
    let mut groups = BTreeMap::<(P, i64), BTreeSet<Access>>::new();
    for a in accesses {
        groups.entry((a.param, a.step)).or_default().insert(*a);
    }
    let mut clusters = vec![];
    for ((param, step), group) in groups {
        let mut rest: Vec<Access> = group.into_iter().collect();
        while let Some(first) = rest.first() {
            let covered = |at: i64| rest.iter().filter(|a| a.form.reaches(a.offset - at)).count();
            let candidates = (0..).map(|n| first.offset + n * first.form.unit);
            let best = candidates
                .take_while(|at| first.form.reaches(first.offset - at))
                .max_by_key(|at| (covered(*at), Reverse(*at)))
                .expect("every form has displacement 0");
            // The parameter's own pointer needs no register if it does as well and the cluster does not move.
            let at = if step == 0 && first.form.reaches(first.offset) { 0 } else { best };
            let (members, others) = rest.into_iter().partition::<Vec<_>, _>(|a| a.form.reaches(a.offset - at));
            let uses = accesses.iter().filter(|a| members.contains(a)).count();
            clusters.push(Cluster { param, home: roles.home(param), step, at, members, uses, base: Base::Pointer });
            rest = others;
        }
    }
    let mut rows = BTreeMap::<(i64, u8), usize>::new();
    for c in clusters.iter().filter(|c| c.is_one_row()) {
        *rows.entry(c.index()).or_default() += 1;
    }
    for c in clusters.iter_mut().filter(|c| c.is_one_row() && rows[&c.index()] > 1) {
        c.base = Base::Indexed;
        c.at = c.members[0].offset;
    }
    clusters
}

/// The steps for which an index register is needed, and its shifts.
fn indexed_steps(clusters: &[Cluster]) -> BTreeSet<(i64, u8)> {
    clusters.iter().filter(|c| c.base != Base::Pointer && c.step != 0).map(Cluster::index).collect()
}

/// Leaves clusters to be computed, the least used first, until `registers` suffice for the others and the counter.
fn fit(clusters: &mut [Cluster], registers: usize) -> Result<(), TooManySteps> {
    while 1 + indexed_steps(clusters).len() + clusters.iter().filter(|c| c.needs_register()).count() > registers {
        let least = clusters.iter_mut().filter(|c| c.needs_register()).min_by_key(|c| c.uses);
        let Some(least) = least else { return Err(TooManySteps(indexed_steps(clusters).len())) };
        least.base = Base::Computed;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const VL: i64 = 32;

    fn vector() -> Form {
        Form::vector(VL, 4)
    }

    fn quad() -> Form {
        Form::quad(4)
    }

    fn scalar() -> Form {
        Form::scalar(4, 4)
    }

    fn roles() -> Roles {
        Roles::new(4, false).unwrap()
    }

    fn access(param: u8, offset: i64, step: i64, form: Form) -> Access {
        Access { param: P(param), step, offset, form }
    }

    fn plan(accesses: &[Access]) -> LoopPlan {
        LoopPlan::new(accesses, &roles()).unwrap()
    }

    #[test]
    fn rows_share_an_index_and_a_panel_shares_a_pointer() {
        let rows = (0..6).map(|i| access(0, i * 4000, 16, quad()));
        let panel = (0..16).map(|j| access(1, j * VL, 16 * VL, vector()));
        let plan = plan(&rows.chain(panel).collect::<Vec<_>>());
        assert_eq!(plan.advances.iter().map(|a| a.by).collect::<Vec<_>>(), [4, 16 * VL]);
        // Counter, index, five rows beside the parameter's own, one panel pointer.
        assert_eq!(plan.registers.len(), 8);
        let x0 = roles().home(P(0)).unwrap();
        assert!(matches!(plan.place(access(0, 0, 16, quad())), Place::Indexed { base, .. } if base == x0));
        let place = plan.place(access(1, 15 * VL, 16 * VL, vector()));
        assert!(matches!(place, Place::Displaced { distance, .. } if distance == 7 * VL));
    }

    #[test]
    fn what_does_not_move_uses_the_parameter() {
        let a = access(3, 7 * VL, 0, vector());
        let plan = plan(&[a]);
        assert_eq!(plan.place(a), Place::Displaced { base: roles().home(P(3)).unwrap(), distance: 7 * VL });
        assert_eq!(plan.registers.len(), 1, "only the counter");
    }

    #[test]
    fn the_least_used_rows_are_computed_when_registers_run_out() {
        let mut rows: Vec<_> = (0..40).map(|i| access(0, 4 + i * 4000, 16, quad())).collect();
        rows.extend_from_within(..10);
        let plan = plan(&rows);
        assert_eq!(plan.registers.len(), roles().for_loops().len());
        let computed = |i: usize| matches!(plan.place(rows[i]), Place::Computed { index: Some(_) });
        assert!((0..10).all(|i| !computed(i)) && (0..40).filter(|i| computed(*i)).count() == 40 - 19);
    }

    #[test]
    fn more_steps_than_registers_are_refused() {
        let accesses: Vec<_> = (0..40).map(|i| access(0, 4, 16 + 4 * i, scalar())).collect();
        assert_eq!(LoopPlan::new(&accesses, &roles()).unwrap_err(), TooManySteps(40));
    }

    #[test]
    fn long_steps_are_kept_in_a_register() {
        let rows: Vec<_> = (0..8).map(|i| access(1, (i % 4) * 4004 + i / 4 * VL, 4 * 4004, vector())).collect();
        let plan = plan(&rows);
        let kept: BTreeSet<_> = plan.advances.iter().map(|a| a.register).collect();
        assert!(plan.advances.len() == 4 && kept.len() == 1 && !kept.contains(&None));
    }

    #[test]
    fn neon_rows_share_an_index_and_panels_reach_far() {
        let rows = (0..6).map(|i| access(0, i * 400_000, 16, Form::neon(16, true)));
        let panel = (0..64).map(|j| access(1, j * 16, 1024, Form::neon(16, true)));
        let plan = plan(&rows.chain(panel).collect::<Vec<_>>());
        assert_eq!(plan.advances.iter().map(|a| a.by).collect::<Vec<_>>(), [16, 1024]);
        assert_eq!(plan.registers.len(), 8);
    }

    #[test]
    fn parameters_without_a_home_are_loaded_once() {
        let many = Roles::new(20, false).unwrap();
        let a = access(9, 0, 0, vector());
        let plan = LoopPlan::new(&[a], &many).unwrap();
        assert!(matches!(plan.setup[..], [Setup::Pointer { param: P(9), at: 0, .. }]));
    }
}
