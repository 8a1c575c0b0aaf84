//! Weights packed before the calls: the layout that a kernel reads, and the packing itself.
//!
//! For each region of columns, and in it for each batch, panels follow one another. A panel holds `width` columns over all
//! of K, tap by tap of a window, each tap's steps filled up to a multiple of `interleave`: element `(k, c)` is at `k / interleave * interleave * pitch + c * interleave + k % interleave`. What a panel has
//! beyond its columns and beyond K is 0.

use kiln_ir::contraction::View;
use kiln_ir::elements::Elements;
use kiln_ir::rewrite::PanelShape;
use kiln_ir::{Contraction, DType};

use crate::schedule::{RhsAccess, Schedule};
use crate::target::Target;

/// Columns whose panels have one width.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PanelRegion {
    /// First column.
    pub start: u64,
    /// One past the last column.
    pub end: u64,
    /// Columns of a panel; the last may have fewer.
    pub width: u64,
    /// The shape of each panel.
    pub shape: PanelShape,
}

impl PanelRegion {
    fn panels(&self) -> u64 {
        (self.end - self.start).div_ceil(self.width)
    }
}

/// The place of each element of packed weights, as a kernel expects it. Kernels with equal layouts, whatever their M, read the same
/// [packed](Self::pack) bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PackedLayout {
    /// Steps of K of a tap, or of all there are without a window.
    pub k: u64,
    /// Taps of a window; each begins a group of neighbouring steps.
    pub taps: u64,
    /// Columns.
    pub n: u64,
    /// Extents of the weights' own batch axes.
    pub batch: Vec<u64>,
    /// Regions, ascending, covering all columns.
    pub regions: Vec<PanelRegion>,
}

impl PackedLayout {
    /// The layout that a schedule makes a contraction read; `None` if it reads the weights where they are.
    pub fn of(c: &Contraction, schedule: &Schedule, target: &Target) -> Option<Self> {
        if schedule.regions.iter().any(|r| r.rhs != RhsAccess::Packed) {
            return None;
        }
        let unit = target.unit(schedule.isa)?;
        let regions = schedule
            .regions
            .iter()
            .map(|r| PanelRegion { start: r.start, end: r.end, width: r.nr, shape: schedule.rhs_panel(c, r, unit) })
            .collect();
        let batch = c.batch.iter().zip(&c.rhs.batch).filter(|(_, s)| **s != 0).map(|(e, _)| *e).collect();
        let (taps, k) = c.taps(1);
        Some(Self { k, taps, n: c.n, batch, regions })
    }

    /// True if the panels of a schedule, were it to read packed weights, are those of this layout.
    pub fn is_of_panels(&self, c: &Contraction, schedule: &Schedule, target: &Target) -> bool {
        let Some(unit) = target.unit(schedule.isa) else { return false };
        schedule.regions.len() == self.regions.len()
            && schedule.regions.iter().zip(&self.regions).all(|(r, own)| {
                [r.start, r.end, r.nr] == [own.start, own.end, own.width] && schedule.rhs_panel(c, r, unit) == own.shape
            })
    }

    /// Elements from one panel of a region to the next.
    fn distance(&self, r: &PanelRegion) -> u64 {
        r.shape.distance(self.taps * self.k.next_multiple_of(r.shape.interleave), r.width)
    }

    /// Elements of each region, in order.
    pub fn region_elements(&self) -> impl Iterator<Item = u64> {
        let batch: u64 = self.batch.iter().product();
        self.regions.iter().map(move |r| batch * r.panels() * self.distance(r))
    }

    /// The regions that are arguments behind the problem's own, in order. The first region is in the place of the right operand.
    pub fn further_arguments(&self) -> Vec<usize> {
        (1..self.regions.len()).rev().collect()
    }

    /// The type of packed elements.
    pub fn dtype(&self) -> DType {
        self.regions.first().map_or(DType::F32, |r| r.shape.dtype)
    }

    /// Byte at which each region starts, a multiple of 64, and the number of bytes of all.
    pub fn region_offsets(&self) -> (Vec<u64>, u64) {
        let mut total = 0;
        let bytes = self.dtype().bytes() as u64;
        let offsets = self
            .region_elements()
            .map(|elements| {
                let at = total;
                total += (elements * bytes).next_multiple_of(64);
                at
            })
            .collect();
        (offsets, total)
    }

