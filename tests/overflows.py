#!/usr/bin/python3
"""More than the tables of tools have room for, and many tools at once: all that was done is
reported or said to be lost.

    tests/overflows.py [flows|sessions|attempts|processes|copies ...]

    flows       200,000 flows in one interval of flowtop, which has room for 65,536
    sessions    76,000 ends of TCP sessions that are open at a time; tcplife has room for 65,536
    attempts    20,000 connects that wait for an answer; tcpconnect has room for 16,384
    processes   20,000 processes that end in one interval of syscount -P, which keeps 16,384 names
    copies      50 copies of opensnoop at once, with an empty cache, and 1,000 opens

Each prints what was done, reported and lost, and says FAIL where these do not fit; the exit status
is then 1. `all` is what is done without a name. long_run.py has the work and the network namespace.
"""
from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, Iterator, Sequence

from long_run import LOST, NAMESPACE, NOTHING, Run, Tool, Worker, namespace, packets_at_loopback
from programs import program_ids, wait_until_detached
from support import PATIENCE, TOOLS

COPIES = 50
PORTS = {7001, 7002, 7003, 7004}


@contextlib.contextmanager
def tool(name: str, *arguments: str) -> Iterator[Tool]:
    """A tool whose output is kept in ``rest``, as whole lines."""
    started = Tool(name, arguments, lambda data: 0)
    try:
        yield started
    finally:
        if started.process.poll() is None:
            started.process.kill()
            started.process.communicate()


def end(started: Tool) -> list[dict[str, Any]]:
    """Interrupt it; what it printed."""
    started.process.send_signal(2)
    output, messages = started.process.communicate(timeout=PATIENCE)
    assert started.process.returncode == 0, messages
    lines = (started.messages + messages).decode()[started.attached :].splitlines()
    started.messages = "\n".join(f"  {line}" for line in lines if "lost" in line).encode()
    return [json.loads(line) for line in output.splitlines()]


