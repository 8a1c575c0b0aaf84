//! Every rewrite keeps the meaning: after each step the interpreter gives the result from first principles, on small
//! integers, where every partial sum is exact and the order of additions cannot matter.

mod common;

use common::{meaning, operands, problems, strided};
use kiln_ir::nest::{Buffer, BufferKind, InterpError};
use kiln_ir::rewrite::{
    PackSpec, PanelShape, Side, TileLoop, fuse_loops, pack, pack_shared, partition, prepacked, split_tails, tensorize,
    tile,
};
use kiln_ir::{Contraction, DType, LoopNest, Problem, Role, contraction};
use proptest::prelude::*;
use proptest::sample::select;

struct Case {
    contraction: Contraction,
    dst: usize,
    dtype: DType,
    arguments: Vec<Vec<f32>>,
    weights: Vec<f32>,
    want: Vec<f32>,
}

impl Case {
    fn new(p: &Problem) -> Self {
        let mut arguments = operands(p);
        let want = meaning(p, &arguments);
        let contraction = Contraction::of(p);
        let dst = arguments.len() - 1;
        if !p.accumulates() {
            // What no element is in stays.
            common::operand(p, Role::Dst).places().for_each(|at| arguments[dst][at as usize] = f32::NAN);
        }
        let weights = arguments[contraction.rhs.argument].clone();
        Self { dst, dtype: p.dtypes().dst, arguments, weights, want, contraction }
    }

    fn check(&self, step: &str, nest: &LoopNest) {
        nest.verify().unwrap_or_else(|e| panic!("after {step}: {e}\n{nest}"));
        self.computes(step, nest, |args| nest.interpret(args));
        let text = nest.to_string();
        let again = text.parse::<LoopNest>().unwrap_or_else(|e| panic!("after {step}: {e}\n{nest}"));
        assert_eq!(again.to_string(), text);
        assert_eq!(again.verify(), Ok(()));
    }

    /// Checks what is in the result after `run`.
    fn computes(&self, step: &str, nest: &LoopNest, run: impl Fn(&mut [&mut [f32]]) -> Result<(), InterpError>) {
        let mut memory = self.arguments.clone();
        let mut args: Vec<&mut [f32]> = memory.iter_mut().map(Vec::as_mut_slice).collect();
        run(&mut args).unwrap_or_else(|e| panic!("after {step}: {e}\n{nest}"));
        for (i, (got, want)) in memory[self.dst].iter().zip(&self.want).enumerate() {
            // Before there are tiles, a nest is in f32.
            assert_eq!(self.dtype.round(*got), *want, "element {i} after {step}\n{nest}");
        }
    }

    /// The tasks of a finished nest, phase by phase, in pieces that begin wherever, and the last piece of a phase first.
    fn check_tasks(&self, nest: &LoopNest, cuts: &[prop::sample::Index]) {
        let (mut pieces, mut single, mut first) = (vec![], vec![], 0);
        for tasks in nest.phase_tasks() {
            let end = first + tasks;
            let mut ends: Vec<u64> = cuts.iter().map(|cut| first + cut.index(tasks as usize + 1) as u64).collect();
            ends.extend([first, end]);
            ends.sort_unstable();
            pieces.extend(ends.windows(2).rev().map(|w| w[0]..w[1]));
            single.extend((first..end).rev().map(|at| at..at + 1));
            first = end;
        }
        assert_eq!(first, nest.tasks());
        self.computes("tasks in pieces", nest, |args| nest.interpret_tasks(args, pieces.clone()));
        self.computes("tasks one by one", nest, |args| nest.interpret_tasks(args, single.clone()));
    }

