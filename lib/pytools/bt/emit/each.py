"""C of loops whose bodies are functions that the kernel calls.

bpf_for_each_map_elem() came with Linux commit 69c087ba6225 (v5.13), bpf_loop() with e6f2dd0f8067
(v5.17): the verifier goes through the body once, however many rounds there are.
"""
from __future__ import annotations

from pytools.base.annotations import TYPE_CHECKING
from pytools.bt.emit.code import Place
from pytools.bt.emit.maps import key_size, total_at
from pytools.bt.emit.values import Emitter
from pytools.bt.tree import Wrong
from pytools.bt.typed import Typed, flow
from pytools.bt.types import Aggregate, Int

if TYPE_CHECKING:
    from typing import Any

    from pytools.bt.scope import MapFacts
    from pytools.bt.emit.whole import Whole

__all__ = ["calls_back", "find_text", "for_map", "for_range", "map_length", "while_loop"]

# Rounds of a loop whose end the verifier can't see: where it has to go through each of them, and
# where it has not (BPF_MAX_LOOPS). Those of a range that is written out as a loop.
MOST_ROUNDS = 512
MOST_CALLS = 1 << 23
MOST_TURNS = 1 << 20  # of a while: one that never ends takes a hundredth of a second
MOST_PLAIN = 64
LONG_TEXT = 128  # bytes: a text that is searched by a loop of the kernel's
SHORT_TEXT = 64  # bytes: what is compared without a loop of the kernel's


def calls_back(whole: Whole, node: Any) -> bool:
    """Whether something in a statement becomes a function that the kernel calls."""
    if isinstance(node, Typed):
        if node.op in ("for_map", "map_length"):
            return True
        if node.op in ("strcontains", "strstr") and node.parts[0].type.size > LONG_TEXT:
            return whole.has_helper("loop")
        if node.op in ("while", "for_range") and whole.has_helper("loop"):
            ends = [each.constant for each in node.parts[1:3] if isinstance(each, Typed)]
            known = len(ends) == 2 and all(isinstance(end, int) for end in ends)
            if not known or ends[1] - ends[0] > MOST_PLAIN:  # type: ignore[operator]
                return True
        return any(calls_back(whole, part) for part in node.parts)
    return isinstance(node, (list, tuple)) and any(calls_back(whole, each) for each in node)


def _function(e: Emitter, called: str) -> Emitter:
    """A function that the kernel calls: for "each" element of a map, or in a "loop"."""
    root = e.root
    assert isinstance(root, Emitter)
    child = Emitter(e.whole, f"{root.name}_{called}{len(root.children)}", e.action, "", root)
    child.called = called
    root.children.append(child)
    root.uses_scratch = child.uses_scratch = True
    return child


def _for_elements(e: Emitter, facts: MapFacts, at: Any) -> Emitter:
    """A function for each element of a map."""
    if not e.whole.has_helper("for_each_map_elem"):
        raise Wrong(at, f"going through {facts.label} needs Linux 5.13")
    e.whole.pieces.add("calls")
    return _function(e, "each")


def _call(e: Emitter, facts: MapFacts, child: Emitter) -> None:
    """Have it called."""
    given, call = e.name_of("x"), e.name_of("x")
    e.line(f"void *{given}[3] = {{ ctx, 0, 0 }};")
    function = e.whole.mark(f"call:{child.name}")
    e.line(f"struct map_call {call} = {{ .first = {function}, .second = (u64)&{given} }};")
    e.line(f"{e.whole.table(facts).table}.call((void *)&{call}, FOR_EACH);")


def _body(e: Emitter, child: Emitter, body: Any) -> Place:
    """The statements of a loop; where it is put down that the action has ended in it."""
    ended = e.root.slot(8, keep=True)
    child.leave = f"{{ *(u64 *){ended.address} = 1; return 1; }}"
    child.jumps = {"break": "return 1;", "continue": "return 0;"}
    child.statements(body)
    e.line(f"*(u64 *){ended.address} = 0;")
    return ended


def _leave_if(e: Emitter, ended: Place) -> None:
    e.line(f"if (*(u64 *){ended.address})\n{'	' * min(e.indent + 1, 12)}{e.leave}")


@flow("for_map")
def for_map(e: Emitter, node: Typed) -> None:
    """for $kv : @x { ... }"""
    variable, facts, body = node.parts
    child = _for_elements(e, facts, node.at)
    mark = e.mark()
    _element(child, facts, child.declare(variable), variable.type, node)
    child.release(mark)
    ended = _body(e, child, body)
    child.release(mark)
    _call(e, facts, child)
    _leave_if(e, ended)


def _loop(e: Emitter, child: Emitter, rounds: str) -> str:
    """Have a function called in a loop; how often it was."""
    given, done = e.name_of("x"), e.name_of("x")
    e.line(f"void *{given}[1] = {{ ctx }};")
    function = e.whole.mark(f"call:{child.name}")
    e.line(f"s64 {done} = helper_call_in_loop({rounds}, {function}, &{given}, 0);")
    return done


def while_loop(e: Emitter, node: Typed, most: int) -> str:
    """while condition { ... }, of so many rounds at most; how many there were."""
    condition, body = node.parts
    child = _function(e, "loop")
    mark = e.mark()
    child.line(f"if (!{child.truth(condition)})\n\t\treturn 1;")
    child.release(mark)
    ended = _body(e, child, body)
    child.release(mark)
    done = _loop(e, child, str(most))
    _leave_if(e, ended)
    return done


