"""Options of the backend."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Options:
    """What ``options={...}`` of ``torch.compile`` may say."""

    fpmath: str | None = None
    """``"f32"``: f32 products are f32. ``"bf16"`` or ``"any"``: their factors may be rounded to bf16. By default f32 products are
    f32, and those of bf16 modules may use instructions on bf16."""
    strict: bool = False
    """Whether an operator that Kiln does not compile is an error instead of staying eager."""
    release: bool = False
    """Whether the memory of weights that were packed is given back. Their tensors have no elements from then on."""
    min_nodes: int = 3
    """Parts of a graph with fewer operators than this, and without a product or a convolution, stay eager."""
    max_shapes: int = 64
    """How many shapes of dynamic sizes have a function that is kept."""

    @classmethod
    def of(cls, options: dict | None, mode: str | None) -> "Options":
        """The options of a dictionary; unknown ones are refused by name."""
        if mode not in (None, "default"):
            raise ValueError(f"the kiln backend has no mode {mode!r}: leave mode out, and use options={{...}}")
        types = {field.name: field for field in fields(cls)}
        for name, value in (options or {}).items():
            if name not in types:
                raise ValueError(f"the kiln backend has no option {name!r}: it has {', '.join(types)}")
            expected = {"fpmath": str, "min_nodes": int, "max_shapes": int}.get(name, bool)
            if not isinstance(value, expected) or (expected is int and isinstance(value, bool)):
                raise TypeError(f"the option {name!r} of the kiln backend is a {expected.__name__}, not {value!r}")
        made = cls(**(options or {}))
        if made.fpmath not in (None, "f32", "strict", "bf16", "any"):
            raise ValueError(f"the option 'fpmath' of the kiln backend is 'f32', 'bf16' or 'any', not {made.fpmath!r}")
        if made.max_shapes < 1 or made.min_nodes < 1:
            raise ValueError("the options 'max_shapes' and 'min_nodes' of the kiln backend are at least 1")
        return made
