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

from long_run import NAMESPACE, NOTHING, Run, Tool, Worker, namespace, packets_at_loopback
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
        script = (
            "mount -t tmpfs -o mode=755 none /var/cache; i=0; while [ $i -lt $1 ]; do "
            '"$2" --json -v --duration $3 >"$4/$i" 2>"$4/$i.err" & i=$((i+1)); done; '
            "for job in $(jobs -p); do wait $job || echo $?; done"
        )
        with tempfile.TemporaryDirectory() as folder, self.done("opens", 1000, 1, self.file) as w:
            began = time.monotonic()
            shell = subprocess.Popen(
                ["unshare", "-m", "--propagation", "private", "bash", "-c", script, "bash",
                 str(COPIES), str(TOOLS / "opensnoop"), "30", folder],
                stdout=subprocess.PIPE,
            )  # fmt: skip
            errors = [Path(folder, f"{number}.err") for number in range(COPIES)]
            while not all(path.exists() and b"Hit Ctrl-C" in path.read_bytes() for path in errors):
                if time.monotonic() > began + PATIENCE:
                    raise SystemExit("they do not start")
                time.sleep(0.1)
            attached = time.monotonic() - began
            w.go()
            done = w.wait().times
            output, _ = shell.communicate(timeout=PATIENCE)
            wanted = f'"pid": {w.pid},'.encode()
            reported = [
                Path(folder, str(number)).read_bytes().count(wanted) for number in range(COPIES)
            ]
            said = b"".join(path.read_bytes() for path in errors)
        compiled = said.count(b"compiled:")
        lost = said.count(b" lost")
        wait_until_detached(before)
        self.say(
            f"opensnoop: {COPIES} copies have attached after {attached:.1f} s, {compiled} of them "
            f"have compiled; of {done} opens each has reported {min(reported)} to {max(reported)}, "
            f"{lost} have lost some, {len(output.split())} have failed",
            set(reported) == {done} and not output.split(),
        )  # fmt: skip


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