    /// The panels of columns `start..end` of the right operand, as `prepacked` documents them. What no element is in is NaN.
    fn panels(&self, [start, end]: [u64; 2], width: u64, shape: PanelShape) -> Vec<f32> {
        let c = &self.contraction;
        let distance = shape.distance(c.k, width);
        let per_batch = (end - start).div_ceil(width) * distance;
        let own: Vec<(u64, u64)> =
            c.batch.iter().copied().zip(c.rhs.batch.iter().copied()).filter(|b| b.1 > 0).collect();
        let batches = common::indices(&own.iter().map(|b| b.0).collect::<Vec<_>>());
        let mut all = vec![f32::NAN; (batches.len() as u64 * per_batch) as usize];
        for (b, index) in batches.iter().enumerate() {
            let from: u64 = index.iter().zip(&own).map(|(i, (_, stride))| i * stride).sum();
            for (k, n) in (0..c.k).flat_map(|k| (start..end).map(move |n| (k, n))) {
                let (panel, column) = ((n - start) / width, (n - start) % width);
                let i = shape.interleave;
                let at = b as u64 * per_batch + panel * distance + k / i * i * shape.pitch + column * i + k % i;
                all[at as usize] = shape.dtype.round(self.weights[(from + k * c.rhs.row + n * c.rhs.col) as usize]);
            }
        }
        all
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Rhs {
    InPlace,
    PackedAt(&'static str),
    Shared,
    Prepacked,
}

/// Where the left factor is packed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Lhs {
    At(&'static str),
    Shared,
}

/// Panels: what the pitch is beyond the tile, and how many steps of K are neighbours.
#[derive(Clone, Copy, Debug)]
struct Panels {
    spare: u64,
    interleave: u64,
    dtype: DType,
}

impl Panels {
    fn shape(self, width: u64) -> PanelShape {
        PanelShape { pitch: width + self.spare, interleave: self.interleave, dtype: self.dtype }
    }
}

#[derive(Clone, Debug)]
struct Plan {
    mr: u64,
    nr: u64,
    mc: u64,
    nc: u64,
    kc: Option<u64>,
    order: usize,
    /// How many of the loops over blocks of rows and columns divide the tasks, and where the tasks are cut.
    parallel: usize,
    pieces: Vec<prop::sample::Index>,
    rhs: Rhs,
    rhs_panels: Panels,
    lhs: Option<Lhs>,
    lhs_panels: Panels,
    cuts: [u64; 2],
}

/// Loops over blocks, outermost first; K only where it is blocked.
const ORDERS: [[&str; 5]; 5] = [
    ["n", "k", "n", "m", "m"],
    ["n", "k", "m", "n", "m"],
    ["n", "k", "m", "m", "n"],
    ["m", "n", "k", "n", "m"],
    ["m", "n", "k", "m", "n"],
];

fn panels() -> impl Strategy<Value = Panels> {
    (0u64..4, select(&[1u64, 1, 2, 4][..]), select(&[DType::F32, DType::Bf16, DType::F16][..]))
        .prop_map(|(spare, interleave, dtype)| Panels { spare, interleave, dtype })
}

fn plans() -> impl Strategy<Value = Plan> {
    let rhs = select(
        &[Rhs::InPlace, Rhs::PackedAt("n1"), Rhs::PackedAt("k0"), Rhs::Shared, Rhs::Prepacked, Rhs::Prepacked][..],
    );
    let lhs = prop::option::of(select(&[Lhs::At("m0"), Lhs::At("m1"), Lhs::At("k0"), Lhs::Shared][..]));
    (
        (1u64..7, 1u64..9, 1u64..4, 1u64..4, prop::option::of(1u64..12)),
        (0..ORDERS.len(), 0usize..5, prop::collection::vec(any::<prop::sample::Index>(), 0..4)),
        (rhs, panels(), lhs, panels()),
        [0u64..20, 0u64..20],
    )
        .prop_map(|((mr, nr, mb, nb, kc), (order, parallel, pieces), (rhs, rhs_panels, lhs, lhs_panels), cuts)| {
            let mut group = 1;
            if rhs != Rhs::InPlace {
                group = rhs_panels.interleave;
            }
            if lhs.is_some() {
                group = group.max(lhs_panels.interleave);
            }
            let kc = kc.map(|kc| kc.next_multiple_of(group));
            let (mc, nc) = (mr * mb, nr * nb);
            Plan { mr, nr, mc, nc, kc, order, parallel, pieces, rhs, rhs_panels, lhs, lhs_panels, cuts }
        })
}

impl Plan {
    fn loops(&self) -> Vec<TileLoop> {
        let mut seen = vec![];
        let mut loops = vec![];
        let mut parallel = self.parallel;
        for axis in ORDERS[self.order] {
            let inner = seen.contains(&axis);
            seen.push(axis);
            let step = match (axis, inner) {
                ("m", false) => self.mc,
                ("m", true) => self.mr,
                ("n", false) => self.nc,
                ("n", true) => self.nr,
                _ => match self.kc {
                    Some(kc) => kc,
                    None => continue,
                },
            };
            let is_parallel = axis != "k" && parallel > 0;
            parallel -= usize::from(is_parallel);
            loops.push(TileLoop { parallel: is_parallel, ..TileLoop::new(axis, step) });
        }
        loops
    }

    /// The loop to pack in.
    fn host(&self, wanted: &'static str, outermost: &'static str) -> &'static str {
        match self.kc {
            None if wanted == "k0" => outermost,
            _ => wanted,
        }
    }
}

fn lower(case: &mut Case, problem: &Problem, plan: &Plan) {
    let mut nest = contraction::naive(problem);
    case.check("build", &nest);
    nest = fuse_loops(nest).unwrap();
    case.check("fuse_loops", &nest);
    let (m, n) = (case.contraction.m, case.contraction.n);
    // Columns of each region.
    let mut regions = vec![[0, n]];
    let [cut_n, cut_m] = plan.cuts;
    if cut_n > 0 && cut_n < n {
        nest = partition(nest, 0, "n", &[cut_n]).unwrap();
        case.check("partition of n", &nest);
        regions = vec![[0, cut_n], [cut_n, n]];
    }
    if cut_m > 0 && cut_m < m {
        nest = partition(nest, 0, "m", &[cut_m]).unwrap();
        case.check("partition of m", &nest);
        regions.insert(0, regions[0]);
    }
    for r in 0..regions.len() {
        nest = tile(nest, r, &plan.loops(), plan.parallel > 0).unwrap();
        case.check("tile", &nest);
    }
    if plan.rhs == Rhs::Prepacked {
        let shape = plan.rhs_panels.shape(plan.nr);
        for (r, columns) in regions.iter().enumerate().rev() {
            nest = prepacked(nest, r, Side::Rhs, plan.nr, shape).unwrap();
            let panels = case.panels(*columns, plan.nr, shape);
            if r == 0 {
                let rhs = case.contraction.rhs.argument;
                case.arguments[rhs] = panels;
            } else {
                case.arguments.push(panels);
            }
            case.check("prepacked", &nest);
        }
    }
    for r in 0..regions.len() {
        if let Rhs::PackedAt(at) = plan.rhs {
            let (at, shape) = (plan.host(at, "n0").into(), plan.rhs_panels.shape(plan.nr));
            let spec = PackSpec { side: Side::Rhs, panel: format!("rhs_panel{r}"), at, shape };
            nest = pack(nest, r..r + 1, &spec).unwrap();
            case.check("pack rhs", &nest);
        }
        if let Some(Lhs::At(at)) = plan.lhs {
            let (at, shape) = (plan.host(at, "m0").into(), plan.lhs_panels.shape(plan.mr));
            let spec = PackSpec { side: Side::Lhs, panel: format!("lhs_panel{r}"), at, shape };
            nest = pack(nest, r..r + 1, &spec).unwrap();
            case.check("pack lhs", &nest);
        }
    }
    // Regions are behind the barrier from then on.
    for r in 0..regions.len() {
        if plan.rhs == Rhs::Shared {
            let shape = plan.rhs_panels.shape(plan.nr);
            nest = pack_shared(nest, r, Side::Rhs, &format!("rhs_shared{r}"), shape).unwrap();
            case.check("pack_shared rhs", &nest);
        }
        if plan.lhs == Some(Lhs::Shared) {
            let shape = plan.lhs_panels.shape(plan.mr);
            nest = pack_shared(nest, r, Side::Lhs, &format!("lhs_shared{r}"), shape).unwrap();
            case.check("pack_shared lhs", &nest);
        }
    }
    nest = split_tails(nest).unwrap();
    case.check("split_tails", &nest);
    nest = tensorize(nest).unwrap();
    case.check("tensorize", &nest);
    case.check_tasks(&nest, &plan.pieces);
    let left = nest.to_string().lines().any(|l| l.contains(" * ") && !l.trim_start().starts_with("tile "));
    assert!(!left, "everything is in tiles:\n{nest}");
    let is_argument = |b: &&Buffer| !matches!(b.kind, BufferKind::Scratch | BufferKind::Shared);
    assert_eq!(nest.buffers.iter().filter(is_argument).count(), case.arguments.len());
    let is_shared = plan.rhs == Rhs::Shared || plan.lhs == Some(Lhs::Shared);
    assert_eq!(nest.phases().count(), if is_shared { 2 } else { 1 });
}

proptest! {
    // A test of its own has no `lib.rs` above it to keep failures beside; a failure prints its case.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(600) })]
    #[test]
    fn every_step_equals_the_meaning(p in strided(problems()), plan in plans()) {
        lower(&mut Case::new(&p), &p, &plan);
    }

}

proptest! {
    // Most edits are refused; fewer than one text in thirty that is a nest fails the test.
    #![proptest_config(ProptestConfig {
        failure_persistence: None, max_global_rejects: 30 * 300, ..ProptestConfig::with_cases(300)
    })]

    #[test]
    fn edited_text_that_is_parsed_is_verified_or_run(
        p in strided(problems()),
        plan in plans(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..3usize, "[-+*0-9kmn ,\\[\\]]{0,2}|0000000000000|interleave 3"), 1..4),
    ) {
        let nest = tile(fuse_loops(contraction::naive(&p)).unwrap(), 0, &plan.loops(), false).unwrap();
        let spec = PackSpec { side: Side::Rhs, panel: "p".into(), at: "n1".into(), shape: plan.rhs_panels.shape(plan.nr) };
        let nest = pack(nest, 0..1, &spec).unwrap();
        let nest = tensorize(split_tails(nest.clone()).unwrap()).unwrap_or(nest);
        let before = nest.to_string();
        let mut text: Vec<char> = before.chars().collect();
        for (at, remove, insert) in edits {
            let at = at.index(text.len());
            let end = (at + remove).min(text.len());
            text.splice(at..end, insert.chars());
        }
        let text: String = text.into_iter().collect();
        let parsed = text.parse::<LoopNest>().ok().filter(|_| text != before);
        let Some(nest) = parsed else { return Err(TestCaseError::reject("refused")) };
        prop_assert_eq!(nest.to_string().parse::<LoopNest>().map(|n| n.to_string()), Ok(nest.to_string()));
        // Whatever the text says, a rewrite refuses it or makes another nest, and the verifier judges that: nothing panics.
        let rewritten = [
            fuse_loops(nest.clone()),
            tile(nest.clone(), 0, &plan.loops(), true),
            pack(nest.clone(), 0..1, &spec),
            pack_shared(nest.clone(), 0, Side::Lhs, "s", spec.shape),
            prepacked(nest.clone(), 0, Side::Rhs, plan.nr, spec.shape),
            split_tails(nest.clone()).and_then(tensorize),
        ];
        rewritten.into_iter().flatten().for_each(|nest| drop(nest.verify()));
        // Edits can make loops long; those are not run.
        let elements: u64 = nest.buffers.iter().fold(0, |sum, b| sum.saturating_add(b.len()));
        let long = nest.to_string().contains("00000");
        if nest.verify().is_ok() && elements < 1 << 20 && !long {
            let is_argument = |b: &&Buffer| !matches!(b.kind, BufferKind::Scratch | BufferKind::Shared);
            let arguments = nest.buffers.iter().filter(is_argument);
            let mut memory: Vec<Vec<f32>> = arguments.map(|b| vec![1.0; b.len() as usize]).collect();
            let mut args: Vec<&mut [f32]> = memory.iter_mut().map(Vec::as_mut_slice).collect();
            prop_assert_eq!(nest.interpret(&mut args), Ok(()), "{}", nest);
        }
    }
}

