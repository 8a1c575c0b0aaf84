use super::{RewriteError, existing_var, find_loop, refuse, substitute};
use crate::nest::{Affine, Extent, LoopNest, Stmt};

/// Cuts region `region` (a top-level statement) along `axis` at the ascending positions `cuts` into consecutive regions,
/// each with loops of its own from 0. Iterations of `axis` must be independent.
pub fn partition(mut nest: LoopNest, region: usize, axis: &str, cuts: &[u64]) -> Result<LoopNest, RewriteError> {
    let var = existing_var(&nest, "partition", axis)?;
    let Some(whole) = nest.body.get(region).cloned() else { return refuse("partition", "there is no such region") };
    let mut pieces = vec![];
    let mut start = 0;
    let Some(extent) = find_loop(&mut [whole.clone()], var).map(|l| l.extent.clone()) else {
        return refuse("partition", format!("region {region} has no loop over `{axis}`"));
    };
    let Extent::Const(total) = extent else { return refuse("partition", format!("`{axis}` is already tiled")) };
    for &end in cuts.iter().chain([&total]) {
        if end <= start || end > total {
            return refuse("partition", format!("cut {end} of `{axis}` is not between {start} and {total}"));
        }
        let mut piece = [whole.clone()];
        let l = find_loop(&mut piece, var).expect("found above");
        l.extent = Extent::Const(end - start);
        let mut shifted = Affine::from(var);
        shifted.constant = start as i64;
        substitute(&mut l.body, var, &shifted);
        pieces.extend::<[Stmt; 1]>(piece);
        start = end;
    }
    nest.body.splice(region..=region, pieces);
    Ok(nest.numbered())
}
