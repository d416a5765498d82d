"""C of maps: keys, values, what is counted by CPU."""
from __future__ import annotations

from pytools.base.annotations import TYPE_CHECKING
from pytools.bt.emit.code import Place, c_type, literal, wide_type
from pytools.bt.emit.casts import narrowed
from pytools.bt.emit.clocks import clock
from pytools.bt.emit.values import Emitter
from pytools.bt.tree import Wrong
from pytools.bt.typed import Typed, emits, flow, into
from pytools.bt.types import Aggregate, Int, String, align_up, fits_register

if TYPE_CHECKING:
    from typing import Any, Optional

    from pytools.bt.scope import MapFacts

__all__ = ["add_map", "add_to_map", "count", "bare_key_size", "cpu_map", "has_generation",
           "key_place", "key_size", "set_map", "total_at", "value_size"]  # fmt: skip


# CPUs that a program adds up at most: the verifier walks through the loop.
MOST_CPUS = 4096


def cpu_map(facts: MapFacts) -> bool:
    """Whether each CPU has a value of its own."""
    return isinstance(facts.value, Aggregate) or facts.kind.startswith("percpu")


def has_generation(facts: MapFacts) -> bool:
    """Whether what was counted until a print moves to the reader, so that nothing is lost or
    counted twice when it is cleared. What the script's own programs ask for stays in the kernel."""
    return isinstance(facts.value, Aggregate) and facts.cleared and not facts.asked


def bare_key_size(facts: MapFacts) -> int:
    """Bytes of the script's own key; a map without keys has a u32 of zeros."""
    return 4 if facts.scalar else max(facts.key.size, 1)


def key_size(facts: MapFacts) -> int:
    """Bytes of the key: behind the script's, each at a multiple of 4, bucket and generation."""
    size = bare_key_size(facts)
    bucketed = isinstance(facts.value, Aggregate) and facts.value.bucketed
    behind = 4 * bucketed + 4 * has_generation(facts)
    return align_up(size, 4) + behind if behind else size


def value_size(facts: MapFacts) -> int:
    return max(facts.value.size, 1)


def key_place(e: Emitter, facts: MapFacts, key: Optional[Typed], bucket: str = "") -> Place:
    """A key, with what belongs behind the script's own."""
    size = key_size(facts)
    bare = bare_key_size(facts)
    slot = e.slot(size + (8 if isinstance(facts.key, String) else 0))
    if key is None:
        e.line(f"*(u32 *){slot.address} = 0;")
    else:
        if align_up(bare, 4) != bare and size != bare:
            e.zero(slot, align_up(bare, 4))
        if key.type != facts.key:
            key = Typed("cast", facts.key, key.at, (key,), None)
        e.put(key, slot)
    behind = align_up(bare, 4)
    if isinstance(facts.value, Aggregate) and facts.value.bucketed:
        e.line(f"*(u32 *){slot.at(behind).address} = {bucket or 0};")
        behind += 4
    if has_generation(facts):
        e.whole.pieces.add("generation")
        e.line(f"*(u32 *){slot.at(behind).address} = current_generation();")
    return slot


def key_argument(e: Emitter, facts: MapFacts, place: Place) -> str:
    return f"({e.whole.bytes_type(key_size(facts))} *){place.address}"


def value_argument(e: Emitter, facts: MapFacts, place: str) -> str:
    return f"({e.whole.bytes_type(value_size(facts))} *){place}"


def look_up(e: Emitter, facts: MapFacts, key: Place, c: str) -> str:
    """A pointer to a value, which may be NULL."""
    table = e.whole.table(facts).table
    name = e.name_of("p")
    e.line(f"{c} *{name} = ({c} *){table}.lookup({key_argument(e, facts, key)});")
    return name


def update(e: Emitter, facts: MapFacts, key: Place, value: str, method: str = "update") -> None:
    table = e.whole.table(facts)
    call = (
        f"{table.table}.{method}({key_argument(e, facts, key)}, {value_argument(e, facts, value)})"
    )
    if method == "insert":
        e.line(f"{call};")
    else:
        e.line(f"if ({call} < 0)\n{'	' * min(e.indent + 1, 12)}count_loss({1 + table.number});")


# Plain values.


@emits("map")
def _map(e: Emitter, node: Typed) -> str:
    facts, key = node.parts
    pointer = look_up(e, facts, key_place(e, facts, key), c_type(node.type))
    return e.number(node.type, f"{pointer} ? *{pointer} : 0")


@into("map")
def _put_map(e: Emitter, node: Typed, to: Place) -> None:
    facts, key = node.parts
    pointer = look_up(e, facts, key_place(e, facts, key), "char")
    size = node.type.size
    e.open(f"if ({pointer})")
    e.copy_own(to, Place(pointer), size)
    e.close("} else {")
    e.indent += 1
    e.zero(to, size)
    e.close()


