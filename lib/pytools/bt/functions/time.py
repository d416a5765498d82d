"""Clocks, and times as text."""
from __future__ import annotations

from pytools.base.annotations import TYPE_CHECKING
from pytools.bt import tree
from pytools.bt.emit.clocks import CLOCKS, clock
from pytools.bt.emit.records import send
from pytools.bt.functions.calls import integer, modes, take, text
from pytools.bt.plan import Record
from pytools.bt.typed import Typed, checks, emits, statement
from pytools.bt.types import VOID, Int, Special

if TYPE_CHECKING:
    from pytools.bt.checker import Checker
    from pytools.bt.emit.values import Emitter

U64 = Int(8, False)


@checks("nsecs")
def _check_nsecs(checker: Checker, call: tree.Call) -> Typed:
    nodes = take(call, 0, 1)
    clock = modes(call, nodes[0], {name: name for name in CLOCKS}) if nodes else "boot"
    return Typed("nsecs", U64, call.at, (clock,))


@emits("nsecs")
def _nsecs(e: Emitter, node: Typed) -> str:
    return clock(e, node.parts[0])


@checks("elapsed")
def _check_elapsed(checker: Checker, call: tree.Call) -> Typed:
    take(call, 0)
    return Typed("elapsed", U64, call.at)


@emits("elapsed")
def _elapsed(e: Emitter, node: Typed) -> str:
    return e.number(U64, f"helper_clock_boot() - {e.whole.setting('START', ['start'])}")


@checks("strftime")
def _check_strftime(checker: Checker, call: tree.Call) -> Typed:
    form, when = take(call, 2)
    moment = integer(checker, call, when)
    clock = moment.parts[0] if moment.op == "nsecs" else "boot"
    clock = {"sw_tai": "tai"}.get(clock, clock)
    if isinstance(moment.constant, int) and moment.constant < 0:
        raise tree.Wrong(moment.at, "strftime() can not take negative value")
    kind = Special("timestamp", (text(checker, call, form), clock))
    return Typed("as_number", kind, call.at, (moment,))


@checks("time")
def _check_time(checker: Checker, call: tree.Call) -> Typed:
    nodes = take(call, 0, 1)
    form = text(checker, call, nodes[0]) if nodes else "%H:%M:%S\n"
    return Typed("time", VOID, call.at, (form,))


@statement("time")
def _time(e: Emitter, node: Typed) -> None:
    send(e, Record("time", pieces=[node.parts[0]]), [])
