//! A nest's loops, with its tiles and copies executed by the interpreters of their micro-kernels.

use kiln_compiler::Artifact;
use kiln_ir::DType;
use kiln_ir::nest::{Access, BufferKind, Extent, Stmt};

/// The elements of a tensor as they are in memory.
pub fn bytes(dtype: DType, values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| dtype.to_bits(*v).to_le_bytes().into_iter().take(dtype.bytes())).collect()
}

/// The reverse of [`bytes`], exactly.
pub fn numbers(dtype: DType, bytes: &[u8]) -> Vec<f64> {
    let bits = |bytes: &[u8]| bytes.iter().rev().fold(0, |bits, byte| bits << 8 | u32::from(*byte));
    bytes.chunks(dtype.bytes()).map(|b| dtype.to_f64(bits(b))).collect()
}

struct Machine<'a> {
    a: &'a Artifact,
    memory: Vec<Vec<u8>>,
    vars: Vec<i64>,
}

/// Executes an artifact on one buffer per argument, packed regions last.
pub fn run(a: &Artifact, arguments: &mut [Vec<u8>]) -> Result<(), String> {
    let mut memory: Vec<Vec<u8>> = arguments.to_vec();
    let own = |b: &&kiln_ir::nest::Buffer| matches!(b.kind, BufferKind::Shared | BufferKind::Scratch);
    let scratch = a.nest().buffers.iter().filter(own);
    // A NaN of every floating-point type, and an integer that changes a product.
    memory.extend(scratch.map(|b| vec![0xff; b.len() as usize * b.dtype.bytes()]));
    if memory.len() != a.nest().buffers.len() {
        return Err(format!("{} arguments for\n{}", arguments.len(), a.nest()));
    }
    let mut m = Machine { a, memory, vars: vec![0; a.nest().vars.len()] };
    m.body(&a.nest().body)?;
    let count = arguments.len();
    arguments.iter_mut().zip(&m.memory[..count]).for_each(|(a, m)| a.clone_from(m));
    Ok(())
}

impl Machine<'_> {
    fn body(&mut self, body: &[Stmt]) -> Result<(), String> {
        body.iter().try_for_each(|s| self.stmt(s))
    }

    fn stmt(&mut self, s: &Stmt) -> Result<(), String> {
        match s {
            Stmt::Loop(l) => {
                let Extent::Const(end) = l.extent else { return Err("an extent that varies".into()) };
                for i in (0..end).step_by(l.step as usize) {
                    self.vars[usize::from(l.var.0)] = i as i64;
                    self.body(&l.body)?;
                }
                Ok(())
            }
            Stmt::Tile(t) => {
                let post = t.post.iter().filter_map(|(_, m)| m.as_ref()).map(|m| &m.at);
                let accesses: Vec<&Access> =
                    [&t.lhs.at, &t.rhs.at].into_iter().chain(post).chain([&t.dst.at]).collect();
                self.call(t.number, &accesses)
            }
            Stmt::Pack(p) if self.a.calls()[p.number as usize].is_some() => {
                self.call(p.number, &[&p.src.at, &p.dst.at])
            }
            Stmt::Pack(p) => {
                let (Extent::Const(k), Extent::Const(width)) = (&p.k, &p.width) else {
                    return Err("an extent that varies".into());
                };
                let bytes = self.a.nest().buffers[usize::from(p.src.at.buffer.0)].dtype.bytes();
                let (from, to) = (self.byte(&p.src.at), self.byte(&p.dst.at));
                for i in 0..*k as usize {
                    for w in 0..*width as usize {
                        let from = from + bytes * (i * p.src.row as usize + w * p.src.col as usize);
                        let to = to + bytes * (i * p.dst.row as usize + w * p.dst.col as usize);
                        let element = self.memory[usize::from(p.src.at.buffer.0)][from..from + bytes].to_vec();
                        self.memory[usize::from(p.dst.at.buffer.0)][to..to + bytes].copy_from_slice(&element);
                    }
                }
                Ok(())
            }
            // All tasks are executed in order.
            Stmt::Barrier => Ok(()),
            _ => Err("a statement that no driver executes".into()),
        }
    }

    /// The byte of an element in its buffer, as drivers compute it: linear in the indices.
    fn byte(&self, a: &Access) -> usize {
        let b = &self.a.nest().buffers[usize::from(a.buffer.0)];
        let at: i64 =
            a.index.iter().zip(&b.dims).map(|(i, d)| i.eval(|v| self.vars[usize::from(v.0)]) * d.stride as i64).sum();
        at as usize * b.dtype.bytes()
    }

    fn call(&mut self, call: u32, accesses: &[&Access]) -> Result<(), String> {
        let number = self.a.calls()[call as usize].ok_or("a tile without a micro-kernel")?;
        let mk = &self.a.micro_kernels()[number];
        let places: Vec<(usize, usize)> = accesses.iter().map(|a| (usize::from(a.buffer.0), self.byte(a))).collect();
        let mut taken: Vec<Vec<u8>> = places.iter().map(|(b, _)| std::mem::take(&mut self.memory[*b])).collect();
        let mut args: Vec<&mut [u8]> = taken.iter_mut().zip(&places).map(|(m, (_, at))| &mut m[*at..]).collect();
        let result = mk.interpret(&mut args).map_err(|e| format!("{e}\n{mk}"));
        places.into_iter().zip(taken).for_each(|((b, _), m)| self.memory[b] = m);
        result
    }
}
