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

    fn panel_dtype(&self, _c: &Contraction, _dtype: DType) -> DType {
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

    fn step(
        &self,
        c: &Contraction,
        unit: &VectorUnit,
        [rows, columns]: [u64; 2],
        (lhs, _): (LhsAccess, RhsAccess),
    ) -> StepWork {
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
            conversions: 0.0,
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

/// The accumulators of a tile.
struct Sums {
    /// Accumulator `h` of pair `i` at `i * halves + h`.
    values: Vec<V>,
    /// Pairs of rows.
    pairs: u64,
    /// Accumulators of a pair.
    halves: u64,
}

impl Sums {
    fn of(&self, i: u64, h: u64) -> V {
        self.values[(i * self.halves + h) as usize]
    }
}

impl Builder<'_> {
    fn mmla(&mut self) {
        let pairs = self.rows.div_ceil(2);
        let halves = self.tile.n.div_ceil(self.lanes / 2);
        let mut sums = Sums { values: vec![], pairs, halves };
        for i in 0..pairs {
            self.start_pair(i, &mut sums);
        }
        self.contract(self.how.unroll, |b, run, from, count, advance| b.mmla_steps(&sums, run, from, count, advance));
        self.separate(&sums);
    }

    /// Appends the accumulators of a pair of rows as they start.
    fn start_pair(&mut self, i: u64, sums: &mut Sums) {
        let mut rows = [V(0); 2];
        for h in 0..sums.halves {
            let d = self.value();
            sums.values.push(d);
            let why = format!("c[{}..+2, {}..]", 2 * i, h * self.lanes / 2);
            if self.tile.init == Init::Zero {
                self.push(Op::Zero { d }, why);
                continue;
            }
            // Two rows of the same columns, alternating by pairs of columns.
            let (j, high) = (h / 2, h % 2 == 1);
            if !high {
                rows = [self.value(), self.value()];
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

    fn mmla_steps(&self, sums: &Sums, run: Run, from: u64, count: u64, advance: Option<u64>) -> Vec<Inst> {
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
        let in_place = !self.is_interleaved(&self.tile.lhs);
        let mut out = vec![];
        // The blocks of each pair of rows: of four steps, or in place of eight.
        let mut blocks: Vec<[V; 2]> = vec![];
        for p in (from..from + count).step_by(4) {
            let k = step_name(advance.is_some(), p);
            let upper = in_place && (p - from) % 8 == 4;
            if !in_place {
                blocks.clear();
                for i in 0..sums.pairs {
                    let mut push = |op| out.push(Inst::new(op, format!("lhs[{}..+2, {k}..+4]", 2 * i)));
                    let [first, second] = [2 * i, 2 * i + 1];
                    let has = |row: u64| row < self.rows && has(run.rows, row);
                    let quad = |d, row: u64, elements: u16| Op::LoadRawQuad { d, src: lhs_panel(p, i, row), elements };
                    let mut d = self.value();
                    match (!is_window || has(first), !is_window || has(second)) {
                        (true, true) => push(quad(d, first, 8)),
                        (true, false) => push(quad(d, first, 4)),
                        (false, true) => {
                            // Zeros in the place of the first row.
                            let (zero, row) = (self.value(), d);
                            push(Op::Zero { d: zero });
                            push(quad(row, second, 4));
                            d = self.value();
                            push(Op::Permute { f: Permute::TrnEven, bits: 64, d, a: zero, b: row });
                        }
                        (false, false) => {}
                    }
                    blocks.push([d; 2]);
                }
            } else if !upper {
                blocks = self.rows_in_place(sums.pairs, p, (from + count - p).min(8), step, &k, &mut out);
            }
            for h in 0..sums.halves {
                let b = self.value();
                let op = Op::LoadRaw { d: b, src: rhs(p, h), elements: 2 * self.lanes as u16 };
                out.push(Inst::new(op, format!("rhs[{k}..+4, {}..]", h * self.lanes / 2)));
                for i in (0..sums.pairs).filter(|i| !is_window || run.rows >> (2 * i) & 3 != 0) {
                    let op = Op::Mmla { d: sums.of(i, h), a: blocks[i as usize][usize::from(upper)], b };
                    out.push(Inst::new(op, format!("c[{}..+2, {}..]", 2 * i, h * self.lanes / 2)));
                }
            }
        }
        out
    }

    /// The blocks of `steps` steps from `p`, at most eight, of every pair of rows: of the first four and the last four.
    fn rows_in_place(&self, pairs: u64, p: u64, steps: u64, step: u64, k: &str, out: &mut Vec<Inst>) -> Vec<[V; 2]> {
        let dtype = self.params[0].dtype;
        let bytes = dtype.bytes() as u64;
        let src = |i: u64, p: u64| Addr {
            param: LHS,
            offset: (bytes * (i * self.tile.lhs.row + p)) as i64,
            step: (bytes * step) as i64,
        };
        let mut pair = |i: u64| {
            // A row that an odd number lacks repeats the one before it; its results go nowhere.
            let rows = [2 * i, (2 * i + 1).min(self.rows - 1)];
            let mut push = |op| out.push(Inst::new(op, format!("lhs[{}..+2, {k}..+{steps}]", 2 * i)));
            match dtype {
                DType::Bf16 => {
                    let [a, b] = rows.map(|row| {
                        let d = self.value();
                        push(Op::LoadRawQuad { d, src: src(row, p), elements: steps as u16 });
                        d
                    });
                    let mut half = |f| {
                        let d = self.value();
                        push(Op::Permute { f, bits: 64, d, a, b });
                        d
                    };
                    let low = half(Permute::TrnEven);
                    [low, if steps > 4 { half(Permute::TrnOdd) } else { low }]
                }
                // Registers of four lanes: a row's four steps are a vector.
                DType::F32 | DType::F16 => {
                    let mut block = |p: u64, steps: u64| {
                        let [a, b] = rows.map(|row| {
                            let d = self.value();
                            push(Op::Load { d, src: src(row, p), lanes: steps as u16 });
                            d
                        });
                        let d = self.value();
                        push(Op::Narrow { d, a, b });
                        d
                    };
                    let low = block(p, steps.min(4));
                    [low, if steps > 4 { block(p + 4, steps - 4) } else { low }]
                }
            }
        };
        (0..pairs).map(&mut pair).collect()
    }

    /// Separates the two rows of each pair.
    fn separate(&mut self, sums: &Sums) {
        let mut results = vec![V(0); (2 * sums.pairs * self.vectors) as usize];
        for i in 0..sums.pairs {
            for j in 0..self.vectors {
                let low = sums.of(i, 2 * j);
                let other = if 2 * j + 1 < sums.halves { sums.of(i, 2 * j + 1) } else { low };
                for (row, f) in [(2 * i, Permute::UzpEven), (2 * i + 1, Permute::UzpOdd)] {
                    if row < self.rows {
                        let d = self.value();
                        results[(row * self.vectors + j) as usize] = d;
                        let why = format!("c[{row}, {}]", self.columns_of(j));
                        self.push(Op::Permute { f, bits: 64, d, a: low, b: other }, why);
                    }
                }
            }
        }
        results.truncate((self.rows * self.vectors) as usize);
        self.results = results;
    }
}
