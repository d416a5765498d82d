"""Runs as the child process of symbols.py only: requests on standard input,
answers on standard output, both a line of JSON each.

``["watch", [pid, ...]]`` has no answer; ``["resolve", [[pid, [address, ...]], ...]]``
is answered by [[name, module, offset] or null, ...] for each of the pids, whose files
are closed then; "resolve and keep" leaves those of watched processes open that live.
"""
from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
import time

TYPE_CHECKING = False  # nothing of the library is imported: none of it is needed
if TYPE_CHECKING:
    from typing import Any

NO_BCC = 3  # as in symbols.py, which is not imported: it is not needed for more

# Each process that is watched keeps a file open for each of its mapped files.
MOST_PROCESSES = 4096
FIRST_LOOK_AGAIN = 1.0  # seconds; then twice as many, and so on


class BccSymbol(ctypes.Structure):
    """struct bcc_symbol of bcc's bcc_syms.h, the same in all versions."""

    _fields_ = [
        ("name", ctypes.c_char_p),
        ("demangle_name", ctypes.c_void_p),
        ("module", ctypes.c_char_p),
        ("offset", ctypes.c_uint64),
    ]


def load() -> ctypes.CDLL:
    try:
        lib = ctypes.CDLL("libbcc.so.0")
    except OSError:
        raise SystemExit(NO_BCC) from None
    pointer = ctypes.c_void_p
    lib.bcc_symcache_new.restype = pointer
    lib.bcc_symcache_new.argtypes = [ctypes.c_int, pointer]
    lib.bcc_symcache_resolve.argtypes = [pointer, ctypes.c_uint64, pointer]
    lib.bcc_symbol_free_demangle_name.argtypes = [pointer]
    lib.bcc_symbol_free_demangle_name.restype = None
    lib.bcc_free_symcache.argtypes = [pointer, ctypes.c_int]
    lib.bcc_free_symcache.restype = None
    return lib


class Process:
    """A process whose files are open: those that it had mapped when ``open`` was
    last called while it lived."""

    def __init__(self, lib: ctypes.CDLL, pid: int) -> None:
        self._lib = lib
        self._pid = pid
        self._cache: int | None = None
        self._wait = FIRST_LOOK_AGAIN / 2
        self._next = 0.0

    def open(self) -> None:
        """Open the files that are mapped now, if the process lives."""
        if not self.lives():
            return
        before, self._cache = self._cache, self._lib.bcc_symcache_new(self._pid, None)
        if before and not self.lives():  # it ended while they were opened
            before, self._cache = self._cache, before
        if before:
            self._lib.bcc_free_symcache(before, self._pid)

    def lives(self) -> bool:
        """Whether it has any memory; a process that has ended has not."""
        try:
            with open(f"/proc/{self._pid}/maps", "rb") as file:
                return bool(file.read(1))
        except OSError:
            return False

    def look_again(self) -> None:
        """Open what was mapped since, from time to time."""
        if time.monotonic() >= self._next:
            self._wait *= 2
            self._next = time.monotonic() + self._wait
            self.open()

    def close(self) -> None:
        if self._cache:
            self._lib.bcc_free_symcache(self._cache, self._pid)
            self._cache = None

    def symbol(self, address: int) -> Any:
        if not self._cache:
            return None
        symbol = BccSymbol()
        if self._lib.bcc_symcache_resolve(self._cache, address, ctypes.byref(symbol)) < 0:
            return None
        name = ctypes.string_at(symbol.demangle_name) if symbol.demangle_name else symbol.name
        self._lib.bcc_symbol_free_demangle_name(ctypes.byref(symbol))
        if not name:
            return None
        module = symbol.module or b""
        return [text(name), text(module), symbol.offset]


def text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def main() -> None:
    # Ctrl-C is for the tool: it asks for names then. It ends, and so does the input.
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    # Whatever bcc prints is not an answer.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    lib = load()
    watched: dict[int, Process] = {}
    for line in sys.stdin.buffer:
        command, argument = json.loads(line)
        if command == "watch":
            for pid in argument:
                if pid not in watched:
                    if len(watched) >= MOST_PROCESSES:
                        continue
                    watched[pid] = Process(lib, pid)
                watched[pid].look_again()
            continue
        answer = []
        for pid, addresses in argument:
            process = watched.get(pid) or Process(lib, pid)
            process.open()
            answer.append([process.symbol(address) for address in addresses])
            if command == "resolve" or pid not in watched or not process.lives():
                watched.pop(pid, None)
                process.close()
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()


if __name__ == "__main__":
    main()
