//! The steps of a call: values of the free number that are computed one after the other.

/// Writes the pointers of a call to `out`, each moved on by `steps` of its strides.
pub(super) fn advanced(pointers: &[*mut u8], strides: &[usize], steps: u64, out: &mut Vec<*mut u8>) {
    out.clear();
    // Packed weights beyond the operands are the same for all steps.
    let strides = strides.iter().copied().chain(std::iter::repeat(0));
    out.extend(pointers.iter().zip(strides).map(|(p, stride)| p.wrapping_add(stride * steps as usize)));
}
