//! Tensors with their elements: constants of functions, and what they are called with.

use std::borrow::Cow;

use bytemuck::Pod;
use bytes::Bytes;
use half::{bf16, f16};

use super::element::{ElementType, to_bf16, to_f16};
use super::types::TensorType;
use crate::problem::MAX_ELEMENTS;

/// A dense tensor: elements row-major, in the byte order of the machine. A clone shares them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tensor {
    ty: TensorType,
    data: Bytes,
}

/// Data that is not as long as its type says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{found} bytes for {ty}, which takes {}", ty.bytes())]
pub struct WrongLength {
    /// The type.
    pub ty: TensorType,
    /// Bytes given.
    pub found: usize,
}

/// A Rust type that is a type of elements.
pub trait Element: Pod {
    /// Which.
    const TYPE: ElementType;
    /// The value as the interpreter has it.
    fn to_f64(self) -> f64;
    /// The nearest value; of integers, [wrapped around](ElementType::round).
    fn from_f64(value: f64) -> Self;
}

macro_rules! elements {
    ($($ty:ty = $variant:ident: $v:ident => $to:expr, $x:ident => $from:expr);* $(;)?) => {
        $(
            impl Element for $ty {
                const TYPE: ElementType = ElementType::$variant;

                fn to_f64(self) -> f64 {
                    let $v = self;
                    $to
                }

                fn from_f64(value: f64) -> Self {
                    let $x = ElementType::$variant.round(value);
                    $from
                }
            }
        )*
    };
}
elements! {
    f32 = F32: v => v.into(), x => x as f32;
    f64 = F64: v => v, x => x;
    bf16 = Bf16: v => v.to_f64(), x => to_bf16(x);
    f16 = F16: v => v.to_f64(), x => to_f16(x);
    i8 = I8: v => v.into(), x => x as i8;
    i16 = I16: v => v.into(), x => x as i16;
    u16 = U16: v => v.into(), x => x as u16;
    i32 = I32: v => v.into(), x => x as i32;
    u32 = U32: v => v.into(), x => x as u32;
    i64 = I64: v => v as f64, x => x as i64;
    u64 = U64: v => v as f64, x => x as u64;
    u8 = U8: v => v.into(), x => x as u8;
}

/// Calls a generic function with the Rust type of elements; booleans are bytes of 0 and 1.
macro_rules! with_element {
    ($element:expr, $t:ident => $body:expr) => {{
        use $crate::func::ElementType as E;
        match $element {
            E::F32 => {
                type $t = f32;
                $body
            }
            E::Bf16 => {
                type $t = half::bf16;
                $body
            }
            E::F16 => {
                type $t = half::f16;
                $body
            }
            E::F64 => {
                type $t = f64;
                $body
            }
            E::I8 => {
                type $t = i8;
                $body
            }
            E::U8 | E::Bool => {
                type $t = u8;
                $body
            }
            E::I16 => {
                type $t = i16;
                $body
            }
            E::U16 => {
                type $t = u16;
                $body
            }
            E::I32 => {
                type $t = i32;
                $body
            }
            E::U32 => {
                type $t = u32;
                $body
            }
            E::I64 => {
                type $t = i64;
                $body
            }
            E::U64 => {
                type $t = u64;
                $body
            }
        }
    }};
}

impl Tensor {
    /// Checks the length.
    pub fn new(ty: TensorType, data: impl Into<Bytes>) -> Result<Self, WrongLength> {
        let data = data.into();
        if data.len() as u64 == ty.bytes() { Ok(Self { ty, data }) } else { Err(WrongLength { ty, found: data.len() }) }
    }

    /// A tensor of these elements.
    pub fn from_elements<T: Element + Send + Sync>(
        shape: impl Into<Vec<u64>>,
        elements: Vec<T>,
    ) -> Result<Self, WrongLength> {
        // A shape that no tensor may have takes more elements than any that one may have.
        let ty = TensorType::new(T::TYPE, shape);
        let ty = ty.unwrap_or_else(|_| TensorType::new(T::TYPE, [MAX_ELEMENTS]).expect("as many as may be"));
        Self::new(ty, Bytes::from_owner(Elements(elements)))
    }

    /// A scalar.
    pub fn scalar<T: Element + Send + Sync>(value: T) -> Self {
        Self::from_elements([], vec![value]).expect("one element")
    }

    /// A tensor of these values, rounded to its type.
    ///
    /// # Panics
    /// If there are other than `ty` says.
    pub fn from_f64(ty: TensorType, values: &[f64]) -> Self {
        assert_eq!(values.len() as u64, ty.elements(), "{ty}");
        if ty.element() == ElementType::Bool {
            let data: Vec<u8> = values.iter().map(|v| u8::from(*v != 0.0)).collect();
            return Self { ty, data: data.into() };
        }
        let data = with_element!(ty.element(), T => {
            Bytes::from_owner(Elements(values.iter().map(|v| <T as Element>::from_f64(*v)).collect::<Vec<T>>()))
        });
        Self { ty, data }
    }