@flow("set_map")
def set_map(e: Emitter, node: Typed) -> None:
    """@x[key] = value"""
    facts, key, value = node.parts
    kind = facts.value
    size = value_size(facts)
    if fits_register(kind):
        number = e.scalar(value)
        slot = e.slot(size)
        e.store(slot, kind, number)
    else:
        slot = e.slot(size + (8 if isinstance(kind, String) else 0))
        e.put(value, slot)
    update(e, facts, key_place(e, facts, key), slot.address)


@flow("add_map")
def add_map(e: Emitter, node: Typed) -> None:
    """@x[key] += number"""
    facts, key, operator, value = node.parts
    number = e.scalar(value)
    add_to_map(e, facts, key, f"{operator}(s64){number}", "")


def add_to_map(e: Emitter, facts: MapFacts, key: Optional[Typed], amount: str, wanted: str) -> str:
    """Add to a number in a map at once, so that no CPU's addition is lost. ``wanted`` is "old" or
    "new", the value that is asked for. Its result is a name."""
    kind = facts.value
    place = key_place(e, facts, key)
    wide = wide_type(kind)
    name = e.name_of("a")
    if not isinstance(kind, Int) or kind.size < 8:
        # Atomic operations have 4 or 8 bytes, and those of 4 give no old value before v5.12.
        c = c_type(kind)
        pointer = look_up(e, facts, place, c)
        slot = e.slot(value_size(facts))
        e.line(f"{wide} {name} = {pointer} ? *{pointer} : 0;")
        new = e.number(kind, narrowed(kind, Int(8), f"({name} {amount[0]} {amount[1:]})"))
        e.store(slot, kind, new)
        update(e, facts, place, slot.address)
        return new if wanted == "new" else name
    pointer = look_up(e, facts, place, "s64")
    e.line(f"{wide} {name} = 0;")
    e.open(f"if (!{pointer})")
    zero = e.slot(8)
    e.line(f"*(u64 *){zero.address} = 0;")
    update(e, facts, place, zero.address, "insert")
    e.line(
        f"{pointer} = (s64 *){e.whole.table(facts).table}.lookup({key_argument(e, facts, place)});"
    )
    e.close()
    e.open(f"if ({pointer})")
    if wanted:
        # Of two CPUs that add at a time, one may be told the other's value too.
        e.line(f"{name} = *{pointer};")
    e.line(f"__sync_fetch_and_add({pointer}, {amount});")
    e.close("} else {")
    e.indent += 1
    e.line(f"count_loss({1 + e.whole.table(facts).number});")
    e.close()
    if wanted == "new":
        return e.number(kind, f"{name} {amount[0]} {amount[1:]}")
    return name


# What is counted by CPU.


@flow("count")
def count(e: Emitter, node: Typed) -> None:
    """@x[key] = count(), and its like"""
    facts, key, call = node.parts
    kind = facts.value
    name, *arguments = call.parts
    numbers = [e.scalar(each) for each in arguments if isinstance(each, Typed)]
    details = kind.details
    value = numbers[0] if numbers else "1"
    bucket = moment = interval = ""
    if kind.kind == "hist":
        bucket = _hist_bucket(e, value, details[0])
    elif kind.kind == "lhist":
        bucket = _lhist_bucket(e, value, *details)
    elif kind.kind == "tseries":
        moment, interval, bucket = _interval(e, *details[:2], *numbers[1:])
    place = key_place(e, facts, key, bucket)
    pointer = look_up(e, facts, place, "s64")
    e.open(f"if (!{pointer})")
    zero = e.slot(value_size(facts))
    e.zero(zero, value_size(facts))
    update(e, facts, place, zero.address, "insert")
    e.line(
        f"{pointer} = (s64 *){e.whole.table(facts).table}.lookup({key_argument(e, facts, place)});"
    )
    e.close()
    e.open(f"if ({pointer})")
    if kind.kind == "tseries":
        _add_in_time(e, details[2], pointer, value, moment, interval)
    else:
        _add(e, facts, kind, pointer, value)
    e.close("} else {")
    e.indent += 1
    e.line(f"count_loss({1 + e.whole.table(facts).number});")
    e.close()


def _add(e: Emitter, facts: MapFacts, kind: Aggregate, pointer: str, value: str) -> None:
    # A program that interrupts another on its CPU may count in the same place.
    shared = len(facts.writers) > 1

    def increase(place: str, amount: str) -> None:
        if shared:
            e.line(f"__sync_fetch_and_add(&{place}, {amount});")
        else:
            e.line(f"{place} += {amount};")

    if kind.kind in ("min", "max"):
        sign = "<" if kind.kind == "min" else ">"
        c = "s64" if kind.signed else "u64"
        e.line(f"if (!{pointer}[1] || ({c}){value} {sign} ({c}){pointer}[0])")
        e.line(f"\t{pointer}[0] = {value};")
        e.line(f"{pointer}[1] = 1;")
    elif kind.kind in ("avg", "stats"):
        increase(f"{pointer}[0]", value)
        increase(f"{pointer}[1]", "1")
    elif kind.kind == "sum":
        increase(f"{pointer}[0]", value)
    else:
        increase(f"{pointer}[0]", "1")


