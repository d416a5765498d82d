"""Runs as the child process of symbols.py only: requests on standard input,
answers on standard output, both a line of JSON each.

``["watch", [pid, ...]]`` has no answer; ``["resolve", [[pid, [address, ...]], ...]]``
is answered by [[name, module, offset] or null, ...] for each of the pids, whose files
are closed then; "resolve and keep" leaves those of watched processes open that live.
"""
from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
import weakref

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, os.path.dirname(os.path.dirname(HERE)))

from pytools.base.annotations import TYPE_CHECKING  # noqa: E402
from pytools.read.process_symbols import MappedSymbols  # noqa: E402

if TYPE_CHECKING:
    from typing import Any


# Each of the files that watched processes have mapped is open once.
MOST_PROCESSES = 4096
FIRST_LOOK_AGAIN = 1.0  # seconds; then twice as many, and so on
# A file that somebody made may have names that grow without bounds when they are written as in C++.
MOST_MEMORY_BYTES = 4 << 30


class Process(MappedSymbols):
    """A process that is looked at from time to time."""

    def __init__(self, pid: int, files: weakref.WeakValueDictionary[Any, Any]) -> None:
        super().__init__(pid, files)
        self._wait = FIRST_LOOK_AGAIN / 2
        self._next = 0.0

    def look_again(self) -> None:
        """Open what was mapped since, from time to time."""
        if time.monotonic() >= self._next:
            self._wait *= 2
            self._next = time.monotonic() + self._wait
            self.open()


def main() -> None:
    # Ctrl-C is for the tool: it asks for names then. It ends, and so does the input.
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    for limit, most in (
        (resource.RLIMIT_NOFILE, resource.RLIM_INFINITY),
        (resource.RLIMIT_AS, MOST_MEMORY_BYTES),
    ):
        _, hard = resource.getrlimit(limit)
        most = hard if most == resource.RLIM_INFINITY else most
        if hard != resource.RLIM_INFINITY:
            most = min(most, hard)
        resource.setrlimit(limit, (most, hard))
    # Whatever a library prints is not an answer.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    files: weakref.WeakValueDictionary[Any, Any] = weakref.WeakValueDictionary()
    watched: dict[int, Process] = {}
    for line in sys.stdin.buffer:
        command, argument = json.loads(line)
        if command == "watch":
            for pid in argument:
                if pid not in watched:
                    if len(watched) >= MOST_PROCESSES:
                        continue
                    watched[pid] = Process(pid, files)
                watched[pid].look_again()
            continue
        answer = []
        for pid, addresses in argument:
            process = watched.get(pid) or Process(pid, files)
            process.open()
            answer.append([process.symbol(address) for address in addresses])
            if command == "resolve" or pid not in watched or not process.lives():
                watched.pop(pid, None)
                process.close()
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()


if __name__ == "__main__":
    main()
