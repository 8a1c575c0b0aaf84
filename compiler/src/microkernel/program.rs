//! stub
use super::*;
use kiln_ir::PostOp;
#[derive(Clone, Copy)]
pub enum Leaf { Const(u32), Operand(u8) }
pub struct Program;
impl Program {
    pub fn of(_: &[PostOp]) -> Program { Program }
    pub fn constants(&self) -> Vec<u32> { vec![] }
    pub fn ops(&self) -> usize { 1 }
    pub fn min_registers(&self) -> usize { 1 }
    pub fn assign(&self, _r: V, _free: &[V], _res: &dyn Fn(Leaf) -> Option<V>, _load: &dyn Fn(u8, V) -> Op) -> Option<Vec<Op>> { None }
}
