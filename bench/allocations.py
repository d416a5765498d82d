"""What memleak costs a call of malloc(3) and the free(3) of its memory, beside bcc's.

The load allocates 100 bytes 100,000 times, and frees them but for one in 1,000; it has a process of
its own, which both tools trace by its pid. Time in the programs is the kernel's own
(``program_statistics``); that of the traps by which they are reached is in what is added.
"""
from __future__ import annotations

import subprocess
from statistics import median

import installed
from place import Place, progress
from processes import Trouble, load_cpu, program_statistics
from table import Row

COUNT = 100_000
ROUNDS = 3
LIMIT = 0.80
ONCE = "100000"  # seconds between two tables


class Load:
    """A load of so many events a round, which begins one when it is told to."""

    def __init__(self, place: Place, name: str, count: int) -> None:
        self.process = subprocess.Popen(
            [str(place.load(name)), str(count), str(load_cpu())],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def __enter__(self) -> Load:
        return self

    def __exit__(self, *exception: object) -> None:
        self.process.kill()
        self.process.communicate()

    def run(self) -> list[int]:
        """Nanoseconds of each part of a round."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(b"x")
        self.process.stdin.flush()
        parts = []
        for line in self.process.stdout:
            if line == b"\n":
                return parts
            parts.append(int(line))
        raise Trouble(f"the load {self.process.args[0]} has ended")


def measure(place: Place) -> list[Row]:
    """The rows of the table on memleak."""
    commands = {"ours": installed.ours("memleak"), "bcc memleak": installed.bcc("memleak")}
    inside: dict[str, list[float]] = {name: [] for name in commands}
    added: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(ROUNDS):
        for name, command in commands.items():
            progress(f"memleak {number + 1}/{ROUNDS}: {name}")
            with Load(place, "allocations", COUNT) as load:
                alone = load.run()
                command = installed.with_tracefs([*command, "-p", str(load.process.pid), ONCE])
                with place.tool(name, command) as running:
                    # Once as it is used, once with its programs being timed.
                    traced = load.run()
                    with program_statistics():
                        before, _ = running.program_total()
                        load.run()
                        inside[name].append((running.program_total()[0] - before) / COUNT)
                    running.stop()
                alone += load.run()
            added[name].append((median(traced) - median(alone)) / (COUNT / len(traced)))
    ours, peer = commands
    return [
        Row(
            "memleak, programs per malloc and free",
            median(inside[ours]), median(inside[peer]), peer, LIMIT, "ns",
        ),
        Row(
            "memleak, added to each malloc and free",
            median(added[ours]), median(added[peer]), peer, None, "ns",
        ),
    ]  # fmt: skip