    /// Bytes of packed weights.
    pub fn bytes(&self) -> u64 {
        self.region_offsets().1
    }

    /// Packs `weights`, which `view` (the contraction's `rhs`) and the elements between `taps` say how to find, into `out` of [`bytes`](Self::bytes) bytes.
    ///
    /// # Panics
    /// If a slice is shorter than the view or the layout says.
    pub fn pack(&self, view: &View, taps: u64, weights: Elements<'_>, out: &mut [u8]) {
        let strides: Vec<u64> = view.batch.iter().copied().filter(|s| *s != 0).collect();
        let (offsets, _) = self.region_offsets();
        for (r, offset) in self.regions.iter().zip(offsets) {
            let distance = self.distance(r);
            for batch in 0..self.batch.iter().product::<u64>() {
                let (mut index, mut from) = (batch, 0);
                for (extent, stride) in self.batch.iter().zip(&strides).rev() {
                    from += index % extent * stride;
                    index /= extent;
                }
                for panel in 0..r.panels() {
                    let first = r.start + panel * r.width;
                    let to = (batch * r.panels() + panel) * distance;
                    let width = r.width.min(r.end - first);
                    let from = from + first * view.col;
                    let bytes = r.shape.dtype.bytes();
                    let start = offset as usize + to as usize * bytes;
                    let panel = &mut out[start..start + distance as usize * bytes];
                    // Panel by panel, while it is in the cache: what lies beyond the columns, and beyond K.
                    panel.fill(0);
                    if let (Some(values), 1, DType::F32) = (weights.as_slice(), r.shape.interleave, r.shape.dtype)
                        && let Ok(panel) = bytemuck::try_cast_slice_mut(panel)
                    {
                        let strides = [taps, view.row, view.col].map(|s| s as usize);
                        self.plain_panel(&values[from as usize..], strides, r.shape.pitch, width, panel);
                        continue;
                    }
                    self.panel(
                        &r.shape,
                        width,
                        |tap, k, c| weights.bits((from + tap * taps + k * view.row + c * view.col) as usize),
                        |at, bits| {
                            let at = at as usize * bytes;
                            let bits = r.shape.dtype.converted(weights.dtype(), bits).to_le_bytes();
                            panel[at..at + bytes].copy_from_slice(&bits[..bytes]);
                        },
                    );
                }
            }
            let end = (offset
                + self.batch.iter().product::<u64>() * r.panels() * distance * r.shape.dtype.bytes() as u64)
                as usize;
            out[end..end.next_multiple_of(64)].fill(0);
        }
    }

    /// A panel of f32 by single steps; `strides` are those of taps, K and columns.
    fn plain_panel(&self, values: &[f32], strides: [usize; 3], pitch: u64, width: u64, panel: &mut [f32]) {
        /// Steps of K whose part of a panel stays in the first-level cache while columns are written into it.
        const BLOCK: usize = 32;
        let [tap_stride, row, col] = strides;
        let (taps, k, width, pitch) = (self.taps as usize, self.k as usize, width as usize, pitch as usize);
        if col == 1 {
            for tap in 0..taps {
                for step in 0..k {
                    let from = tap * tap_stride + step * row;
                    panel[(tap * k + step) * pitch..][..width].copy_from_slice(&values[from..from + width]);
                }
            }
            return;
        }
        for first in (0..k).step_by(BLOCK) {
            for c in 0..width {
                for step in first..k.min(first + BLOCK) {
                    for tap in 0..taps {
                        panel[(tap * k + step) * pitch + c] = values[c * col + step * row + tap * tap_stride];
                    }
                }
            }
        }
    }

    fn panel(&self, shape: &PanelShape, width: u64, get: impl Fn(u64, u64, u64) -> u32, mut put: impl FnMut(u64, u32)) {
        let group = shape.interleave;
        for tap in 0..self.taps {
            for k in 0..self.k {
                let step = tap * self.k.next_multiple_of(group) + k;
                let row = step / group * group * shape.pitch + step % group;
                (0..width).for_each(|c| put(row + c * group, get(tap, k, c)));
            }
        }
    }
}
