"""What the tools that watch wake-ups, interrupts, work items, locks and the kernel's memory take in
their programs, by the kernel's own clock, for each event."""
from __future__ import annotations

import contextlib
import os
import tempfile
from typing import Iterator, NamedTuple, Sequence

import installed
import programs
from installed import Peer, bcc_peer, libbpf_peer
from place import Place
from processes import Tool, load_cpu, run_on
from table import Row

LIMIT = 0.80
ON_EACH_CPU = "pipes"  # a load whose processes wait for each other
BOTH = ("--stacks", "RAW_TRACEPOINT(sched_switch)", "RAW_TRACEPOINT(sched_waking)")
WAKERS = ("--kernel-stacks", "RAW_TRACEPOINT(sched_waking)")


class Watched(NamedTuple):
    """A tool with its options, the event that it is measured by, the load that makes ``times`` of
    them, and peers, of which the first that runs here is compared. ``counted``: whether an event
    is one of these times, or else one run of the program that runs most often, whoever it is for.
    ``walk`` are the arguments of the ``peers/empty`` that takes the same stacks. A peer must show
    what ``shows`` says after a load; one that was compiled with other headers may see nothing."""

    tool: str
    options: list[str]
    event: str
    load: str
    times: int
    peers: Sequence[Peer]
    counted: bool = False
    walk: Sequence[str] = ()
    shows: str = ""


WATCHED = (
    Watched(
        "wakeuptime", ["-K"], "switch", "switches", 500_000,
        [bcc_peer("wakeuptime"), libbpf_peer("wakeuptime")], walk=WAKERS, shows="switches",
    ),
    Watched(
        "offwaketime", [], "switch", "switches", 500_000, [bcc_peer("offwaketime")], walk=BOTH
    ),
    Watched(
        "hardirqs", ["1000"], "interrupt in time", "reads of a file", 20_000,
        [bcc_peer("hardirqs", "1000"), libbpf_peer("hardirqs", "1000")],
    ),
    Watched(
        "hardirqs", ["-C", "1000"], "interrupt counted", "reads of a file", 20_000,
        [bcc_peer("hardirqs", "-C", "1000"), libbpf_peer("hardirqs", "-C", "1000")],
    ),
    Watched("wqlat", [], "item", "reads", 200_000, [bcc_peer("wqlat"), libbpf_peer("wqlat")]),
    Watched("futexctn", [], "wait", "futexes", 200_000, [libbpf_peer("futexctn")], counted=True),
    Watched(
        "klockstat", [], "write and read of a pipe", ON_EACH_CPU, 200_000,
        [bcc_peer("klockstat"), libbpf_peer("klockstat")], counted=True,
    ),
    Watched(
        "slabratetop", ["-C", "1000"], "open", "opens", 200_000,
        [bcc_peer("slabratetop", "-C", "1000"), libbpf_peer("slabratetop", "-C", "1000")],
        counted=True,
    ),
)  # fmt: skip


def measure(place: Place) -> Iterator[Row]:
    """The rows of the table on these tools. Ours and the peer take turns."""
    if not installed.kprobes():
        installed.note(f"Of waits, some peers need kprobes. {installed.ELSEWHERE}")
    pipe = place.folder / "pipe"
    os.mkfifo(pipe)
    with programs.loop_disk(place.folder) as disk, _file_on_disk() as file:
        # What the loads work on.
        paths = {"reads": disk, "reads of a file": file, "opens": file, ON_EACH_CPU: str(pipe)}
        for watched in WATCHED:
            yield from _compared(place, watched, paths)


@contextlib.contextmanager
def _file_on_disk() -> Iterator[str]:
    """A file as large as what is read, of which each read is an interrupt of its disk."""
    scratch = os.environ.get("PYTOOLS_SCRATCH", "/var/tmp")
    with tempfile.NamedTemporaryFile(dir=scratch, prefix="bench-") as file:
        file.write(os.urandom(16 << 20))
        file.flush()
        os.fsync(file.fileno())
        yield file.name


def _compared(place: Place, watched: Watched, paths: dict[str, str]) -> list[Row]:
    tool, options, event, load, times, peers, counted, walk, shows = watched
    times = place.times(times)
    cpus = sorted(os.sched_getaffinity(0)) if load == ON_EACH_CPU else [load_cpu()]
    # A batch process lets the one that it wakes up wait: of each switch there is one wake-up.
    alike = ["chrt", "--batch", "0"] if load == "switches" else []
    program = [*alike, str(place.load(load.split()[0])), *filter(None, [paths.get(load)])]
    program.append(str(times))

    def run() -> None:
        run_on(cpus, lambda cpu: [*program, str(cpu)])

    def sees(peer: Tool) -> bool:
        if shows:
            run()
            peer.stop()
        return shows in peer.output.read_text(errors="replace")

    name, peer = place.first_or_none(*peers, sees=sees)
    return programs.compare(
        place, f"{tool}, programs per {event}", run,
        installed.ours(tool, *options), name, peer, LIMIT,
        times * len(cpus) if counted else 0, installed.empty(*walk) if walk else (),
    )  # fmt: skip
