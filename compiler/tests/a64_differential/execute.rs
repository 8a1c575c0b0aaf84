//! Runs code and interpreter on the same memory and compares it.

use kiln_compiler::emit::{Arguments, Function};
use kiln_compiler::microkernel::{Addr, MicroKernel, Op, Stmt};
use kiln_ir::DType;

use crate::generate::{Kind, Kinds, Rng};
use crate::machine::{Code, Pages};

/// The first difference, if there is one.
pub fn check(mk: &MicroKernel, f: &Function, arguments: Arguments, seed: u64) -> Result<(), String> {
    let mut rng = Rng::new(seed ^ 0xdada);
    let initial: Vec<Vec<u8>> =
        mk.params.iter().map(|p| contents(&mut rng, p.dtype, p.region.row_bytes as usize)).collect();

    let mut expected = initial.clone();
    let mut slices: Vec<&mut [u8]> = expected.iter_mut().map(Vec::as_mut_slice).collect();
    mk.interpret(&mut slices).map_err(|e| e.to_string())?;

    let mut pages: Vec<Pages> = initial.iter().map(|bytes| Pages::new(bytes.len())).collect();
    // Every other parameter starts at a guard, the others end at one.
    let starts: Vec<usize> = (0..pages.len())
        .map(|p| if p % 2 == seed as usize % 2 { 0 } else { pages[p].bytes().len() - initial[p].len() })
        .collect();
    for (p, bytes) in initial.iter().enumerate() {
        let all = pages[p].bytes();
        all.fill(0xa5);
        all[starts[p]..starts[p] + bytes.len()].copy_from_slice(bytes);
    }
    let mut pointers: Vec<*mut u8> =
        pages.iter_mut().zip(&starts).map(|(page, start)| page.bytes()[*start..].as_mut_ptr()).collect();
    let code = Code::new(&f.bytes);
    match arguments {
        Arguments::Registers => code.call(&pointers),
        Arguments::Block => code.call(&[pointers.as_mut_ptr().cast()]),
    }

    let kinds = unspecified(mk);
    for (p, expected) in expected.iter().enumerate() {
        let (start, all) = (starts[p], pages[p].bytes());
        let (param, found) = (&mk.params[p], &all[start..start + expected.len()]);
        let outside = all[..start].iter().chain(&all[start + expected.len()..]);
        if outside.clone().any(|b| *b != 0xa5) {
            return Err(format!("{} is written beyond its region", param.name));
        }
        if found == expected {
            continue;
        }
        let size = param.dtype.bytes();
        for (i, (e, f)) in expected.chunks(size).zip(found.chunks(size)).enumerate() {
            if e != f && !(kinds[p][i] && [e, f].iter().all(|bytes| is_nan(param.dtype, bytes))) {
                return Err(format!("{}[{}]: {f:02x?} is not {e:02x?}", param.name, i * size));
            }
        }
    }
    Ok(())
}

fn is_nan(dtype: DType, bytes: &[u8]) -> bool {
    dtype.from_bits(bytes.iter().rev().fold(0, |bits, byte| bits << 8 | u32::from(*byte))).is_nan()
}

/// Numbers of every sort: mostly moderate ones, so that sums are not all infinite. There are few of them, in an order that is drawn anew for
/// each part of the memory: drawing every number would take longer than everything else, as this runs in an emulator.
fn contents(rng: &mut Rng, dtype: DType, bytes: usize) -> Vec<u8> {
    const DRAWN: usize = 1024;
    let special =
        [0u32, 1 << 31, 0x7f80_0000, 0xff80_0000, 0x7fc1_0000, 0xffa1_2345, 0x0001_0000, 0x8012_3456, 0x7f7f_ffff];
    let wild = rng.below(3);
    let mut word = || match (rng.below(8), wild) {
        (0, 1..) => rng.pick(&special),
        (1 | 2, 1..) | (_, 2) => rng.next() as u32,
        _ => {
            let magnitude = (rng.below(2000) as f32 - 1000.0) / 37.0;
            magnitude.to_bits()
        }
    };
    let element = dtype.bytes();
    let one = |word: u32| match dtype {
        // Numbers of its range, denormals and infinities among them, and any bits, of signalling NaNs too.
        DType::F16 if wild == 2 => (word as u16).to_le_bytes().to_vec(),
        DType::F16 => half::f16::from_f32(f32::from_bits(word)).to_le_bytes().to_vec(),
        DType::F32 | DType::Bf16 => word.to_le_bytes()[4 - element..].to_vec(),
        _ => (word >> 7).to_le_bytes()[..element].to_vec(),
    };
    let drawn: Vec<u8> = (0..DRAWN.min(bytes / element)).flat_map(|_| one(word())).collect();
    let mut all = Vec::with_capacity(bytes + drawn.len());
    while all.len() < bytes {
        let start = rng.below((drawn.len() / element) as u64) as usize * element;
        all.extend_from_slice(&drawn[start..]);
    }
    all.truncate(bytes);
    all
}

/// What memory becomes by a function that takes pointers to it in registers.
pub fn run(f: &Function, initial: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut pages: Vec<Pages> = initial.iter().map(|bytes| Pages::new(bytes.len())).collect();
    for (page, bytes) in pages.iter_mut().zip(initial) {
        page.bytes()[..bytes.len()].copy_from_slice(bytes);
    }
    let pointers: Vec<*mut u8> = pages.iter_mut().map(|page| page.bytes().as_mut_ptr()).collect();
    Code::new(&f.bytes).call(&pointers);
    pages.iter_mut().zip(initial).map(|(page, bytes)| page.bytes()[..bytes.len()].to_vec()).collect()
}

/// For each element of each parameter, whether its bits are not specified if it is NaN.
fn unspecified(mk: &MicroKernel) -> Vec<Vec<bool>> {
    let mut out: Vec<Vec<bool>> =
        mk.params.iter().map(|p| vec![false; p.region.row_bytes as usize / p.dtype.bytes()]).collect();
    let mut kinds = Kinds::new(&mk.params);
    let mut run = |op: &Op, trip: u64| {
        let dtype = |p: kiln_compiler::microkernel::P| mk.params[usize::from(p.0)].dtype;
        kinds.step(op).expect("the generator only makes operations whose results are specified");
        let mut mark = |dst: Addr, elements: u16, open: bool| {
            let element = dtype(dst.param).bytes() as i64;
            let first = (dst.offset + dst.step * trip as i64) / element;
            out[usize::from(dst.param.0)][first as usize..][..usize::from(elements)].fill(open);
        };
        match *op {
            // Rounding keeps NaNs, with bits of its own choice.
            Op::Store { s, dst, lanes } => {
                let rounds = dtype(dst.param).is_narrow() && !dtype(dst.param).is_integer();
                mark(dst, lanes, rounds || kinds.of(s) != Some(Kind::Exact))
            }
            Op::StoreRaw { s, dst, elements } => mark(dst, elements, kinds.of(s) != Some(Kind::Exact)),
            _ => {}
        }
    };
    for stmt in &mk.body {
        match stmt {
            Stmt::Inst(inst) => run(&inst.op, 0),
            Stmt::Loop { trips, body, .. } => {
                (0..*trips).for_each(|trip| body.iter().for_each(|inst| run(&inst.op, trip)));
            }
        }
    }
    out
}
