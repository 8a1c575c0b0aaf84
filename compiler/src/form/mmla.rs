//! BFMMLA: pairs of rows by pairs of columns, four steps of K at once.
//!
//! An accumulator holds, in each 128 bits, two columns of two rows. Both factors come as blocks of 2x4 bf16: the columns
//! from a panel, the rows from a panel or, eight steps at a time, from where they lie. At the end the rows of each pair
//! are separated into vectors of columns.

use kiln_ir::contraction::View;
use kiln_ir::nest::{Init, Run};
use kiln_ir::{Contraction, DType};

use super::operands::{bf16_factors, is_unit};
use super::{LhsAccess, RhsAccess, Rules, StepWork};
use crate::microkernel::build::{BuildError, Builder, LHS, RHS, has, step_name};
use crate::microkernel::{Addr, Inst, Op, Permute, V};
use crate::target::VectorUnit;

/// The most f32 lanes of registers: packing transposes as many rows as a vector has groups of four bf16, in registers.
const MOST_LANES: u32 = 32;

/// The form.
pub(super) struct Mmla;

/// True if blocks can be made of rows as they lie in memory.
fn has_blocks_in_place(lhs: &View, k: u64, unit: &VectorUnit) -> bool {
    // f32 rows are narrowed to blocks of 128 bits, which is a vector only of NEON.
    is_unit(lhs.col, k) && (lhs.dtype == DType::Bf16 || unit.lanes == 4)
}

impl Rules for Mmla {
    fn check(&self, c: &Contraction, unit: &VectorUnit) -> Result<(), String> {
        super::depthwise::check_window_kind(c, false)?;
        if !unit.bf16 {
            return Err(format!("{} has no BFMMLA here", unit.isa));
        }
        if unit.lanes > MOST_LANES {
            return Err(format!("{} lanes are too many for packing to BFMMLA", unit.lanes));
        }
        if [c.lhs.dtype, c.rhs.dtype].contains(&DType::F16) {
            return Err("factors of f16 are not rounded to bf16".into());
        }
        if !bf16_factors(c) {
            return Err("f32 factors may not be rounded to bf16".into());
        }
        Ok(())
    }

    fn check_access(
        &self,
        c: &Contraction,
        unit: &VectorUnit,
        lhs: LhsAccess,
        rhs: RhsAccess,
        _nr: u64,
    ) -> Result<(), String> {
        if rhs == RhsAccess::InPlace {
            return Err("BFMMLA reads packed columns".into());
        }
        if lhs == LhsAccess::InPlace && !has_blocks_in_place(&c.lhs, c.k, unit) {
            return Err("BFMMLA reads these rows packed".into());
        }
        Ok(())
    }

    fn check_window(&self, _c: &Contraction, lhs: LhsAccess) -> Result<(), String> {
        if lhs == LhsAccess::InPlace { Err("BFMMLA reads these rows packed".into()) } else { Ok(()) }
    }

