"""What maps count, and what is done to whole maps."""
from __future__ import annotations

from pytools.base.annotations import TYPE_CHECKING
from pytools.bt import tree
from pytools.bt.emit.each import map_length
from pytools.bt.emit.maps import key_argument, key_place
from pytools.bt.emit.records import send
from pytools.bt.functions.calls import constant, integer, take, text
from pytools.bt.plan import Record
from pytools.bt.tree import Wrong
from pytools.bt.typed import Typed, checks, emits, statement
from pytools.bt.types import UNKNOWN, VOID, Aggregate, Array, Bool, Int, Stack, String

if TYPE_CHECKING:
    from typing import Any

    from pytools.bt.checker import Checker
    from pytools.bt.emit.values import Emitter

MOST_BUCKETS = 1000  # of lhist()


# What is counted.


@checks("count")
def _check_count(checker: Checker, call: tree.Call) -> Typed:
    take(call, 0)
    return Typed("aggregate", Aggregate("count", True), call.at, ("count",))


@checks("sum", "min", "max", "avg", "stats")
def _check_sum(checker: Checker, call: tree.Call) -> Typed:
    (node,) = take(call, 1)
    number = integer(checker, call, node)
    kind = number.type
    signed = not isinstance(kind, Int) or kind.signed or kind.flexible
    return Typed("aggregate", Aggregate(call.name, signed), call.at, (call.name, number))


@checks("hist")
def _check_hist(checker: Checker, call: tree.Call) -> Typed:
    nodes = take(call, 1, 2)
    bits = constant(checker, call, nodes[1], "bits") if len(nodes) > 1 else 0
    if not 0 <= bits <= 5:
        raise Wrong(call.at, f"hist() bits must be 0..5 ({bits} provided)")
    number = integer(checker, call, nodes[0])
    return Typed("aggregate", Aggregate("hist", True, (bits,)), call.at, ("hist", number))


@checks("lhist")
def _check_lhist(checker: Checker, call: tree.Call) -> Typed:
    node, *ends = take(call, 4)
    low, high, step = [
        constant(checker, call, end, what) for end, what in zip(ends, ("min", "max", "step"))
    ]
    if step <= 0:
        raise Wrong(call.at, f"lhist() step must be >= 1 ({step} provided)")
    if low >= high:
        raise Wrong(
            call.at, f"lhist() min must be less than max (provided min {low} and max {high})"
        )
    buckets = (high - low) // step
    if buckets > MOST_BUCKETS:
        raise Wrong(call.at, f"lhist() too many buckets, must be <= 1000 (would need {buckets})")
    if high - low < step:
        raise Wrong(call.at, "lhist() step is too large for the range between min and max")
    number = integer(checker, call, node)
    kind = Aggregate("lhist", True, (low, high, step))
    return Typed("aggregate", kind, call.at, ("lhist", number))


@checks("tseries")
def _check_tseries(checker: Checker, call: tree.Call) -> Typed:
    node, interval, slots, *how = take(call, 3, 4)
    word = text(checker, call, how[0]) if how else "last"
    if how and word not in ("avg", "max", "min", "sum"):
        raise Wrong(
            call.at,
            "tseries() expects one of the following aggregation functions: avg, max, min, sum "
            f'("{word}" provided)',
        )
    numbers = (
        constant(checker, call, interval, "interval_ns"),
        constant(checker, call, slots, "num_intervals"),
    )
    if min(numbers) < 1 or numbers[1] > 1_000_000:
        raise Wrong(call.at, "tseries() interval_ns and num_intervals must be above 0")
    kind = Aggregate("tseries", True, (*numbers, word))
    parts = ["tseries", integer(checker, call, node)]
    given = str(checker.options.config["dummy_ts_map"]).lstrip("@")
    if given:
        parts.append(checker.expression(tree.Map(call.at, given)))
    return Typed("aggregate", kind, call.at, tuple(parts))


# Whole maps.


def whole_map(checker: Checker, call: tree.Call, node: Any) -> Any:
    """The map that is an argument. Raises Wrong."""
    if not isinstance(node, tree.Map):
        raise Wrong(getattr(node, "at", call.at), f"{call.name}() expects a map argument")
    facts = checker.facts.map(node.name)
    facts.used = True
    facts.at = facts.at or node.at
    return facts


@checks("clear", "zero")
def _check_clear(checker: Checker, call: tree.Call) -> Typed:
    (node,) = take(call, 1)
    facts = whole_map(checker, call, node)
    facts.cleared = True
    return Typed("clear", VOID, call.at, (call.name, facts))


@statement("clear")
def _clear(e: Emitter, node: Typed) -> None:
    name, facts = node.parts
    send(e, Record(name, map=facts.label), [], control=True)


def keyed_map(checker: Checker, call: tree.Call, nodes: list[Any]) -> tuple[Any, Typed]:
    """The map and the key of delete(@x, key) and has_key(@x, key). Raises Wrong."""
    facts = whole_map(checker, call, nodes[0])
    if facts.scalar:
        raise Wrong(
            call.at,
            f"call to {call.name}() expects a map with explicit keys (non-scalar map)",
        )
    checker.facts.access(facts.name, False, nodes[0].at)
    facts.asked = True
    key = checker.key(nodes[1:], call.at)
    checker.facts.see_key(facts, key.type, call.at)
    if checker.final:
        key = checker.cast(key, facts.key)
        if facts.value == UNKNOWN:
            raise Wrong(call.at, f"Undefined map: {facts.label}")
    return facts, key


