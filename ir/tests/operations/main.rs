//! What each operation of a tensor function means: cases checked by hand, from the ONNX documentation or of NumPy.

mod arithmetic;
mod cases;
mod hostile;
mod indexed;
mod layers;
mod movement;
mod normalization;
mod reduction;
mod text;
mod windows;
