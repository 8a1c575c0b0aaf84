//! `kiln bench --worker`: a line protocol by which a benchmark of several programs lets each take its turn.
//!
//! | line in | line out |
//! |---|---|
//! | (start) | `ready` |
//! | `prep OP DIMS...` | `ok create_ns= create_cyc= first_ns= first_cyc= again_ns= again_cyc= sum=` or `no WHY` |
//! | `run NS` | `CALLS NS USER_CYCLES ALL_CYCLES` after at least NS nanoseconds of calls |
//! | `quit` | |
//!
//! Operations, all in f32: `gemm M N K` and `linear M N K`, both row-major `C = A B`, B of `linear` packed in advance;
//! `ip M N K`, `C = A B^T` with B packed in advance, and `ip_bias_gelu M N K` with a bias of N and gelu on top;
//! `conv N C H W O KH KW STRIDE PAD GROUPS`, weights packed in advance, source and result with channels innermost, as `convn`,
//! or first, as `convp`; `model NAME`, a whole network, `NAME.onnx` in the folder that the variable `PEER_MODELS` names. Operand
//! or input number i is filled with multiples of an eighth from seed i ([`data::eighths`]), in row-major order, that of NCHW for a
//! convolution. `create` is
//! making operands and kernel, and packing, or reading and compiling the network; `first` the first call; `again` finding the
//! kernel once more, -1 of networks; `sum` the sum of `C[i] * (i % 61 + 1)` in the same order, of a network's first output.
//! Cycles are -1 where they are not counted. One thread calls kernels without checks.

mod answer;
mod network;
mod refusal;

use std::io::{BufRead, Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kiln_ir::{Operand, PostOp, Problem};
use kiln_jit::{Kernel, Options, Runtime};

use crate::counter::Cycles;
use crate::data;
use crate::error::Error;
use crate::tensors::Tensors;
use crate::timing::Span;
use crate::unchecked::Unchecked;
use answer::{Lap, answer, checksum, difference};
use network::Called;
use refusal::Refusal;

/// The two counters of the protocol.
pub struct Counters {
    user: Cycles,
    all: Cycles,
}

impl Counters {
    /// Counts this process and the threads it starts from now on.
    pub fn open() -> Self {
        Self { user: Cycles::user(), all: Cycles::all() }
    }
}

/// A kernel or a network that is called repeatedly.
enum Prepared {
    Kernel { kernel: Arc<Kernel>, tensors: Box<Tensors> },
    Network(Box<Called>),
}

/// Answers lines until `quit` or the end of the input.
pub fn serve(
    runtime: &Runtime,
    mut counters: Counters,
    mut input: impl BufRead,
    out: &mut impl Write,
) -> Result<(), Error> {
    let mut prepared = None;
    writeln!(out, "ready")?;
    out.flush()?;
    while let Some(line) = next_line(&mut input)? {
        let mut words = line.split_whitespace();
        let answer = match words.next() {
            None => continue,
            Some("quit") => return Ok(()),
            Some("prep") => {
                prepared = None;
                prepare(runtime, &mut counters, words).map(|(new, answer)| {
                    prepared = Some(new);
                    answer
                })
            }
            Some("run") => time(runtime, &mut counters, prepared.as_mut(), words.next().unwrap_or_default()),
            Some(other) => Err(Refusal::Command(other.into())),
        };
        match answer {
            Ok(text) => writeln!(out, "{text}")?,
            Err(why) => writeln!(out, "no {}", why.to_string().replace('\n', " "))?,
        }
        out.flush()?;
    }
    Ok(())
}

/// The next line; `None` at the end. A device need not have one.
fn next_line(input: &mut impl BufRead) -> Result<Option<String>, Error> {
    const LONGEST: u64 = 1 << 16;
    let mut line = String::new();
    match input.by_ref().take(LONGEST).read_line(&mut line).map_err(Error::File)? as u64 {
        0 => Ok(None),
        LONGEST if !line.ends_with('\n') => {
            Err(Error::File(std::io::Error::other(format!("a line has more than {LONGEST} bytes"))))
        }
        _ => Ok(Some(line)),
    }
}

fn prepare<'a>(
    runtime: &Runtime,
    counters: &mut Counters,
    mut words: impl Iterator<Item = &'a str>,
) -> Result<(Prepared, String), Refusal> {
    let op = words.next().unwrap_or_default();
    if op == "model" {
        let lap = Lap::start(&mut counters.all);
        let (called, answer) = Called::prepare(runtime, lap, words.next().unwrap_or_default())?;
        return Ok((Prepared::Network(Box::new(called)), answer));
    }
    if !matches!(op, "gemm" | "linear" | "ip" | "ip_bias_gelu" | "conv" | "convp" | "convn") {
        return Err(Refusal::Operation(op.into()));
    }
    let words: Vec<&str> = words.collect();
    let dims: Option<Vec<u64>> = words.iter().map(|w| w.parse().ok()).collect();
    if let (true, Some(&[n, c, h, w, o, kh, kw, s, p, g])) = (op.starts_with("conv"), dims.as_deref()) {
        let tags = if op == "convp" { "stag=abx dtag=abx" } else { "" };
        let text = format!("conv f32 g{g}mb{n}ic{c}ih{h}iw{w}oc{o}kh{kh}kw{kw}sh{s}sw{s}ph{p}pw{p} {tags}");
        return ready(runtime, counters, text.parse().map_err(Error::from)?, true);
    }
    if op.starts_with("conv") {
        return Err(Refusal::Numbers(words.join(" "), "N C H W O KH KW STRIDE PAD GROUPS"));
    }
    let Some(&[m, n, k]) = dims.as_deref() else { return Err(Refusal::Numbers(words.join(" "), "M N K")) };
    let problem = match op {
        "ip" => Problem::inner_product(m, k, n),
        "ip_bias_gelu" => Problem::inner_product(m, k, n).epilogue([PostOp::Bias, PostOp::GeluErf]),
        _ => Problem::matmul(m, k, n),
    };
    let problem = problem.build().map_err(Error::from)?;
    ready(runtime, counters, problem, op != "gemm")
}

