"""Strings, buffers, and whose memory a pointer is in."""
from __future__ import annotations

from dataclasses import replace

from pytools.base.annotations import TYPE_CHECKING
from pytools.bt import tree
from pytools.bt.emit.code import Place, literal
from pytools.bt.emit.each import calls_back, find_text
from pytools.bt.emit.operators import bytes_equal
from pytools.bt.functions.calls import constant, take
from pytools.bt.tree import Wrong
from pytools.bt.typed import Typed, checks, emits, into, tail
from pytools.bt.types import UNKNOWN, Array, Bool, Buffer, Int, Pointer, String

if TYPE_CHECKING:
    from typing import Any, Optional

    from pytools.bt.checker import Checker
    from pytools.bt.emit.values import Emitter


def string_size(checker: Checker, call: tree.Call, node: Any) -> tuple[int, Any]:
    """The most bytes that a call gives, and the length that is only known when it runs."""
    most = checker.options.config["max_strlen"]
    length = checker.value(node)
    if length.type != UNKNOWN and not isinstance(length.type, (Int, Bool)):
        raise Wrong(
            length.at, f"{call.name}() expects a length that is an integer ({length.type} provided)"
        )
    if isinstance(length.constant, int) and length.op != "parameter":
        if length.constant < 0:
            raise Wrong(length.at, f"{call.name}() cannot use negative length ({length.constant})")
        return min(length.constant, most), None
    return most, length


@checks("str")
def _check_str(checker: Checker, call: tree.Call) -> Typed:
    nodes = take(call, 1, 2)
    found = parameter_text(checker, nodes[0])
    if found is not None:
        return found
    pointer = checker.value(nodes[0])
    kind = pointer.type
    most: int = checker.options.config["max_strlen"]
    length: Any = None
    size = most + 1
    if len(nodes) > 1:
        # A length counts a NUL, without it max_strlen does not.
        most, length = string_size(checker, call, nodes[1])
        size = most if length is None else most + 1
        most = max(most, 1)
    if kind == UNKNOWN:
        return Typed("str", String(most), call.at)
    if isinstance(kind, String) and pointer.op == "text":
        return pointer
    if isinstance(kind, (String, Array)):
        pointer = checker.address(pointer, call.at)
        kind = pointer.type
    if not isinstance(kind, (Int, Pointer)):
        raise Wrong(
            pointer.at,
            f"str() expects an integer or a pointer type as first argument ({kind} provided)",
        )
    space = kind.space if isinstance(kind, Pointer) else checker.address_space(pointer)
    space = space or checker.default_space
    return Typed("str", String(most), call.at, (pointer, length, space, size))


def parameter_text(checker: Checker, node: Any) -> Optional[Typed]:
    """str($1), and str($1 + number): the parameter's text from there on."""
    number, skip = node, 0
    if isinstance(node, tree.Binary) and node.operator == "+":
        for one, other in ((node.left, node.right), (node.right, node.left)):
            if isinstance(one, tree.Parameter) and isinstance(other, tree.Number):
                number, skip = one, other.value
    if not isinstance(number, tree.Parameter) or number.number == 0:
        return None
    given = checker.options.parameters
    text = given[number.number - 1] if number.number <= len(given) else ""
    if skip > len(text):
        raise Wrong(node.at, f"cannot use offset that exceeds string size ({skip} > {len(text)})")
    text = text[skip:]
    most = checker.options.config["max_strlen"]
    text = text[:most]
    size = len(text.encode("utf-8", "surrogateescape")) + 1
    return Typed("text", String(size), node.at, (), text)


def _bounded(e: Emitter, length: Any, most: int) -> str:
    """A length as one of at most so many bytes."""
    name = e.name_of("z")
    e.line(f"u64 {name} = {e.scalar(length)};")
    e.line(f"KEEP({name});")
    e.line(f"AT_MOST({name}, {most});")
    return name


def _read_str(e: Emitter, node: Typed, address: str, most: int) -> str:
    pointer, length, space, size = node.parts
    source = e.scalar(pointer)
    if length is None:
        return e.read_text(Place(address), min(size, most + 1), source, space)
    # The length counts the NUL; one of 0 reads nothing.
    bounded = _bounded(e, length, most + 1)
    from pytools.bt.emit.code import reader

    given = e.name_of("g")
    e.line(f"long {given} = {reader(space)}_text({address}, {bounded}, {source});")
    return given