@checks("delete")
def _check_delete(checker: Checker, call: tree.Call) -> Typed:
    nodes = take(call, 1, 2)
    if len(nodes) == 2:
        return Typed("delete", Bool(), call.at, keyed_map(checker, call, nodes))
    (node,) = nodes
    if isinstance(node, tree.Element):
        inner = [tree.Map(node.at, node.name), *node.keys]
        return Typed("delete", Bool(), call.at, keyed_map(checker, call, inner))
    facts = whole_map(checker, call, node)
    if facts.scalar is False:
        raise Wrong(
            call.at, f"delete() of {facts.label}, which has keys: delete({facts.label}, key)"
        )
    checker.facts.access(facts.name, True, node.at)
    facts.asked = True
    return Typed("delete", Bool(), call.at, (facts, None))


@emits("delete")
def _delete(e: Emitter, node: Typed) -> str:
    facts, key = node.parts
    table = e.whole.table(facts).table
    kind = facts.value
    if isinstance(kind, Aggregate) and kind.bucketed:
        return _delete_buckets(e, node, table)
    place = key_place(e, facts, key)
    return e.number(Bool(), f"{table}.delete({key_argument(e, facts, place)}) == 0")


def _delete_buckets(e: Emitter, node: Typed, table: str) -> str:
    facts, key = node.parts
    kind = facts.value
    if kind.kind == "hist":
        buckets = (65 << kind.details[0]) + 2
    elif kind.kind == "lhist":
        buckets = (kind.details[1] - kind.details[0]) // kind.details[2] + 2
    else:
        buckets = kind.details[1]
    index, gone = e.name_of("b"), e.name_of("q")
    e.line(f"u32 {index};\n\tu64 {gone} = 0;")
    place = key_place(e, facts, key)
    from pytools.bt.emit.maps import bare_key_size
    from pytools.bt.types import align_up

    behind = align_up(bare_key_size(facts), 4)
    e.line("#pragma clang loop unroll(disable)")
    e.open(f"for ({index} = 0; {index} < {buckets}; {index}++)")
    e.line(f"*(u32 *){place.at(behind).address} = {index};")
    e.line(f"{gone} |= {table}.delete({key_argument(e, facts, place)}) == 0;")
    e.close()
    return gone


@checks("has_key")
def _check_has_key(checker: Checker, call: tree.Call) -> Typed:
    nodes = take(call, 1, 2)
    if len(nodes) == 1 and isinstance(nodes[0], tree.Element):
        nodes = [tree.Map(nodes[0].at, nodes[0].name), *nodes[0].keys]
    if len(nodes) == 1:
        whole_map(checker, call, nodes[0])
        raise Wrong(call.at, "call to has_key() expects a map with explicit keys (non-scalar map)")
    return Typed("has_key", Bool(), call.at, keyed_map(checker, call, nodes))


@emits("has_key")
def _has_key(e: Emitter, node: Typed) -> str:
    facts, key = node.parts
    kind = facts.value
    if isinstance(kind, Aggregate) and kind.bucketed:
        raise Wrong(node.at, f"has_key() of a map of {kind} is not supported")
    table = e.whole.table(facts).table
    place = key_place(e, facts, key)
    found = e.number(Bool(), f"!!{table}.lookup({key_argument(e, facts, place)})")
    # Of two that are asked at once clang makes one comparison of both pointers, put together by |,
    # which the verifier refuses.
    e.line(f"KEEP({found});")
    return found


@checks("find")
def _check_find(checker: Checker, call: tree.Call) -> Typed:
    at = call.at
    node, key, target = take(call, 3)
    if not isinstance(target, tree.Variable):
        raise Wrong(at, "find() puts the value into a variable")
    facts, found = keyed_map(checker, call, [node, key])
    value = checker.plain(checker.map_value(facts, found, at))
    variable = checker.scopes.find(target.name, read=False) or checker.scopes.declare(target.name)
    if value.type != UNKNOWN:
        checker.facts.see_variable(variable, value.type, at)
    return Typed("find", Bool(), at, (facts, found, variable, value))


@emits("find")
def _find(e: Emitter, node: Typed) -> str:
    facts, key, variable, value = node.parts
    e.declare(variable)
    there = e.number(Bool(), _has_key(e, Typed("has_key", Bool(), node.at, (facts, key))))
    kind = variable.declared or variable.type
    if value.type != kind:
        value = Typed("cast", kind, node.at, (value,))
    e.open(f"if ({there})")
    e.statement(Typed("set_variable", VOID, node.at, (variable, value)))
    e.close()
    return there


@checks("len")
def _check_len(checker: Checker, call: tree.Call) -> Typed:
    (node,) = take(call, 1)
    if isinstance(node, tree.Map):
        facts = whole_map(checker, call, node)
        if facts.scalar:
            raise Wrong(call.at, "call to len() expects a map with explicit keys (non-scalar map)")
        facts.asked = True
        return Typed("map_length", Int(8), call.at, (facts,))
    found = checker.value(node)
    if isinstance(found.type, (String, Array)):
        count = found.type.bytes if isinstance(found.type, String) else found.type.count
        return Typed("number", Int(8), call.at, (), count)
    if isinstance(found.type, Stack) and found.op in ("stack", "variable"):
        return Typed("stack_length", Int(8), call.at, (found.type,))
    if found.type == UNKNOWN:
        return Typed("stack_length", UNKNOWN, call.at)
    raise Wrong(call.at, f"len() expects a map or a stack ({found.type} provided)")


@emits("map_length")
def _map_length(e: Emitter, node: Typed) -> str:
    (facts,) = node.parts
    return map_length(e, facts, node.at)