    fn window_sources(&self, _c: &Contraction) -> &'static [LhsAccess] {
        &[LhsAccess::Block, LhsAccess::Shared]
    }

    fn multiplies_bf16(&self, _c: &Contraction, _unit: &VectorUnit) -> bool {
        true
    }

    fn k_group(&self) -> u64 {
        4
    }

    fn panel_dtype(&self, _dtype: DType) -> DType {
        DType::Bf16
    }

    fn panel_multiple(&self, lanes: u64) -> u64 {
        lanes / 2
    }

    /// Eight steps of a row are one load.
    fn unroll_group(&self, _unit: &VectorUnit) -> u64 {
        8
    }

    fn unroll(&self, unit: &VectorUnit, _accumulators: u64) -> u64 {
        self.unroll_group(unit)
    }

    fn registers_needed(&self, unit: &VectorUnit, rows: u64, columns: u64, lhs: LhsAccess) -> u64 {
        let lanes = u64::from(unit.lanes);
        let (pairs, vectors) = (rows.div_ceil(2), columns.div_ceil(lanes));
        // In place, a block is put together from two rows, eight steps at a time.
        let operands = if lhs == LhsAccess::InPlace { 2 * pairs + 3 } else { pairs + 1 };
        // Results come two registers a row vector, and one more is free to separate rows.
        (pairs * columns.div_ceil(lanes / 2) + operands).max(pairs * 2 * vectors + 1)
    }

    fn rows_at_once(&self) -> u64 {
        2
    }

    fn granularity(&self, _c: &Contraction, unit: &VectorUnit) -> (u64, u64) {
        (4, u64::from(unit.lanes) / 2)
    }

    fn step(&self, c: &Contraction, unit: &VectorUnit, rows: u64, columns: u64, lhs: LhsAccess) -> StepWork {
        let (pairs, halves) = (rows.div_ceil(2) as f64, columns.div_ceil(u64::from(unit.lanes) / 2) as f64);
        // Rows in place are put together from two loads by operations that share the products' pipes.
        let (row_loads, arranged) = match (lhs, c.lhs.dtype) {
            (LhsAccess::Block | LhsAccess::Shared, _) => (pairs / 4.0, 0.0),
            (LhsAccess::InPlace, DType::Bf16) => (pairs / 4.0, pairs / 4.0),
            (LhsAccess::InPlace, DType::F32 | DType::F16) => (pairs / 2.0, pairs / 2.0),
        };
        StepWork {
            products: pairs * halves / 4.0 + arranged,
            loads: row_loads + halves / 4.0,
            others: 0.0,
            of_loop: 0.5,
            per_product: 4.0,
            is_straight: false,
        }
    }

    /// The two rows of each pair are separated.
    fn arrange(&self, unit: &VectorUnit, rows: u64, columns: u64) -> f64 {
        let accumulators = rows * columns.div_ceil(unit.lanes.into());
        accumulators as f64 / f64::from(unit.fma_pipes.min(2))
    }

    fn has_free_tiles(&self) -> bool {
        true
    }

    fn build(&self, b: &mut Builder<'_>) -> Result<(), BuildError> {
        b.mmla();
        Ok(())
    }
}

#[derive(Clone, Copy)]
struct Plan {
    /// Pairs of rows.
    pairs: u64,
    /// Accumulators of a pair.
    halves: u64,
    /// Rows are read from where they lie.
    in_place: bool,
    col_regs: u64,
}

impl Plan {
    /// Registers of rows: their blocks of the next four steps; in place, of eight, and two rows.
    fn row_regs(&self) -> u64 {
        if self.in_place { 2 * self.pairs + 1 } else { self.pairs }
    }

    fn acc(&self, i: u64, h: u64) -> V {
        V((self.row_regs() + self.col_regs + i * self.halves + h) as u8)
    }

    fn col(&self, nth: u64) -> V {
        V((self.row_regs() + nth % self.col_regs) as u8)
    }

    /// The block of pair `i` in the lower or upper four of eight steps.
    fn row(&self, i: u64, upper: bool) -> V {
        V((if upper && self.in_place { self.pairs + i } else { i }) as u8)
    }
}