@contextlib.contextmanager
def empty_cache() -> Iterator[int]:
    """A process in whose mounts the cache is empty."""
    script = "mount -t tmpfs -o mode=755 none /var/cache && echo ready && exec sleep 1000"
    holder = subprocess.Popen(
        ["unshare", "-m", "--propagation", "private", "sh", "-c", script], stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout is not None and holder.stdout.readline() == b"ready\n"
        yield holder.pid
    finally:
        holder.kill()
        holder.communicate()


class Trials:
    def __init__(self, folder: str) -> None:
        self.program, self.nothing = f"{folder}/long_run", f"{folder}/overflow"
        Run.compile(self.program, str(Path(__file__).with_name("long_run.c")))
        # Of a name of its own: others may run, too.
        Path(folder, "nothing.c").write_text(NOTHING)
        Run.compile(self.nothing, f"{folder}/nothing.c", "-static", "-nostdlib")
        self.file = f"{folder}/file"
        Path(self.file).touch()
        self.failed = 0

    @contextlib.contextmanager
    def done(self, kind: str, rate: float, seconds: float, *more: str) -> Iterator[Worker]:
        worker = Worker(self.program, kind, rate, seconds, *more)
        try:
            yield worker
        finally:
            worker.close()

    def say(self, what: str, fits: bool, messages: bytes = b"") -> None:
        self.failed += not fits
        print(f"{what}{'' if fits else ': FAIL'}", flush=True)
        if messages:
            print(messages.decode())

    def flows(self) -> None:
        with self.done("packets", 10_000, 10, "100000") as worker:
            with tool("flowtop", "--netns", NAMESPACE, "1000") as flowtop:
                before = packets_at_loopback()
                worker.go()
                worker.wait()
                expected = packets_at_loopback() - before
                rows = end(flowtop)
        flows = [row for row in rows if "packets" in row]
        reported = sum(row["packets"] for row in flows)
        lost = sum(row.get("lost", 0) for row in rows)
        self.say(
            f"flowtop: {expected} packets; {reported} in {len(flows)} flows, {lost} lost",
            reported + lost == expected, flowtop.messages,
        )  # fmt: skip

    def sessions(self) -> None:
        # A process may have 20,000 files open.
        with contextlib.ExitStack() as stack:
            workers = [
                stack.enter_context(self.done("sessions", 500, 19, str(port))) for port in PORTS
            ]
            tcplife = stack.enter_context(tool("tcplife"))
            for worker in workers:
                worker.go()
            done = sum(2 * worker.wait().times for worker in workers)
            for worker in workers:
                worker.close()
            rows = end(tcplife)
        ends = [row for row in rows if {row.get("lport"), row.get("rport")} & PORTS]
        lost = sum(row.get("lost", 0) for row in rows)
        pids = {worker.pid for worker in workers}
        known = sum(row["pid"] in pids for row in ends)
        self.say(
            f"tcplife: {done} ends of sessions; {len(ends)} reported, {known} with their process, "
            f"{lost} lost",
            len(ends) <= done <= len(ends) + lost and done - known <= lost, tcplife.messages,
        )  # fmt: skip

    def attempts(self) -> None:
        with contextlib.ExitStack() as stack:
            workers = [
                stack.enter_context(self.done("attempts", 1_000, 5, str(port))) for port in PORTS
            ]
            tcpconnect = stack.enter_context(tool("tcpconnect"))
            for worker in workers:
                worker.go()
            done = sum(worker.wait().times for worker in workers)
            rows = end(tcpconnect)
        errors = Counter(row["error"] for row in rows if row.get("dport") in PORTS)
        lost = sum(row.get("lost", 0) for row in rows)
        self.say(
            f"tcpconnect: {done} connects without an answer; {dict(errors)} reported, {lost} lost",
            errors["EINPROGRESS"] <= done <= errors["EINPROGRESS"] + lost, tcpconnect.messages,
        )  # fmt: skip

    def processes(self) -> None:
        with self.done("execs", 600, 34, self.nothing) as worker:
            with tool("syscount", "-P", "1000") as syscount:
                worker.go()
                done = worker.wait().times
                rows = [row for row in end(syscount) if "pid" in row]
        named = sum(row["comm"] == "overflow" for row in rows)
        unnamed = sum(row["comm"] is None for row in rows)
        self.say(
            f"syscount -P: {done} processes that ended; {named} rows with their name, {unnamed} "
            "without a name",
            named <= done <= named + unnamed, syscount.messages,
        )  # fmt: skip

    def copies(self) -> None:
        before = program_ids()
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            worker = stack.enter_context(self.done("opens", 1000, 1, self.file))
            cache = stack.enter_context(empty_cache())
            began = time.monotonic()
            copies = []
            for number in range(COPIES):
                with open(folder / str(number), "wb") as output:
                    copies.append(
                        subprocess.Popen(
                            ["nsenter", f"--mount=/proc/{cache}/ns/mnt", str(TOOLS / "opensnoop"),
                             "--json", "-v", "-p", str(worker.pid)],
                            stdout=output, stderr=subprocess.STDOUT,
                        )
                    )  # fmt: skip
                stack.callback(copies[-1].kill)
            outputs = [folder / str(number) for number in range(COPIES)]
            while not all(b"Hit Ctrl-C" in path.read_bytes() for path in outputs):
                if time.monotonic() > began + PATIENCE:
                    raise SystemExit("they do not start")
                time.sleep(0.1)
            attached = time.monotonic() - began
            worker.go()
            done = worker.wait().times
            for copy in copies:
                copy.send_signal(2)
            failed = sum(copy.wait(PATIENCE) != 0 for copy in copies)
            found = [path.read_bytes() for path in outputs]
        reported = [each.count(f'"pid": {worker.pid},'.encode()) for each in found]
        lost = [sum(map(int, LOST.findall(each))) for each in found]
        compiled = sum(b"compiled:" in each for each in found)
        wait_until_detached(before)
        self.say(
            f"opensnoop: {COPIES} copies had attached after {attached:.1f} s, {compiled} of them "
            f"had compiled; of {done} opens each has reported {min(reported)} to {max(reported)}, "
            f"and lost {min(lost)} to {max(lost)}; {failed} have failed",
            not failed and all(r <= done <= r + n for r, n in zip(reported, lost)),
        )


TRIALS = ("flows", "sessions", "attempts", "processes", "copies")


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trials", nargs="*", default=TRIALS, choices=[*TRIALS, []])
    options = parser.parse_args(arguments)
    with namespace(), tempfile.TemporaryDirectory() as folder:
        trials = Trials(folder)
        for name in options.trials:
            getattr(trials, name)()
    raise SystemExit(bool(trials.failed))


if __name__ == "__main__":
    main(sys.argv[1:])
