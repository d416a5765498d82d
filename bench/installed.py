"""The peers that are installed here, and what they need to run."""
from __future__ import annotations

import os
from pathlib import Path
from typing import Callable, NamedTuple

from processes import Trouble

BENCH = Path(__file__).resolve().parent
ROOT = BENCH.parent

NOTES: list[str] = []  # which peers cannot run here, and what replaced them


# Where that is measured which this kernel cannot run.
ELSEWHERE = "Measured in a machine of the matrix (make bench-kernels)."


def kprobes() -> bool:
    """Whether the kernel that runs lets programs be attached to functions."""
    from pytools.facts.kernel import running

    return running().has_kprobes


def note(line: str) -> None:
    """Remember a line for the end of the report, once."""
    if line not in NOTES:
        NOTES.append(line)


def ours(tool: str, *arguments: str) -> list[str]:
    """The command of a tool of ours."""
    path = ROOT / "tools" / tool
    if not os.access(path, os.X_OK):
        raise Trouble(f"there is no tools/{tool}")
    return [str(path), *arguments]


def empty(*places: str) -> list[str]:
    """The command that attaches an empty program to each place (``peers/empty``)."""
    return [str(BENCH / "peers" / "empty"), *places]


def bcc(tool: str, *arguments: str) -> list[str]:
    """The command of bcc's tool: of Debian's bpfcc-tools, or of bcc-tools elsewhere."""
    return [_first(f"/usr/sbin/{tool}-bpfcc", f"/usr/share/bcc/tools/{tool}"), *arguments]


def libbpf(tool: str, *arguments: str) -> list[str]:
    """The command of a C tool of libbpf-tools."""
    return [_first(f"/usr/sbin/{tool}", f"/usr/sbin/bpf-{tool}"), *arguments]


class Peer(NamedTuple):
    """What a tool of ours may be held against: what it is, and its command, which is
    Trouble where it is not installed."""

    name: str
    command: Callable[[], list[str]]


def bcc_peer(tool: str, *arguments: str) -> Peer:
    """bcc's tool."""
    return Peer(f"bcc {tool}", lambda: bcc(tool, *arguments))


def libbpf_peer(tool: str, *arguments: str) -> Peer:
    """The C tool of libbpf-tools."""
    return Peer(f"libbpf-tools {tool}", lambda: libbpf(tool, *arguments))


def script_peer(tool: str) -> Peer:
    """What does in ``peers/`` the work of bcc's tool, on tracepoints."""
    return Peer("bcc script, tracepoints", lambda: [str(BENCH / "peers" / tool)])


def with_tracefs(command: list[str]) -> list[str]:
    """A command that finds tracefs where bcc and libbpf look for it. (Tools of
    ours need no mount.) What is mounted here is seen by that process only."""
    place = "/sys/kernel/debug/tracing"
    if os.path.exists(place + "/events"):
        return command
    mounts = f"mount -t debugfs none /sys/kernel/debug; mount -t tracefs none {place}"
    return [
        "/usr/bin/unshare", "--mount", "/bin/sh", "-c", f'{mounts}; exec "$@"', "sh", *command
    ]  # fmt: skip


def _first(*paths: str) -> str:
    for path in paths:
        if os.access(path, os.X_OK):
            return path
    raise Trouble(f"{paths[0]} is not installed (make bench installs what there is)")


def environment(folder: Path) -> dict[str, str]:
    """The environment of every command: as a login shell's, and kernel headers
    for bcc. ``folder`` is for a tree of them, where one must be made."""
    env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "HOME": "/root"}
    release = os.uname().release
    if os.path.isdir(f"/lib/modules/{release}/build/include"):
        return env  # as bcc expects it
    builds = sorted(Path("/lib/modules").glob("*/build/include/generated"))
    if not builds:
        return env  # bcc will say that there are none
    modules = builds[-1].parents[2]
    tree = folder / "headers"
    _merge(tree, [modules / "source", modules / "build"])
    env["BCC_KERNEL_SOURCE"] = str(tree)
    note(
        f"The kernel that runs ({release}) has no headers installed: bcc's tools are compiled with "
        f"those of {modules.name}. What they measure with them may be wrong; how they do it is "
        "the same."
    )
    return env


def _merge(tree: Path, sources: list[Path]) -> None:
    """A tree of links to kernel headers. Debian has them in two trees, of which
    bcc finds the second one only below /lib/modules/RELEASE."""
    if not sources[0].is_dir():
        sources = sources[1:]
    for source in sources:
        architectures = [path.relative_to(source) for path in source.glob("arch/*/include")]
        for folder in (Path("include"), *architectures):
            (tree / folder).mkdir(parents=True, exist_ok=True)
            for path in (source / folder).iterdir():
                if not (tree / folder / path.name).exists():
                    (tree / folder / path.name).symlink_to(path.resolve())
