//! Forms of micro-kernels. A form says what the lanes of vectors are, and everything else follows from it.
//!
//! A form is a file that implements `Rules`: which contractions it computes, how it wants operands to lie, the registers it
//! takes, what a step of K costs, and how its micro-kernels are built. The search, the cost model, lowering and the builder ask a form and
//! know none. A new form is a file and a line in the list below; the [checker](crate::microkernel::check), which is independent, says for
//! itself what a form adds up.

mod depthwise;
mod dot;
mod mmla;
pub mod operands;
mod outer;
mod words;

use kiln_ir::nest::{LoopNest, Tile};
use kiln_ir::rewrite::PanelShape;
use kiln_ir::{Contraction, DType};

use crate::microkernel::MicroKernel;
use crate::microkernel::build::{BuildError, Builder, How};
use crate::target::VectorUnit;

/// The memory that a micro-kernel reads the row operand from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LhsAccess {
    /// From the caller's matrix.
    InPlace,
    /// From a block of MC x KC copied tile by tile, as panels of MR rows.
    Block,
    /// From a copy of all rows that is made before the first tile, by all threads for all of them: panels of MR rows over all of K, or
    /// strips of a window's source.
    Shared,
}

impl LhsAccess {
    /// Whether rows come in panels.
    pub fn is_packed(self) -> bool {
        self != LhsAccess::InPlace
    }
}

/// The memory that a micro-kernel reads the column operand from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RhsAccess {
    /// From the caller's matrix.
    InPlace,
    /// From one KC x NR panel, copied just before it is used for all rows.
    Panel,
    /// From a block of KC x NC, copied panel by panel before any is used.
    Block,
    /// From panels of NR columns over all of K, copied before the first tile, by all threads for all of them.
    Shared,
    /// From panels that were packed before the call: constant weights.
    Packed,
}

/// The work of one step of K of a tile, with operands in the first-level cache.
#[derive(Clone, Copy, Debug)]
pub struct StepWork {
    /// Products of whole registers.
    pub products: f64,
    /// Loads.
    pub loads: f64,
    /// Conversions, which take the pipes of products.
    pub conversions: f64,
    /// Operations that widen what is loaded on other pipes.
    pub others: f64,
    /// Instructions of the loop itself.
    pub of_loop: f64,
    /// Steps of K in a product: in so many steps, an accumulator is added to once.
    pub per_product: f64,
    /// Steps are straight code, so that those of one tile overlap with those of the next.
    pub is_straight: bool,
}

/// The rules of a form.
pub(crate) trait Rules: Sync {
    /// Fails if the form cannot compute a contraction at all, with the reason.
    fn check(&self, c: &Contraction, unit: &VectorUnit) -> Result<(), String>;

    /// Fails if operands of a contraction without a window cannot be read so by tiles of `nr` columns, with the reason.
    fn check_access(
        &self,
        c: &Contraction,
        unit: &VectorUnit,
        lhs: LhsAccess,
        rhs: RhsAccess,
        nr: u64,
    ) -> Result<(), String>;

    /// Fails if the source of a window cannot be read so, with the reason.
    fn check_window(&self, c: &Contraction, lhs: LhsAccess) -> Result<(), String>;

    /// The ways to read a window's source that are tried.
    fn window_sources(&self, c: &Contraction) -> &'static [LhsAccess];

    /// Tells whether the search tries the form.
    fn is_worth_trying(&self, _c: &Contraction) -> bool {
        true
    }

    /// Tells whether products are of bf16.
    fn multiplies_bf16(&self, _c: &Contraction, _unit: &VectorUnit) -> bool {
        false
    }

    /// Steps of K that are neighbours in panels. If there are several, operands are rearranged for it, and rows too.
    fn k_group(&self) -> u64 {
        1
    }

    /// The type of elements in panels, and in strips of a window's source, of operands of a type.
    fn panel_dtype(&self, _c: &Contraction, dtype: DType) -> DType {
        dtype
    }

    /// The multiple that a panel's width is filled up to, for vectors of so many lanes.
    fn panel_multiple(&self, lanes: u64) -> u64 {
        lanes
    }

    /// The multiple of K steps that a loop body must have.
    fn unroll_group(&self, unit: &VectorUnit) -> u64;

    /// Steps of K in a loop body for a tile of so many accumulators: enough that the loop's own instructions do not count.
    fn unroll(&self, unit: &VectorUnit, accumulators: u64) -> u64 {
        let steps: u64 = match accumulators {
            0..4 => 8,
            4..8 => 4,
            _ => 2,
        };
        steps.next_multiple_of(self.unroll_group(unit))
    }

    /// Registers that a tile takes, with as few for its operands as will do. `sum` is the type of its sums.
    fn registers_needed(&self, unit: &VectorUnit, rows: u64, columns: u64, lhs: LhsAccess, sum: DType) -> u64;

    /// The most rows of a tile, if there is a limit besides that of registers.
    fn most_rows(&self, _unit: &VectorUnit) -> Option<u64> {
        None
    }

    /// Rows that are computed together: tiles have multiples of them, but for the last.
    fn rows_at_once(&self) -> u64 {
        1
    }

    /// The columns of which tiles that are tried have a multiple.
    fn column_step(&self, lanes: u64) -> u64 {
        lanes
    }

    /// Steps of K and columns of which a form computes whole multiples.
    fn granularity(&self, c: &Contraction, unit: &VectorUnit) -> (u64, u64);

