"""Files that another process names: what it puts in their place neither blocks nor misleads."""
from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
import weakref
from pathlib import Path
from typing import Any, Iterator

import pytest

from elf_files import FOREVER, HEADERS, TEXT, elf, machine_code
from machine_code import FUNCTIONS
from pytools.base import process_files, system
from pytools.base.process_files import NotRegular, open_in_root, open_regular, owned_by
from pytools.read.process_symbols import MOST_MAP_BYTES, MappedSymbols, Table, perf_map
from pytools.read.symbols import Symbols
from support import on_host_only, python_child, run_tool

START = TEXT + HEADERS
# What must not take long: far more than it takes, far less than to wait for somebody.
AT_ONCE = 20.0


# Opening.


def is_file(descriptor: int, path: Path) -> bool:
    same = os.path.samestat(os.fstat(descriptor), path.stat())
    os.close(descriptor)
    return same


@pytest.fixture(params=["openat2", "walked"])
def both_ways(request: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the kernel finds a path in a root, and as older ones make us find it."""

    def no_openat2(*given: object) -> int:
        raise OSError(38, "Function not implemented")

    if request.param == "walked":
        monkeypatch.setattr(system, "call", no_openat2)


ROOT_OF_ITS_OWN = """
import os, sys
os.chroot(sys.argv[1])
print("ready", flush=True)
sys.stdin.read()
"""


def test_links_are_followed_inside_the_process_s_root_only(tmp_path: Path, both_ways: None) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / "inner").mkdir(parents=True)
    outside.write_text("secret")
    for folder, text in ((root, "top"), (root / "inner", "inner")):
        (folder / "file").write_text(text)
    (root / "absolute").symlink_to("/inner/file")
    (root / "upwards").symlink_to("../../outside")
    (root / "away").symlink_to(outside)
    (root / "folder").symlink_to("inner/../inner")
    (root / "loop").symlink_to("loop")
    (root / "magic").symlink_to("/proc/1/root/etc/passwd")
    with python_child(ROOT_OF_ITS_OWN, str(root)) as child:
        assert child.stdout and child.stdout.readline() == b"ready\n"
        for path in ("/file", "file", "/../../file", "inner/../file"):
            assert is_file(open_in_root(child.pid, path), root / "file")
        for path in ("/absolute", "/folder/file", "inner/./file"):
            assert is_file(open_in_root(child.pid, path), root / "inner" / "file")
        for path in ("/upwards", "/away", "/loop", "/magic", "/nothing", str(outside), "/inner"):
            with pytest.raises(OSError):
                open_in_root(child.pid, path)


def test_what_is_no_regular_file_is_not_opened(tmp_path: Path, both_ways: None) -> None:
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(tmp_path / "socket"))
    for path in (tmp_path / "fifo", tmp_path / "socket", tmp_path, Path("/dev/null")):
        with pytest.raises(NotRegular):
            open_regular(str(path))
        with pytest.raises(NotRegular):
            open_in_root(os.getpid(), str(path))


def test_an_owner_is_root_or_the_process(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    with contextlib.closing(os.fdopen(open_regular(str(path)))) as file:
        for owner, ours in ((0, True), (1, False), (1234, True)):
            os.chown(path, owner, owner)
            with python_child("import os, sys; os.setuid(1234); print(flush=True); input()") as it:
                assert it.stdout and it.stdout.readline()
                assert owned_by(file.fileno(), it.pid) == ours
        os.chown(path, 1, 1)
        assert not owned_by(file.fileno(), 2**22)  # there is no such process


# Names.


def test_the_innermost_function_has_the_address() -> None:
    table = Table(
        [(100, 50, b"outer"), (110, 10, b"__inner"), (110, 10, b"inner"), (200, 5, b"last")]
    )
    found = {place: table.find(place) for place in (99, 100, 115, 120, 149, 150, 204, 205)}
    assert found == {
        99: None, 100: (b"outer", 0), 115: (b"inner", 5), 120: (b"outer", 20),
        149: (b"outer", 49), 150: None, 204: (b"last", 4), 205: None,
    }  # fmt: skip


def test_lines_of_a_perf_map_that_are_none_are_left_out() -> None:
    table = perf_map(
        b"10 8 first\n0x20 0x8 with spaces; and more\nzz 8 no\n30 8\n\n\0\xff 1 2\n"
        b"10 8 again\n" + b"f" * 17 + b" 1 too long\n40 8 \xff\n"
    )
    names = [table.find(place) for place in (0x10, 0x27, 0x30, 0x40)]
    assert names == [(b"again", 0), (b"with spaces; and more", 7), None, (b"\xff", 0)]


@contextlib.contextmanager
def running(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program that does nothing but turn in a circle, in hot_function."""
    path.write_bytes(elf(FOREVER, functions=[("hot_function", START, 64)]))
    path.chmod(0o755)
    with subprocess.Popen([str(path)]) as child:
        try:
            while not runs_its_own(child.pid):
                assert child.poll() is None
            yield child
        finally:
            child.kill()


def runs_its_own(pid: int) -> bool:
    """Whether its own program is mapped, in place of this one's."""
    return Path(f"/proc/{pid}/maps").read_text().startswith(f"{TEXT:08x}-")


@machine_code
@pytest.mark.parametrize("what", ["deleted", "replaced", "replaced by a fifo", "moved"])
def test_a_file_that_is_not_at_its_name_any_more_has_its_own_names(
    what: str, tmp_path: Path
) -> None:
    path = tmp_path / "program"
    names = Symbols()
    with running(path) as child:
        if what == "moved":
            path.rename(tmp_path / "other")
        else:
            path.unlink()
        if what == "replaced":
            path.write_bytes(elf(FOREVER, functions=[("wrong_function", START, 64)]))
        if what == "replaced by a fifo":
            os.mkfifo(path)
        try:
            found = names.resolve({child.pid: [START + 1]})
        finally:
            names.close()
    assert found[child.pid][START + 1].name == "hot_function"
    assert found[child.pid][START + 1].offset == 1


@pytest.mark.every_kernel
@machine_code
@pytest.mark.any_types
def test_profile_names_the_functions_of_a_deleted_program(tmp_path: Path) -> None:
    path = tmp_path / "program"
    with running(path) as child:
        path.unlink()
        result = run_tool("profile", "-f", "-U", "-p", str(child.pid), "0.5")
    assert (result.returncode, result.stderr) == (0, "")
    assert {line.rpartition(" ")[0] for line in result.stdout.splitlines()} == {
        "program;hot_function"
    }


WAIT = FUNCTIONS + "\nprint(places['hot_function'], flush=True); sys.stdin.read()\n"


@machine_code
@pytest.mark.parametrize(
    "what",
    # Emulated, 64 MiB are read for as long as the process that reads them is waited for.
    ["as it is", "fifo", "device", "folder", *on_host_only("huge"), "not its own", "link", "loop"],
)
def test_a_perf_map_never_blocks(what: str, tmp_path: Path) -> None:
    names = Symbols()
    with python_child(WAIT) as child:
        assert child.stdout
        address = int(child.stdout.readline())
        path = Path(f"/tmp/perf-{child.pid}.map")
        try:
            kept = tmp_path / "kept"
            shutil.copy(path, kept)
            if what != "as it is":
                path.unlink()
            if what == "fifo":
                os.mkfifo(path)
            elif what == "device":
                path.symlink_to("/dev/zero")
            elif what == "folder":
                path.mkdir()
            elif what == "huge":
                path.write_bytes(kept.read_bytes())
                os.truncate(path, 1 << 42)
            elif what == "not its own":
                shutil.copy(kept, path)
                os.chown(path, 1234, 1234)
            elif what == "link":
                path.symlink_to(kept)
            elif what == "loop":
                path.symlink_to(path)
            began = time.monotonic()
            found = names.resolve({child.pid: [address]})[child.pid]
            took = time.monotonic() - began
        finally:
            names.close()
            with contextlib.suppress(IsADirectoryError, PermissionError):
                path.unlink()
            with contextlib.suppress(FileNotFoundError):
                path.rmdir()
    assert names.why_not == "" and took < AT_ONCE
    known = what in ("as it is", "huge", "link")
    assert [symbol.name for symbol in found.values()] == ["hot_function"] * known
    assert MOST_MAP_BYTES < 1 << 42


@machine_code
@pytest.mark.host_only
def test_profile_ends_at_once_beside_a_fifo() -> None:
    code = WAIT.replace("sys.stdin.read()", "spin('hot_function', 60)")
    with python_child(code) as child:
        assert child.stdout and child.stdout.readline()
        path = Path(f"/tmp/perf-{child.pid}.map")
        path.unlink()
        os.mkfifo(path)
        try:
            result = run_tool("profile", "-f", "-p", str(child.pid), "-d", "0.5", timeout=AT_ONCE)
        finally:
            path.unlink()
    assert (result.returncode, result.stderr) == (0, "")
    assert "[unknown]" in result.stdout


def test_what_is_open_is_closed_again() -> None:
    files: weakref.WeakValueDictionary[Any, Any] = weakref.WeakValueDictionary()
    before = len(os.listdir("/proc/self/fd"))
    symbols = [MappedSymbols(os.getpid(), files) for _ in range(3)]
    for each in symbols:
        each.open()
    opened = len(os.listdir("/proc/self/fd")) - before
    assert opened == len(files) > 0  # one for each file, not for each process
    for each in symbols:
        each.close()
    assert len(os.listdir("/proc/self/fd")) == before
    assert process_files.PATH & os.O_CLOEXEC