    /// A tensor of elements of the size of its type's, whatever they are.
    ///
    /// # Panics
    /// If there are other than `ty` says.
    pub(super) fn from_bits<T: Pod + Send + Sync>(ty: TensorType, elements: Vec<T>) -> Self {
        Self::new(ty, Bytes::from_owner(Elements(elements))).expect("as many as the type says")
    }

    /// The elements as others of their size, copied if they are not aligned.
    ///
    /// # Panics
    /// If the sizes differ.
    pub(super) fn bits<T: Pod>(&self) -> Cow<'_, [T]> {
        assert_eq!(self.ty.element().bytes(), size_of::<T>(), "{}", self.ty);
        match bytemuck::try_cast_slice(&self.data) {
            Ok(elements) => Cow::Borrowed(elements),
            Err(_) => Cow::Owned(bytemuck::pod_collect_to_vec(&self.data)),
        }
    }

    /// The type.
    pub fn ty(&self) -> &TensorType {
        &self.ty
    }

    /// The elements' bytes.
    pub fn data(&self) -> &Bytes {
        &self.data
    }

    /// The same elements with another shape.
    pub fn reshaped(&self, shape: impl Into<Vec<u64>>) -> Result<Self, WrongLength> {
        let wrong = WrongLength { ty: self.ty.clone(), found: self.data.len() };
        let ty = TensorType::new(self.ty.element(), shape).map_err(|_| wrong)?;
        Self::new(ty, self.data.clone())
    }

    /// The elements, copied if they are not aligned; `None` of another type. Booleans are `u8`.
    pub fn elements<T: Element>(&self) -> Option<Cow<'_, [T]>> {
        let is_bool = self.ty.element() == ElementType::Bool && T::TYPE == ElementType::U8;
        if self.ty.element() != T::TYPE && !is_bool {
            return None;
        }
        Some(self.bits())
    }

    /// The elements in double precision; 64-bit integers beyond 2^53 are rounded.
    pub fn to_f64(&self) -> Vec<f64> {
        with_element!(self.ty.element(), T => {
            self.elements::<T>().expect("its own type").iter().map(|v| v.to_f64()).collect()
        })
    }

    /// The elements as integers; `None` of floating-point numbers.
    pub fn to_i64(&self) -> Option<Vec<i64>> {
        if self.ty.element() == ElementType::I64 {
            return Some(self.elements::<i64>()?.into_owned());
        }
        (!self.ty.element().is_float()).then(|| self.to_f64().into_iter().map(|v| v as i64).collect())
    }

    /// The element of a tensor that has one, or has only equal ones, and no more than a few; a 64-bit integer beyond 2^53 is
    /// rounded.
    pub fn splat(&self) -> Option<f64> {
        const MOST: u64 = 1 << 16;
        if self.ty.elements() > MOST {
            return None;
        }
        let size = self.ty.element().bytes();
        let first = self.data.get(..size)?;
        let is_splat = self.data.chunks_exact(size).all(|element| element == first);
        let first = Tensor { ty: TensorType::new(self.ty.element(), []).ok()?, data: self.data.slice(..size) };
        is_splat.then(|| first.to_f64()[0])
    }
}

/// Elements as the owner of bytes.
struct Elements<T>(Vec<T>);

impl<T: Pod> AsRef<[u8]> for Elements<T> {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_go_in_and_out() {
        let t = Tensor::from_elements([2, 2], vec![1.5f32, -2.0, 3.0, 1e9]).unwrap();
        assert_eq!(t.ty().to_string(), "f32[2x2]");
        assert_eq!(t.to_f64(), [1.5, -2.0, 3.0, 1e9]);
        assert_eq!(t.elements::<f32>().unwrap()[3], 1e9);
        assert!(t.elements::<f64>().is_none() && t.to_i64().is_none());
        let unaligned = Bytes::from(vec![0u8, 0, 0, 128, 63]).slice(1..);
        let one = Tensor::new(TensorType::new(ElementType::F32, []).unwrap(), unaligned).unwrap();
        assert_eq!(one.splat(), Some(1.0));
        let bool_ty = TensorType::new(ElementType::Bool, [3]).unwrap();
        assert_eq!(Tensor::from_f64(bool_ty, &[0.0, 2.0, 1.0]).to_i64().unwrap(), [0, 1, 1]);
        let alike = Tensor::from_elements([2], vec![1i64 << 53, (1 << 53) + 1]).unwrap();
        assert_eq!((alike.splat(), Tensor::scalar(1i64 << 53).splat()), (None, Some((1i64 << 53) as f64)));
        let wide = TensorType::new(ElementType::I64, [1]).unwrap();
        assert_eq!(Tensor::from_f64(wide, &[1e30]).to_i64().unwrap(), [i64::MAX]);
        assert!(Tensor::from_elements([3], vec![1i32]).is_err());
        assert!(t.reshaped([4]).is_ok() && t.reshaped([3]).is_err());
    }
}
