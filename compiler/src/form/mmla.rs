//! Matrix products: pairs of rows by pairs of columns, as many steps of K at once as narrow factors fit in 64 bits: four of bf16
//! (BFMMLA), eight of integers of 8 bits (SMMLA, UMMLA, USMMLA).
//!
//! An accumulator holds, in each 128 bits, two columns of two rows. Both factors come as blocks of 2x64 bits: the columns
//! from a panel, the rows from a panel or, two blocks at a time, from where they lie. At the end the rows of each pair
//! are separated into vectors of columns.

use kiln_ir::contraction::View;
use kiln_ir::nest::{Init, Run};
use kiln_ir::{Contraction, DType};

use super::operands::{bf16_factors, is_unit};
use super::{LhsAccess, RhsAccess, Rules, StepWork};
use crate::microkernel::build::{BuildError, Builder, LHS, RHS, has, step_name};
use crate::microkernel::{Addr, Factors, Inst, Op, Permute, V};
use crate::target::VectorUnit;
use crate::target::product::{self, Shape};

/// The most lanes of registers: packing transposes, in registers, as many rows as a vector has blocks of 64 bits.
const MOST_LANES: u32 = 32;

/// The form whose blocks have so many steps of K.
pub(super) struct Mmla {
    /// Steps of K in a block.
    pub steps: u64,
}

/// True if blocks can be made of rows as they lie in memory.
fn has_blocks_in_place(lhs: &View, k: u64, unit: &VectorUnit) -> bool {
    // f32 rows are narrowed to blocks of 128 bits, which is a vector only of NEON.
    is_unit(lhs.col, k) && (lhs.dtype != DType::F32 || unit.lanes == 4)
}

impl Rules for Mmla {
    fn check(&self, c: &Contraction, unit: &VectorUnit) -> Result<(), String> {
        super::depthwise::check_window_kind(c, false)?;
        if unit.lanes > MOST_LANES {
            return Err(format!("{} lanes are too many for packing to blocks", unit.lanes));
        }
        if [c.lhs.dtype, c.rhs.dtype].contains(&DType::F16) {
            return Err("factors of f16 are not rounded to bf16".into());
        }
        if !c.dst.dtype.is_integer() && !bf16_factors(c) {
            return Err("f32 factors may not be rounded to bf16".into());
        }
        let factors = Factors::of([&c.lhs, &c.rhs].map(|v| self.panel_dtype(c, v.dtype)));
        if !factors.is_some_and(|f| 2 * f.per_word() as u64 == self.steps && product::has(unit, Shape::Blocks, f)) {
            let [lhs, rhs] = [c.lhs.dtype, c.rhs.dtype];
            return Err(format!("{} has no matrix product of {} steps of {lhs} and {rhs} here", unit.isa, self.steps));
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
            return Err("blocks of columns are read from panels".into());
        }
        if lhs == LhsAccess::InPlace && !has_blocks_in_place(&c.lhs, c.k, unit) {
            return Err("blocks of these rows are read from panels".into());
        }
        Ok(())
    }

    fn check_window(&self, _c: &Contraction, lhs: LhsAccess) -> Result<(), String> {
        if lhs == LhsAccess::InPlace { Err("blocks of these rows are read from panels".into()) } else { Ok(()) }
    }

