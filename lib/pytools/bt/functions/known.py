"""What is known when a script is compiled: the config block, types, literals."""
from __future__ import annotations

from pytools.base.annotations import TYPE_CHECKING
from pytools.bt import tree
from pytools.bt.functions.calls import take, text
from pytools.bt.promotion import literal_type
from pytools.bt.tree import Wrong
from pytools.bt.typed import Typed, checks
from pytools.bt.types import Aggregate, Array, Bool, Buffer, Int, Pointer, String, Struct, Tuple

if TYPE_CHECKING:
    from typing import Any

    from pytools.bt.checker import Checker
    from pytools.bt.types import Type


def literal_of(value: Any, at: tree.Span) -> Typed:
    """A value as a literal."""
    if isinstance(value, bool):
        return Typed("number", Bool(), at, (), value)
    if isinstance(value, int):
        return Typed("number", literal_type(value), at, (), value)
    word = str(value)
    size = len(word.encode("utf-8", "surrogateescape")) + 1
    return Typed("text", String(size), at, (), word)


def known(values: dict[str, Any], at: tree.Span) -> Typed:
    """A record of literals."""
    parts = tuple(literal_of(value, at) for value in values.values())
    return Typed("known", Tuple(tuple(part.type for part in parts), tuple(values)), at, parts)


@checks("config")
def _check_config(checker: Checker, call: tree.Call) -> Typed:
    take(call, 0)
    return known(checker.options.config, call.at)


def base_name(kind: Type) -> str:
    """What typeinfo() calls a kind of type."""
    names = {
        Int: "int", Bool: "bool", String: "string", Buffer: "buffer", Pointer: "pointer",
        Array: "array", Struct: "c_type", Tuple: "tuple",
    }  # fmt: skip
    if isinstance(kind, Tuple) and kind.names:
        return "record"
    return names.get(type(kind), str(kind))


@checks("typeinfo")
def _check_typeinfo(checker: Checker, call: tree.Call) -> Typed:
    (node,) = take(call, 1)
    kind = checker.type_of(node)
    btf_id = kind.key if isinstance(kind, Struct) and isinstance(kind.key, int) else 0
    values = {"btf_id": btf_id, "base_type": base_name(kind), "full_type": str(kind)}
    return known({**values, "base_ty": base_name(kind), "full_ty": str(kind)}, call.at)


@checks("comptime")
def _check_comptime(checker: Checker, call: tree.Call) -> Typed:
    (node,) = take(call, 1)
    found = checker.value(node)
    if checker.final and found.constant is None:
        raise Wrong(call.at, "comptime: this is not known when the script is compiled")
    return found


@checks("is_str", "is_ptr", "is_array", "is_integer", "is_unsigned_integer")
def _check_is(checker: Checker, call: tree.Call) -> Typed:
    (node,) = take(call, 1)
    kind = checker.type_of(node)
    if isinstance(kind, Aggregate) and kind.castable:
        kind = Int(8, kind.signed)
    truth = {
        "is_str": isinstance(kind, String),
        "is_ptr": isinstance(kind, Pointer),
        "is_array": isinstance(kind, Array),
        "is_integer": isinstance(kind, Int),
        "is_unsigned_integer": isinstance(kind, Int) and not kind.signed,
    }[call.name]
    return Typed("number", Bool(), call.at, (), truth)


@checks("is_literal")
def _check_is_literal(checker: Checker, call: tree.Call) -> Typed:
    (node,) = take(call, 1)
    literal = isinstance(node, (tree.Number, tree.Text, tree.Boolean))
    return Typed("number", Bool(), call.at, (), literal)


@checks("is_scalar")
def _check_is_scalar(checker: Checker, call: tree.Call) -> Typed:
    (node,) = take(call, 1)
    if not isinstance(node, tree.Map):
        raise Wrong(call.at, "is_scalar() expects a map")
    return Typed("number", Bool(), call.at, (), bool(checker.facts.map(node.name).scalar))


@checks("static_assert")
def _check_static_assert(checker: Checker, call: tree.Call) -> Typed:
    condition, said = take(call, 2)
    found = checker.value(condition)
    if checker.final and not found.constant:
        raise Wrong(call.at, text(checker, call, said))
    return Typed("number", Bool(), call.at, (), True)


@checks("kfunc_exist", "kfunc_allowed")
def _check_kfunc(checker: Checker, call: tree.Call) -> Typed:
    (node,) = take(call, 1)
    name = text(checker, call, node)
    there = checker.kernel.btf.function(name) is not None
    # No program of this tool calls the kernel's functions.
    return Typed("number", Bool(), call.at, (), there and call.name == "kfunc_exist")


@checks("default_str_length")
def _check_length(checker: Checker, call: tree.Call) -> Typed:
    take(call, 0)
    return literal_of(checker.options.config["max_strlen"], call.at)
