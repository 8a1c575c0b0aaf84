"""Writes onnx/src/import/schema/table.rs: what ONNX's own operators take, by version.

    pip install onnx==1.23.2
    python3 tools/onnx_schema.py > onnx/src/import/schema/table.rs
"""

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


def main():
    operators = {}
    for schema in defs.get_all_schemas_with_history():
        if schema.domain == "":
            operators.setdefault(schema.name, {})[schema.since_version] = version(schema)
    print(f"//! Made from onnx {onnx.__version__} by `tools/onnx_schema.py`. Versions that take the same as the one before are left out.")
    print()
    print("use super::Kind::{Float, Floats, Graph, Int, Ints, SparseTensor, Str, Strings, Tensor, Type};")
    print("use super::{ANY, Operator, v};")
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
