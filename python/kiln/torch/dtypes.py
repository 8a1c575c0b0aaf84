"""Element types: PyTorch's and Kiln's."""

import torch

from kiln import Unsupported

ELEMENTS = {
    torch.float32: "f32",
    torch.bfloat16: "bf16",
    torch.float16: "f16",
    torch.int64: "i64",
    torch.int32: "i32",
    torch.int16: "i16",
    torch.int8: "i8",
    torch.uint8: "u8",
    torch.bool: "bool",
}

NARROW = (torch.bfloat16, torch.float16)
"""Floating-point types whose values are kept as f32 between the operations of a function."""


def element_of(dtype: torch.dtype) -> str:
    """The element type that holds a tensor of this dtype in memory."""
    element = ELEMENTS.get(dtype)
    if element is None:
        raise Unsupported(f"tensors of {dtype}")
    return element


def compute_element(dtype: torch.dtype) -> str:
    """The element type that operations on this dtype compute with: f32 for bf16 and f16."""
    return "f32" if dtype in NARROW else element_of(dtype)


def is_float(element: str) -> bool:
    return element in ("f32", "bf16", "f16")