    fn window_sources(&self, _c: &Contraction) -> &'static [LhsAccess] {
        &[LhsAccess::Block, LhsAccess::Shared]
    }

    fn multiplies_bf16(&self, c: &Contraction, _unit: &VectorUnit) -> bool {
        !c.dst.dtype.is_integer()
    }

    fn k_group(&self) -> u64 {
        self.steps
    }

    fn panel_dtype(&self, _c: &Contraction, dtype: DType) -> DType {
        if dtype.is_integer() { dtype } else { DType::Bf16 }
    }

    fn panel_multiple(&self, lanes: u64) -> u64 {
        lanes / 2
    }

    /// Two blocks of a row are one load.
    fn unroll_group(&self, _unit: &VectorUnit) -> u64 {
        2 * self.steps
    }

    fn unroll(&self, unit: &VectorUnit, _accumulators: u64) -> u64 {
        self.unroll_group(unit)
    }

    fn registers_needed(&self, unit: &VectorUnit, rows: u64, columns: u64, lhs: LhsAccess, _sum: DType) -> u64 {
        let lanes = u64::from(unit.lanes);
        let (pairs, vectors) = (rows.div_ceil(2), columns.div_ceil(lanes));
        // In place, blocks are put together from two rows, two blocks at a time.
        let operands = if lhs == LhsAccess::InPlace { 2 * pairs + 3 } else { pairs + 1 };
        // Results come two registers a row vector, and one more is free to separate rows.
        (pairs * columns.div_ceil(lanes / 2) + operands).max(pairs * 2 * vectors + 1)
    }

    fn rows_at_once(&self) -> u64 {
        2
    }

    fn granularity(&self, _c: &Contraction, unit: &VectorUnit) -> (u64, u64) {
        (self.steps, u64::from(unit.lanes) / 2)
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
        let steps = self.steps as f64;
        let (row_loads, arranged) = match (lhs, c.lhs.dtype) {
            (LhsAccess::Block | LhsAccess::Shared, _) => (pairs / steps, 0.0),
            (LhsAccess::InPlace, DType::F32) => (2.0 * pairs / steps, 2.0 * pairs / steps),
            (LhsAccess::InPlace, _) => (pairs / steps, pairs / steps),
        };
        StepWork {
            products: pairs * halves / steps + arranged,
            loads: row_loads + halves / steps,
            conversions: 0.0,
            others: 0.0,
            of_loop: 0.5,
            per_product: steps,
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
        b.mmla(self.steps)
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

/// The products of a tile.
struct Blocks<'a> {
    f: Factors,
    /// Steps of K in a block.
    group: u64,
    sums: &'a Sums,
}

impl Builder<'_> {
    fn mmla(&mut self, group: u64) -> Result<(), BuildError> {
        let types = [LHS, RHS].map(|p| self.params[usize::from(p.0)].dtype);
        // f32 rows are rounded when they are read.
        let types = types.map(|t| if t == DType::F32 { DType::Bf16 } else { t });
        let f = Factors::of(types).ok_or(BuildError::Layout("no matrix product of these types"))?;
        let pairs = self.rows.div_ceil(2);
        let halves = self.tile.n.div_ceil(self.lanes / 2);
        let mut sums = Sums { values: vec![], pairs, halves };
        for i in 0..pairs {
            self.start_pair(i, &mut sums);
        }
        let blocks = Blocks { f, group, sums: &sums };
        self.contract(self.how.unroll, |b, run, from, count, advance| b.mmla_steps(&blocks, run, from, count, advance));
        self.separate(&sums);
        Ok(())
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

    fn mmla_steps(
        &self,
        &Blocks { f, group, sums }: &Blocks<'_>,
        run: Run,
        from: u64,
        count: u64,
        advance: Option<u64>,
    ) -> Vec<Inst> {
        let step = advance.unwrap_or(0);
        // Bytes of an element in panels.
        let bytes = 8 / group;
        let (l, r) = (&self.tile.lhs, &self.tile.rhs);
        // Panels: K first.
        let rhs = |p: u64, h: u64| Addr {
            param: RHS,
            offset: (bytes * ((run.rhs + p) * r.row + h * group / 2 * self.lanes)) as i64,
            step: (bytes * step * r.row) as i64,
        };
        let is_window = self.tile.window.is_some();
        // By pair in a panel, by row of a window.
        let lhs_panel = |p: u64, i: u64, row: u64| Addr {
            param: LHS,
            offset: bytes as i64
                * ((p * l.row) as i64 + if is_window { self.row_start(run, row) } else { (2 * group * i) as i64 }),
            step: (bytes * step * l.row) as i64,
        };
        let in_place = !self.is_interleaved(&self.tile.lhs);
        let mut out = vec![];
        // The blocks of each pair of rows: one, or in place two.
        let mut blocks: Vec<[V; 2]> = vec![];
        for p in (from..from + count).step_by(group as usize) {
            let k = step_name(advance.is_some(), p);
            let upper = in_place && (p - from) % (2 * group) == group;
            if !in_place {
                blocks.clear();
                for i in 0..sums.pairs {
                    let mut push = |op| out.push(Inst::new(op, format!("lhs[{}..+2, {k}..+{group}]", 2 * i)));
                    let [first, second] = [2 * i, 2 * i + 1];
                    let has = |row: u64| row < self.rows && has(run.rows, row);
                    let quad = |d, row: u64, elements: u64| Op::LoadRawQuad {
                        d,
                        src: lhs_panel(p, i, row),
                        elements: elements as u16,
                    };
                    let mut d = self.value();
                    match (!is_window || has(first), !is_window || has(second)) {
                        (true, true) => push(quad(d, first, 2 * group)),
                        (true, false) => push(quad(d, first, group)),
                        (false, true) => {
                            // Zeros in the place of the first row.
                            let (zero, row) = (self.value(), d);
                            push(Op::Zero { d: zero });
                            push(quad(row, second, group));
                            d = self.value();
                            push(Op::Permute { f: Permute::TrnEven, bits: 64, d, a: zero, b: row });
                        }
                        (false, false) => {}
                    }
                    blocks.push([d; 2]);
                }
            } else if !upper {
                blocks = self.rows_in_place(sums.pairs, p, (from + count - p).min(2 * group), step, &k, &mut out);
            }
            for h in 0..sums.halves {
                let b = self.value();
                let op = Op::LoadRaw { d: b, src: rhs(p, h), elements: (group / 2 * self.lanes) as u16 };
                out.push(Inst::new(op, format!("rhs[{k}..+{group}, {}..]", h * self.lanes / 2)));
                for i in (0..sums.pairs).filter(|i| !is_window || run.rows >> (2 * i) & 3 != 0) {
                    let op = Op::Mmla { f, d: sums.of(i, h), a: blocks[i as usize][usize::from(upper)], b };
                    out.push(Inst::new(op, format!("c[{}..+2, {}..]", 2 * i, h * self.lanes / 2)));
                }
            }
        }
        out
    }

    /// The blocks of `steps` steps from `p`, at most two, of every pair of rows.
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
                DType::Bf16 | DType::S8 | DType::U8 => {
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
                    [low, if bytes * steps > 8 { half(Permute::TrnOdd) } else { low }]
                }
                // Registers of four lanes: a row's four steps are a vector.
                _ => {
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
