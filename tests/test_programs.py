"""Names of programs and libraries are those of the process that they are asked for."""
from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
import sys
from pathlib import Path
from typing import Any, Iterator

import pytest

from pytools.base.errors import Failure, Usage
from pytools.domains.users import user_number
from pytools.domains.programs import file_of, files_of, mapped_files
from support import ROOT, Tool, python_child, run_tool

LIBC = file_of("c")
# In a mount namespace of its own, with another file in the C library's place. It calls getppid(2)
# for each line as often as that says.
ELSEWHERE = r"""
import ctypes, os, sys
sys.path.insert(0, sys.argv[1])
from pytools.base import system
copy, name, *rest = sys.argv[2:]
system.own_mount_namespace()
system.bind_mount(copy, name)
code = (
    "import ctypes, sys\n"
    "getppid = ctypes.CDLL(None).getppid\n"
    "print('ready', flush=True)\n"
    "for line in sys.stdin:\n"
    "    for _ in range(int(line)):\n"
    "        getppid()\n"
    "    print('done', flush=True)\n"
)
os.execv(sys.executable, [sys.executable, "-c", code])
"""


@contextlib.contextmanager
def elsewhere(folder: Path) -> Iterator[tuple[int, Path]]:
    """A process with a C library of its own, at the usual name; and that file."""
    copy = folder / "copy.so"
    shutil.copy(LIBC, copy)
    words = [str(ROOT / "lib"), str(copy), LIBC]
    with python_child(ELSEWHERE, *words) as child:
        assert child.stdin and child.stdout and child.stdout.readline() == b"ready\n"
        calls[child.pid] = child
        try:
            yield child.pid, copy
        finally:
            del calls[child.pid]


calls: dict[int, Any] = {}


def call(pid: int, times: int) -> None:
    child = calls[pid]
    child.stdin.write(b"%d\n" % times)
    child.stdin.flush()
    assert child.stdout.readline() == b"done\n"


@pytest.mark.parametrize("which", ["name", "path", "link", "seen from here", "of its root"])
def test_funccount_counts_in_the_library_that_the_process_has(which: str, tmp_path: Path) -> None:
    with elsewhere(tmp_path) as (pid, copy):
        library = {
            "name": "c",
            "path": LIBC,
            "link": LIBC.removeprefix("/usr"),  # /lib is a link to /usr/lib
            "seen from here": str(copy),
            "of its root": f"/proc/{pid}/root{LIBC}",
        }[which]
        with Tool("funccount", "--json", "-p", str(pid), f"{library}:getppid") as tool:
            call(pid, 2000)
            rows = [json.loads(line) for line in tool.stop().splitlines()]
    assert b" mapped" not in tool.messages
    assert [row["count"] for row in rows] == [2000]


@pytest.mark.host_only
def test_what_tplist_prints_of_a_process_funccount_takes(tmp_path: Path) -> None:
    with elsewhere(tmp_path) as (pid, _):
        listed = run_tool("tplist", "-p", str(pid), "uprobe:*/libc.so.6:getppid")
        assert (listed.returncode, listed.stderr) == (0, "")
        (line,) = listed.stdout.splitlines()
        with Tool("funccount", "--json", "-p", str(pid), line.partition(":")[2]) as tool:
            call(pid, 300)
            assert json.loads(tool.stop())["count"] == 300
        named = run_tool("tplist", "-p", str(pid), "-l", "c", "uprobe:*:getppid")
        assert named.stdout.splitlines() == [line, line]


@pytest.mark.host_only
def test_a_file_that_the_process_has_not_mapped_is_named() -> None:
    library = file_of("stdc++")
    with python_child("print('ready', flush=True); input()") as child:
        assert child.stdout and child.stdout.readline() == b"ready\n"
        result = run_tool(
            "funccount", "-p", str(child.pid), "-d", "0", f"{library}:__cxa_demangle"
        )  # fmt: skip
        message = (
            f"funccount: process {child.pid} does not have {library} mapped: nothing is seen of it "
            "unless that changes\n"
        )
        assert message in result.stderr and result.returncode == 0
        told: list[str] = []
        for name in ("stdc++", library, os.path.basename(sys.executable), "c", LIBC):
            for file in files_of(name, [child.pid], told.append):
                file.close()
        assert len(told) == 2 and all("stdc++" in text for text in told)
        with pytest.raises(Usage, match=f"process {child.pid} has no program and no library"):
            files_of("no such library", [child.pid], told.append)
        with pytest.raises(Failure, match="cannot read /no/such: ENOENT"):
            files_of("/no/such", [child.pid], told.append)


@pytest.mark.host_only
def test_processes_with_different_files_have_them_all(tmp_path: Path) -> None:
    told: list[str] = []
    with elsewhere(tmp_path) as (pid, copy):
        found = files_of("c", [pid, os.getpid(), pid], told.append)
        assert {os.fstat(file.fd).st_ino for file in found} == {
            copy.stat().st_ino, os.stat(LIBC).st_ino,
        }  # fmt: skip
        with Tool("funccount", "--json", "-p", f"{pid},{os.getpid()}", "c:getppid") as tool:
            call(pid, 500)
            for _ in range(20):
                os.getppid()
            assert json.loads(tool.stop())["count"] == 520
    assert len(found) == 2 and told == []
    for file in found:
        file.close()


def test_a_deleted_file_keeps_its_name(tmp_path: Path) -> None:
    with elsewhere(tmp_path) as (pid, copy):
        copy.unlink()
        assert LIBC in [name for _, name in mapped_files(pid)]
        with Tool("funccount", "--json", "-p", str(pid), "c:getppid") as tool:
            call(pid, 100)
            assert json.loads(tool.stop())["count"] == 100


# Users.

CONTAINED = r"""
import os, sys
os.chroot(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
"""


def test_a_user_is_the_one_that_the_process_knows(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "passwd").write_text(
        "root:x:0:0\nbroken\ninside:x:1234:1::/:\nnobody:x:77:1\n"
    )
    with python_child(CONTAINED, str(tmp_path)) as child, python_child("print(); input()") as other:
        assert child.stdout and child.stdout.readline() == b"ready\n"
        nobody = pwd.getpwnam("nobody").pw_uid
        assert user_number("inside", [child.pid]) == 1234
        assert user_number("nobody", [child.pid]) == 77
        assert user_number("nobody", None) == user_number("nobody", [other.pid]) == nobody
        with pytest.raises(Usage, match="nobody' is a user of its own"):
            user_number("nobody", [child.pid, other.pid])
        for pids in (None, [other.pid]):
            with pytest.raises(Usage, match="there is no user 'inside'"):
                user_number("inside", pids)
        (tmp_path / "etc" / "passwd").unlink()
        os.mkfifo(tmp_path / "etc" / "passwd")
        assert user_number("nobody", [child.pid]) == nobody


IN_NAMESPACE = r"""
import ctypes, os, sys
ctypes.CDLL(None).unshare(0x10000000)  # CLONE_NEWUSER
print("ready", flush=True)
sys.stdin.readline()
"""


def test_a_user_of_a_namespace_has_its_number_here() -> None:
    with python_child(IN_NAMESPACE) as child:
        assert child.stdout and child.stdout.readline() == b"ready\n"
        nobody = pwd.getpwnam("nobody").pw_uid
        try:
            Path(f"/proc/{child.pid}/uid_map").write_text("0 100000 65536\n")
        except OSError as error:
            pytest.skip(f"no user namespace: {error}")
        assert user_number("nobody", [child.pid]) == 100000 + nobody
        assert user_number("root", [child.pid]) == 100000