fn ready(
    runtime: &Runtime,
    counters: &mut Counters,
    problem: Problem,
    constant_weights: bool,
) -> Result<(Prepared, String), Refusal> {
    let options = Options { constant_weights, ..Options::default() };
    let mut lap = Lap::start(&mut counters.all);
    let mut tensors = Tensors::zeros(&problem)?;
    for (tensor, seed) in tensors.inputs.iter_mut().zip(1..) {
        let places = places(&tensor.operand);
        let mut values = vec![0.0; places.len()];
        places.iter().zip(data::eighths(seed)).for_each(|(at, v)| values[*at] = v);
        tensor.values.fill_from(values.into_iter());
    }
    let kernel = runtime.kernel_with(&problem, &options)?;
    tensors.pack(&kernel)?;
    let create = lap.next();
    kernel.run(tensors.args())?;
    let first = lap.next();
    runtime.kernel_with(&problem, &options)?;
    let again = lap.next();
    let dst = tensors.dst.values.to_f32();
    let places = places(&tensors.dst.operand);
    let sum = checksum(places.iter().map(|at| f64::from(dst[*at])));
    drop(dst);
    let answer = answer(create, first, Some(again), sum);
    Ok((Prepared::Kernel { kernel, tensors: Box::new(tensors) }, answer))
}

/// The place of each element of a tensor in memory, in row-major order of the elements.
fn places(operand: &Operand) -> Vec<usize> {
    let strides = operand.strides();
    operand.shape.iter().zip(strides).fold(vec![0], |all, (extent, stride)| {
        all.iter().flat_map(|at| (0..*extent).map(move |i| at + (i * stride) as usize)).collect()
    })
}

fn time(
    runtime: &Runtime,
    counters: &mut Counters,
    prepared: Option<&mut Prepared>,
    ns: &str,
) -> Result<String, Refusal> {
    let want: u64 = ns.parse().map_err(|_| Refusal::Numbers(ns.into(), "a number of nanoseconds"))?;
    match prepared.ok_or(Refusal::Unprepared)? {
        Prepared::Kernel { kernel, tensors } if runtime.threads() == 1 => {
            let unchecked = Unchecked::new(kernel, tensors)?;
            Ok(repeat(want, counters, || unchecked.call())?)
        }
        Prepared::Kernel { kernel, tensors } => Ok(repeat(want, counters, || kernel.run(tensors.args()))?),
        Prepared::Network(called) => Ok(repeat(want, counters, || called.call())?),
    }
}

/// Calls for at least `want` nanoseconds. The clock is read seldom, and the counters only before and after.
fn repeat<E>(want: u64, counters: &mut Counters, mut call: impl FnMut() -> Result<(), E>) -> Result<String, Error>
where
    Error: From<E>,
{
    // A first call wakes threads and fills caches.
    call()?;
    let (mut calls, mut batch) = (0u64, 1);
    let span = Span::new(Duration::from_nanos(want));
    let start = Instant::now();
    let (all, user) = (counters.all.read(), counters.user.read());
    let elapsed = loop {
        for _ in 0..batch {
            call()?;
        }
        calls += batch;
        let elapsed = start.elapsed().as_nanos() as u64;
        if elapsed >= want || span.has_waited()? {
            break elapsed;
        }
        // At most as many calls as before, and no more than are expected to be left.
        let left = u128::from(calls) * u128::from(want - elapsed) / u128::from(elapsed + 1);
        batch = u64::try_from(left).unwrap_or(calls).clamp(1, calls);
    };
    let (user, all) = (difference(user, counters.user.read()), difference(all, counters.all.read()));
    Ok(format!("{calls} {elapsed} {user} {all}"))
}
