"""bcc's descriptions of C types to Python values."""
from __future__ import annotations

import struct

import pytest

import capture
from pytools.compile.compiler import Compiler
from pytools.compile.layout import Layout
from pytools.compile.unrendered import Unrendered
from pytools.compile.template import render

pytestmark = pytest.mark.rendering


def test_a_number_is_a_value() -> None:
    assert Layout("unsigned long long").value(struct.pack("Q", 2**63)) == 2**63
    assert Layout("int").value(struct.pack("i", -1)) == -1
    assert Layout("_Bool").value(b"\1") is True


def test_nested_structs_arrays_and_padding_are_flattened() -> None:
    inner = ["inner", [["a", "unsigned char"], ["__pad_1", "char", [3]], ["b", "int"]], "struct"]
    outer = [
        "outer",
        [["x", inner], ["comm", "char", [4]], ["list", "unsigned short", [2]], ["y", "long"]],
        "struct",
    ]
    layout = Layout(outer)
    assert layout.names == ["x.a", "x.b", "comm", "list", "y"]
    data = struct.pack("=B3xi4s2Hq", 7, -2, b"ab\0c", 5, 6, -9)
    assert layout.size == len(data) == 24
    assert layout.unpack(b"##" + data, 2) == (7, -2, b"ab\0c", (5, 6), -9)


def test_a_union_is_its_first_member_and_keeps_its_size() -> None:
    layout = Layout(["u", [["a", "int"], ["b", "long"]], "union"], 8)
    assert (layout.names, layout.size) == (["a"], 8)
    assert layout.value(struct.pack("=i4x", -3)) == -3


def test_a_tail_that_is_not_described_belongs_to_the_value() -> None:
    assert Layout(["s", [["a", "long"], ["b", "int"]], "struct"], 16).size == 16


def test_a_type_without_layout_is_named() -> None:
    with pytest.raises(ValueError, match="float"):
        Layout("float")


def test_every_type_that_a_template_may_use_comes_out_as_it_went_in() -> None:
    """From C through bcc's description to Python, for each integer type."""
    types = {
        "u8": "B", "s8": "b", "u16": "H", "s16": "h", "u32": "I", "s32": "i", "u64": "Q",
        "s64": "q", "int": "i", "unsigned int": "I", "long": "q", "unsigned long": "Q",
        "bool": "?", "pid_t": "i", "size_t": "Q", "char": "b", "long long": "q",
        "unsigned short": "H",
    }  # fmt: skip
    members = "".join(f"\t{name} m{number};\n" for number, name in enumerate(types))
    template = (
        f"struct inner {{ u8 a; u64 b; }};\nstruct value {{\n{members}\tu32 list[3];\n"
        "\tchar comm[16];\n\tu8 bytes[5];\n\tstruct inner inner;\n"
        "\tunion { u32 four; u8 one[4]; };\n};\n"
        "BPF_HASH(map, struct value, struct value, 1);\n"
        "PERF_EVENT(program)\n{\n\treturn 0;\n}\n"
    )
    with Compiler() as compiler:
        (spec,) = compiler.compile(render(Unrendered(template), capture.recorded("6.12"))).maps
    layout = Layout(spec.value, spec.value_size)
    assert layout.size == spec.value_size == spec.key_size
    codes = "".join(types.values())
    packer = struct.Struct(f"@{codes}3I16s5s0QBQI4x")
    values = [1 if code == "?" else 3 + n for n, code in enumerate(codes)]
    data = packer.pack(*values, 7, 8, 9, b"comm", b"\1\2\3\4\5", 10, 2**64 - 1, 11)
    assert len(data) == layout.size
    assert layout.unpack(data)[: len(values)] == tuple(values)
    assert layout.unpack(data)[len(values) :] == (
        (7, 8, 9), b"comm" + bytes(12), b"\1\2\3\4\5", 10, 2**64 - 1, 11,
    )  # fmt: skip
