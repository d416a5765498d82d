"""From the addresses of instructions to the names of functions.

The kernel's names are read from /proc/kallsyms when they are asked for. Those of
processes come from the files that they have mapped (process_symbols.py), in a child
process: whatever is in such a file, or in its way, the tool goes on. The child is
told of processes while they live, and keeps their files open.
"""
from __future__ import annotations

import json
import os
import re
import select
import time
from bisect import bisect_right

from pytools.base.annotations import NamedTuple, TYPE_CHECKING
from pytools.base.text import text_of

if TYPE_CHECKING:
    from typing import Any, Iterable, Mapping, Sequence

    import subprocess

    # Where the child says what it found, by pid, then by address.
    Answer = Mapping[int, Mapping[int, "Symbol"]]

__all__ = [
    "DATA", "FUNCTIONS", "KernelTable", "Symbol", "Symbols", "UNKNOWN", "call_site",
    "kernel_symbols",
]  # fmt: skip

HERE = os.path.dirname(os.path.realpath(__file__))
KALLSYMS = "/proc/kallsyms"
FUNCTIONS, DATA = "tTwW", "bBdD"  # kinds of symbols
CHUNK_BYTES = 1 << 20
# The child answers within seconds. One that does not is stuck (a file may be on a file system that
# does not answer).
PATIENCE_SECONDS = 30.0
MOST_REMEMBERED = 65536
# How far behind the start of a module's last symbol an address may be. What is further away is not
# the module's: programs and trampolines of BPF, whose own symbols go when they are detached, lie
# between modules.
MOST_BEHIND_LAST = 4096


class Symbol(NamedTuple):
    """A function's name, what it is a part of (``[MODULE]`` or a file's path, empty
    for the kernel itself), and how far behind its start the address is."""

    name: str
    module: str = ""
    offset: int = 0


UNKNOWN = Symbol("[unknown]")


def call_site(addresses: Sequence[int]) -> list[int]:
    """A stack's addresses, innermost first, each in the function that it is in. A
    function that called another is there with the address that the call returns to,
    which may be behind its end, where the call never returns."""
    return [*addresses[:1], *(address - 1 for address in addresses[1:])]


# The kernel.


def kernel_symbols(
    addresses: Iterable[int], path: str = KALLSYMS, kinds: str = FUNCTIONS
) -> dict[int, Symbol] | None:
    """The symbols of kernel addresses, of functions or of such ``kinds`` as nm(1) has them; those
    that have none are left out. None where the kernel hides its addresses (kernel.kptr_restrict) or
    has no symbols."""
    lines = _by_address(path, kinds)
    if lines is None:
        return None
    found = {address: _symbol(lines, address) for address in set(addresses)}
    return {address: symbol for address, symbol in found.items() if symbol is not None}


class KernelTable:
    """All functions of the kernel, read once, when the first is asked for: for those who ask again
    and again, and have the memory."""

    def __init__(self, path: str = KALLSYMS) -> None:
        self._path = path
        self._lines: list[bytes] | None = None
        self._found: dict[int, Symbol | None] = {}

    def symbol(self, address: int) -> Symbol | None:
        """The symbol of an address; None where it has none, or where the kernel hides them."""
        if address not in self._found:
            if len(self._found) >= MOST_REMEMBERED:
                self._found.clear()
            self._found[address] = _symbol(self._all(), address)
        return self._found[address]

    def address(self, name: str) -> int | None:
        """Where the kernel's own function of that name is; None where there is none, or where the
        kernel hides them."""
        ending = b" " + name.encode()
        found = next((line for line in self._all() if line.endswith(ending)), None)
        return None if found is None else int(found.split()[0], 16)

    def _all(self) -> list[bytes]:
        if self._lines is None:
            self._lines = _by_address(self._path) or []
        return self._lines


def _by_address(path: str, kinds: str = FUNCTIONS) -> list[bytes] | None:
    """The lines of symbols of these kinds, sorted: as text, since addresses have the same number of
    digits all."""
    lines: list[bytes] = []
    wanted = re.compile(rb"^[0-9a-f]{16} [%b] [^\n]+" % kinds.encode(), re.M)
    try:
        with open(path, "rb") as file:
            while True:
                chunk = file.read(CHUNK_BYTES)
                chunk += file.readline()
                if not chunk:
                    break
                lines += wanted.findall(chunk)
    except OSError:
        return None
    if not lines or max(lines[0], lines[-1]).startswith(b"0" * 16):
        return None
    lines.sort()
    return lines


