//! Every rewrite keeps the meaning: after each step the interpreter gives the scalar reference's result, on small integers,
//! where every partial sum is exact and the order of additions cannot matter.

use kiln_ir::rewrite::{PackSpec, TileLoop, fuse_loops, pack, partition, split_tails, tensorize, tile};
use kiln_ir::{LoopNest, Problem, op};
use proptest::prelude::*;

/// Small integers that repeat at no round period.
fn integers(len: u64, salt: u64) -> Vec<f32> {
    (0..len).map(|i| ((i.wrapping_mul(2_654_435_761) + salt * 40_503) >> 7 & 15) as f32 - 8.0).collect()
}

struct Case {
    lhs: Vec<f32>,
    rhs: Vec<f32>,
    bias: Vec<f32>,
    want: Vec<f64>,
}

impl Case {
    fn new(p: &Problem) -> Self {
        let len = |role: &str| p.operands().iter().find(|o| o.role.name() == role).map_or(0, |o| o.len());
        let (lhs, rhs, bias) = (integers(len("lhs"), 1), integers(len("rhs"), 2), integers(len("bias"), 3));
        let want = p.reference_f64(&lhs, &rhs, &bias);
        Self { lhs, rhs, bias, want }
    }

    fn check(&mut self, step: &str, nest: &LoopNest) {
        nest.verify().unwrap_or_else(|e| panic!("after {step}: {e}\n{nest}"));
        let mut dst = vec![f32::NAN; self.want.len()];
        {
            let mut args: Vec<&mut [f32]> = vec![&mut self.lhs, &mut self.rhs];
            if !self.bias.is_empty() {
                args.push(&mut self.bias);
            }
            args.push(&mut dst);
            nest.interpret(&mut args).unwrap_or_else(|e| panic!("after {step}: {e}\n{nest}"));
        }
        for (i, (got, want)) in dst.iter().zip(&self.want).enumerate() {
            assert_eq!(f64::from(*got), *want, "element {i} after {step}\n{nest}");
        }
        assert_eq!(nest.to_string().parse::<LoopNest>().as_ref().map(ToString::to_string), Ok(nest.to_string()));
    }
}

#[derive(Clone, Copy, Debug)]
enum RhsPack {
    InPlace,
    Panel,
    Block,
}

#[derive(Clone, Debug)]
struct Plan {
    mr: u64,
    nr: u64,
    mc: u64,
    nc: u64,
    kc: u64,
    rhs: RhsPack,
    lhs: bool,
    rows_inside: bool,
    parallel_m: bool,
    cut_n: u64,
    cut_m: u64,
}

fn plans() -> impl Strategy<Value = Plan> {
    (
        (1u64..7, 1u64..9, 1u64..4, 1u64..4, 1u64..12),
        prop_oneof![Just(RhsPack::InPlace), Just(RhsPack::Panel), Just(RhsPack::Block)],
        any::<[bool; 3]>(),
        (0u64..20, 0u64..20),
    )
        .prop_map(|((mr, nr, mb, nb, kc), rhs, [lhs, rows_inside, parallel_m], (cut_n, cut_m))| Plan {
            mr,
            nr,
            mc: mr * mb,
            nc: nr * nb,
            kc,
            rhs,
            lhs,
            rows_inside,
            parallel_m,
            cut_n,
            cut_m,
        })
}

