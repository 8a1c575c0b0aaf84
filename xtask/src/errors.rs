//! `cargo xtask errors`: how far approximated post-ops are from the real functions, over all arguments there are.

use std::error::Error;
use std::fmt::Write;
use std::thread;

use kiln_compiler::microkernel::accuracy::{BLOCK, Errors, Meter, sample};
use kiln_compiler::microkernel::approx::{BOUNDS, Bound};
use kiln_compiler::microkernel::program::Program;
use kiln_ir::PostOp;

const HEADER: &str = "\
# Accuracy of post-ops

<!-- Generated: cargo xtask errors > docs/accuracy.md -->

Post-ops that are not listed are exact: one correctly rounded operation, or a few in the obvious order (`hardsigmoid`,
`hardswish`, `softsign`: relative error below 2^-22). Those below are approximations, the same operations in the same
order for every target and element type, so that results do not depend on the target. Their errors are measured against
double precision";

/// Arguments of `cargo xtask errors`.
#[derive(clap::Args)]
pub struct ErrorsArgs {
    /// Measures a sample of some millions of arguments, and those near limits, instead of all 2^32.
    #[arg(long)]
    quick: bool,
}

/// Prints the table.
pub fn run(args: &ErrorsArgs) -> Result<(), Box<dyn Error>> {
    let extent = if args.quick {
        "a sample of f32 arguments: millions, and those near limits."
    } else {
        "all 2^32 f32 arguments, subnormal ones and results included."
    };
    let mut text = format!("{HEADER} over {extent}\n\n");
    text += "| post-op | promised | ulp | at | error / \\|argument\\| | at | bf16 ulp | NaN | -inf | -0 | +inf | ops | constants | temporaries |\n";
    text += "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n";
    let mut broken = vec![];
    for (op, bound) in BOUNDS {
        let errors = if args.quick { quick(op) } else { all(op)? };
        eprintln!("{op}: {errors:?}");
        let promised = match bound {
            Bound::Ulps(ulps) => format!("{ulps} ulp"),
            Bound::OfArgument(error) => format!("{error:e} of the argument"),
        };
        let program = Program::of(&[op]);
        let special = [f32::NAN, f32::NEG_INFINITY, -0.0, f32::INFINITY].map(|x| program.eval(x, &[]).to_string());
        let ulps = shown(errors.ulps);
        // Means nothing of functions that are not 0 at 0.
        let of_argument = match bound {
            Bound::Ulps(_) => " | ".into(),
            Bound::OfArgument(_) => format!("{} | {:e}", shown(errors.of_argument), errors.of_argument_at),
        };
        let half = shown(Meter::new(op).measure_bf16().ulps);
        let _ = writeln!(
            text,
            "| `{op}` | {promised} | {ulps} | {:e} | {of_argument} | {half} | {} | {} | {} | {} |",
            errors.ulps_at,
            special.join(" | "),
            program.executed(),
            program.constants().len(),
            program.temporaries(),
        );
        if !errors.within(bound) {
            broken.push(op.name());
        }
    }
    text += "\nA unit in the last place (ulp) is that of the exact result. Where the promise is relative to the argument, the \
             result\nis a product with the argument, and tiny results may have no correct digit: their error in ulp is large. \
             bf16: results\nare computed in f32 and rounded once. The column of temporaries counts the registers that a post-op \
             needs besides those\nof its constants, the one of the argument among them.\n";
    print!("{text}");
    if broken.is_empty() { Ok(()) } else { Err(format!("worse than promised: {}", broken.join(", ")).into()) }
}

fn shown(error: f64) -> String {
    if (0.01..1e6).contains(&error) { format!("{error:.3}") } else { format!("{error:.2e}") }
}

fn quick(op: PostOp) -> Errors {
    let arguments: Vec<u32> = sample().collect();
    let blocks = arguments.chunks(BLOCK).map(|chunk| std::array::from_fn(|i| chunk.get(i).copied().unwrap_or(0)));
    measure(op, blocks)
}

fn all(op: PostOp) -> Result<Errors, String> {
    let threads = thread::available_parallelism().map_or(1, |n| n.get() as u32);
    let blocks = 1u32 << (32 - BLOCK.ilog2());
    thread::scope(|scope| {
        let part = |first| {
            let mine = (first..blocks).step_by(threads as usize);
            move || measure(op, mine.map(|block| std::array::from_fn(|i| block * BLOCK as u32 + i as u32)))
        };
        let running: Vec<_> = (0..threads).map(|first| scope.spawn(part(first))).collect();
        running.into_iter().try_fold(Errors::default(), |errors, thread| {
            Ok(errors.and(thread.join().map_err(|_| format!("measuring {op} panicked"))?))
        })
    })
}

fn measure(op: PostOp, blocks: impl Iterator<Item = [u32; BLOCK]>) -> Errors {
    let mut meter = Meter::new(op);
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
        // SAFETY: the processor has these instructions.
        return blocks.fold(Errors::default(), |errors, block| errors.and(unsafe { measure_avx2(&mut meter, &block) }));
    }
    blocks.fold(Errors::default(), |errors, block| errors.and(meter.measure(&block)))
}

/// The same with instructions that the baseline lacks: calls of a library's multiply-add would take most of the time.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn measure_avx2(meter: &mut Meter, block: &[u32; BLOCK]) -> Errors {
    meter.measure(block)
}