def _symbol(lines: list[bytes], address: int) -> Symbol | None:
    place = bisect_right(lines, b"%016x\xff" % address)
    if not place:
        return None
    start, _, name, *module = lines[place - 1].split()
    offset = address - int(start, 16)
    if offset >= MOST_BEHIND_LAST:
        following = lines[place].split()[3:] if place < len(lines) else None
        if module != following:
            return None
    return Symbol(text_of(name), text_of(module[0]) if module else "", offset)


# Processes.


class Symbols:
    """Symbols of the processes whose pids ``watch`` was told while they lived, and
    of those that live still."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self.why_not = ""  # why there are no names

    @property
    def pid(self) -> int:
        """The child; 0 before ``watch``, and where there is none."""
        return 0 if self._child is None else self._child.pid

    def watch(self, pids: Sequence[int]) -> None:
        """Have the files of these processes opened, soon."""
        if pids or self._child is None:  # even for none: the child is then ready for others
            self._send(["watch", list(pids)])

    def settle(self) -> None:
        """Wait until the files of all watched processes are open."""
        self.resolve({0: ()})

    def resolve(self, wanted: Mapping[int, Iterable[int]], last: bool = True) -> Answer:
        """The symbols of addresses in processes; those that have none are left out. The files of
        these processes are closed then, unless it is not the ``last`` time that they are asked for:
        those of watched processes that live stay open."""
        if not wanted:
            return {}
        asked = [(pid, sorted(addresses)) for pid, addresses in wanted.items()]
        self._send(["resolve" if last else "resolve and keep", asked])
        found: dict[int, dict[int, Symbol]] = {}
        for (pid, addresses), symbols in zip(asked, self._receive()):
            found[pid] = {
                address: Symbol(*symbol) for address, symbol in zip(addresses, symbols) if symbol
            }
        return found

    def _start(self) -> subprocess.Popen[bytes]:
        import subprocess  # not for tools that print no user stack

        from pytools.base import child as children

        what = "the child that looks up names"
        child = children.start(what, HERE, "symbols_child.py", subprocess.DEVNULL)
        for end in (child.stdin, child.stdout):
            assert end is not None
            os.set_blocking(end.fileno(), False)
        return child

    def _send(self, request: Any) -> None:
        if self.why_not:
            return
        if self._child is None:
            self._child = self._start()
        assert self._child.stdin is not None
        descriptor = self._child.stdin.fileno()
        data = json.dumps(request).encode() + b"\n"
        deadline = time.monotonic() + PATIENCE_SECONDS
        while data:
            left = deadline - time.monotonic()
            try:
                if left <= 0 or not select.select([], [descriptor], [], left)[1]:
                    return self._give_up("does not answer")
                data = data[os.write(descriptor, data) :]
            except OSError:
                return self._give_up(self._last_words())

    def _receive(self) -> list[Any]:
        data = b""
        while not self.why_not and not data.endswith(b"\n"):
            assert self._child is not None and self._child.stdout is not None
            descriptor = self._child.stdout.fileno()
            if not select.select([descriptor], [], [], PATIENCE_SECONDS)[0]:
                self._give_up("does not answer")
                break
            part = os.read(descriptor, 1 << 20)
            if not part:
                self._give_up(self._last_words())
            data += part
        if self.why_not:
            return []
        try:
            return list(json.loads(data))
        except (TypeError, ValueError):
            self._give_up("gave no answer")
            return []

    def _last_words(self) -> str:
        assert self._child is not None
        import subprocess

        try:
            status = self._child.wait(1)
        except subprocess.TimeoutExpired:
            return "does not answer"
        return f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"

    def _give_up(self, why: str) -> None:
        self.why_not = f"no names of processes' functions: the child that looks them up {why}"
        self.close()

    def close(self) -> None:
        """End the child."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            self._child = None
