"""--cgroupmap and --mntnsmap: the keys of a map that another has pinned are what is traced."""
from __future__ import annotations

import contextlib
import json
import os
import struct
import subprocess
from pathlib import Path
from typing import Iterator

import pytest

from pytools.domains.containers import Containers
from support import Tool, in_fork, python_child, run_tool

# Opens a file by the name in each line that it reads, and says so.
OPENS = """
import ctypes, os, sys
if "unshare" in sys.argv:
    assert ctypes.CDLL(None).unshare(0x20000) == 0  # CLONE_NEWNS
print(flush=True)
for line in sys.stdin:
    os.close(os.open(line.strip(), os.O_RDONLY | os.O_CREAT))
    print(flush=True)
"""


@pytest.fixture
def bpf(tmp_path: Path) -> Iterator[Path]:
    """A BPF file system."""
    (tmp_path / "bpf").mkdir()
    subprocess.run(["mount", "-t", "bpf", "bpf", tmp_path / "bpf"], check=True)
    try:
        yield tmp_path / "bpf"
    finally:
        subprocess.run(["umount", tmp_path / "bpf"], check=True)


def create(path: Path, kind: str = "hash", key: int = 8, value: int = 8) -> Path:
    sizes = ["key", str(key), "value", str(value), "entries", "128"]
    subprocess.run(
        ["bpftool", "map", "create", path, "type", kind, *sizes, "name", "test", "flags", "0"],
        check=True,
    )
    return path


def change(path: Path, what: str, number: int, value: int = 8) -> None:
    """Put a number into a map as bcc's documentation does, or take it out."""
    key = [f"{byte:02x}" for byte in struct.pack("=Q", number)]
    more = ["value", "hex", *["00"] * value, "any"] if what == "update" else []
    subprocess.run(["bpftool", "map", what, "pinned", path, "key", "hex", *key, *more], check=True)


class Opener:
    """A process that opens files when it is told to."""

    def __init__(self, stack: contextlib.ExitStack, *options: str) -> None:
        self._child = stack.enter_context(python_child(OPENS, *options))
        self.pid = self._child.pid
        self._answer()

    def _answer(self) -> None:
        assert self._child.stdout and self._child.stdout.readline() == b"\n"

    def open(self, path: Path) -> None:
        assert self._child.stdin
        self._child.stdin.write(f"{path}\n".encode())
        self._child.stdin.flush()
        self._answer()


@contextlib.contextmanager
def cgroup2(*names: str) -> Iterator[list[Path]]:
    """Cgroups of version 2, in a folder of their own."""
    top = Path(Containers().root) / f"pytools-test-{os.getpid()}"
    folders = [top / name for name in names]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    try:
        yield folders
    finally:
        for folder in [*reversed(folders), top]:
            while folder.exists():
                with contextlib.suppress(OSError):  # its last process has not been reaped yet
                    folder.rmdir()


def names(output: str, folder: Path) -> list[str]:
    paths = [Path(json.loads(line)["path"]) for line in output.splitlines()]
    return [path.name for path in paths if path.parent == folder]


@pytest.mark.parametrize("kind", ["hash", "lru_hash", "percpu_hash"])
def test_the_cgroups_of_a_map_as_it_is_at_the_moment(bpf: Path, tmp_path: Path, kind: str) -> None:
    """Those whose numbers are in it, and not those below them."""
    with contextlib.ExitStack() as stack:
        one, below, other = stack.enter_context(cgroup2("one", "one/below", "other"))
        openers = [Opener(stack) for _ in range(3)]
        for opener, folder in zip(openers, (one, below, other)):
            (folder / "cgroup.procs").write_text(str(opener.pid))
        # Before the folders are removed, the processes have ended.
        pinned = create(bpf / "cgroups", kind)
        change(pinned, "update", one.stat().st_ino)
        tool = stack.enter_context(Tool("opensnoop", "--json", "--cgroupmap", str(pinned)))

        def all_open(number: int) -> None:
            for opener, name in zip(openers, ("one", "below", "other")):
                opener.open(tmp_path / f"{name}{number}")

        all_open(0)
        change(pinned, "update", other.stat().st_ino)
        all_open(1)
        change(pinned, "delete", one.stat().st_ino)
        all_open(2)
        assert names(tool.stop(), tmp_path) == ["one0", "one1", "other1", "other2"]


@pytest.mark.every_kernel
def test_the_mount_namespaces_of_a_map(bpf: Path, tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        inside, outside = Opener(stack, "unshare"), Opener(stack)
        pinned = create(bpf / "namespaces", value=4)
        number = os.stat(f"/proc/{inside.pid}/ns/mnt").st_ino
        change(pinned, "update", number, value=4)
        with Tool("opensnoop", "--json", "--mntnsmap", str(pinned)) as tool:
            outside.open(tmp_path / "outside")
            inside.open(tmp_path / "inside")
            assert names(tool.stop(), tmp_path) == ["inside"]


@pytest.mark.parametrize("tool", ["execsnoop", "opensnoop", "profile", "tcpconnect"])
def test_a_map_that_lets_nothing_pass_says_so(bpf: Path, tool: str) -> None:
    cgroups, namespaces = create(bpf / "cgroups"), create(bpf / "namespaces", value=4)
    change(cgroups, "update", 1 << 40)
    result = run_tool(
        tool, "--duration", "0", "--cgroupmap", str(cgroups), "--mntnsmap", str(namespaces)
    )
    assert result.returncode == 0
    assert result.stderr.splitlines()[-1] == (
        f"{tool}: nothing was seen: no task is in a cgroup of the map {cgroups}, and no process is "
        f"in a mount namespace of the map {namespaces}"
    )


@pytest.mark.host_only
def test_what_is_no_such_map_is_one_line(bpf: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "fifo")
    (bpf / "folder").mkdir()
    for path, said in (
        (create(bpf / "array", "array", 4), "is no hash map"),
        (create(bpf / "small", "hash", 4), "has keys of 4 bytes, not 8"),
        (tmp_path / "file", "is no pinned map: it is not in a BPF file system"),
        (tmp_path / "fifo", "is no pinned map: it is not in a BPF file system"),
        (bpf / "folder", "is no pinned map"),
        (bpf / "nothing", "No such file or directory"),
        (tmp_path / "file" / "map", "Not a directory"),
    ):
        for option in ("--cgroupmap", "--mntnsmap"):
            result = in_fork("opensnoop", option, str(path), "--duration", "0")
            assert (result.returncode, result.stdout) == (1, ""), path
            assert result.stderr.startswith(f"opensnoop: argument {option}: "), path
            assert said in result.stderr and len(result.stderr.splitlines()) == 1, result.stderr


@pytest.mark.host_only
def test_a_program_that_is_pinned_is_no_map(bpf: Path) -> None:
    with Tool("opensnoop") as tool:
        shown = subprocess.run(
            ["bpftool", "prog", "show", "-j"], stdout=subprocess.PIPE, check=True
        )
        number = json.loads(shown.stdout)[-1]["id"]
        subprocess.run(["bpftool", "prog", "pin", "id", str(number), bpf / "program"], check=True)
        result = in_fork("opensnoop", "--cgroupmap", str(bpf / "program"))
        tool.stop()
    assert result.returncode == 1
    assert result.stderr.endswith(f"{bpf}/program is no map, but bpf-prog\n")