@into("str")
def _put_str(e: Emitter, node: Typed, to: Place) -> None:
    e.zero(to, node.type.size)
    _read_str(e, node, to.address, node.type.size)


@tail("str")
def _tail_str(e: Emitter, node: Typed, address: str, most: int) -> str:
    given = _read_str(e, node, address, most)
    return f"text_length({given}, {most})"


@checks("buf")
def _check_buf(checker: Checker, call: tree.Call) -> Typed:
    nodes = take(call, 1, 2)
    found = checker.value(nodes[0])
    kind = found.type
    if kind == UNKNOWN:
        return Typed("buf", UNKNOWN, call.at)
    length = None
    if len(nodes) > 1:
        most, length = string_size(checker, call, nodes[1])
    elif isinstance(kind, (Array, String)):
        most = min(kind.size, checker.options.config["max_strlen"])
    else:
        most = checker.options.config["max_strlen"]
        raise Wrong(call.at, "buf() expects a length argument for non-array type " + str(kind))
    if isinstance(kind, (Int, Pointer)):
        space = kind.space if isinstance(kind, Pointer) else checker.address_space(found)
        space = space or checker.default_space
        return Typed("buf", Buffer(most), call.at, (found, length, space))
    if isinstance(kind, Array) and kind.of.size > 1 and len(nodes) < 2:
        most = kind.size
    if not isinstance(kind, (Array, String)):
        raise Wrong(
            found.at,
            "buf() only supports array, tuple, integer, pointer, or string arguments "
            f"({kind} provided)",
        )
    return Typed("buf", Buffer(most), call.at, (found, length, None))


@into("buf")
def _put_buf(e: Emitter, node: Typed, to: Place) -> None:
    from pytools.bt.emit.code import reader

    source, length, space = node.parts
    most = node.type.size - 4
    if space is None:
        place = e.place(source)
        if place.space == "context":
            place = Place("(u64)ctx", place.offset, "kernel")
        address, space = place.address, place.space
    else:
        address = e.scalar(source)
    e.zero(to, node.type.size)
    size = str(most) if length is None else _bounded(e, length, most)
    e.line(f"*(u32 *){to.address} = {size};")
    e.line(f"{reader(space)}({to.at(4).address}, {size}, {address});")


# Whose memory it is.


@checks("kptr", "uptr")
def _check_space(checker: Checker, call: tree.Call) -> Typed:
    (node,) = take(call, 1)
    found = checker.value(node)
    if found.type == UNKNOWN:
        return found
    space = "kernel" if call.name == "kptr" else "user"
    kind = found.type
    if isinstance(kind, Int):
        kind = Pointer(Int(1, True), space)
    elif isinstance(kind, Pointer):
        kind = replace(kind, space=space)
    else:
        raise Wrong(
            found.at, f"{call.name}() only supports integer or pointer arguments ({kind} provided)"
        )
    return Typed("as_number", kind, call.at, (found,))


# Comparing and searching.


def as_string(checker: Checker, call: tree.Call, node: Any) -> Typed:
    """An argument that is a string, or a pointer to one."""
    found = checker.named(checker.value(node))
    if isinstance(found.type, Array) and found.type.of.size == 1:
        return Typed("cast", String(found.type.count), found.at, (found,))
    if isinstance(found.type, Pointer) and found.type.to.size == 1:
        most = checker.options.config["max_strlen"]
        return Typed("str", String(most), found.at, (found, None, found.type.space, most + 1))
    if found.type != UNKNOWN and not isinstance(found.type, String):
        raise Wrong(found.at, f"{call.name}() expects a string ({found.type} provided)")
    return found


@checks("strncmp")
def _check_strncmp(checker: Checker, call: tree.Call) -> Typed:
    a, b, size = take(call, 3)
    number = constant(checker, call, size, "the length")
    if number < 0:
        raise Wrong(call.at, "strncmp() expects a length that is not negative")
    left, right = as_string(checker, call, a), as_string(checker, call, b)
    return Typed("strncmp", Int(8), call.at, (left, right, number))


@emits("strncmp")
def _strncmp(e: Emitter, node: Typed) -> str:
    left, right, number = node.parts
    size = min(number, max(left.type.size, right.type.size))
    if left.op == "text":
        left, right = right, left
    slots = []
    for each in (left, right):
        place = e.own_place(each)
        if each.type.size < size:
            slot = e.slot(size)
            e.zero(slot, size)
            e.copy_own(slot, place, each.type.size)
            place = slot
        slots.append(place)
    # Behind a NUL there are zeros in both.
    equal = bytes_equal(e, slots[0], slots[1], size) if size else literal(1)
    return e.number(node.type, f"!{equal}")


