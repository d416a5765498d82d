"""What an attach point means: ``point`` checks its fields, and knows nothing of the kernel."""
from __future__ import annotations

import re

from pytools.base.annotations import TYPE_CHECKING
from pytools.base.errors import did_you_mean
from pytools.bt.kinds import BY_NAME
from pytools.bt.syntax.lexer import integer
from pytools.bt.plan import Point
from pytools.bt.wrong import Wrong

if TYPE_CHECKING:
    from typing import Callable, NoReturn, Optional

    from pytools.bt.tree import AttachPoint

__all__ = ["HARDWARE", "SOFTWARE", "UNITS", "point"]

# The kernel's name of each event, as perf_event_open(2) has it: other names, and the period if none
# is given, which are bpftrace's.
SOFTWARE: dict[str, tuple[str, int]] = {
    "alignment-faults": ("", 1),
    "bpf-output": ("", 1),
    "context-switches": ("cs", 1000),
    "cpu-clock": ("cpu", 1000000),
    "cpu-migrations": ("", 1),
    "dummy": ("", 1),
    "emulation-faults": ("", 1),
    "major-faults": ("", 1),
    "minor-faults": ("", 100),
    "page-faults": ("faults", 100),
    "task-clock": ("", 1),
}
HARDWARE: dict[str, tuple[str, int]] = {
    "backend-stalls": ("", 1000000),
    "branch-instructions": ("branches", 100000),
    "branch-misses": ("", 100000),
    "bus-cycles": ("", 100000),
    "cache-misses": ("", 1000000),
    "cache-references": ("", 1000000),
    "cpu-cycles": ("cycles", 1000000),
    "frontend-stalls": ("", 1000000),
    "instructions": ("", 1000000),
    "ref-cycles": ("", 1000000),
}
UNITS = {"s": 10**9, "ms": 10**6, "us": 1000, "hz": 0}
_SIGNALS = ("SIGUSR1",)
_SHORTEST = 1000  # nanoseconds
_LONGEST = 2**63  # the kernel's own limit of a period

BPF = "bpf"  # stands for BPF programs in place of a module
_UNSUPPORTED = ("watchpoint", "asyncwatchpoint", "iter", "test", "bench")
_PATTERN = re.compile(r"[*?\[]")
_ADDRESS = re.compile(r"0x[0-9a-f]+|[0-9]+", re.IGNORECASE)


def point(at: AttachPoint, pid: int = 0, unsafe: bool = False, missing: str = "error") -> Point:
    """The point of an attach point, still without programs: patterns stay in its target. ``pid`` is
    that of ``-p``: the probe of a user function then needs no file. Raises Wrong.

    >>> from pytools.bt.kinds import attach_point
    >>> point(attach_point((0, 9), "i:ms:100"))[:6]
    ('interval', '', 'interval:ms:100', [], 0, 100000000)
    """
    if at.kind in _UNSUPPORTED:
        raise Wrong(at.at, f"{at.kind} probes are not supported")
    if at.kind not in BY_NAME:
        raise Wrong(at.at, f"No probe type matched for {at.kind}")
    return _Checked(at, pid, unsafe)._point()._replace(missing=missing)


def is_pattern(text: str) -> bool:
    """True if it may stand for several names."""
    return bool(_PATTERN.search(text))