def _interval(e: Emitter, length: int, slots: int, given: str = "") -> tuple[str, str, str]:
    """The time (or the one given), the number of the interval that it is in, and that interval's
    place."""
    moment = given or clock(e, "tai")
    interval = e.number(Int(8, False), f"{moment} / {length}ULL")
    return moment, interval, e.number(Int(4, False), f"{interval} % {slots}ULL")


def _add_in_time(
    e: Emitter, what: str, pointer: str, value: str, moment: str, interval: str
) -> None:
    e.open(f"if ({pointer}[2] != (s64){interval})")
    e.line(f"{pointer}[0] = {pointer}[1] = 0;")
    e.line(f"{pointer}[2] = {interval};")
    e.close()
    if what in ("min", "max"):
        sign = "<" if what == "min" else ">"
        e.line(f"if (!{pointer}[1] || (s64){value} {sign} {pointer}[0])")
        e.line(f"\t{pointer}[0] = {value};")
        e.line(f"{pointer}[1] = 1;")
    elif what == "last":
        e.line(f"{pointer}[0] = {value};")
        e.line(f"{pointer}[1] = {moment};")
    else:
        e.line(f"{pointer}[0] += {value};")
        e.line(f"{pointer}[1] += 1;")


def _hist_bucket(e: Emitter, value: str, bits: int) -> str:
    """0 of what is negative, 1 of 0; then each power of two in 2^bits parts."""
    e.whole.pieces.add("histogram")
    return e.number(Int(4, False), f"hist_bucket({value}, {bits})")


def _lhist_bucket(e: Emitter, value: str, low: int, high: int, step: int) -> str:
    last = (high - low) // step + 1
    name = e.name_of("b")
    e.line(
        f"u32 {name} = (s64){value} < {literal(low)} ? 0 : "
        f"(s64){value} >= {literal(high)} ? {last} : "
        f"1 + (u64)({value} - {literal(low)}) / {step};"
    )
    return name


@emits("total")
def _total(e: Emitter, node: Typed) -> str:
    """What all CPUs have counted together."""
    facts, key = node.parts
    return total_at(e, facts, key_place(e, facts, key), node.at)


def total_at(e: Emitter, facts: MapFacts, place: Place, at: Any) -> str:
    """What all CPUs have counted for a key that is at a place."""
    kind = facts.value
    assert isinstance(kind, Aggregate)
    if not e.whole.has_helper("map_lookup_percpu_elem"):
        raise Wrong(
            at,
            f"the value of {facts.label} is spread over the CPUs: programs can add it up since "
            "Linux 5.19",
        )
    e.whole.pieces.add("calls")
    name, index = e.name_of("t"), e.name_of("i")
    table = e.whole.table(facts).table
    signed = "s64" if kind.signed else "u64"
    e.line(f"{signed} {name} = 0;")
    e.line(f"u64 {name}_set = 0;")
    e.line(f"u32 {index};")
    cpus = e.whole.setting("CPUS", ["cpus"])
    e.line("#pragma clang loop unroll(disable)")
    e.open(f"for ({index} = 0; {index} < {MOST_CPUS}; {index}++)")
    e.line(f"if ({index} >= {cpus})\n{'	' * min(e.indent + 1, 12)}break;")
    pointer = e.name_of("p")
    call = e.name_of("x")
    e.line(f"struct map_call {call} = {{ .first = (u64){place.address}, .second = {index} }};")
    e.line(f"{table}.call((void *)&{call}, OF_CPU);")
    e.line(f"{signed} *{pointer} = ({signed} *){call}.result;")
    e.line(f"if (!{pointer})\n{'	' * min(e.indent + 1, 12)}continue;")
    if kind.kind in ("min", "max"):
        sign = "<" if kind.kind == "min" else ">"
        e.line(f"if ({pointer}[1] && (!{name}_set || {pointer}[0] {sign} {name}))")
        e.line(f"\t{name} = {pointer}[0];")
        e.line(f"{name}_set |= {pointer}[1];")
    else:
        e.line(f"{name} += {pointer}[0];")
        if kind.kind == "avg":
            e.line(f"{name}_set += {pointer}[1];")
    e.close()
    if kind.kind == "avg":
        average = f"divide({name}, {name}_set)" if kind.signed else f"{name} / {name}_set"
        e.line(f"{name} = {name}_set ? {average} : 0;")
    return name