def for_range(e: Emitter, node: Typed, most: int) -> None:
    """for $i : first..behind { ... }"""
    variable, first, behind, body = node.parts
    kind = variable.declared or variable.type
    start, end = e.scalar(first), e.scalar(behind)
    next_one = e.root.slot(8, keep=True)
    child = _function(e, "loop")
    mark = e.mark()
    number = child.load(next_one, Int(8))
    child.line(f"*(s64 *){next_one.address} = {number} + 1;")
    child.store(child.declare(variable), kind, number)
    ended = _body(e, child, body)
    child.release(mark)
    rounds = e.number(Int(8), f"(s64){end} > (s64){start} ? (u64){end} - (u64){start} : 0")
    e.line(f"*(s64 *){next_one.address} = {start};")
    _loop(e, child, f"((u64){rounds} > {most} ? {most} : {rounds})")
    _leave_if(e, ended)


def _element(child: Emitter, facts: MapFacts, to: Place, kind: Any, node: Typed) -> None:
    """Put the key and the value that the kernel gives into the loop's variable."""
    child.zero(to, kind.size)
    places = kind.offsets()
    child.copy_own(to.at(places[0]), Place("((char *)each_key)"), facts.key.size)
    if isinstance(facts.value, Aggregate):
        size = key_size(facts)
        key = child.slot(size)
        child.copy_own(key, Place("((char *)each_key)"), size)
        value = total_at(child, facts, key, node.at)
        child.store(to.at(places[1]), kind.elements[1], value)
    else:
        child.copy_own(to.at(places[1]), Place("((char *)each_value)"), facts.value.size)


def map_length(e: Emitter, facts: MapFacts, at: Any) -> str:
    """How many keys a map has, as a number."""
    kind = facts.value
    if isinstance(kind, Aggregate) and kind.bucketed:
        raise Wrong(at, f"len() of a map of {kind} is not supported")
    count = e.root.slot(8, keep=True)
    child = _for_elements(e, facts, at)
    child.line(f"*(u64 *){count.address} += 1;")
    e.line(f"*(u64 *){count.address} = 0;")
    _call(e, facts, child)
    name = e.name_of("n")
    e.line(f"s64 {name} = *(u64 *){count.address};")
    return name


def find_text(e: Emitter, text: Place, wanted: Place, size: int, length: int) -> str:
    """Where one string begins in another, or -1, as a number. Behind both there are zeros."""
    places = []
    for place, room in ((text, size), (wanted, length)):
        # What the functions below look at must be where they find it.
        kept = e.root.slot(room + 8, keep=True)
        e.copy_own(kept, place, room)
        e.line(f"*(u8 *){kept.at(room).address} = 0;")
        places.append(kept)
    start, found = e.root.slot(8, keep=True), e.root.slot(8, keep=True)
    child = _function(e, "loop")
    first = child.load(start, Int(8, False))
    child.line(f"*(u64 *){start.address} = {first} + 1;")
    if length <= SHORT_TEXT:
        index = child.name_of("i")
        child.line(f"u32 {index};")
        child.line("#pragma clang loop unroll(disable)")
        child.open(f"for ({index} = 0; {index} < {length}; {index}++)")
        _compare(child, places, size, first, index, "break;", "return 0;", length)
        child.close()
        child.line(f"*(s64 *){found.address} = {first};")
        child.line("return 1;")
    else:
        place = e.root.slot(8, keep=True)
        differs = e.root.slot(8, keep=True)
        inner = _function(child, "loop")
        index = inner.load(place, Int(8, False))
        inner.line(f"*(u64 *){place.address} = {index} + 1;")
        begin = inner.load(start, Int(8, False))
        begin = inner.number(Int(8, False), f"{begin} - 1")
        different = f"{{ *(u64 *){differs.address} = 1; return 1; }}"
        _compare(inner, places, size, begin, index, "return 1;", different, length)
        child.line(f"*(u64 *){place.address} = *(u64 *){differs.address} = 0;")
        _loop(child, inner, str(length))
        child.line(f"if (*(u64 *){differs.address})\n\t\treturn 0;")
        child.line(f"*(s64 *){found.address} = {first};")
        child.line("return 1;")
    e.line(f"*(u64 *){start.address} = 0;")
    e.line(f"*(s64 *){found.address} = -1;")
    _loop(e, child, str(size))
    return e.load(found, Int(8))


def _compare(
    e: Emitter,
    places: list[Place],
    size: int,
    first: str,
    index: str,
    same: str,
    different: str,
    length: int,
) -> None:
    """Compare the byte at an index of what is wanted with that of the text from ``first`` on."""
    text, wanted = places
    at, byte, other = e.name_of("i"), e.name_of("y"), e.name_of("y")
    e.line(f"u64 {at} = {index};")
    e.line(f"KEEP({at});\n\t\tAT_MOST({at}, {length});")
    e.line(f"u8 {byte} = *(u8 *)({wanted.address} + {at});")
    e.line(f"if (!{byte})\n\t\t{same}")
    e.line(f"{at} += {first};")
    e.line(f"KEEP({at});\n\t\tAT_MOST({at}, {size});")
    e.line(f"u8 {other} = *(u8 *)({text.address} + {at});")
    e.line(f"if ({byte} != {other})\n\t\t{different}")
