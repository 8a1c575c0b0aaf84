//! The rule by which weights are packed.

use std::sync::Arc;

use kiln_compiler::Package;
use kiln_compiler::packed::PackedLayout;
use kiln_ir::contraction::View;

/// The rule by which a kernel's weights become packed ones: where each element is, and where it goes. Equal weights that are packed alike are equal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Packing {
    pub layout: Arc<PackedLayout>,
    /// Elements between neighbours in the weights.
    pub view: View,
    /// Elements between taps in the weights.
    pub tap: u64,
}

impl Packing {
    /// The packing for the code of a package; `None` if it reads its weights where they are.
    pub(crate) fn of(package: &Package) -> Option<Self> {
        let layout = Arc::new(package.packed_layout()?.clone());
        let contraction = package.contraction();
        Some(Packing { layout, view: contraction.rhs.clone(), tap: contraction.rhs_tap() })
    }
}

/// A layout in the words of an error message.
pub(crate) fn describe(layout: &PackedLayout) -> String {
    let regions = layout.regions.iter().map(|r| {
        let interleave = if r.shape.interleave > 1 { format!(" by {}", r.shape.interleave) } else { String::new() };
        format!("{} to {} in panels of {}{interleave}", r.start, r.end, r.width)
    });
    let batch = layout.batch.iter().map(|b| format!("{b} x ")).collect::<String>();
    let regions = regions.collect::<Vec<_>>().join(", ");
    let taps = if layout.taps > 1 { format!("{} taps of ", layout.taps) } else { String::new() };
    format!("{} weights of {batch}{taps}{}x{} packed with columns {regions}", layout.dtype(), layout.k, layout.n)
}
