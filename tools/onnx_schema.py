"""Writes onnx/src/import/schema/table.rs: what ONNX's own operators take, by version; or, with the word `microsoft`, what those take
that ONNX Runtime adds and that Kiln knows.

    pip install onnx==1.23.2 onnxruntime==1.32.0
    python3 tools/onnx_schema.py > onnx/src/import/schema/table.rs
    python3 tools/onnx_schema.py microsoft > onnx/src/import/schema/microsoft.rs
"""

import sys

import onnx
from onnx import defs

KINDS = {"FLOAT": "Float", "INT": "Int", "STRING": "Str", "TENSOR": "Tensor", "GRAPH": "Graph", "FLOATS": "Floats", "INTS": "Ints",
         "STRINGS": "Strings", "SPARSE_TENSOR": "SparseTensor", "TYPE_PROTO": "Type"}
ANY = 2**31 - 1


def kind(attribute):
    return KINDS[str(attribute.type).split(".")[-1]]


def version(schema):
    """One version without its number, so that versions that take the same are equal."""
    most = lambda n: "ANY" if n == ANY else str(n)
    attributes = ", ".join(f'("{name}", {kind(a)})' for name, a in sorted(schema.attributes.items()))
    return f"{schema.min_input}, {most(schema.max_input)}, {most(schema.max_output)}, &[{attributes}]"


# Operators of `com.microsoft`, and those that ONNX Runtime has in ONNX's domain.
MICROSOFT = ["Attention", "BiasGelu", "DequantizeLinear", "DynamicQuantizeLSTM", "EmbedLayerNormalization", "FastGelu", "FusedConv",
             "FusedGemm", "FusedMatMul", "Gelu", "GridSample", "MultiHeadAttention", "QuantizeLinear", "QuickGelu", "RotaryEmbedding", "SkipLayerNormalization",
             "SkipSimplifiedLayerNormalization", "TransposeMatMul", "Trilu"]
IN_ONNX = ["LayerNormalization", "SimplifiedLayerNormalization"]


def main():
    operators = {}
    if sys.argv[1:] == ["microsoft"]:
        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as state

        source = f"onnxruntime {onnxruntime.__version__}"
        for schema in state.get_all_operator_schema():
            known = {"com.microsoft": MICROSOFT, "": IN_ONNX}.get(schema.domain, [])
            if schema.name in known and schema.since_version == 1:
                operators[schema.name] = {1: version(schema)}
    else:
        source = f"onnx {onnx.__version__}"
        for schema in defs.get_all_schemas_with_history():
            if schema.domain == "":
                operators.setdefault(schema.name, {})[schema.since_version] = version(schema)
    table = "".join(text for versions in operators.values() for text in versions.values())
    kinds = [kind for kind in sorted(set(KINDS.values())) if f", {kind})" in table]
    print(f"//! Made from {source} by `tools/onnx_schema.py`. Versions that take the same as the one before are left out.")
    print()
    print(f"use super::Kind::{{{', '.join(kinds)}}};")
    print(f"use super::{{{'ANY, ' if 'ANY' in table else ''}Operator, v}};")
    print()
    print("/// Sorted by name.")
    print("#[rustfmt::skip]")
    print("pub(super) const OPERATORS: &[Operator] = &[")
    for name in sorted(operators):
        versions, before = [], None
        for since, text in sorted(operators[name].items()):
            if text != before:
                versions.append(f"v({since}, {text})")
            before = text
        if len(versions) == 1:
            print(f'    ("{name}", &[{versions[0]}]),')
        else:
            print(f'    ("{name}", &[')
            for text in versions:
                print(f"        {text},")
            print("    ]),")
    print("];")


main()