class _Checked:
    def __init__(self, at: AttachPoint, pid: int, unsafe: bool) -> None:
        self.at = at
        self.kind = at.kind
        self.fields = list(at.fields)
        self.pid = pid
        self.unsafe = unsafe

    def _point(self) -> Point:
        if self.kind in ("begin", "end") and self.fields == ["*"]:
            self.fields = []
        if self.pid and len(self.fields) == 1 and self.kind in ("uprobe", "uretprobe", "usdt"):
            self.fields.insert(0, "")  # -p names the file
        if self.kind == "tracepoint" and len(self.fields) == 1 and is_pattern(self.fields[0]):
            self.fields.insert(0, "*")
        self._count()
        return _READERS[self.kind](self)

    def fail(self, message: str, hint: str = "") -> NoReturn:
        raise Wrong(self.at.at, message, hint)

    def _count(self) -> None:
        kind = BY_NAME[self.kind]
        found = len(self.fields)
        if not kind.fewest <= found <= kind.most:
            wanted = str(kind.fewest)
            if kind.most != kind.fewest:
                wanted += f" or {kind.most}"
            self.fail(f"{self.kind} probe type requires {wanted} arguments, found {found}")

    def _made(
        self,
        target: str,
        text: Optional[str] = None,
        offset: int = 0,
        period: int = 0,
        frequency: int = 0,
    ) -> Point:
        if text is None:
            text = f"{self.kind}:{target}"
        return Point(self.kind, target, text, [], offset, period, frequency)

    # One function for each kind.

    def plain(self) -> Point:
        return self._made("", self.kind)

    def signal(self) -> Point:
        trigger, name = self.fields
        if trigger != "signal":
            self.fail(f"{trigger} is not a supported trigger")
        if name not in _SIGNALS:
            self.fail(f"{name} is not a supported signal")
        return self._made(name, f"self:signal:{name}")

    def timer(self) -> Point:
        """profile and interval: UNIT:NUMBER, a duration, or nanoseconds."""
        *unit, number = self.fields
        text = ":".join([self.kind, *self.fields])
        if not unit:
            count = self._number(number, "rate")
            if count < _SHORTEST and self.kind == "profile" and number.isdigit():
                return self._made("", text, frequency=self._positive(count))  # profile:99
            if count < _SHORTEST:
                self.fail(
                    f"Invalid rate of {self.kind} probe. "
                    f"Minimum is 1000 or 1us. Found: {count} nanoseconds"
                )
            return self._made("", text, period=self._period(count))
        if unit[0] not in UNITS:
            if not unit[0]:
                self.fail(f"{self.kind} probe must have unit of time")
            self.fail(
                f"{unit[0]} is not an accepted unit of time", f"units: {', '.join(sorted(UNITS))}"
            )
        count = self._positive(self._number(number, "rate"))
        if unit[0] == "hz" and self.kind == "profile":
            return self._made("", text, frequency=count)
        if unit[0] == "hz":
            return self._made("", text, period=max(1, 10**9 // count))
        return self._made("", text, period=self._period(count * UNITS[unit[0]]))

    def _number(self, word: str, what: str) -> int:
        try:
            return integer(word)[0] if word[:1].isdigit() else self._no_number(word)
        except ValueError as error:
            of = "of" if what == "rate" else "for"
            self.fail(f"Invalid {what} {of} {self.kind} probe: {error}")

    @staticmethod
    def _no_number(word: str) -> int:
        raise ValueError(f"invalid integer: {word}")

    def _positive(self, count: int) -> int:
        if not 0 < count < 2**31:
            self.fail(f"{self.kind} frequency should be a positive integer")
        return count

    def _period(self, period: int) -> int:
        if period >= _LONGEST:
            self.fail(f"{self.kind} probe: the period is too long")
        return period

    def event(self) -> Point:
        """software and hardware: NAME[:COUNT]"""
        events = SOFTWARE if self.kind == "software" else HARDWARE
        name, *count = self.fields
        if not name:
            self.fail(f"{self.kind} probe must have a {self.kind} event name")
        if is_pattern(name):
            self.fail(f"wildcards are not allowed for {self.kind} probe type")
        full = next((event for event, (other, _) in events.items() if name in (event, other)), "")
        if not full:
            self.fail(f"{name} is not a {self.kind} probe", did_you_mean(name, events))
        period = events[full][1]
        if count and count[0] not in ("", "*"):
            period = self._number(count[0], "count")
            if not 0 < period < _LONGEST:
                self.fail(f"{self.kind} count should be a positive integer")
        text = f"{self.kind}:{name}:" + (count[0] if count else "")
        return self._made(full, text, period=period)

    def tracepoint(self) -> Point:
        category, name = self.fields
        if not category or not name:
            self.fail("tracepoint probe must have a target")
        return self._made(f"{category}:{name}")

    def raw_tracepoint(self) -> Point:
        return self._in_module("rawtracepoint should be attached to a function")

    def fentry(self) -> Point:
        if self.fields[0] == BPF and len(self.fields) > 1:
            return self._of_program()
        if len(self.fields) > 2:
            self.fail("Only the 'bpf' variant of this probe supports 4 arguments")
        return self._in_module("fentry/fexit should specify a function")

    def _of_program(self) -> Point:
        """bpf:NAME or bpf:ID:NAME"""
        number, name = (["*", *self.fields[1:]])[-2:]
        if number != "*" and not number.isdigit():
            self.fail(f"{number} is no id of a BPF program", "bpftool prog lists them")
        if not name:
            self.fail("fentry/fexit should specify a function")
        target = ":".join(self.fields)
        return self._made(target)

    def _in_module(self, needed: str) -> Point:
        """[MODULE:]NAME"""
        *module, name = self.fields
        if not name:
            self.fail(needed)
        return self._made(f"{module[0]}:{name}" if module and module[0] != "*" else name)

    def kernel_function(self) -> Point:
        *module, name = self.fields
        name, offset = self._offset(name)
        if not name:
            self.fail("kprobes should be attached to a function or an address")
        if not module and _ADDRESS.fullmatch(name):
            if not self.unsafe:
                self.fail("Probing by address requires --unsafe")
            address = str(self._number(name, "address") + offset)
            return self._made(address, f"{self.kind}:{address}")
        target = f"{module[0]}:{name}" if module and module[0] != "*" else name
        return self._made(target, ":".join([self.kind, *self.fields]), offset=offset)

    def user_function(self) -> Point:
        path, *language, name = self.fields
        if "@" in name or (language and "@" in path):
            self.fail(f"{self.kind} probes at a line of source are not supported")
        if language and language[0] != "cpp":
            self.fail(f"unsupported language type: {language[0]}")
        if language:
            self.fail("names of C++ are not supported: use the mangled one (nm shows it)")
        if not path and not self.pid:
            self.fail(f"{self.kind} should have a target")
        name, offset = self._offset(name)
        if not name and not self.unsafe:
            self.fail(f"{self.kind} should be attached to a function and/or address")
        if _ADDRESS.fullmatch(name):
            if is_pattern(path):
                self.fail("Cannot use wildcards with absolute address")
            name = hex(integer(name)[0])
        return self._made(f"{path}:{name}", ":".join([self.kind, *self.fields]), offset=offset)

    def _offset(self, name: str) -> tuple[str, int]:
        """FUNCTION+OFFSET in its parts."""
        function, plus, rest = name.partition("+")
        if not plus:
            return name, 0
        if self.kind in ("kretprobe", "uretprobe"):
            self.fail("Offset not allowed")
        if "+" in rest:
            self.fail("Cannot take more than one offset")
        if not rest or not function:
            self.fail("Invalid offset")
        try:
            return function, integer(rest)[0] if rest[0].isdigit() else self._no_number(rest)
        except ValueError as error:
            self.fail(f"Invalid offset: {error}")

    def usdt(self) -> Point:
        path, *provider, name = self.fields
        if not name:
            self.fail("usdt probe must have a target function or wildcard")
        if not path and not self.pid:
            self.fail(
                "usdt probe must specify at least path or pid to probe. "
                "To target all paths/pids set the path to '*'."
            )
        its = provider[0] if provider and provider[0] else "*"
        text = ":".join([self.kind, *self.fields])
        return self._made(f"{path}:{its}:{name}", text)


_READERS: dict[str, Callable[[_Checked], Point]] = {
    "begin": _Checked.plain,
    "end": _Checked.plain,
    "self": _Checked.signal,
    "interval": _Checked.timer,
    "profile": _Checked.timer,
    "tracepoint": _Checked.tracepoint,
    "rawtracepoint": _Checked.raw_tracepoint,
    "kprobe": _Checked.kernel_function,
    "kretprobe": _Checked.kernel_function,
    "fentry": _Checked.fentry,
    "fexit": _Checked.fentry,
    "uprobe": _Checked.user_function,
    "uretprobe": _Checked.user_function,
    "usdt": _Checked.usdt,
    "software": _Checked.event,
    "hardware": _Checked.event,
}