    /// The work of a step of K of a tile whose operands are read so.
    fn step(&self, c: &Contraction, unit: &VectorUnit, tile: [u64; 2], access: (LhsAccess, RhsAccess)) -> StepWork;

    /// Cycles of a tile to turn accumulators into vectors of columns.
    fn arrange(&self, _unit: &VectorUnit, _rows: u64, _columns: u64) -> f64 {
        0.0
    }

    /// True if a tile of any rows and columns can be called by itself.
    fn has_free_tiles(&self) -> bool {
        false
    }

    /// Appends what computes the sums, as vectors of a row's columns.
    fn build(&self, b: &mut Builder<'_>) -> Result<(), BuildError>;
}

/// Makes the list of forms.
macro_rules! forms {
    ($($(#[$doc:meta])* $form:ident, $word:literal, $rules:expr;)*) => {
        /// The form of a micro-kernel: what the lanes of its vectors are.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Form {$(
            $(#[$doc])*
            $form,
        )*}

        impl Form {
            /// Every form with its word in texts, in the order in which they are tried.
            pub const ALL: &'static [(&'static str, Form)] = &[$(($word, Form::$form)),*];

            /// The form's rules.
            pub(crate) fn rules(self) -> &'static dyn Rules {
                match self {
                    $(Form::$form => &$rules,)*
                }
            }
        }
    };
}

forms! {
    /// Columns in lanes, times scalars of the rows: by element or broadcast.
    Outer, "outer", outer::Outer;
    /// K in lanes, lanes added up at the end: few rows, and columns that lie along K. BFDOT where both factors are bf16.
    Dot, "dot", dot::Dot;
    /// BFMMLA: 2x4 by 4x2 in each 128 bits.
    Mmla, "mmla", mmla::Mmla { steps: 4 };
    /// SMMLA and its like: 2x8 by 8x2 in each 128 bits.
    MmlaBytes, "mmla8", mmla::Mmla { steps: 8 };
    /// Columns in lanes of four steps of K, times such words of the rows.
    Quads, "quads", words::Words { steps: 4 };
    /// Columns in lanes of two steps of K, times such words of the rows.
    Pairs, "pairs", words::Words { steps: 2 };
    /// Columns in lanes of both factors: each column has a channel of its own.
    Depthwise, "depthwise", depthwise::Depthwise;
}

impl Form {
    /// Steps of K that are neighbours in panels.
    pub fn k_group(self) -> u64 {
        self.rules().k_group()
    }

    /// True if operands are rearranged, so that steps of K are neighbours.
    pub fn rearranges(self) -> bool {
        self.k_group() > 1
    }

    /// True if it can pay to copy rows into panels: they are rearranged there, or widened.
    pub fn packs_rows(self, c: &Contraction) -> bool {
        self.rearranges() || self.panel_dtype(c, c.lhs.dtype) != c.lhs.dtype
    }

    /// The same of columns.
    pub fn packs_columns(self, c: &Contraction) -> bool {
        self.rearranges() || self.panel_dtype(c, c.rhs.dtype) != c.rhs.dtype
    }

    /// The type of elements in panels, and in strips of a window's source, of operands of a type.
    pub fn panel_dtype(self, c: &Contraction, dtype: DType) -> DType {
        self.rules().panel_dtype(c, dtype)
    }

    /// Bytes of such an element.
    pub fn panel_bytes(self, c: &Contraction, dtype: DType) -> u64 {
        self.panel_dtype(c, dtype).bytes() as u64
    }

    /// The panel of `width` columns of a type for vectors of `lanes`.
    pub fn panel(self, c: &Contraction, dtype: DType, width: u64, lanes: u64) -> PanelShape {
        let rules = self.rules();
        let pitch = width.next_multiple_of(rules.panel_multiple(lanes));
        PanelShape { pitch, interleave: rules.k_group(), dtype: rules.panel_dtype(c, dtype) }
    }

    /// The panel of `width` rows of a type: rows are taken as many at once as a product takes, whatever the vector length.
    pub fn row_panel(self, c: &Contraction, dtype: DType, width: u64) -> PanelShape {
        let rules = self.rules();
        let pitch = width.next_multiple_of(rules.rows_at_once());
        PanelShape { pitch, interleave: rules.k_group(), dtype: rules.panel_dtype(c, dtype) }
    }

    /// True if a tile of any rows and columns can be called by itself.
    pub fn has_free_tiles(self) -> bool {
        self.rules().has_free_tiles()
    }
}

/// Builds the micro-kernel of `tile` in `nest` for `unit`.
pub fn build(
    name: String,
    nest: &LoopNest,
    tile: &Tile,
    unit: &VectorUnit,
    form: Form,
    how: How,
) -> Result<MicroKernel, BuildError> {
    let lhs =
        if nest.buffers[tile.lhs.at.buffer.0 as usize].interleave > 1 { LhsAccess::Block } else { LhsAccess::InPlace };
    let sum = nest.buffers[tile.dst.at.buffer.0 as usize].dtype;
    let needed = form.rules().registers_needed(unit, tile.m, tile.n, lhs, sum);
    if needed > u64::from(unit.registers) {
        return Err(BuildError::Registers { m: tile.m, n: tile.n, needed, unit: *unit });
    }
    let mut b = Builder::new(nest, tile, unit, how);
    form.rules().build(&mut b)?;
    b.finish(name)
}
