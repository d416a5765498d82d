"""Files that processes have mapped as code are found once, by whatever way they are there."""
from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Sequence, cast

import pytest

import elf_files
from pytools.base.errors import Failure
from pytools.domains import mapped_files
from pytools.domains.mapped_files import MappedFiles
from pytools.facts.elf import File
from support import python_child

# Maps the files that it is told, a line each.
MAPPING = """
import mmap, sys
maps = []
for line in sys.stdin:
    with open(line.rstrip(), "rb") as file:
        maps.append(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ | mmap.PROT_EXEC))
    print("mapped", flush=True)
"""


class Files:
    """What a MappedFiles tells of."""

    def __init__(self, why: str = "") -> None:
        self.why = why
        self.found: list[tuple[str, bytes]] = []
        self.complaints: list[str] = []
        self.mapped = MappedFiles(
            re.compile(r".*/lib[^/]*$"), self._found, lambda why: self.complaints.append(str(why))
        )

    def _found(self, pid: int, path: str, name: str) -> None:
        if self.why:
            raise Failure(self.why)
        self.found.append((name, Path(path).read_bytes()))


def test_a_file_is_told_once_also_when_it_was_deleted_or_replaced(tmp_path: Path) -> None:
    files = Files()
    with python_child(MAPPING) as one, python_child(MAPPING) as other:
        for child, name, content in (
            (one, "lib one", b"1"), (one, "other", b"2"), (other, "lib one", b"1"),
            (one, "libtwo", b"3"), (other, "libtwo", b"4"),
        ):  # fmt: skip
            path = tmp_path / name
            if name == "libtwo":
                path.unlink(missing_ok=True)
            path.write_bytes(content)
            assert child.stdin and child.stdout
            child.stdin.write(os.fsencode(path) + b"\n")
            child.stdin.flush()
            assert child.stdout.readline() == b"mapped\n"
        for child in (one, other, one):
            files.mapped.look(child.pid)
    own = [(name, content) for name, content in files.found if name.startswith(str(tmp_path))]
    two = str(tmp_path / "libtwo")
    assert sorted(own) == [(str(tmp_path / "lib one"), b"1"), (two, b"3"), (two, b"4")]


def test_a_file_that_cannot_be_read_is_complained_of_once(tmp_path: Path) -> None:
    files = Files("nothing")
    with python_child(MAPPING) as child:
        (tmp_path / "libx").write_bytes(b"x")
        assert child.stdin and child.stdout
        child.stdin.write(os.fsencode(tmp_path / "libx") + b"\n")
        child.stdin.flush()
        assert child.stdout.readline() == b"mapped\n"
        files.mapped.look(child.pid)
        times = len(files.complaints)
        assert times and set(files.complaints) == {"nothing"}
        files.mapped.look(child.pid)
        assert len(files.complaints) == times


def test_nobody_can_have_too_many_files_watched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each takes descriptors and time; those of others are watched all the same."""

    class Program:
        def attach_uprobe(self, function: str, file: File, places: Sequence[int]) -> None:
            attached.append(file.path)

    attached: list[str] = []
    said: list[str] = []
    program = cast(Any, Program())
    watched = mapped_files.WatchedFiles(
        program, re.compile("x"), ["looked_up"], said.append, "these are not seen"
    )
    monkeypatch.setitem(mapped_files.MOST_FILES, 0, 5)
    functions = [("looked_up", elf_files.TEXT + elf_files.HEADERS, 1)]
    content = elf_files.elf(b"\x90", functions=functions, exported=True)
    paths = [
        tmp_path / f"lib{number}.so" for number in range(mapped_files.MOST_FILES_OF_OTHERS + 9)
    ]
    for path in paths:
        path.write_bytes(content)
        os.chown(path, 65534, 65534)
        watched._mapped._tell(os.getpid(), str(path), str(path))
    most = mapped_files.MOST_FILES_OF_OTHERS
    assert attached == list(map(str, paths[:most]))
    assert said == [
        f"user 65534 has more than {most} such files: {paths[most]}, and others; "
        "these are not seen"
    ]
    os.chown(paths[-1], 0, 0)
    watched._mapped._tell(os.getpid(), str(paths[-1]), "another")
    assert attached[most:] == ["another"]


def test_a_file_of_a_process_that_ended_is_told_again(monkeypatch: pytest.MonkeyPatch) -> None:
    files = Files("gone")
    with python_child("print(1, flush=True); input()") as child:
        assert child.stdout and child.stdout.readline()
        monkeypatch.setattr(os.path, "exists", lambda path: False)
        files.mapped.look(child.pid)
        assert not files.complaints
        files.why = ""
        files.mapped.look(child.pid)
    assert any("/lib" in name for name, _ in files.found)
    files.mapped.look(child.pid)  # nobody is there: nothing happens
