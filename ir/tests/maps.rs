//! Index maps: what rewrites make of digits and conditions around a product. The whole sequence is in the compiler's tests.

use kiln_ir::nest::{BufferKind, VerifyError};
use kiln_ir::rewrite::{
    Alike, Blocks, LinePanel, PanelShape, RewriteError, Side, StripSpec, TileLoop, align_taps, divide, fuse_batches,
    fuse_loops, inline, lines, prepacked, split_borders, split_tails, stage, strip, tensorize, tile,
};
use kiln_ir::{DType, LoopNest, Problem, contraction};
use proptest::prelude::*;

fn fused(problem: &str) -> LoopNest {
    let problem: Problem = problem.parse().unwrap();
    fuse_loops(contraction::naive(&problem)).unwrap()
}

fn body(nest: &LoopNest) -> Vec<String> {
    nest.to_string().lines().map(str::trim).filter(|l| !l.starts_with('}')).map(str::to_owned).collect()
}

fn has(nest: &LoopNest, line: &str) -> bool {
    body(nest).iter().any(|l| l == line)
}

const PADDED: &str = "conv f32 mb1ic3ih5oc4kh3ph1";

#[test]
fn products_have_no_index_map() {
    let nest = fused("matmul f32 5x7:7x4 +bias");
    assert_eq!(lines(nest.clone()).unwrap(), nest);
    assert_eq!(align_taps(nest.clone(), 4).unwrap(), nest);
    for alike in [Alike::Conditions, Alike::Footprint] {
        assert_eq!(split_borders(nest.clone(), 0..1, &["m", "n"], alike).unwrap(), nest);
    }
}

#[test]
fn convolutions_are_products_with_an_index_map() {
    let nest = fused(PADDED);
    for line in [
        "for m in 0..25 {",
        "for k in 0..27 {",
        "delinearize m into o0 in 0..5, o1 in 0..5 {",
        "delinearize k into tap in 0..9, c in 0..3 {",
        "delinearize tap into t0 in 0..3, t1 in 0..3 {",
        "inside o0 + t0 - 1 in 0..5 {",
    ] {
        assert!(has(&nest, line), "{line}\n{nest}");
    }
}

#[test]
fn taps_are_whole_groups() {
    let nest = align_taps(fused(PADDED), 4).unwrap();
    nest.verify().unwrap();
    for line in ["for k in 0..36 {", "delinearize k into tap in 0..9, c in 0..4 {", "inside c in 0..3 {"] {
        assert!(has(&nest, line), "{line}\n{nest}");
    }
}

#[test]
fn lines_and_borders_are_loops() {
    let nest = lines(fused(PADDED)).unwrap();
    nest.verify().unwrap();
    assert_eq!(body(&nest).iter().filter(|l| l.starts_with("for o0 in 0..5 ")).count(), 1, "{nest}");
    // The first line, those inside, and the last.
    let cut = split_borders(nest, 0..1, &["o0"], Alike::Conditions).unwrap();
    cut.verify().unwrap();
    let loops: Vec<String> = body(&cut).into_iter().filter(|l| l.starts_with("for o0 ")).collect();
    assert_eq!(loops, ["for o0 in 0..1 {", "for o0 in 0..3 {", "for o0 in 0..1 {"], "{cut}");
}

#[test]
fn a_loop_that_conditions_change_in_is_no_loop_around_tiles() {
    let text = "nest \"t\" {
      in lhs f32 [4, 8] strides [8, 1]
      in rhs f32 [1, 16, 4] strides [64, 4, 1]
      out dst f32 [4, 4] strides [4, 1]
      for o in 0..4 {
        for m in 0..1 {
          for n in 0..4 {
            dst[m + o, n] = 0
            for k in 0..16 {
              delinearize k into tap in 0..2, c in 0..8 {
                inside o + tap - 1 in 0..4 {
                  dst[m + o, n] += lhs[o + tap - 1, c] * rhs[0, k, n]
                }
              }
            }
          }
        }
      }
    }";
    let nest: LoopNest = text.parse().unwrap();
    nest.verify().unwrap();
    let e = tensorize(nest.clone()).unwrap_err();
    assert!(e.why.contains("some iterations"), "{e}");
    let cut = split_borders(nest, 0..1, &["o"], Alike::Conditions).unwrap();
    let tiles = tensorize(cut).unwrap();
    tiles.verify().unwrap();
    let runs: Vec<String> = body(&tiles).into_iter().filter(|l| l.contains("window")).collect();
    let ends: Vec<&str> = runs.iter().map(|l| l.split("window").nth(1).unwrap()).collect();
    assert_eq!(ends, [" (0) run (0, 0) x 8 rows 1", " (0) run (0, 0) x 16 rows 1"], "{tiles}");
}

#[test]
fn digits_are_within_their_extents_and_new() {
    let nest = |digits: &str| -> LoopNest {
        let text = format!("nest \"t\" {{ out d f32 [12] strides [1] for i in 0..12 {{ {digits} {{ d[i] = 0 }} }} }}");
        text.parse().unwrap()
    };
    assert_eq!(nest("delinearize i into a in 0..3, b in 0..4").verify(), Ok(()));
    let too_few = nest("delinearize i into a in 0..3, b in 0..3").verify();
    assert_eq!(too_few, Err(VerifyError::Digits { low: 0, high: 11, extent: 9 }));
    let below = nest("delinearize i - 1 into a in 0..3, b in 0..4").verify();
    assert_eq!(below, Err(VerifyError::Digits { low: -1, high: 10, extent: 12 }));
    assert!(nest("delinearize i into a in 0..3, b in 0..0").verify().is_err());
    assert!(matches!(nest("delinearize i into i in 0..12").verify(), Err(VerifyError::Variable(..))));
    assert!(matches!(
        nest("delinearize i into a in 0..9999999, b in 0..9999999").verify(),
        Err(VerifyError::TooLarge(_))
    ));
    // A condition around it limits the index.
    assert_eq!(nest("inside i - 2 in 0..3 { delinearize i - 2 into a in 0..3 {} } if i == 0").verify(), Ok(()));
}

