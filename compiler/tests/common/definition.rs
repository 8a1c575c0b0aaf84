//! What tiles and copies mean in numbers, from the formulas of their specifications, bit for bit.

use kiln_compiler::microkernel::bf16::dot_add;
use kiln_compiler::microkernel::check::{CopySpec, Old, Products, Spec, Steps, Tensor, TileSpec};
use kiln_compiler::microkernel::program::Program;
use kiln_compiler::microkernel::{MicroKernel, P};
use kiln_ir::DType;

/// Memory behind each parameter of a micro-kernel, in bytes.
pub type Memory = Vec<Vec<u8>>;

/// Memory for each parameter of `mk`, as long as its region: numbers between -4 and 4 that repeat at no round period. Steps of a
/// panel in groups that belong to no sum are 0, as copies leave them.
pub fn memory(mk: &MicroKernel, spec: &Spec, seed: u32) -> Memory {
    let mut state = seed | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 8) as f32 / (1 << 21) as f32 - 4.0
    };
    let mut memory: Memory = vec![];
    for param in &mk.params {
        let elements = param.region.end().unwrap() / param.dtype.bytes() as u64;
        memory.push((0..elements).flat_map(|_| store(param.dtype, next())).collect());
    }
    if let Spec::Tile(TileSpec { lhs, rhs, .. }) = spec
        && rhs.steps.group > 1
    {
        let size = rhs.dtype.bytes() as u64;
        let is_step = |p: u64| lhs.runs.iter().any(|r| (r.first..r.first + r.len).contains(&p));
        for (at, element) in memory[usize::from(rhs.param.0)].chunks_mut(size as usize).enumerate() {
            let byte = at as u64 * size;
            let step = byte / rhs.steps.stride * rhs.steps.group + byte % rhs.steps.stride / size % rhs.steps.group;
            if !is_step(step) {
                element.fill(0);
            }
        }
    }
    memory
}

/// The memory after `mk` was interpreted.
pub fn interpreted(mk: &MicroKernel, memory: &Memory) -> Memory {
    let mut memory = memory.clone();
    let mut args: Vec<&mut [u8]> = memory.iter_mut().map(Vec::as_mut_slice).collect();
    mk.interpret(&mut args).unwrap_or_else(|e| panic!("{e}\n{mk}"));
    memory
}

/// What the result must hold: its parameter's number, and its bytes.
pub fn after(spec: &Spec, lanes: u32, memory: &Memory) -> (usize, Vec<u8>) {
    match spec {
        Spec::Tile(spec) => (usize::from(spec.dst.param.0), tile(spec, lanes as usize, memory)),
        Spec::Copy(spec) => (usize::from(spec.dst.0), copy(spec, memory)),
    }
}

fn store(dtype: DType, value: f32) -> Vec<u8> {
    dtype.to_bits(value).to_le_bytes()[..dtype.bytes()].to_vec()
}

fn load(memory: &Memory, param: P, dtype: DType, byte: i64) -> f32 {
    let at = byte as usize;
    let bytes = &memory[usize::from(param.0)][at..at + dtype.bytes()];
    dtype.from_bits(bytes.iter().rev().fold(0, |bits, byte| bits << 8 | u32::from(*byte)))
}

fn step_byte(steps: &Steps, p: u64, dtype: DType) -> i64 {
    (p / steps.group * steps.stride + p % steps.group * dtype.bytes() as u64) as i64
}

fn element(memory: &Memory, t: &Tensor, i: u64, j: u64) -> f32 {
    load(memory, t.param, t.dtype, (i * t.row + j * t.column) as i64)
}

fn tile(spec: &TileSpec, lanes: usize, memory: &Memory) -> Vec<u8> {
    let mut dst = memory[usize::from(spec.dst.param.0)].clone();
    let chain: Vec<_> = spec.post.iter().map(|(op, _)| *op).collect();
    let program = Program::of(&chain);
    for i in 0..spec.rows {
        for j in 0..spec.columns {
            let old = element(memory, &spec.dst, i, j);
            let mut sum = sum(spec, lanes, memory, (i, j), if spec.old == Old::Before { old } else { 0.0 });
            if spec.old == Old::After {
                sum += old;
            }
            let operands: Vec<f32> =
                spec.post.iter().filter_map(|(_, t)| t.as_ref()).map(|t| element(memory, t, i, j)).collect();
            let bytes = store(spec.dst.dtype, program.eval(sum, &operands));
            let at = (i * spec.dst.row + j * spec.dst.column) as usize;
            dst[at..at + bytes.len()].copy_from_slice(&bytes);
        }
    }
    dst
}