fn lower(problem: &Problem, plan: &Plan, mut seen: impl FnMut(&str, &LoopNest)) {
    let kiln_ir::Op::Matmul(shape) = problem.op();
    let mut nest = op::build(problem);
    seen("build", &nest);
    nest = fuse_loops(nest).unwrap();
    seen("fuse_loops", &nest);
    let mut regions = 1;
    for (axis, cut, total) in [("n", plan.cut_n, shape.n), ("m", plan.cut_m, shape.m)] {
        if cut > 0 && cut < total {
            nest = partition(nest, 0, axis, &[cut]).unwrap();
            regions += 1;
            seen("partition", &nest);
        }
    }
    for r in 0..regions {
        let (n0, k0, m0) = (TileLoop::new("n", plan.nc), TileLoop::new("k", plan.kc), TileLoop::new("m", plan.mc));
        let (n1, m1) = (TileLoop::new("n", plan.nr), TileLoop::new("m", plan.mr));
        let parallel = |t: TileLoop| TileLoop { parallel: true, ..t };
        let (loops, at_rhs, at_lhs) = match plan.rhs {
            RhsPack::Panel => (vec![parallel(n0), k0, n1, m0, m1], "n1", "m0"),
            _ if plan.parallel_m && plan.rows_inside => (vec![parallel(m0), n0, k0, n1, m1], "k0", "k0"),
            _ if plan.parallel_m => (vec![parallel(m0), n0, k0, m1, n1], "k0", "k0"),
            _ if plan.rows_inside => (vec![parallel(n0), k0, m0, n1, m1], "k0", "m0"),
            _ => (vec![parallel(n0), k0, m0, m1, n1], "k0", "m0"),
        };
        nest = tile(nest, r, &loops).unwrap();
        seen("tile", &nest);
        if !matches!(plan.rhs, RhsPack::InPlace) {
            let spec = PackSpec { operand: "rhs", panel: format!("rhs_panel{r}"), at: at_rhs.into(), pitch: plan.nr };
            nest = pack(nest, r, &spec).unwrap();
            seen("pack rhs", &nest);
        }
        if plan.lhs {
            let spec =
                PackSpec { operand: "lhs", panel: format!("lhs_panel{r}"), at: at_lhs.into(), pitch: plan.kc + 3 };
            nest = pack(nest, r, &spec).unwrap();
            seen("pack lhs", &nest);
        }
    }
    nest = split_tails(nest).unwrap();
    seen("split_tails", &nest);
    nest = tensorize(nest).unwrap();
    seen("tensorize", &nest);
    let left = nest.to_string().lines().any(|l| l.contains(" * ") && !l.trim_start().starts_with("tile "));
    assert!(!left, "everything is in tiles:\n{nest}");
}

proptest! {
    // A test of its own has no `lib.rs` above it to keep failures beside; a failure prints its case.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]
    #[test]
    fn every_step_equals_the_reference(
        (m, k, n) in (1u64..24, 1u64..24, 1u64..24),
        epilogue in any::<[bool; 2]>(),
        plan in plans(),
    ) {
        let b = Problem::matmul(m, k, n);
        let b = if epilogue[0] { b.bias() } else { b };
        let p = (if epilogue[1] { b.relu() } else { b }).build().unwrap();
        let mut case = Case::new(&p);
        lower(&p, &plan, |step, nest| case.check(step, nest));
    }
}

#[test]
fn rewrites_refuse_what_they_do_not_fit() {
    let p: Problem = "matmul f32 6x8:8x10".parse().unwrap();
    let nest = fuse_loops(op::build(&p)).unwrap();
    assert!(tile(nest.clone(), 1, &[]).is_err());
    assert!(tile(nest.clone(), 0, &[TileLoop::new("q", 2)]).is_err());
    assert!(tile(nest.clone(), 0, &[TileLoop::new("m", 0)]).is_err());
    assert!(tile(nest.clone(), 0, &[TileLoop::new("m", 4), TileLoop::new("m", 3)]).is_err());
    assert!(tile(nest.clone(), 0, &[TileLoop::new("k", 4), TileLoop::new("k", 2)]).is_err());
    assert!(partition(nest.clone(), 0, "n", &[10]).is_err());
    assert!(partition(nest.clone(), 0, "n", &[4, 2]).is_err());
    let spec = PackSpec { operand: "rhs", panel: "p".into(), at: "n0".into(), pitch: 4 };
    assert!(pack(nest.clone(), 0, &spec).is_err());
    let tiled = tile(nest, 0, &[TileLoop::new("n", 5)]).unwrap();
    assert!(pack(tiled.clone(), 0, &spec).is_err(), "the pitch is smaller than the run");
    let tensorized = tensorize(split_tails(tiled).unwrap()).unwrap();
    assert!(fuse_loops(tensorized).is_err());
}
