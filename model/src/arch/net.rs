//! The parts of all networks: weights by name, and layers that have some.

use kiln_ir::func::{Binary, Builder, Func, Origins, Real, Structured, TensorOp, TensorType, ValueId};

use super::error::ArchError;
use super::weights::{Distribution, Weights};

/// A function being built, whose constants are weights under the names that PyTorch gives them.
pub(crate) struct Net<'a> {
    builder: Builder,
    weights: &'a dyn Weights,
}

impl<'a> Net<'a> {
    /// A network with these arguments.
    pub(super) fn new(
        name: &str,
        inputs: &[(&'static str, TensorType)],
        weights: &'a dyn Weights,
    ) -> Result<(Self, Vec<ValueId>), ArchError> {
        let mut builder = Func::builder(name);
        let mut arguments = vec![];
        for (name, ty) in inputs {
            arguments.push(builder.arg(name, ty.clone())?);
        }
        Ok((Net { builder, weights }, arguments))
    }

    /// The function, with its results.
    pub(super) fn finish(self, results: &[ValueId]) -> Result<Func, ArchError> {
        Ok(self.builder.finish_all(results)?)
    }

    /// The builder, for constants that are no weights.
    pub(super) fn builder(&mut self) -> &mut Builder {
        &mut self.builder
    }

    /// The dimensions of a value.
    pub(super) fn shape(&self, id: ValueId) -> Result<Vec<u64>, ArchError> {
        Ok(self.builder.ty(id)?.shape().to_vec())
    }

    /// An operation.
    pub(super) fn push(&mut self, op: impl Into<TensorOp>, operands: &[ValueId]) -> Result<ValueId, ArchError> {
        Ok(self.builder.push(op, operands)?)
    }

    /// An operation whose result may have a name.
    pub(super) fn push_as(
        &mut self,
        name: Option<&str>,
        op: impl Into<TensorOp>,
        operands: &[ValueId],
    ) -> Result<ValueId, ArchError> {
        match name {
            Some(name) => Ok(self.builder.push_named(name, op, operands)?),
            None => self.push(op, operands),
        }
    }

    /// The elements in the same order with another shape.
    pub(super) fn reshape(&mut self, x: ValueId, shape: &[u64]) -> Result<ValueId, ArchError> {
        self.push(Structured::Reshape { shape: shape.into() }, &[x])
    }

    /// The axes in another order.
    pub(super) fn transpose(&mut self, x: ValueId, perm: &[u64]) -> Result<ValueId, ArchError> {
        self.push(Structured::Transpose { perm: perm.into() }, &[x])
    }

    /// Says which layer the next operations are of.
    pub(super) fn set_layer(&mut self, name: &str) {
        self.builder.set_origins(Origins::of(name));
    }

    /// Weights.
    pub(super) fn weight(
        &mut self,
        name: &str,
        shape: &[u64],
        distribution: Distribution,
    ) -> Result<ValueId, ArchError> {
        Ok(self.builder.constant_named(name, &self.weights.weight(name, shape, distribution)?)?)
    }

    /// `x` by a transposed matrix `[outputs, inputs]`, plus a bias. The result may have a name.
    pub(super) fn affine(
        &mut self,
        result: Option<&str>,
        x: ValueId,
        matrix: ValueId,
        bias: ValueId,
    ) -> Result<ValueId, ArchError> {
        let transposed = self.transpose(matrix, &[1, 0])?;
        let product = self.push(Structured::Matmul {}, &[x, transposed])?;
        self.push_as(result, Binary::Add {}, &[product, bias])
    }

    /// A linear layer with a bias, along the last axis. The result may have a name.
    pub(super) fn linear(
        &mut self,
        result: Option<&str>,
        x: ValueId,
        name: &str,
        outputs: u64,
        gain: f64,
    ) -> Result<ValueId, ArchError> {
        self.set_layer(name);
        let inputs = self.shape(x)?.last().copied().unwrap_or(1);
        let matrix = self.weight(&format!("{name}.weight"), &[outputs, inputs], Distribution::Sums { gain })?;
        let bias = self.weight(&format!("{name}.bias"), &[outputs], Distribution::Bias)?;
        self.affine(result, x, matrix, bias)
    }

    /// Normalisation along the last axis. The result may have a name.
    pub(super) fn layer_norm(
        &mut self,
        result: Option<&str>,
        x: ValueId,
        name: &str,
        epsilon: f64,
    ) -> Result<ValueId, ArchError> {
        self.set_layer(name);
        let shape = self.shape(x)?;
        let axis = shape.len().saturating_sub(1);
        let scale = self.weight(&format!("{name}.weight"), &shape[axis..], Distribution::Scale)?;
        let shift = self.weight(&format!("{name}.bias"), &shape[axis..], Distribution::Bias)?;
        let op = Structured::LayerNorm { axis: axis as u64, epsilon: Real(epsilon) };
        self.push_as(result, op, &[x, scale, shift])
    }
}
