"""What has a name or a form outside of the program: functions, stacks, users, times, cgroups."""
from __future__ import annotations

import os
import re
import struct
import time

from pytools.base.annotations import TYPE_CHECKING
from pytools.base.system import time_offset
from pytools.base.text import escape
from pytools.bt.show.shapes import Shown
from pytools.read.symbols import KernelTable, Symbol, Symbols, call_site

if TYPE_CHECKING:
    from typing import Any, Callable, Iterator, Mapping

    from pytools.bt.plan import Type
    from pytools.bt.show.build_ids import BuildIds
    from pytools.domains.containers import Containers
    from pytools.load.maps import Map

__all__ = ["Names", "format_time"]

IN_SECOND_MAP = 1 << 30  # of a stack's id (bpf/stacks.h)
MOST_REMEMBERED = 65536
NANOSECONDS = 1_000_000_000
_ID_AND_PROCESS = struct.Struct("=iI").unpack_from
_ADDRESS_AND_PROCESS = struct.Struct("=QI").unpack_from
_U32 = struct.Struct("=I").unpack_from
_S32 = struct.Struct("=i").unpack_from
_U64 = struct.Struct("=Q").unpack_from
_S64 = struct.Struct("=q").unpack_from


class Names:
    """Names for one program's output. ``probes`` are the texts of its probes by number, ``maps``
    the image's, ``trailer`` stands behind a string that was cut: one of ``longest`` bytes, which
    str() gives at most."""

    def __init__(
        self,
        probes: list[str],
        maps: Mapping[str, Map],
        trailer: str = "..",
        longest: int = 1024,
    ) -> None:
        self.probes = probes
        self._trailer = trailer
        self._longest = longest
        self._maps = maps
        self._kernel = KernelTable()
        self._symbols: Symbols | None = None
        self._user: dict[tuple[int, int], Symbol | None] = {}
        self._users: dict[int, str] = {}
        self._cgroups: dict[int, str] = {}
        self._containers: Containers | None = None
        self._build_ids: BuildIds | None = None

    def decoder(self, kind: Type) -> Callable[[bytes, int], Any]:
        """That of a type whose values are names."""
        word = kind[0]
        if word in ("kstack", "ustack"):
            return lambda data, offset: self._stack(kind, *_ID_AND_PROCESS(data, offset))
        if word == "usym":
            return lambda data, offset: Shown(self.user(*_ADDRESS_AND_PROCESS(data, offset)))
        if word == "timestamp":
            _, form, clock = kind
            return lambda data, offset: Shown(format_time(form, _U64(data, offset)[0], clock))
        if word == "username":
            return lambda data, offset: self._username(_U32(data, offset)[0])
        if word == "cgroup_path":
            return lambda data, offset: self._cgroup(_U64(data, offset)[0])
        if word == "probe":
            return lambda data, offset: self._probe(_U32(data, offset)[0])
        if word == "func":
            return lambda data, offset: self._function(_U64(data, offset)[0])
        if word == "strerror":
            return lambda data, offset: Shown(os.strerror(_S32(data, offset)[0]))
        if word == "signal_name":
            return lambda data, offset: Shown(signal_text(_S32(data, offset)[0]))
        if word == "syscall_name":
            from pytools.facts import syscalls

            return lambda data, offset: Shown(syscalls.name(_S64(data, offset)[0]))
        raise ValueError(f"no value of the type {kind}")

    def trailer(self, kind: Type) -> str:
        """What stands behind a string that fills its type."""
        return self._trailer if kind[1] >= self._longest else ""

    # Functions.

    def kernel(self, address: int) -> str:
        """The function of the kernel that an address is in; the address where it has no name."""
        symbol = self._kernel.symbol(address)
        return f"{address:#x}" if symbol is None else symbol.name

    def user(self, address: int, pid: int) -> str:
        """The function of a process."""
        self._look_up(pid, [address])
        symbol = self._user[pid, address]
        return f"{address:#x}" if symbol is None else escape(symbol.name)

    def _look_up(self, pid: int, addresses: list[int]) -> None:
        new = [address for address in addresses if (pid, address) not in self._user]
        if not new:
            return
        if self._symbols is None:
            self._symbols = Symbols()
        if len(self._user) > MOST_REMEMBERED:
            self._user.clear()
            new = addresses
        found = self._symbols.resolve({pid: new}, last=False).get(pid, {}) if pid else {}
        for address in new:
            self._user[pid, address] = found.get(address)

    def _stack(self, kind: Type, number: int, pid: int) -> Shown:
        word, mode, depth = kind
        addresses = self._frames(number, depth)
        if mode == "build_id":
            return Shown("\n" + "".join(f"{line}\n" for line in self._by_build_id(pid, addresses)))
        if mode == "raw":
            return Shown("".join(f"\n{address:x}" for address in addresses) + "\n")
        sites = call_site(addresses)
        if word == "ustack":
            self._look_up(pid, sites)
        lines = [""]
        for address, site in zip(addresses, sites):
            symbol = self._kernel.symbol(site) if word == "kstack" else self._user[pid, site]
            name = f"{address:#x}"
            if symbol is not None:
                name = f"{escape(symbol.name)}+{symbol.offset + address - site}"
            if mode == "perf":
                module = ""
                if word == "ustack":
                    module = f" ({escape(symbol.module) if symbol else '[unknown]'})"
                lines.append(f"\t{address:x} {name}{module}")
            else:
                lines.append(f"        {name}")
        return Shown("\n".join(lines) + "\n")

    def _by_build_id(self, pid: int, addresses: list[int]) -> Iterator[str]:
        if self._build_ids is None:
            from pytools.bt.show.build_ids import BuildIds  # few scripts ask

            self._build_ids = BuildIds()
        return self._build_ids.lines(pid, addresses)

    def _frames(self, number: int, depth: int) -> list[int]:
        """The addresses of a stack, innermost first; none where it was lost."""
        if number < 0:
            return []
        first = "more_stacks" if number & IN_SECOND_MAP else "stacks"
        return self._maps[f"{first}_{depth}"].frames(number & ~IN_SECOND_MAP)[:depth]

    # Others.

    def _probe(self, number: int) -> str:
        return self.probes[number] if number < len(self.probes) else f"[{number}]"

    def _function(self, number: int) -> str:
        """A probe's function, or the one at an address of the kernel."""
        if number >= len(self.probes):
            return self.kernel(number)
        return re.sub(r"\+\w+$", "", self.probes[number].rpartition(":")[2])

    def _username(self, number: int) -> str:
        if number not in self._users:
            import pwd

            try:
                self._users[number] = pwd.getpwuid(number).pw_name
            except (KeyError, ValueError, OverflowError):
                self._users[number] = ""
        return self._users[number]

    def _cgroup(self, number: int) -> str:
        if number not in self._cgroups:
            if self._containers is None:
                from pytools.domains.containers import Containers

                self._containers = Containers()
            if len(self._cgroups) > MOST_REMEMBERED:
                self._cgroups.clear()
            path = self._containers.path(number)
            self._cgroups[number] = "" if path is None else f"unified:{path}"
        return self._cgroups[number]

    def close(self) -> None:
        """End the child that looks names up."""
        if self._symbols is not None:
            self._symbols.close()