/// The strip of a block of rows of [`PADDED`], plain or of interleaved lines.
fn strip_spec(kind: BufferKind, interleave: u64) -> StripSpec {
    let lines = LinePanel { interleave, stride: 1, residues: 1, pitch: 6, halo: true };
    StripSpec {
        strip: "strip".into(),
        at: "m0".into(),
        kind,
        dtype: DType::F32,
        axes: vec![(4, 1), (5, 1)],
        block: (0, [5, 2]),
        width: 3u64.next_multiple_of(interleave),
        lines: (interleave > 1).then_some(lines),
    }
}

/// A nest after each rewrite for an index map.
fn stages(problem: &str) -> Vec<LoopNest> {
    let mut all = vec![fused(problem)];
    let mut then = |f: &dyn Fn(LoopNest) -> Result<LoopNest, RewriteError>| {
        let last = all[all.len() - 1].clone();
        all.extend(f(last).ok());
    };
    then(&lines);
    then(&|nest| {
        let blocks = |axis: &str, var: &str, blocks| TileLoop {
            axis: axis.into(),
            var: Some(var.into()),
            blocks,
            parallel: true,
        };
        let line = Blocks::Sizes(vec![(3, 1), (2, 1)]);
        let loops = [
            blocks("n", "n0", Blocks::Of(4)),
            blocks("o0", "m0", Blocks::Of(2)),
            blocks("o0", "o0", Blocks::Elements),
            blocks("n", "n1", Blocks::Of(4)),
            blocks("m", "o1", line),
        ];
        tile(nest, 0, &loops, true)
    });
    then(&|nest| prepacked(nest, 0, Side::Rhs, 4, PanelShape { pitch: 4, interleave: 1, dtype: DType::F32 }));
    then(&|nest| split_borders(nest, 0..1, &["m0", "n0"], Alike::Footprint));
    then(&|nest| {
        let region = 0..nest.body.len();
        stage(nest, region, "m0", [10, 4], "0")
    });
    then(&|nest| {
        let region = 0..nest.body.len();
        strip(nest, region, &strip_spec(BufferKind::Scratch, 1))
    });
    then(&|nest| {
        let region = 0..nest.body.len();
        split_borders(nest, region, &["o0", "o1"], Alike::Conditions)
    });
    then(&split_tails);
    then(&tensorize);
    all
}

#[test]
fn a_right_factor_whose_steps_are_digits_is_no_tiles() {
    let e = tensorize(fused(PADDED)).unwrap_err();
    assert!(e.why.contains("must be packed"), "{e}");
}

#[test]
fn the_sequence_has_all_its_stages() {
    for problem in [PADDED, "conv f32 mb1ic3ih5oc4kh3ph1 dtag=abx +bias"] {
        let all = stages(problem);
        assert_eq!(all.len(), 10, "{}", all[all.len() - 1]);
        all.iter().for_each(|nest| nest.verify().unwrap_or_else(|e| panic!("{e}\n{nest}")));
        assert!(all[9].to_string().contains("window"), "{}", all[9]);
    }
}

proptest! {
    // Most edits are refused; fewer than one text in thirty that is a nest fails the test.
    #![proptest_config(ProptestConfig {
        failure_persistence: None, max_global_rejects: 30 * 300, ..ProptestConfig::with_cases(300)
    })]

    /// Whatever a text says, rewrites refuse it or make another nest: nothing panics, and nothing takes longer than the text is long.
    #[test]
    fn edited_maps_are_refused_or_rewritten(
        at in any::<prop::sample::Index>(),
        plain in any::<bool>(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..3usize, "[-+*0-9kmnotc ,\\[\\]]{0,2}|0000000000000|00000"), 1..4),
    ) {
        let all = stages(if plain { PADDED } else { "conv f32 mb1ic3ih5oc4kh3ph1 dtag=abx +bias" });
        let before = at.get(&all).to_string();
        let mut text: Vec<char> = before.chars().collect();
        for (at, remove, insert) in edits {
            let at = at.index(text.len());
            let end = (at + remove).min(text.len());
            text.splice(at..end, insert.chars());
        }
        let text: String = text.into_iter().collect();
        let parsed = text.parse::<LoopNest>().ok().filter(|_| text != before);
        let Some(nest) = parsed else { return Err(TestCaseError::reject("refused")) };
        let region = 0..nest.body.len();
        let rewritten = [
            align_taps(nest.clone(), 4),
            lines(nest.clone()),
            split_borders(nest.clone(), region.clone(), &["m0", "n0", "k"], Alike::Footprint),
            split_borders(nest.clone(), region.clone(), &["m", "o0", "o1", "k"], Alike::Conditions),
            stage(nest.clone(), region.clone(), "m0", [10, 4], "0"),
            strip(nest.clone(), region.clone(), &strip_spec(BufferKind::Scratch, 1)),
            strip(nest.clone(), region.clone(), &strip_spec(BufferKind::Scratch, 4)),
            strip(nest.clone(), region.clone(), &strip_spec(BufferKind::Shared, 1)),
            split_tails(nest.clone()),
            tensorize(nest.clone()),
            divide(nest.clone(), region, "m0", 4),
            Ok(fuse_batches(inline(nest.clone()))),
        ];
        rewritten.into_iter().flatten().for_each(|nest| drop(nest.verify()));
    }
}