@checks("strcontains")
def _check_strcontains(checker: Checker, call: tree.Call) -> Typed:
    a, b = take(call, 2)
    found, wanted = as_string(checker, call, a), as_string(checker, call, b)
    if found.op == wanted.op == "text":
        truth = str(wanted.constant) in str(found.constant)
        return Typed("number", Bool(), call.at, (), truth)
    return Typed("strcontains", Bool(), call.at, (found, wanted))


@checks("strstr")
def _check_strstr(checker: Checker, call: tree.Call) -> Typed:
    a, b = take(call, 2)
    found, wanted = as_string(checker, call, a), as_string(checker, call, b)
    return Typed("strstr", Int(8), call.at, (found, wanted))


@emits("strcontains", "strstr")
def _strcontains(e: Emitter, node: Typed) -> str:
    haystack, needle = node.parts
    a, b = e.own_place(haystack), e.own_place(needle)
    sizes = haystack.type.size, needle.type.size
    if calls_back(e.whole, node):
        name = find_text(e, a, b, *sizes)
    else:
        name = e.name_of("f")
        e.line(f"s64 {name} = find_text({a.address}, {sizes[0]}, {b.address}, {sizes[1]});")
        e.whole.pieces.add("find_text")
    if node.op == "strstr":
        return name
    return e.number(Bool(), f"{name} >= 0")


@checks("strlen")
def _check_strlen(checker: Checker, call: tree.Call) -> Typed:
    (node,) = take(call, 1)
    return Typed("strlen", Int(8, False), call.at, (as_string(checker, call, node),))


@emits("strlen")
def _strlen(e: Emitter, node: Typed) -> str:
    (text,) = node.parts
    most = text.type.size
    slot = e.slot(most + 8, stack=False)
    return e.number(node.type, e.string_tail(text, slot.address, most))


@checks("strcap")
def _check_strcap(checker: Checker, call: tree.Call) -> Typed:
    (node,) = take(call, 1)
    found = as_string(checker, call, node)
    return Typed("number", Int(8), call.at, (), found.type.size)


@checks("path")
def _check_path(checker: Checker, call: tree.Call) -> Typed:
    nodes = take(call, 1, 2)
    if checker.kind not in ("fentry", "fexit"):
        raise Wrong(call.at, f"path can not be used with {checker.kind} probes")
    found = checker.value(nodes[0])
    most = checker.options.config["max_strlen"]
    if len(nodes) > 1:
        most = min(most, max(1, constant(checker, call, nodes[1], "the size")))
    return Typed("path", String(most), call.at, (found,))


@into("path")
def _put_path(e: Emitter, node: Typed, to: Place) -> None:
    (found,) = node.parts
    address = e.scalar(found) if isinstance(found.type, Pointer) else e.place(found).address
    size = node.type.size
    # The helper builds a path at the end of its room, and moves it: the rest stays where it is. Of
    # a path that is too long, its end is there.
    made = e.slot(size)
    e.zero(made, size)
    e.zero(to, size)
    e.whole.helpers.setdefault("bpf_d_path", list(node.at))
    e.line(f"helper_path_text({address}, {made.address}, {size});")
    e.line(f"read_kernel_text({to.address}, {size}, {made.address});")


@checks("write_user")
def _check_write_user(checker: Checker, call: tree.Call) -> Typed:
    if not checker.options.unsafe:
        raise Wrong(call.at, "write_user() is unsafe. To use you need the --unsafe flag")
    to, source, size = take(call, 3)
    target, value = integer_or_pointer(checker, call, to), checker.value(source)
    return Typed(
        "write_user", Bool(), call.at, (target, value, constant(checker, call, size, "len"))
    )


def integer_or_pointer(checker: Checker, call: tree.Call, node: Any) -> Typed:
    found = checker.value(node)
    if found.type != UNKNOWN and not isinstance(found.type, (Int, Pointer)):
        raise Wrong(found.at, f"{call.name}() expects an address ({found.type} provided)")
    return found


@emits("write_user")
def _write_user(e: Emitter, node: Typed) -> str:
    target, value, size = node.parts
    address = e.scalar(target)
    place = e.own_place(value.parts[0] if value.op == "address" else value)
    size = min(size, (value.parts[0] if value.op == "address" else value).type.size)
    return e.number(Bool(), f"helper_write_user_memory({address}, {place.address}, {size}) == 0")