#[test]
fn rewrites_refuse_what_they_do_not_fit() {
    let p: Problem = "matmul f32 6x8:8x10".parse().unwrap();
    let nest = fuse_loops(contraction::naive(&p)).unwrap();
    let tiled = |loops: &[(&'static str, u64)]| {
        let loops: Vec<_> = loops.iter().map(|(axis, step)| TileLoop::new(axis, *step)).collect();
        tile(nest.clone(), 0, &loops, false)
    };
    assert!(tile(nest.clone(), 1, &[], false).is_err());
    for loops in [&[("q", 2)][..], &[("m", 0)], &[("m", 4), ("m", 3)], &[("k", 4), ("k", 2)]] {
        assert!(tiled(loops).is_err(), "{loops:?}");
    }
    assert!(partition(nest.clone(), 0, "n", &[10]).is_err());
    assert!(partition(nest.clone(), 0, "n", &[4, 2]).is_err());

    let shape = PanelShape { pitch: 5, interleave: 1, dtype: DType::F32 };
    let spec = PackSpec { side: Side::Rhs, panel: "p".into(), at: "n0".into(), shape };
    assert!(pack(nest.clone(), 0..1, &spec).is_err());
    let in_n = tiled(&[("n", 5)]).unwrap();
    let with = |shape| PackSpec { shape, ..spec.clone() };
    assert!(pack(in_n.clone(), 0..1, &spec).is_ok());
    assert!(
        pack(in_n.clone(), 0..1, &with(PanelShape { pitch: 4, ..shape })).is_err(),
        "the pitch is smaller than the run"
    );
    assert!(pack(in_n.clone(), 0..1, &with(PanelShape { interleave: 0, ..shape })).is_err());

    let shared = |nest: &LoopNest, region, shape| pack_shared(nest.clone(), region, Side::Rhs, "p", shape);
    let once = shared(&in_n, 0, shape).unwrap();
    assert_eq!(once.phases().count(), 2);
    assert!(shared(&in_n, 1, shape).is_err(), "there is one region");
    assert!(shared(&once, 1, shape).is_err(), "and one behind the barrier");
    assert!(shared(&in_n, 0, PanelShape { pitch: 4, ..shape }).is_err());
    assert!(shared(&in_n, 0, PanelShape { interleave: 0, ..shape }).is_err());
    let named_alike = pack_shared(once, 0, Side::Lhs, "p", PanelShape { pitch: 6, ..shape }).unwrap();
    assert!(named_alike.verify().is_err(), "two buffers of one name");

    let four = PanelShape { interleave: 4, ..shape };
    let blocked = |kc| tiled(&[("n", 5), ("k", kc)]).unwrap();
    assert!(pack(blocked(4), 0..1, &with(four)).is_ok());
    assert!(pack(blocked(6), 0..1, &with(four)).is_err(), "blocks of K cut groups");
    assert!(prepacked(in_n.clone(), 0, Side::Rhs, 5, four).is_ok());
    assert!(prepacked(in_n.clone(), 1, Side::Rhs, 5, shape).is_err());
    assert!(prepacked(in_n.clone(), 0, Side::Rhs, 4, shape).is_err(), "blocks of 5 are no panels of 4");
    assert!(prepacked(nest.clone(), 0, Side::Rhs, 5, shape).is_err(), "10 columns are no panel of 5");
    for kc in [1, 6] {
        let cut = tiled(&[("k", kc), ("n", 5)]).unwrap();
        assert!(prepacked(cut, 0, Side::Rhs, 5, four).is_err(), "groups are cut");
    }
    assert!(prepacked(pack(in_n.clone(), 0..1, &spec).unwrap(), 0, Side::Lhs, 6, shape).is_err(), "behind scratch");

    let tensorized = tensorize(split_tails(in_n).unwrap()).unwrap();
    assert!(fuse_loops(tensorized).is_err());
}

#[test]
fn hostile_numbers_do_not_verify() {
    let huge = u64::MAX.to_string();
    let nest = |buffers: &str, body: &str| format!("nest \"\" {{ out d f32 [8, 8] strides [8, 1] {buffers} {body} }}");
    let max40 = 1u64 << 40;
    for (buffers, body) in [
        (format!("in a f32 [{max40}, {max40}] strides [{max40}, {max40}]"), String::new()),
        (format!("in a f32 [{huge}] strides [{huge}]"), String::new()),
        (format!("in a f32 [8, 8] strides [8, 1] interleave {huge}"), String::new()),
        ("in a f32 [8, 8] strides [8, 1] interleave 0".into(), String::new()),
        ("in a f32 [8] strides [1] interleave 4".into(), String::new()),
        (String::new(), format!("for i in 0..{huge} {{ d[0, 0] = 0 }}")),
        (String::new(), format!("for i in 0..8 step {huge} {{ d[i, 0] = 0 }}")),
        (
            String::new(),
            format!("for i in 0..{max40} {{ for j in 0..min({huge}, {max40} - {max40}*i) {{ d[j, 0] = 0 }} }}"),
        ),
        (String::new(), format!("tile {huge}x{huge}x{huge} d[0, 0] (8, 1) = d[0, 0] (8, 1) * d[0, 0] (8, 1)")),
        (String::new(), format!("tile 2x2x2 d[0, 0] ({huge}, 1) = d[0, 0] (8, 1) * d[0, 0] (8, 1)")),
        (String::new(), format!("pack d[0, 0] (8, 1) = d[0, 0] (8, 1) x {huge} x {huge} pitch {huge}")),
        (
            "scratch p f32 [8, 8] strides [8, 4] interleave 4".into(),
            format!("pack p[0, 0] (8, 4) = d[0, 0] (8, 1) x 4 x 4 pitch {huge}"),
        ),
        (
            "scratch p f32 [8, 8] strides [8, 4] interleave 4".into(),
            "pack p[2, 0] (8, 4) = d[0, 0] (8, 1) x 4 x 4 pitch 8".into(),
        ),
    ] {
        let text = nest(&buffers, &body);
        let nest: LoopNest = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
        nest.buffers.iter().for_each(|b| assert_ne!(b.len(), 0));
        let error = nest.verify().expect_err(&text);
        let mut memory = vec![0.0; 64];
        assert_eq!(nest.interpret(&mut [&mut memory]), Err(error.into()));
    }
    // Sums of numbers that are each within the limit.
    assert!(nest("", &format!("d[{}, 0] = 0", vec![max40.to_string(); 3].join(" + "))).parse::<LoopNest>().is_err());
    // Every loop ends at a rest: the bound must not try both limits of each.
    let names: Vec<String> = (0..50).map(|i| format!("i{i}")).collect();
    let mut deep = String::from("for i0 in 0..2 { ");
    names.windows(2).for_each(|w| deep += &format!("for {} in 0..min(2, 3 - {}) {{ ", w[1], w[0]));
    deep += &format!("d[{}, 0] = 0 {}", names.join(" + "), "}".repeat(50));
    assert!(nest("", &deep).parse::<LoopNest>().unwrap().verify().is_err());
}
