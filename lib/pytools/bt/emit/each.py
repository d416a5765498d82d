"""C of loops whose bodies are functions that the kernel calls.

bpf_for_each_map_elem() came with Linux commit 69c087ba6225 (v5.13), bpf_loop() with e6f2dd0f8067
(v5.17): the verifier goes through the body once, however many rounds there are.
"""
from __future__ import annotations

from pytools.base.annotations import TYPE_CHECKING
from pytools.bt.emit.code import Place
from pytools.bt.emit.maps import bare_key_size, has_generation, key_size, total_at
from pytools.bt.emit.values import Emitter
from pytools.bt.tree import Wrong
from pytools.bt.types import Aggregate, Int, align_up

if TYPE_CHECKING:
    from typing import Any

    from pytools.bt.scope import MapFacts
    from pytools.bt.typed import Typed

__all__ = ["for_map", "for_range", "map_length", "while_loop"]


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
    """A function for each element of a map; those of another generation are left out."""
    if not e.whole.has_helper("for_each_map_elem"):
        raise Wrong(at, f"going through {facts.label} needs Linux 5.13")
    e.whole.pieces.add("calls")
    child = _function(e, "each")
    if has_generation(facts):
        child.whole.pieces.add("generation")
        behind = align_up(bare_key_size(facts), 4)
        child.line(f"if (*(u32 *)((char *)each_key + {behind}) != current_generation())")
        child.line("\treturn 0;")
    return child


def _call(e: Emitter, facts: MapFacts, child: Emitter) -> None:
    """Have it called."""
    given, call = e.name_of("x"), e.name_of("x")
    e.line(f"void *{given}[3] = {{ ctx, 0, 0 }};")
    function = e.whole.mark(f"call:{child.name}")
    e.line(f"struct map_call {call} = {{ .first = {function}, .second = (u64)&{given} }};")
    e.line(f"{e.whole.table(facts).table}.call((void *)&{call}, FOR_EACH);")


def _body(e: Emitter, child: Emitter, body: Any) -> Place:
    """The statements of a loop; where it is put down that the action has ended in it."""
    from pytools.bt.emit.statements import emit_statements

    ended = e.root.slot(8, keep=True)
    child.leave = f"{{ *(u64 *){ended.address} = 1; return 1; }}"
    child.jumps = {"break": "return 1;", "continue": "return 0;"}
    emit_statements(child, body)
    e.line(f"*(u64 *){ended.address} = 0;")
    return ended


def _leave_if(e: Emitter, ended: Place) -> None:
    e.line(f"if (*(u64 *){ended.address})\n{'	' * min(e.indent + 1, 12)}{e.leave}")


def for_map(e: Emitter, node: Typed) -> None:
    """for $kv : @x { ... }"""
    from pytools.bt.emit.statements import declare

    variable, facts, body = node.parts
    child = _for_elements(e, facts, node.at)
    mark = e.mark()
    _element(child, facts, declare(child, variable), variable.type, node)
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
    e.line(
        f"s64 {done} = HELPER(181, long, u32, u64, void *, u64)({rounds}, {function}, &{given}, 0);"
    )
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
    from pytools.bt.emit.statements import declare

    variable, first, behind, body = node.parts
    kind = variable.declared or variable.type
    start, end = e.scalar(first), e.scalar(behind)
    next_one = e.root.slot(8, keep=True)
    child = _function(e, "loop")
    mark = e.mark()
    number = child.load(next_one, Int(8))
    child.line(f"*(s64 *){next_one.address} = {number} + 1;")
    child.store(declare(child, variable), kind, number)
    ended = _body(e, child, body)
    child.release(mark)
    rounds = e.number(Int(8), f"(s64){end} > (s64){start} ? (u64){end} - (u64){start} : 0")
    e.line(f"*(s64 *){next_one.address} = {start};")
    _loop(e, child, f"((u64){rounds} > {most} ? {most} : {rounds})")
    _leave_if(e, ended)


def _element(child: Emitter, facts: MapFacts, to: Place, kind: Any, node: Typed) -> None:
    """Put the key and the value that the kernel gives into the loop's variable."""
    behind = align_up(bare_key_size(facts), 4)
    if has_generation(facts):
        child.whole.pieces.add("generation")
        child.line(f"if (*(u32 *)((char *)each_key + {behind}) != current_generation())")
        child.line("\treturn 0;")
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