/// The steps of a row and column in order: both factors, as f32.
fn factors(spec: &TileSpec, memory: &Memory, (i, j): (u64, u64)) -> Vec<Vec<(f32, f32)>> {
    let (lhs, rhs) = (&spec.lhs, &spec.rhs);
    let has = |rows: u64| rows == u64::MAX || rows >> i & 1 == 1;
    let run = |run: &kiln_compiler::microkernel::check::StepRun| {
        let step = |p: u64| {
            let left = lhs.rows[i as usize] + run.lhs + step_byte(&lhs.steps, p, lhs.dtype) + (j * lhs.column) as i64;
            let right = step_byte(&rhs.steps, run.first + p, rhs.dtype) + (j * rhs.column) as i64;
            (load(memory, lhs.param, lhs.dtype, left), load(memory, rhs.param, rhs.dtype, right))
        };
        (0..run.len).map(step).collect()
    };
    lhs.runs.iter().filter(|r| has(r.rows)).map(run).collect()
}

/// Two numbers as a word of bf16; one that is missing is 0.
fn pair(values: impl IntoIterator<Item = f32>) -> u32 {
    let halves = values.into_iter().map(|v| u32::from(half::bf16::from_f32(v).to_bits()));
    halves.zip([0, 16]).fold(0, |word, (half, by)| word | half << by)
}

/// Adds the products of some steps to a sum.
type Add<'a> = dyn Fn(f32, &[(f32, f32)]) -> f32 + 'a;

fn sum(spec: &TileSpec, lanes: usize, memory: &Memory, at: (u64, u64), start: f32) -> f32 {
    let runs = factors(spec, memory, at);
    let pairs =
        |acc: u32, steps: &[(f32, f32)]| dot_add(acc, pair(steps.iter().map(|s| s.0)), pair(steps.iter().map(|s| s.1)));
    let in_lanes = |size: usize, add: &Add<'_>| {
        let mut sums = vec![0.0; lanes];
        for (n, steps) in runs.concat().chunks(size).enumerate() {
            sums[n % lanes] = add(sums[n % lanes], steps);
        }
        while sums.len() > 1 {
            sums = sums.chunks(2).map(|s| s[0] + s[1]).collect();
        }
        sums[0]
    };
    match spec.products {
        Products::Steps => runs.concat().iter().fold(start, |c, (a, b)| a.mul_add(*b, c)),
        Products::Lanes => in_lanes(1, &|c, steps| steps[0].0.mul_add(steps[0].1, c)),
        Products::PairsInLanes => in_lanes(2, &|c, steps| f32::from_bits(pairs(c.to_bits(), steps))),
        // Sums of these integers are exact in f32.
        Products::Blocks(_) if spec.dst.dtype.is_integer() => {
            runs.concat().iter().fold(start, |c, (a, b)| a.mul_add(*b, c))
        }
        Products::Blocks(steps) => {
            // A group ends with its run.
            let groups = runs.iter().flat_map(|run| run.chunks(steps as usize));
            let pairs = groups.flat_map(|group| group.chunks(2)).fold(start.to_bits(), pairs);
            f32::from_bits(pairs)
        }
    }
}

fn copy(spec: &CopySpec, memory: &Memory) -> Vec<u8> {
    let mut dst = memory[usize::from(spec.dst.0)].clone();
    let (steps, columns) = match spec.steps.group {
        1 => (spec.k, spec.width),
        group => (spec.k.next_multiple_of(group), spec.pitch),
    };
    for p in 0..steps {
        for w in 0..columns {
            let is_there = p < spec.k && w < spec.width;
            let value = if is_there { element(memory, &spec.src, p, w) } else { 0.0 };
            let bytes = store(spec.dtype, value);
            let at = step_byte(&spec.steps, p, spec.dtype) as usize + (w * spec.column) as usize;
            dst[at..at + bytes.len()].copy_from_slice(&bytes);
        }
    }
    dst
}
