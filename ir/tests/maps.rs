//! Index maps: what rewrites make of digits and conditions around a product. The whole sequence is in the compiler's tests.

use kiln_ir::nest::VerifyError;
use kiln_ir::rewrite::{Alike, align_taps, fuse_loops, lines, split_borders, tensorize};
use kiln_ir::{LoopNest, Problem, contraction};

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