impl Builder<'_> {
    fn mmla(&mut self) {
        let pairs = self.rows.div_ceil(2);
        let halves = self.tile.n.div_ceil(self.lanes / 2);
        let in_place = !self.is_interleaved(&self.tile.lhs);
        let mut plan = Plan { pairs, halves, in_place, col_regs: 0 };
        plan.col_regs = (u64::from(self.unit.registers) - plan.row_regs() - pairs * halves).min(halves.max(2)).min(4);
        self.mmla_init(plan);
        self.contract(self.how.unroll, |b, run, from, count, advance| b.mmla_steps(plan, run, from, count, advance));
        self.separate(plan);
    }

    fn mmla_init(&mut self, plan: Plan) {
        for i in 0..plan.pairs {
            for h in 0..plan.halves {
                let d = plan.acc(i, h);
                let why = format!("c[{}..+2, {}..]", 2 * i, h * self.lanes / 2);
                if self.tile.init == Init::Zero {
                    self.push(Op::Zero { d }, why);
                    continue;
                }
                // Two rows of the same columns, alternating by pairs of columns. Both registers are the operands' own.
                let (j, high) = (h / 2, h % 2 == 1);
                let rows = [V(0), V(1)];
                if !high {
                    for (r, row) in (2 * i..).zip(rows) {
                        let op = if r < self.rows {
                            Op::Load { d: row, src: self.dst_addr(r, j), lanes: self.valid(j) }
                        } else {
                            Op::Zero { d: row }
                        };
                        self.push(op, format!("c[{r}, {}]", self.columns(j)));
                    }
                }
                let f = if high { Permute::ZipHigh } else { Permute::ZipLow };
                self.push(Op::Permute { f, bits: 64, d, a: rows[0], b: rows[1] }, why);
            }
        }
    }

    fn mmla_steps(&self, plan: Plan, run: Run, from: u64, count: u64, advance: Option<u64>) -> Vec<Inst> {
        let step = advance.unwrap_or(0);
        let (l, r) = (&self.tile.lhs, &self.tile.rhs);
        // Panels: K first.
        let rhs = |p: u64, h: u64| Addr {
            param: RHS,
            offset: (2 * ((run.rhs + p) * r.row + h * 2 * self.lanes)) as i64,
            step: (2 * step * r.row) as i64,
        };
        let is_window = self.tile.window.is_some();
        // By pair in a panel, by row of a window.
        let lhs_panel = |p: u64, i: u64, row: u64| Addr {
            param: LHS,
            offset: 2 * ((p * l.row) as i64 + if is_window { self.row_start(run, row) } else { 8 * i as i64 }),
            step: (2 * step * l.row) as i64,
        };
        let (mut out, mut loads) = (vec![], 0);
        for p in (from..from + count).step_by(4) {
            let k = step_name(advance.is_some(), p);
            let upper = (p - from) % 8 == 4;
            if !plan.in_place {
                for i in 0..plan.pairs {
                    let mut push = |op| out.push(Inst { op, why: format!("lhs[{}..+2, {k}..+4]", 2 * i).into() });
                    let d = plan.row(i, false);
                    let [first, second] = [2 * i, 2 * i + 1];
                    let has = |row: u64| row < self.rows && has(run.rows, row);
                    let quad = |row: u64, elements: u16| Op::LoadRawQuad { d, src: lhs_panel(p, i, row), elements };
                    match (!is_window || has(first), !is_window || has(second)) {
                        (true, true) => push(quad(first, 8)),
                        (true, false) => push(quad(first, 4)),
                        (false, true) => {
                            // Zeros in the place of the first row.
                            let zero = plan.col(loads);
                            push(Op::Zero { d: zero });
                            push(quad(second, 4));
                            push(Op::Permute { f: Permute::TrnEven, bits: 64, d, a: zero, b: d });
                        }
                        (false, false) => {}
                    }
                }
            } else if !upper {
                self.rows_in_place(plan, p, (from + count - p).min(8), step, &k, &mut out);
            }
            for h in 0..plan.halves {
                let b = plan.col(loads);
                loads += 1;
                let op = Op::LoadRaw { d: b, src: rhs(p, h), elements: 2 * self.lanes as u16 };
                out.push(Inst { op, why: format!("rhs[{k}..+4, {}..]", h * self.lanes / 2).into() });
                for i in (0..plan.pairs).filter(|i| !is_window || run.rows >> (2 * i) & 3 != 0) {
                    let op = Op::Mmla { d: plan.acc(i, h), a: plan.row(i, upper), b };
                    out.push(Inst { op, why: format!("c[{}..+2, {}..]", 2 * i, h * self.lanes / 2).into() });
                }
            }
        }
        out
    }

    /// The blocks of `steps` steps from `p`, at most eight, of every pair of rows.
    fn rows_in_place(&self, plan: Plan, p: u64, steps: u64, step: u64, k: &str, out: &mut Vec<Inst>) {
        let dtype = self.params[0].dtype;
        let bytes = dtype.bytes() as u64;
        let src = |i: u64, p: u64| Addr {
            param: LHS,
            offset: (bytes * (i * self.tile.lhs.row + p)) as i64,
            step: (bytes * step) as i64,
        };
        let spare = V(2 * plan.pairs as u8);
        for i in 0..plan.pairs {
            let (low, high) = (plan.row(i, false), plan.row(i, true));
            // A row that an odd number lacks repeats the one before it; its results go nowhere.
            let rows = [2 * i, (2 * i + 1).min(self.rows - 1)];
            let mut push = |op| out.push(Inst { op, why: format!("lhs[{}..+2, {k}..+{steps}]", 2 * i).into() });
            match dtype {
                DType::Bf16 => {
                    push(Op::LoadRawQuad { d: high, src: src(rows[0], p), elements: steps as u16 });
                    push(Op::LoadRawQuad { d: spare, src: src(rows[1], p), elements: steps as u16 });
                    push(Op::Permute { f: Permute::TrnEven, bits: 64, d: low, a: high, b: spare });
                    push(Op::Permute { f: Permute::TrnOdd, bits: 64, d: high, a: high, b: spare });
                }
                // Registers of four lanes: a row's four steps are a vector.
                DType::F32 | DType::F16 => {
                    let scratch = plan.col(0);
                    let mut block = |d: V, p: u64, steps: u64, [a, b]: [V; 2], t: V| {
                        push(Op::Load { d: a, src: src(rows[0], p), lanes: steps as u16 });
                        push(Op::Load { d: b, src: src(rows[1], p), lanes: steps as u16 });
                        push(Op::Narrow { d, a, b, t });
                    };
                    // The upper block is made last, in a register that served the lower one.
                    let second = plan.col(1);
                    block(low, p, steps.min(4), [spare, scratch], second);
                    if steps > 4 {
                        block(high, p + 4, steps - 4, [spare, scratch], second);
                    }
                }
            }
        }
    }

    /// Separates the two rows of each pair.
    fn separate(&mut self, plan: Plan) {
        let accumulators: Vec<V> =
            (0..plan.pairs).flat_map(|i| (0..plan.halves).map(move |h| plan.acc(i, h))).collect();
        let mut pool = self.free_besides(&accumulators);
        let mut results = vec![V(0); (2 * plan.pairs * self.vectors) as usize];
        for i in 0..plan.pairs {
            for j in 0..self.vectors {
                let low = plan.acc(i, 2 * j);
                let high = (2 * j + 1 < plan.halves).then(|| plan.acc(i, 2 * j + 1));
                let other = high.unwrap_or(low);
                let (vectors, columns) = (self.vectors, self.columns_of(j));
                let at = |r: u64| (r * vectors + j) as usize;
                let why = |r: u64| format!("c[{r}, {columns}]");
                let even = |d| Op::Permute { f: Permute::UzpEven, bits: 64, d, a: low, b: other };
                if 2 * i + 1 < self.rows {
                    let first = pool.pop().expect("the operands' registers are free");
                    self.push(even(first), why(2 * i));
                    let odd = Op::Permute { f: Permute::UzpOdd, bits: 64, d: low, a: low, b: other };
                    self.push(odd, why(2 * i + 1));
                    (results[at(2 * i)], results[at(2 * i + 1)]) = (first, low);
                } else {
                    self.push(even(low), why(2 * i));
                    results[at(2 * i)] = low;
                }
                pool.extend(high);
            }
        }
        results.truncate((self.rows * self.vectors) as usize);
        self.results = results;
        self.free = pool;
    }
}