def signal_text(number: int) -> str:
    """What a signal says."""
    from pytools.domains.signals import LAST_NUMBER, description  # few scripts ask

    return description(number) if 0 <= number <= LAST_NUMBER else "N/A"


# Times.


def wall_time(nanoseconds: int, clock: str) -> int:
    """The wall-clock time, in nanoseconds, of a time of another clock. How far they are apart is
    looked up when it is printed, once a second: a clock may have been set since the start."""
    if clock == "wall":
        return nanoseconds
    now = time.monotonic_ns()
    taken, offset = _offsets.get(clock, (0, 0))
    if not taken or now - taken > NANOSECONDS:
        _offsets[clock] = now, (offset := _offset(clock))
    return nanoseconds + offset


_offsets: dict[str, tuple[int, int]] = {}


def _offset(clock: str) -> int:
    if clock == "tai":
        return -_whole_seconds(time.clock_gettime_ns(time.CLOCK_TAI))
    number, name = {
        "boot": (time.CLOCK_BOOTTIME, "boottime"), "monotonic": (time.CLOCK_MONOTONIC, "monotonic"),
    }[clock]  # fmt: skip
    return time.time_ns() - (time.clock_gettime_ns(number) - time_offset(name))


def _whole_seconds(tai: int) -> int:
    """TAI is ahead of UTC by whole seconds, or by none where nobody has told the kernel."""
    return round((tai - time.time_ns()) / NANOSECONDS) * NANOSECONDS


def format_time(form: str, nanoseconds: int, clock: str) -> str:
    """A time by strftime(3)'s conversions; beside these, %f are microseconds, %l milliseconds and
    %k nanoseconds of the second, as bpftrace has them."""
    wall = wall_time(nanoseconds, clock)
    second, rest = divmod(wall, NANOSECONDS)
    parts = {"f": f"{rest // 1000:06d}", "l": f"{rest // 1_000_000:03d}", "k": f"{rest:09d}"}
    form = re.sub("%([%flk])", lambda match: parts.get(match[1], match[0]), form)
    return time.strftime(form, time.localtime(second))
