"""dirtop against a program that knows how much it reads and writes below each directory."""
from __future__ import annotations

import contextlib
import json
import os
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Iterator

import pytest

from file_work import Worker, folder, worker
from pytools.compile.unrendered import Unrendered
from pytools.domains import directories
from pytools.domains.directories import Directories, named
from pytools.load import program
from support import Tool, in_fork, needs_functions

KIB = 1024
MIB = KIB * KIB

# Into a: 10 MiB in writes of 64 KiB. Into b: 5 MiB, deep below it, which are read again, up to the
# end and beyond. Into c, and beside all of them: nothing that is asked for.
WORK = """
os.makedirs("b/deep/er/and/deeper", exist_ok=True)
fd = os.open("a/file", os.O_RDWR | os.O_CREAT)
for _ in range(160):
    os.write(fd, bytes(1 << 16))
fd = os.open("b/deep/er/and/deeper/file", os.O_RDWR | os.O_CREAT)
for _ in range(5):
    os.writev(fd, [bytes(1 << 19)] * 2)
for i in range(6):
    os.preadv(fd, [bytearray(1 << 20)], i << 20)
os.pread(fd, 1 << 20, (5 << 20) - 100)
for name in ("beside", "c/file"):
    os.write(os.open(name, os.O_RDWR | os.O_CREAT), b"x" * 1000)
"""
INTO_A = 0, 160, 0, 10 * MIB
INTO_B = 7, 5, 5 * MIB + 100, 5 * MIB
WRITE = "os.write(os.open({!r}, os.O_RDWR | os.O_CREAT), b'x' * {})"


# All of a program that watches directories that Directories needs.
WATCHING = r"""
BPF_HASH(directories, u64, u32, 1);

RAW_TRACEPOINT(sys_exit)
{
	return 0;
}
"""


@contextlib.contextmanager
def tree() -> Iterator[tuple[Path, Worker]]:
    """A folder with the directories a, b and c, and a program in it."""
    with folder("dirtop") as path, worker(path) as running:
        for name in "abc":
            (path / name).mkdir()
        yield path, running


def rows(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


def amounts(found: list[dict[str, Any]]) -> dict[str, tuple[int, int, int, int]]:
    return {
        os.path.basename(row["path"]): (row["reads"], row["writes"], row["rbytes"], row["wbytes"])
        for row in found
    }


def arguments(running: Worker, *more: str) -> list[str]:
    return ["--json", "-p", str(running.pid), *more, "1000"]


@pytest.mark.every_kernel
@needs_functions
def test_calls_and_bytes_below_each_directory() -> None:
    """Of a directory that two paths lead to, one counts; the busiest is first."""
    with tree() as (path, running):
        (path / "link").symlink_to("a")
        where = f"{path}/[ab],{path}/link"
        with Tool("dirtop", *arguments(running, "-d", where)) as tool:
            running.do(WORK)
            found = rows(tool.stop())
            assert b"lost" not in tool.messages
    assert amounts(found) == {"a": INTO_A, "b": INTO_B}
    assert [row["path"] for row in found] == [f"{path}/a", f"{path}/b"]


@needs_functions
def test_the_innermost_directory_counts_as_often_as_it_is_sorted() -> None:
    with tree() as (path, running):
        (path / "b/deep/er").mkdir(parents=True)
        where = f"{path},{path}/b/deep/**"
        with Tool("dirtop", *arguments(running, "-d", where, "-s", "wbytes", "-r", "2")) as tool:
            running.do(WORK)
            found = rows(tool.stop())
    top = tuple(a + b for a, b in zip(INTO_A, (0, 2, 0, 2000)))
    assert amounts(found) == {path.name: top, "er": INTO_B}
    assert [os.path.basename(row["path"]) for row in found] == [path.name, "er"]


@needs_functions
def test_a_directory_is_known_when_it_is_moved_and_what_is_mounted_belongs_to_it() -> None:
    with tree() as (path, running):
        mounted = path / "b" / "mounted"
        mounted.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "none", str(mounted)], check=True)
        try:
            where = f"{path}/a,{path}/b"
            with Tool("dirtop", *arguments(running, "-d", where)) as tool:
                running.do(f"os.rename('a', 'moved'); os.mkdir('a'); {WRITE.format('a/f', 10)}")
                running.do(WRITE.format("moved/f", 200))
                running.do("os.mkdir('b/mounted/d'); " + WRITE.format("b/mounted/d/f", 3000))
                found = rows(tool.stop())
        finally:
            subprocess.run(["umount", "-l", str(mounted)], check=True)
    assert amounts(found) == {"a": (0, 1, 0, 200), "b": (0, 1, 0, 3000)}


@needs_functions
def test_a_table_has_the_columns_of_bcc() -> None:
    with tree() as (path, running):
        with Tool("dirtop", "-C", "-p", str(running.pid), "-d", f"{path}/a", "1000") as tool:
            running.do(WORK)
            head, line, *rest = tool.stop().splitlines()
    assert head.split() == "READS WRITES R_Kb W_Kb PATH".split() and not any(rest)
    assert line.split() == ["0", "160", "0", "10240", f"{path}/a"]


@pytest.mark.host_only
def test_what_names_no_directory_is_refused() -> None:
    for names, why in (
        ("/nonesuch", "there is no directory /nonesuch"),
        ("/etc/passwd", "/etc/passwd is no directory"),
        ("/etc/pass*", "no directory matches /etc/pass*"),
        ("/etc,", "a name is empty"),
        ("/etc,/non\x1besuch", "there is no directory /non\\x1besuch"),
    ):
        result = in_fork("dirtop", "-d", names, "--ebpf")
        assert (result.returncode, result.stdout) == (2, "")
        assert result.stderr == f"dirtop: argument -d: {why}\n"
    result = in_fork("dirtop", "--ebpf", "--root-directories")
    assert result.returncode == 2 and len(result.stderr.splitlines()) == 1


@pytest.mark.host_only
def test_patterns_name_directories_in_their_order_and_each_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("b/x", "a/x", "c"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    assert named("c,*,c") == ["c", "a", "b"]
    assert named("*/x,a") == ["a/x", "b/x", "a"]
    assert named("**") == ["a", "a/x", "b", "b/x", "c"]
    monkeypatch.setattr(directories, "MOST", 4)
    with pytest.raises(Exception, match="more than 4 directories"):
        named("**")


@pytest.mark.host_only
def test_directories_are_learned_and_stay_open_until_they_are_closed(tmp_path: Path) -> None:
    """More than a process may have open, of which one has two names."""
    paths = [str(tmp_path / f"{i:04}") for i in range(1100)]
    for path in paths:
        os.mkdir(path)
    (tmp_path / "link").symlink_to(paths[0])
    source = Unrendered(WATCHING)
    watching = program.prepare(source, {"directories": len(paths)}, True, lambda line: None)
    options: Any = SimpleNamespace(no_cache=False)

    def opened() -> int:
        return len(os.listdir("/proc/self/fd"))

    before = opened()
    try:
        learned = Directories([*paths, str(tmp_path / "link")], watching, options)
        assert learned.paths == paths and opened() == before + len(paths)
        numbers = {number for _, number in watching.maps["directories"].items()}
        assert numbers == set(range(len(paths)))
        learned.close()
        assert opened() == before
    finally:
        watching.close()
