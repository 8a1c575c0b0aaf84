//! Functions of tensors that lie in memory in other orders than row-major.

use super::error::FuncErrorKind;
use super::{Func, FuncError, Structured, TensorType, ValueId};

/// The axes of a dense tensor from the outermost in memory to the innermost.
pub type Order = Vec<u64>;

impl Func {
    /// The same function of arguments, and with results, that lie in memory in the orders given, `None` for row-major. Their types are
    /// those of memory: dimensions in that order.
    ///
    /// Fails if an order does not name each axis once.
    pub fn ordered(
        &self,
        mut argument: impl FnMut(usize) -> Option<Order>,
        mut result: impl FnMut(usize) -> Option<Order>,
    ) -> Result<Func, FuncError> {
        let mut b = Func::builder(&self.name);
        let mut map: Vec<Option<ValueId>> = vec![None; self.values.len()];
        let mut transposed = vec![];
        for (at, (id, value)) in self.arguments().enumerate() {
            let order = argument(at);
            let ty = match &order {
                Some(order) => in_memory(&value.ty, order, &value.name)?,
                None => value.ty.clone(),
            };
            map[id.0] = Some(b.arg(&value.name, ty)?);
            transposed.extend(order.map(|order| (id, inverse(&order))));
        }
        for (id, perm) in transposed {
            let laid = map[id.0].expect("arguments are there");
            map[id.0] = Some(b.push(Structured::Transpose { perm }, &[laid])?);
        }
        self.copy_computed(&mut b, &mut map);
        let mut results = vec![];
        for (at, id) in self.results.iter().enumerate() {
            let computed = map[id.0].expect("all values are there");
            results.push(match result(at) {
                Some(perm) => {
                    let value = self.value(*id);
                    in_memory(&value.ty, &perm, &value.name)?;
                    b.push(Structured::Transpose { perm }, &[computed])?
                }
                None => computed,
            });
        }
        b.finish_all(&results)
    }
}

/// The type of a tensor's memory.
fn in_memory(ty: &TensorType, order: &[u64], name: &str) -> Result<TensorType, FuncError> {
    let mut sorted = order.to_vec();
    sorted.sort_unstable();
    if !sorted.iter().copied().eq(0..ty.rank() as u64) {
        return Err(FuncErrorKind::Order { value: format!("%{name}"), order: order.to_vec(), ty: ty.clone() }.into());
    }
    let shape: Vec<u64> = order.iter().map(|axis| ty.shape()[*axis as usize]).collect();
    TensorType::new(ty.element(), shape).map_err(|e| FuncErrorKind::from(e).into())
}

/// For each axis its position in an order.
fn inverse(order: &[u64]) -> Order {
    let mut inverse = vec![0; order.len()];
    order.iter().zip(0..).for_each(|(axis, at)| inverse[*axis as usize] = at);
    inverse
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_in_other_orders_gives_the_same() {
        let text = "func @f(%x: f32[2x3], %y: f32[3x4x2]) -> f32[2x4x2], f32[2x3] {\n  %0 = reshape %y {shape=[3,8]}\n  \
                    %1 = matmul %x, %0\n  %2 = reshape %1 {shape=[2,4,2]}\n  %3 = relu %x\n  return %2, %3\n}\n";
        let func: Func = text.parse().unwrap();
        let (x, y): (Vec<f64>, Vec<f64>) = ((0..6).map(|v| v as f64).collect(), (0..24).map(|v| v as f64).collect());
        let expected = func.interpret_f64(&[&x, &y]).unwrap();
        let order = |at: usize| [None, Some(vec![2, 0, 1])][at].clone();
        let ordered = func.ordered(order, |at| [Some(vec![1, 2, 0]), Some(vec![1, 0])][at].clone()).unwrap();
        // y[i][j][k] lies at k, i, j.
        let mut laid = vec![0.0; 24];
        for (i, j, k) in (0..24).map(|n| (n / 8, n / 2 % 4, n % 2)) {
            laid[k * 12 + i * 4 + j] = y[i * 8 + j * 2 + k];
        }
        let found = ordered.interpret_f64(&[&x, &laid]).unwrap();
        for (i, j, k) in (0..16).map(|n| (n / 8, n / 2 % 4, n % 2)) {
            assert_eq!(found[0][j * 4 + k * 2 + i], expected[0][i * 8 + j * 2 + k]);
        }
        assert_eq!(found[1], [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
        let wrong = |order: Vec<u64>| func.ordered(|at| (at == 0).then(|| order.clone()), |_| None).unwrap_err();
        assert!(wrong(vec![0, 0]).to_string().contains("each axis once"), "{}", wrong(vec![0, 0]));
        assert!(wrong(vec![0]).to_string().contains("%x"));
    }
}
