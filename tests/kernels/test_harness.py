"""The kernel matrix's own parts, without a network and without a virtual machine."""

from __future__ import annotations

import copy
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
import tty
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import cache  # noqa: E402
import compare  # noqa: E402
import debian  # noqa: E402
import fork_server  # noqa: E402
import inputs  # noqa: E402
import proved  # noqa: E402
from arm64 import Arm64Tools  # noqa: E402
from comparison import CHECKS, Compared, page, read_comparison, with_section  # noqa: E402
from debian import ImageError  # noqa: E402
from images import needed_modules  # noqa: E402
from inputs import Asked, Checkout, unit_key  # noqa: E402
from machine import Machine, clock_arguments, write_checkout, write_initramfs  # noqa: E402
from matrix import TABLE, MatrixError, Row, choose, read  # noqa: E402
from proved import Proof  # noqa: E402
from results import Result, RowResult, kernel_reason, read_junit, second_time, summary  # noqa: E402
import run  # noqa: E402
from run import Images, run_machines  # noqa: E402

ROW = Row("5.10", "linux-image-5.10.*-cloud-amd64", "bullseye", "bullseye")
HEADERS = Row("5.10-headers", ROW.package, "bullseye", "bullseye", frozenset({"headers"}))
ARM64 = Row("6.12-arm64", "p", "trixie", "trixie", frozenset({"arm64"}))


@pytest.fixture(autouse=True)
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test waits for the machines of a real run."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "apart"))


# The table.


def test_table_has_the_kernels_that_count() -> None:
    rows = read(TABLE.read_text())
    assert {row.release for row in rows} >= {"5.10", "6.1", "6.12", "6.18", "7.0", "7.3"}
    without_btf = [row for row in rows if "no-btf" in row.options]
    assert {row.release for row in without_btf} >= {"5.10", "6.1"}
    assert all("headers" in row.options for row in without_btf)
    assert all(("-rt-" in row.package) == ("real-time" in row.options) for row in rows)


def test_a_line_is_a_row() -> None:
    text = "# comment\n\n6.1-headers  linux-image-6.1.*  bookworm  trixie  headers no-btf\n"
    (row,) = read(text)
    assert row == Row(
        "6.1-headers",
        "linux-image-6.1.*",
        "bookworm",
        "trixie",
        frozenset({"headers", "no-btf"}),
    )
    assert row.release == "6.1"


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("6.1 linux-image-6.1.* bookworm", "line 1: not name, package, suite, userland"),
        ("new linux-image-6.1.* bookworm bookworm", "line 1: a name starts with a release"),
        ("6.1 linux-image-6.1.* bookworm bookworm no-bfd", "line 1: no such option: no-bfd"),
        ("6.1 a b c\n6.1 a b c", "line 2: 6.1 is there twice"),
    ],
)
def test_a_wrong_line_is_named(line: str, complaint: str) -> None:
    with pytest.raises(MatrixError, match=complaint):
        read(line)


def test_kernels_are_chosen_by_exact_name_in_the_order_of_the_table() -> None:
    rows = read("5.10 a b c\n6.1 a b c\n6.1-headers a b c\n6.12 a b c\n")
    assert [row.name for row in choose(rows, "6.12,6.1")] == ["6.1", "6.12"]
    assert [row.name for row in choose(rows, " 6.12 5.10 ")] == ["5.10", "6.12"]
    assert choose(rows, "") == rows
    with pytest.raises(MatrixError, match="no kernel 6.13 in the table, which has: 5.10 6.1 "):
        choose(rows, "6.13")


# The cache.


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.cache_directory() == tmp_path / "pytools" / "kernels"
    return cache.cache_directory()


def build_disk(place: Path, scratch: Path) -> None:
    (scratch / "disk.tar").write_bytes(b"half done")
    (place / "parts").mkdir()
    (place / "parts" / "disk").write_bytes(b"x" * 100_000)


def entry(*inputs: object, build: Callable[[Path, Path], None] = build_disk) -> Path:
    return cache.entry("userland", "sid", inputs, build, lambda text: None)


def no_build(place: Path, scratch: Path) -> None:
    raise AssertionError("built again")


def test_key_changes_with_every_input(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {cache.key("sid", ["a"]), cache.key("sid", ["b"]), cache.key("trixie", ["a"])}
    monkeypatch.setattr(cache, "VERSION", cache.VERSION + 1)
    keys.add(cache.key("sid", ["a"]))
    assert len(keys) == 4


def test_an_entry_is_built_once_and_again_when_its_inputs_change(cached: Path) -> None:
    first = entry("a")
    assert entry("a", build=no_build) == first
    second = entry("b")
    assert second != first
    assert sorted(cached.iterdir()) == sorted([cached / "lock", second]), "the old one is removed"


@pytest.mark.parametrize("damage", ["truncated", "changed", "missing", "added", "no manifest"])
def test_a_damaged_entry_is_refused_and_removed(cached: Path, damage: str) -> None:
    place = entry("a")
    disk = place / "parts" / "disk"
    if damage == "truncated":
        os.truncate(disk, 99_999)
    elif damage == "changed":
        disk.write_bytes(b"x" * 99_999 + b"y")
    elif damage == "missing":
        disk.unlink()
    elif damage == "added":
        (place / "parts" / "other").touch()
    else:
        (place / "manifest.json").unlink()
    assert cache.load(place) is None
    assert not place.exists()
    assert entry("a") == place, "it is built anew"


@pytest.mark.parametrize(
    ("error", "seen"),
    [
        (ImageError("E: no network"), "cannot build userland sid: E: no network"),
        (OSError(28, "No space left on device", "disk"), "No space left on device: disk"),
        (KeyboardInterrupt(), ""),
    ],
)
def test_a_failed_build_leaves_nothing(cached: Path, error: BaseException, seen: str) -> None:
    def build(place: Path, scratch: Path) -> None:
        build_disk(place, scratch)
        raise error

    expected = ImageError if isinstance(error, Exception) else KeyboardInterrupt
    with pytest.raises(expected, match=seen):
        entry("a", build=build)
    assert list(cached.iterdir()) == [cached / "lock"]


def test_leftovers_of_a_killed_build_are_removed(cached: Path) -> None:
    (cached / "building-entry" / "parts").mkdir(parents=True)
    (cached / "building-scratch").mkdir()
    place = entry("a")
    assert sorted(cached.iterdir()) == sorted([cached / "lock", place])


def test_a_build_does_not_start_on_a_full_disk(
    cached: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "BUILD_SPACE", 1 << 60)
    with pytest.raises(ImageError, match=r"cannot build userland sid: it takes \d+ MiB, and \d+ "):
        entry("a", build=no_build)


# Debian.


def test_a_failed_command_gives_its_most_telling_line(tmp_path: Path) -> None:
    script = "echo 'W: a warning'; echo 'E: Failed to fetch it'; echo done; exit 1"
    with pytest.raises(ImageError, match="^sh: E: Failed to fetch it$"):
        debian.run(["sh", "-c", script], tmp_path / "log")
    with pytest.raises(ImageError, match="^no-such-command isn't installed$"):
        debian.run(["no-such-command"], tmp_path / "log")


def test_pinned_parts_are_found_by_package_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(debian, "PINNED", tmp_path / "pinned.txt")
    debian.PINNED.write_text("# comment\nabc  main/l/linux/linux-modules-7.0_7.0-1_amd64.deb\n")
    assert debian.pinned("linux-modules-7.0") == (
        "main/l/linux/linux-modules-7.0_7.0-1_amd64.deb",
        "abc",
    )
    with pytest.raises(ImageError, match="the suite no longer has linux-modules-7"):
        debian.pinned("linux-modules-7")


def test_modules_come_after_those_they_need(tmp_path: Path) -> None:
    builtin = "kernel/drivers/virtio/virtio_pci.ko\nkernel/fs/ext4/ext4.ko\n"
    (tmp_path / "modules.builtin").write_text(builtin)
    (tmp_path / "modules.dep").write_text(
        "k/virtio_blk.ko.xz: k/virtio.ko.xz k/virtio-ring.ko.xz\n"
        "k/virtio.ko.xz: k/virtio-ring.ko.xz\nk/virtio-ring.ko.xz:\nk/unrelated.ko.xz:\n"
    )
    names = [path.name for path in needed_modules(tmp_path)]
    assert names == ["virtio-ring.ko.xz", "virtio.ko.xz", "virtio_blk.ko.xz"]


def test_a_file_system_that_is_a_module_comes_with_all_that_it_asks_for(tmp_path: Path) -> None:
    (tmp_path / "modules.builtin").write_text("k/virtio_pci.ko\nk/virtio_blk.ko\n")
    (tmp_path / "modules.dep").write_text(
        "k/ext4.ko.xz: k/jbd2.ko.xz k/mbcache.ko.xz\nk/jbd2.ko.xz:\nk/mbcache.ko.xz:\n"
        "k/crc32c_generic.ko.xz:\nk/crc32c-intel.ko.xz:\nk/unrelated.ko.xz:\n"
    )
    (tmp_path / "modules.softdep").write_text("softdep ext4 pre: crc32c post: unrelated\n")
    (tmp_path / "modules.alias").write_text(
        "alias crc32c crc32c_intel\nalias crc32c crc32c_generic\nalias crypto-x unrelated\n"
    )
    names = [path.name.partition(".")[0] for path in needed_modules(tmp_path)]
    assert names == ["jbd2", "mbcache", "crc32c-intel", "crc32c_generic", "ext4"]
    (tmp_path / "modules.dep").write_text("k/jbd2.ko.xz:\n")
    with pytest.raises(ImageError, match="the kernel has no module ext4"):
        needed_modules(tmp_path)


# What a machine is given.


def test_the_checkout_is_what_git_would_add(tmp_path: Path) -> None:
    root = tmp_path / "checkout"
    (root / "build" / "kernels").mkdir(parents=True)
    subprocess.run(["git", "init", "--quiet", str(root)], check=True)
    for name in (".gitignore", "tracked", "new", "ignored", "gone", "build/kernels/junit.xml"):
        (root / name).write_text("ignored\n")
    subprocess.run(["git", "-C", str(root), "add", "tracked", "gone"], check=True)
    (root / "gone").unlink()
    (root / "tracked").chmod(0o755)
    write_checkout(root, tmp_path / "checkout.tar", without=root / "build" / "kernels")
    with tarfile.open(tmp_path / "checkout.tar") as tar:
        assert tar.getnames() == [".gitignore", "new", "tracked"]
        assert tar.getmember("tracked").mode & 0o111
        assert {member.uid for member in tar} == {0}


def test_the_initramfs_can_be_unpacked(tmp_path: Path) -> None:
    files = {"init": b"#!/bin/sh\n", "bin/busybox": b"x" * 4097, "modules/00-a.ko": b""}
    write_initramfs(tmp_path / "initramfs", files)
    data = io.BytesIO((tmp_path / "initramfs").read_bytes())
    found: dict[str, bytes] = {}
    while True:
        header = data.read(110)
        assert header[:6] == b"070701"
        size, name_size = int(header[54:62], 16), int(header[94:102], 16)
        name = data.read(name_size).rstrip(b"\0").decode()
        data.seek(-data.tell() % 4, io.SEEK_CUR)
        content = data.read(size)
        data.seek(-data.tell() % 4, io.SEEK_CUR)
        if name == "TRAILER!!!":
            break
        found[name] = content
    assert {name: found[name] for name in files} == files
    assert list(found).index("bin") < list(found).index("bin/busybox")


# How a machine ends. Its QEMU is a shell script.


def machine(tmp_path: Path, row: Row = ROW, timeout: float = 60) -> Machine:
    made = Machine(row, tmp_path / row.name, timeout)
    made.temporary.mkdir(parents=True)
    return made


def script(text: str) -> Callable[[Machine], None]:
    """What starts a machine of `run_machines`; in ``text``, $1 is the machine's directory."""
    return lambda machine: machine.start(["sh", "-c", text, "sh", str(machine.directory)])


def run_one(made: Machine, text: str) -> str | None:
    """Run ``text`` as the machine's QEMU to its end; why it proved nothing."""
    ended: list[Machine] = []
    run_machines([made], script(text), 1, ended.append)
    assert ended == [made]
    assert not made.temporary.exists()
    return made.unpack()


def test_a_machine_of_arm64_is_described_as_one_of_x86_64(tmp_path: Path) -> None:
    tool = Arm64Tools(tmp_path)
    append = "console=ttyS0 tsc=reliable panic=-1 tsc_early_khz=2100000"
    words = tool.qemu("-accel", "kvm", "-cpu", "max", "-m", "1G", "-append", append)
    assert [word for word in words if word.endswith("/bin/qemu-system-aarch64")]
    assert words[words.index("-machine") + 1] == "virt"
    assert words[words.index("-accel") + 1].startswith("tcg")
    assert words[words.index("-cpu") + 1].startswith("max,")
    assert words[-4:] == ["-m", "1G", "-append", "console=ttyAMA0 console=ttyS0 panic=-1"]
    assert tool.busybox == tmp_path / "arm64/usr/bin/busybox"


def test_the_host_compiles_for_arm64_in_its_own_userland(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[object] = []

    def installed(suite: str, *rest: object) -> str:
        made.append(rest[:2])
        return f"arm64 userland {suite}"

    monkeypatch.setattr(run, "tools", lambda say: "tools")
    monkeypatch.setattr(run, "arm64_tools", lambda say: "arm64 tools")
    monkeypatch.setattr(run, "kernel", lambda row, *rest: f"kernel {row.name}")
    monkeypatch.setattr(run, "userland", lambda suite, *rest: f"userland {suite}")
    monkeypatch.setattr(run, "arm64_userland", installed)
    monkeypatch.setattr(Machine, "compiler", lambda self, *images: ["compile", *map(str, images)])
    images = Images()
    images.build(ARM64)
    # It is installed in a machine that runs the row's kernel.
    assert made == [("arm64 tools", "kernel 6.12-arm64")]
    assert str(images.userland(ARM64)) == "arm64 userland trixie"
    assert images.compiler(machine(tmp_path, ARM64), Path("c")) == [
        *("env", "ARCH=arm64", "compile", "kernel 6.12-arm64", "userland trixie", "c")
    ]
    row = Row("6.12", "p", "trixie", "trixie")
    images.build(row)
    assert images.compiler(machine(tmp_path, row), Path("c"))[0] == "compile"


RESULTS = """
mkdir $1/in; cd $1/in; echo {status} >status; echo '<testsuites/>' >junit.xml
tar -cf ../results.tar ./status ./junit.xml
"""


@pytest.mark.parametrize(
    ("status", "trouble"),
    [
        ("0", None),
        ("1", None),
        ("2", "pytest ended with status 2: no output"),
        ("5", "no test is selected"),
        ("124", "tests still running after 30 s: no test had started"),
    ],
)
def test_results_are_unpacked(tmp_path: Path, status: str, trouble: str | None) -> None:
    made = machine(tmp_path)
    assert run_one(made, RESULTS.format(status=status)) == trouble
    assert (made.directory / "junit.xml").read_text() == "<testsuites/>\n"


@pytest.mark.parametrize(
    ("text", "trouble"),
    [
        ("kill -KILL $$", "killed by SIGKILL before its results: no test had started"),
        ("exit 0", "ended before its results: no test had started"),
        (
            "echo 'tests/test_a.py::test_x[1 2] ' >$1/output.log; echo half >$1/results.tar",
            r"ended before its results: last test tests/test_a.py::test_x[1 2] ",
        ),
        ("echo 'qemu: bad disk' >&2; exit 1", "QEMU failed (qemu: bad disk) before its results: "),
        (
            "echo '[ 1.5] Kernel panic - not syncing: Fatal exception' >$1/console.log",
            "kernel panic: Fatal exception: no test had started",
        ),
        (
            "cd $1; echo 124 >status; tar -cf results.tar ./status",
            "tests still running after 30 s: no test had started",
        ),
        (
            "echo 'guest: tests start' >$1/console.log; echo 'guest: no BTF' >>$1/console.log",
            "no BTF",
        ),
    ],
)
def test_a_machine_without_results_proves_nothing(tmp_path: Path, text: str, trouble: str) -> None:
    found = run_one(machine(tmp_path), text)
    assert found is not None and found.startswith(trouble)


def test_a_panic_counts_whatever_the_results_say(tmp_path: Path) -> None:
    panic = "echo 'Kernel panic - not syncing: oops' >$1/console.log;"
    found = run_one(machine(tmp_path), panic + RESULTS.format(status=0))
    assert found == "kernel panic: oops: no test had started"


def alive(pid: int) -> bool:
    """Whether a process runs; one that is dead and not yet waited for doesn't."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone(pid: int) -> bool:
    deadline = time.monotonic() + 10
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not alive(pid)


def test_a_machine_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    made = machine(tmp_path, timeout=1)
    found = run_one(made, "sleep 1000 & echo $! >$1/pid; wait")
    assert found == "still running after 1 s: no test had started"
    assert gone(int((made.directory / "pid").read_text()))


def test_two_machines_run_at_a_time(tmp_path: Path) -> None:
    log = tmp_path / "log"
    machines = [
        machine(tmp_path, Row(f"6.{number}", "p", "s", "u"), timeout=60) for number in range(3)
    ]
    text = f"echo start >>{log}; sleep 0.5; echo end >>{log}"
    run_machines(machines, script(text), 2, lambda machine: None)
    events = log.read_text().split()
    running = [events[:count].count("start") - events[:count].count("end") for count in range(7)]
    assert max(running) == 2
    assert len(events) == 6


def test_machines_of_two_runs_take_turns(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    places = max(2, os.cpu_count() or 1)
    taken = [run.take_turn(places) for _ in range(places)]
    assert None not in taken and run.take_turn(places) is None
    other = threading.Timer(1, lambda: [file.close() for file in taken if file is not None])
    other.start()
    ended: list[float] = []
    start = time.monotonic()
    machines = [machine(tmp_path, Row(f"6.{n}", "p", "s", "u")) for n in range(2)]
    run_machines(machines, script("true"), 2, lambda made: ended.append(time.monotonic() - start))
    other.join()
    assert len(ended) == 2 and min(ended) >= 1
    assert "waiting for a machine of another run to end\n" == capfd.readouterr().err


INTERRUPTED = """
import signal, sys
from pathlib import Path
from machine import Machine
from matrix import Row
from run import interruptible, run_machines
made = Machine(Row("5.10", "p", "s", "u"), Path(sys.argv[1]))
made.temporary.mkdir(parents=True)
with interruptible():
    command = ["sh", "-c", "echo $$ >" + sys.argv[1] + "/pid; sleep 1000"]
    run_machines([made], lambda machine: machine.start(command), 1, print)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_no_machine_outlives_the_harness(tmp_path: Path, number: signal.Signals) -> None:
    place = tmp_path / "machine"
    harness = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(place)], cwd=HERE, stderr=subprocess.DEVNULL
    )
    pid = place / "pid"
    deadline = time.monotonic() + 10
    while not (pid.exists() and pid.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    harness.send_signal(number)
    assert harness.wait(10) != 0
    assert gone(int(pid.read_text()))
    assert number == signal.SIGKILL or not (place / "temporary").exists()


# What compiles for a machine, on the host.

CHILD = """
import sys
request = sys.stdin.read()
sys.stdout.write("image of " + request)
sys.stderr.write("warning")
sys.exit(len(request))
"""


@pytest.fixture
def compiling(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts a client; a terminal that changes no byte stands in for the virtio port."""
    (tmp_path / "child.py").write_text(CHILD)
    ours, port = os.openpty()
    tty.setraw(port)
    code = "import compile_server as s, sys; text = open(sys.argv[1]).read(); "
    code += "s.code = lambda: text; s.main()"
    server = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "child.py")],
        stdin=ours,
        stdout=ours,
        env={"PYTHONPATH": str(HERE)},
    )
    code = "import compile_client as c, sys; c.PORT, c.LOCK = sys.argv[1:]; c.main()"

    def client(request: bytes) -> subprocess.Popen[bytes]:
        started = subprocess.Popen(
            [sys.executable, "-c", code, os.ttyname(port), str(tmp_path / "lock")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={"PYTHONPATH": str(HERE)},
        )
        assert started.stdin
        started.stdin.write(request)
        started.stdin.close()
        return started

    try:
        yield client
    finally:
        server.kill()
        server.wait()
        os.close(ours)
        os.close(port)


def test_the_host_compiles_for_machines(
    compiling: Callable[..., subprocess.Popen[bytes]],
) -> None:
    clients = [compiling(b'"%s"' % (b"x" * number)) for number in (3, 20)]
    for client, length in zip(clients, (5, 22)):
        assert client.stdout and client.stderr
        assert client.stdout.read() == b'image of "%s"' % (b"x" * (length - 2))
        assert client.stderr.read() == b"warning"
        assert client.wait() == length


def test_a_client_that_was_killed_leaves_the_next_one_its_own_reply(
    compiling: Callable[..., subprocess.Popen[bytes]],
) -> None:
    for number in range(5):
        killed = compiling(b'"%s"' % (b"k" * 50_000))
        killed.kill()
        killed.wait()
        client = compiling(b'"%d"' % number)
        assert client.stdout and client.stdout.read() == b'image of "%d"' % number
        assert client.wait() == 3


# What a unit of tests depends on.

FILES = {
    "setup.cfg": "[tool:pytest]\naddopts = -ra\n[flake8]\nmax-line-length = 100\n",
    "lib/pytools/__init__.py": "",
    "lib/pytools/base/__init__.py": "",
    "lib/pytools/base/errors.py": "class Failure(Exception): pass\n",
    "lib/pytools/facts/__init__.py": "",
    "lib/pytools/facts/btf.py": "",
    "lib/pytools/facts/differences.py": "from pytools.facts import btf\n",
    "lib/pytools/compile/__init__.py": "",
    "lib/pytools/compile/template.py": "from pytools.facts import differences\n",
    "lib/pytools/compile/compiler.py": 'CHILD = "compiler_child.py"\n',
    "lib/pytools/compile/compiler_child.py": "",
    "lib/pytools/compile/include/linux/types.h": "",
    "lib/pytools/compile/bpf/outer.h": '#include "inner.h"\n',
    "lib/pytools/compile/bpf/inner.h": "",
    "lib/pytools/compile/bpf/other.h": "",
    "lib/pytools/load/__init__.py": "",
    "lib/pytools/load/loader.py": "from ..base.errors import Failure\n"
    "from pytools.compile import compiler, template\n",
    "lib/pytools/domains/__init__.py": "",
    "lib/pytools/domains/net.py": "",
    "lib/pytools/domains/block.py": "",
    "tools/alpha": 'from pytools.load import loader\nTEMPLATE = """\n#include "outer.h"\n"""\n',
    "tools/beta": "from pytools.load.loader import Failure\n"
    "def main():\n    from pytools.domains import net\n    return '#include \"other.h\"'\n",
    "tests/conftest.py": "",
    "tests/support.py": 'NEEDED = {"beta": []}\ndef all_tools(): pass\n'
    "def some(): return all_tools()\n",
    "tests/load.py": "",
    "tests/test_alpha.py": "from support import Tool\nimport load\n"
    'def test_it(): Tool("alpha", "-v")\n',
    "tests/test_beta.py": '"""Not alpha."""\ndef test_it(): run("cd tools; ./beta -v")\n',
    "tests/test_shared.py": "from support import some\ndef test_it(tool): pass\n",
    "tests/test_all.py": "from support import some\ndef test_it(): some()\n",
    "tests/test_net.py": "def test_it():\n    from pytools.domains.net import x\n",
    "tests/test_block.py": 'CODE = """\nfrom pytools.domains import block\n"""\n',
    "tests/test_differences.py": "from pytools.facts.differences import x\n",
    "tests/test_docs.py": 'PAGE = ROOT / "docs" / "page.md"\n',
    "docs/page.md": "",
    "docs/other.md": "",
    **{name: "" for name in inputs.MACHINE_FILES},
    "tests/kernels/arm64.py": "",
    "tests/kernels/install.sh": "",
}
ALPHA = {"test_alpha", "test_shared alpha", "test_all"}
BETA = {"test_beta", "test_shared beta", "test_all"}
LIBRARY = {"test_net", "test_block", "test_differences", "test_docs"}
EVERY = ALPHA | BETA | LIBRARY
NEWER = Row("6.12-rt", "p", "s", "u")
PACKAGES = ("linux-image-6.12 6.12.90-1", "libc6 2.41-12")


def asked(**changed: str) -> Asked:
    """What Python says of a checkout of `FILES`."""
    rendered = {
        tool: {release: f"{tool} for {release}" for release in ("5.10", "5.10 headers", "6.12")}
        for tool in ("alpha", "beta")
    }
    for tool, text in changed.items():
        rendered[tool]["6.12"] = text
    names: dict[str, list[str]] = {"tests": ["test_it"], "typed": [], "every": ["test_it"]}
    return Asked({unit: copy.deepcopy(names) for unit in EVERY}, rendered)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A checkout of `FILES`."""
    root = tmp_path / "small"
    for name, text in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for tool in ("alpha", "beta"):
        (root / "tools" / tool).chmod(0o755)
    return root


def keys_of(
    root: Path,
    said: Asked | None = None,
    row: Row = NEWER,
    packages: tuple[str, ...] = PACKAGES,
) -> dict[str, str]:
    checkout = Checkout(root)
    said = said or asked()
    return {unit: unit_key(checkout, said, row, packages, unit) for unit in said.units}


@pytest.mark.parametrize(
    "changed, units",
    [
        # A tool, and what only it needs.
        ("tools/alpha", ALPHA),
        ("tools/beta", BETA),
        ("lib/pytools/compile/bpf/outer.h", ALPHA),
        ("lib/pytools/compile/bpf/inner.h", ALPHA),
        ("lib/pytools/compile/bpf/other.h", BETA),
        ("lib/pytools/domains/net.py", BETA | {"test_net"}),
        ("lib/pytools/domains/block.py", {"test_block"}),
        # What all tools share: by a relative import, by a package, as a child, for the compiler.
        ("lib/pytools/load/loader.py", ALPHA | BETA),
        ("lib/pytools/load/__init__.py", ALPHA | BETA),
        ("lib/pytools/base/errors.py", ALPHA | BETA),
        ("lib/pytools/compile/compiler_child.py", ALPHA | BETA),
        ("lib/pytools/compile/include/linux/types.h", ALPHA | BETA),
        ("lib/pytools/__init__.py", EVERY - {"test_docs"}),
        # What only renders counts by what it renders, and where a test asks for it.
        ("lib/pytools/facts/differences.py", {"test_differences"}),
        ("lib/pytools/facts/btf.py", set()),
        ("lib/pytools/compile/template.py", set()),
        # Tests.
        ("tests/test_alpha.py", {"test_alpha"}),
        ("tests/test_shared.py", {"test_shared alpha", "test_shared beta"}),
        ("tests/load.py", {"test_alpha"}),
        ("tests/support.py", {"test_alpha", "test_shared alpha", "test_shared beta", "test_all"}),
        ("tests/conftest.py", EVERY),
        # Machines.
        ("tests/kernels/guest.sh", EVERY),
        ("tests/kernels/compile_server.py", EVERY),
        # Others.
        ("docs/page.md", {"test_docs"}),
        ("docs/other.md", set()),
    ],
)
def test_a_changed_file_reruns_what_depends_on_it(
    small: Path, changed: str, units: set[str]
) -> None:
    before = keys_of(small)
    with (small / changed).open("a") as file:
        file.write("/* changed */\n" if changed.endswith(".h") else "# changed\n")
    after = keys_of(small)
    assert {unit for unit in EVERY if before[unit] != after[unit]} == units


@pytest.mark.parametrize("changed", ["arm64.py", "install.sh"])
def test_what_makes_arm64_machines_reruns_their_rows(small: Path, changed: str) -> None:
    # Renderings are recorded of x86-64 only: for others, what renders counts by its text.
    for path in (f"tests/kernels/{changed}", *inputs.RENDERING_ONLY):
        before, others = keys_of(small, row=ARM64), keys_of(small)
        with (small / path).open("a") as file:
            file.write("# changed\n")
        after = keys_of(small, row=ARM64)
        assert all(before[unit] != after[unit] for unit in EVERY)
        if path not in inputs.RENDERING_ONLY:
            assert keys_of(small) == others


def test_a_new_file_that_nothing_needs_reruns_nothing(small: Path) -> None:
    before = keys_of(small)
    for name in ("tools/gamma", "lib/pytools/domains/new.py", "tests/test_gamma.py"):
        (small / name).write_text("# new\n")
    assert keys_of(small) == before
    (small / "tools/gamma").chmod(0o755)
    # One that goes through all tools has one more.
    after = asked()
    after.rendered["gamma"] = {}
    changed = keys_of(small, after)
    assert {unit for unit in EVERY if before[unit] != changed[unit]} == {"test_all"}


def test_what_a_template_is_rendered_to_reruns_the_tool_s_tests(small: Path) -> None:
    before = keys_of(small)
    after = keys_of(small, asked(beta="with another difference"))
    assert {unit for unit in EVERY if before[unit] != after[unit]} == BETA
    older = Row("5.10", "p", "s", "u")
    assert keys_of(small, row=older) == keys_of(small, asked(beta="another"), row=older)


def test_another_kernel_or_userland_or_option_is_another_row(small: Path) -> None:
    before = keys_of(small)
    for packages in (
        ("linux-image-6.12 6.12.91-1", PACKAGES[1]),
        (PACKAGES[0], "libc6 2.41-13"),
        (*PACKAGES, "strace 6.13-1"),
    ):
        after = keys_of(small, packages=packages)
        assert all(before[unit] != after[unit] for unit in EVERY)
    assert keys_of(small, packages=PACKAGES[::-1]) == before
    row = Row("6.12-rt", "p", "s", "u", frozenset({"headers"}))
    assert all(before[unit] != key for unit, key in keys_of(small, row=row).items())
    # Where a package comes from says nothing of it.
    assert keys_of(small, row=Row("6.12-rt", "q", "r", "u")) == before


def test_pytest_s_settings_rerun_all_and_those_of_others_nothing(small: Path) -> None:
    before = keys_of(small)
    config = FILES["setup.cfg"]
    (small / "setup.cfg").write_text(config.replace("100", "99"))
    assert keys_of(small) == before
    (small / "setup.cfg").write_text(config.replace("-ra", "-rA"))
    assert all(before[unit] != key for unit, key in keys_of(small).items())


def test_a_test_that_joins_or_leaves_a_unit_reruns_it(small: Path) -> None:
    before = keys_of(small)
    more = asked()
    more.units["test_shared alpha"]["tests"].append("test_other")
    more.units["test_beta"]["typed"].append("test_of_types")
    after = keys_of(small, more)
    changed = {"test_shared alpha", "test_beta"}
    assert {unit for unit in EVERY if before[unit] != after[unit]} == changed
    headers = Row("5.10-headers", "p", "s", "u", frozenset({"headers", "no-btf"}))
    before, after = keys_of(small, row=headers), keys_of(small, more, row=headers)
    assert {unit for unit in EVERY if before[unit] != after[unit]} == {"test_shared alpha"}
    # Between the oldest and the newest, what every kernel runs counts.
    between = replace(NEWER, between=True)
    before, after = keys_of(small, row=between), keys_of(small, more, row=between)
    assert before == after
    more.units["test_shared alpha"]["every"].append("test_other")
    after = keys_of(small, more, row=between)
    assert {unit for unit in EVERY if before[unit] != after[unit]} == {"test_shared alpha"}


def test_the_rows_that_are_recorded_stand_for_those_that_are_not() -> None:
    recorded = ["5.10", "5.10 headers", "6.1", "6.12", "7.0", "7.3"]
    for name, expected in {
        "6.1": ["6.1"],
        "6.12-rt": ["6.12"],
        "7.2": ["7.0", "7.3"],
        "7.4": ["7.3"],
        "5.4": ["5.10"],
    }.items():
        assert inputs.stand_ins(Row(name, "p", "s", "u"), recorded) == expected
    headers = Row("5.10-headers", "p", "s", "u", frozenset({"no-btf"}))
    assert inputs.stand_ins(headers, recorded) == ["5.10 headers"]


def test_this_checkout_s_own_inputs_are_found() -> None:
    checkout = Checkout(HERE.parents[1])
    assert checkout.named_tools("test_runqlat") == {"runqlat"}
    assert checkout.named_tools("test_shared_options") == checkout.tools
    files = checkout.of_tool("runqlat")
    names = {path.rpartition("/")[2] for path in files}
    assert {"runqlat", "run_queue.h", "loader.py", "samples.py", "compiler_child.py"} <= names
    assert not {"block.h", "block.py", "tcplife"} & names
    assert all((HERE.parents[1] / path).is_file() for path in inputs.RENDERING_ONLY)
    assert not files & set(inputs.RENDERING_ONLY)


# The record.

PROOF = Proof("6.1", "test_shared alpha", "0123456789abcdef", "47ddadd70e", "2026-11-29")


def test_a_proof_is_a_line_and_read_back(tmp_path: Path) -> None:
    other = PROOF._replace(unit="test_alpha", commit="47ddadd70e+")
    proved.write(tmp_path / "proved.txt", [PROOF, other])
    text = (tmp_path / "proved.txt").read_text()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert lines == [
        "6.1 test_alpha - 0123456789abcdef 47ddadd70e+ 2026-11-29",
        "6.1 test_shared alpha 0123456789abcdef 47ddadd70e 2026-11-29",
    ]
    found = proved.read(tmp_path / "proved.txt")
    assert set(found.values()) == {PROOF, other}
    assert proved.read(tmp_path / "none") == {}


def test_a_proof_whose_hash_does_not_match_is_never_believed() -> None:
    record = {(PROOF.row, PROOF.unit): PROOF}
    assert proved.proofs_of(record, "6.1", {PROOF.unit: PROOF.key}) == [PROOF]
    for key in ("0123456789abcdee", "", "0123456789abcde", PROOF.key.upper()):
        assert proved.proofs_of(record, "6.1", {PROOF.unit: key}) == []
    assert proved.proofs_of(record, "6.12", {PROOF.unit: PROOF.key}) == []
    assert proved.proofs_of(record, "6.1", {"test_shared beta": PROOF.key}) == []


@pytest.mark.parametrize(
    "line",
    [
        "<<<<<<< HEAD",
        "6.1 test_shared alpha 0123456789abcde 47ddadd70e 2026-11-29",
        "6.1 test_shared alpha 0123456789abcdef 47ddadd70e",
        "6.1 test_shared 0123456789abcdef 47ddadd70e 2026-11-29",
        "# 6.1 test_shared alpha 0123456789abcdef 47ddadd70e 2026-11-29",
    ],
)
def test_a_line_that_is_no_proof_proves_nothing(tmp_path: Path, line: str) -> None:
    (tmp_path / "proved.txt").write_text(f"{line}\n")
    assert proved.read(tmp_path / "proved.txt") == {}


def test_only_a_unit_that_passed_as_a_whole_at_once_is_proved() -> None:
    def test_of(unit: str, outcome: str = "pass", **facts: Any) -> Result:
        return Result(f"{unit}::t", outcome, unit=unit, **facts)

    results = [
        test_of("passes", started=("alpha",)),
        test_of("passes", "skip"),
        test_of("fails"),
        test_of("fails", "FAIL"),
        test_of("again", "again"),
        test_of("partial", partial=True),
        test_of("stranger", started=("alpha", "beta")),
    ]
    units = ["passes", "fails", "again", "partial", "stranger", "none"]
    tools = {unit: {"alpha"} for unit in units}
    found = proved.passed_units(RowResult(ROW, 1, results), units, tools, chosen=False)
    assert found[0] == ["passes", "none"]
    assert found[1] == ["stranger starts beta, and doesn't name it: not recorded"]
    found = proved.passed_units(RowResult(ROW, 1, results), units, tools, chosen=True)
    assert found[0] == ["passes"]
    trouble = RowResult(ROW, 1, results, trouble="kernel panic")
    assert proved.passed_units(trouble, units, tools, chosen=False) == ([], [])


def test_a_commit_is_marked_when_files_are_not_those_of_it(tmp_path: Path) -> None:
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    (tmp_path / "proved.txt").touch()
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "--quiet", "-m", "x"], check=True)
    commit = proved.commit_of(tmp_path)
    assert len(commit) == 10
    (tmp_path / "proved.txt").write_text("the record itself is no input\n")
    assert proved.commit_of(tmp_path) == commit
    (tmp_path / "new").touch()
    assert proved.commit_of(tmp_path) == commit + "+"


TESTS_OF_UNITS = """
import subprocess, pytest

@pytest.mark.parametrize("tool", ["opensnoop", "runqlen"])
def test_of_each(tool):
    subprocess.run([f"{TOOLS}/{tool}", "--version"], check=True)

@pytest.mark.parametrize(
    "tool", ["pliers", pytest.param("nippers", marks=pytest.mark.every_kernel)]
)
def test_of_others(tool):
    subprocess.run(["sh", "-c", f"cd {TOOLS}; ./runqlat --version"], check=True)

@pytest.mark.any_types
@pytest.mark.every_kernel
def test_of_any_types(): pass

@pytest.mark.host_only
@pytest.mark.parametrize("tool", ["profile"])
def test_of_the_host(tool): pass
"""


def run_units(
    folder: Path, *arguments: str, marks: str = "not host_only", **environment: str
) -> str:
    """Run pytest with the plugin on `TESTS_OF_UNITS`; its JUnit XML."""
    tools = str(HERE.parents[1] / "tools")
    (folder / "test_units.py").write_text(f"TOOLS = {tools!r}\n{TESTS_OF_UNITS}")
    names = "".join(f"    {name}\n" for name in ("any_types", "every_kernel", "host_only"))
    (folder / "pytest.ini").write_text(f"[pytest]\nmarkers =\n{names}")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.kernels.units", *arguments]
    result = subprocess.run(
        [*command, "-m", marks, f"--rootdir={folder}", f"-c{folder}/pytest.ini"]
        + [f"--junitxml={folder}/junit.xml", "-o", "junit_family=xunit2", str(folder)],
        cwd=HERE.parents[1],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        check=False,
        text=True,
    )
    assert result.returncode == 0, result.stdout
    return (folder / "junit.xml").read_text() if (folder / "junit.xml").exists() else ""


def test_units_are_collected(tmp_path: Path) -> None:
    run_units(tmp_path, "--collect-only", PYTOOLS_COLLECTED=str(tmp_path / "units"))
    assert json.loads((tmp_path / "units").read_text()) == {
        "test_units opensnoop": {"tests": ["test_of_each"], "typed": [], "every": []},
        "test_units runqlen": {"tests": ["test_of_each"], "typed": [], "every": []},
        "test_units": {
            "tests": ["test_of_others"],
            "typed": ["test_of_any_types"],
            "every": ["test_of_others", "test_of_any_types"],
        },
    }


def test_units_are_in_the_results_and_proved_ones_are_not_run(tmp_path: Path) -> None:
    (tmp_path / "proved").write_text("test_units opensnoop\n")
    place = {"PYTOOLS_PROVED": str(tmp_path / "proved")}
    results = read_junit(run_units(tmp_path, **place).encode(), ROW)
    assert [(each.test, each.unit, each.started, each.partial) for each in results] == [
        ("test_units::test_of_each[runqlen]", "test_units runqlen", ("runqlen",), False),
        ("test_units::test_of_others[pliers]", "test_units", ("runqlat",), False),
        ("test_units::test_of_others[nippers]", "test_units", ("runqlat",), False),
        ("test_units::test_of_any_types", "test_units", (), False),
    ]
    (tmp_path / "proved").write_text("")
    results = read_junit(run_units(tmp_path, "-k", "of_any or runqlen", **place).encode(), ROW)
    assert [(each.unit, each.partial) for each in results] == [
        ("test_units runqlen", False),
        ("test_units", True),
    ]


def test_rows_between_run_what_is_for_every_kernel_and_prove_their_units_by_it(
    tmp_path: Path,
) -> None:
    text = run_units(tmp_path, marks="not host_only and every_kernel")
    results = read_junit(text.encode(), ROW)
    assert [(each.test, each.unit, each.partial) for each in results] == [
        ("test_units::test_of_others[nippers]", "test_units", False),
        ("test_units::test_of_any_types", "test_units", False),
    ]
    said = Asked({"a": {"tests": ["x"], "typed": [], "every": []}}, {})
    said.units["b"] = {"tests": [], "typed": ["y"], "every": ["y"]}
    assert run.units_of(said, ROW, []) == ["a", "b"]
    assert run.units_of(said, replace(ROW, between=True), []) == ["b"]


def test_the_oldest_and_the_newest_row_of_each_kind_are_between_none() -> None:
    rows = read(TABLE.read_text())
    ends = {row.name for row in rows if not row.between}
    assert ends == {"5.10", "7.3", "5.10-headers", "6.1-headers", "6.12-arm64", "7.3-arm64"}


def test_every_tool_has_a_test_that_runs_on_every_kernel() -> None:
    # A name that is a link is the same tool.
    tools = {path.resolve().name for path in (HERE.parents[1] / "tools").iterdir()}
    marked = {
        tool
        for tool in tools
        for path in HERE.parent.glob(f"test_{tool}*.py")
        if "@pytest.mark.every_kernel" in path.read_text()
    }
    assert tools - marked == {"pytools"}


# Starts by fork.

# Says what a process finds when it starts.
FACTS = """
import json, os, resource, signal, stat, sys
def lines(path, *names):
    return [line for line in open(path) if line.startswith(names)]
print(json.dumps({
    "argv": sys.argv, "name": __name__, "path": sys.path[0],
    "main": sys.modules["__main__"].__dict__ is globals(),
    "folder": os.getcwd(), "environment": dict(os.environ), "parent": os.getppid(),
    "leader": os.getsid(0) == os.getpid(), "group": os.getpgid(0) == os.getpid(),
    "descriptors": {n: stat.S_IFMT(os.fstat(int(n)).st_mode) for n in os.listdir("/proc/self/fd")
                    if os.path.exists("/proc/self/fd/" + n)},
    "inheritable": [n for n in range(64) if os.path.exists(f"/proc/self/fd/{n}")
                    and os.get_inheritable(n)],
    "signals": [str(signal.getsignal(n)).split(" at ")[0] for n in signal.valid_signals()],
    "status": lines("/proc/self/status", "Name", "Umask", "SigB", "SigI", "SigC", "Cap",
                    "Cpus_allowed"),
    "limits": [resource.getrlimit(n) for n in range(16)],
    "nice": os.getpriority(os.PRIO_PROCESS, 0),
    "streams": [[s.name, s.encoding, s.errors, s.line_buffering, s.isatty()]
                for s in (sys.stdin, sys.stdout, sys.stderr)],
    "thread": __import__("threading").get_native_id() == os.getpid(),
    "threads": __import__("threading").active_count(),
    "hook": sys.excepthook is sys.__excepthook__,
    "library": [name for name in sys.modules if name.startswith("pytools")],
}))
"""
# Runs that, and how programs end, by Popen; with the word fork by the fork server.
STARTS = f"""
import json, os, signal, subprocess, sys
if "fork" in sys.argv:
    import fork_server
    fork_server.install()
def run(code, *words, **more):
    child = subprocess.Popen([sys.executable, "-c", code, *words], stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, stdin=subprocess.PIPE, **more)
    out, err = child.communicate(b"input\\n")
    return child.returncode, out.decode(), err.decode().splitlines()[-1:]
facts = {FACTS!r}
out = [
    run(facts, "a", "b c"),
    run(facts, cwd="/", env={{**os.environ, "WORD": "x", "TZ": "Asia/Tokyo"}}),
    run(facts, start_new_session=True),
]
reading, writing = os.pipe()
writing = os.dup2(writing, 40)
out.append(run(facts, pass_fds=[writing]))
out.append(run("import os, sys; os.write(int(sys.argv[1]), b'handed on')", str(writing),
               pass_fds=[writing]))
out.append(os.read(reading, 100).decode())
out += [
    run("print(input())"), run("import sys; sys.exit(3)"), run("import sys; sys.exit('words')"),
    run("1/0"), run("this is no Python"), run("raise KeyboardInterrupt"),
    run("import os; os._exit(7)"), run("import os, signal; os.kill(os.getpid(), signal.SIGTERM)"),
    run("import atexit; atexit.register(print, 'at exit'); print('end')"),
    run("import threading, time\\n"
        "threading.Thread(target=lambda: (time.sleep(0.1), print('thread'))).start()"),
    run("import os, sys; os.close(1); sys.exit(0)"),
    run("import os; pid = os.fork(); print(os.waitpid(pid, 0)[1] if pid else 'child', flush=True)"),
]
subprocess.run([sys.executable, "-c", "print('inherited', flush=True)"])
waiting = subprocess.Popen([sys.executable, "-c", "print('up', flush=True)\\nwhile True: pass"],
                           stdout=subprocess.PIPE)
waiting.stdout.readline()
waiting.send_signal(signal.SIGINT)
out.append(waiting.wait())
print(json.dumps([os.getpid(), out]))
"""


def plain_environment() -> dict[str, str]:
    """Ours, without what Python is told by it, but with the place of fork_server.py."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return {**ours, "PYTHONPATH": str(HERE)}


def test_a_start_by_fork_is_as_one_by_exec(tmp_path: Path) -> None:
    found = []
    for how in ("exec", "fork"):
        result = subprocess.run(
            [sys.executable, "-c", STARTS, how],
            env=plain_environment(),
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=True,
            text=True,
        )
        first, _, last = result.stdout.rstrip("\n").partition("\n")
        assert first == "inherited"
        pid, out = json.loads(last)
        for number, entry in enumerate(out[:4]):
            facts = json.loads(entry[1])
            assert facts.pop("parent") == pid
            out[number] = [entry[0], facts, entry[2]]
        found.append(out)
    for by_exec, by_fork in zip(*found):
        if isinstance(by_exec, list) and isinstance(by_exec[1], dict):
            for fact, value in by_exec[1].items():
                assert (fact, by_fork[1][fact]) == (fact, value)
        assert by_fork == by_exec


def test_a_tool_that_is_forked_is_the_tool(tmp_path: Path) -> None:
    tool = str(HERE.parents[1] / "tools" / "runqlat")
    code = f"""
import os, subprocess, sys
import fork_server
if "fork" in sys.argv:
    fork_server.install()
for words in (["--version"], ["--help"], ["--nonsense"], ["-p", "x"], ["1", "2", "3"]):
    result = subprocess.run([{tool!r}, *words], capture_output=True, text=True)
    print(result.returncode, result.stdout, result.stderr)
child = subprocess.Popen([{tool!r}, "--version"])
os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
print(open(f"/proc/{{child.pid}}/comm").read())
"""
    printed = [
        subprocess.run(
            [sys.executable, "-c", code, how],
            env={**plain_environment(), "COLUMNS": "90"},
            stdout=subprocess.PIPE,
            check=True,
        ).stdout
        for how in ("exec", "fork")
    ]
    assert printed[0] == printed[1]
    assert printed[0].endswith(b"runqlat\n\n")


@pytest.mark.parametrize(
    "change, forked",
    [
        ({}, True),
        ({"args": ["/usr/bin/python3", "-c", "pass", "word"]}, True),
        ({"args": ["/usr/bin/python3", "script.py"]}, False),
        ({"args": ["/usr/bin/python3", "-I", "-c", "pass"]}, False),
        ({"args": ["setpriv", "--reuid=1", "{tool}"]}, False),
        ({"args": "{tool}", "shell": True}, False),
        ({"args": ["/elsewhere/tools/runqlat"]}, False),
        ({"preexec_fn": print}, False),
        ({"env": {"PYTHONUTF8": "0"}}, False),
        ({"env": {"LC_ALL": "C.other"}}, False),
        ({"cwd": "/nonexistent"}, False),
        ({"close_fds": False}, False),
        ({"umask": 0o77}, False),
        ({"uid": 12345}, False),
        ({"executable": "/bin/true"}, False),
    ],
)
def test_what_takes_an_exec_is_no_fork(change: dict[str, Any], forked: bool) -> None:
    tool = str(HERE.parents[1] / "tools" / "runqlat")
    call: dict[str, Any] = {"args": [tool, "-v"], "executable": None, "preexec_fn": None}
    call.update({"close_fds": True, "cwd": None, "env": None, "shell": False, "umask": -1})
    call.update({"restore_signals": True, "uid": None, "gid": None, "gids": None})
    call.update({"start_new_session": False}, **change)
    if isinstance(call["args"], list):
        call["args"] = [word.format(tool=tool) for word in call["args"]]
    if call["env"] is not None:
        call["env"] = {**os.environ, **call["env"]}
    assert (fork_server.request_of(call, dict(os.environ)) is not None) == forked


# What came back.


def test_what_ran_before_the_time_was_over_counts(tmp_path: Path) -> None:
    made = machine(tmp_path)
    found = run_one(made, RESULTS.format(status=124))
    assert found is not None and found.startswith("tests still running")
    assert made.report.exists()


# Results.


@pytest.mark.parametrize(
    ("reason", "row", "counts"),
    [
        ("5.10 has no tracepoint block_io_start", ROW, True),
        ("skip: 5.10 has no tracepoint block_io_start", ROW, True),
        ("Skipped: 5.10 has no fentry on return", ROW, True),
        ("5.10.0-32-cloud-amd64 has no fentry", ROW, True),
        ("5.10 has no BTF", HEADERS, True),
        ("5.10-headers has no BTF", HEADERS, True),
        ("5.10-headers has no BTF", ROW, False),
        ("6.1 has no BTF", ROW, False),
        ("5.100 has no BTF", ROW, False),
        ("5.10 has no", ROW, False),
        ("this kernel has no BTF", ROW, False),
        ("needs root", ROW, False),
        ("", ROW, False),
    ],
)
def test_a_skip_needs_a_reason_of_this_kernel(reason: str, row: Row, counts: bool) -> None:
    assert kernel_reason(reason, row) == counts


JUNIT = """<?xml version="1.0"?>
<testsuites><testsuite name="pytest">
<testcase classname="tests.test_a" name="test_passes" time="0.1"/>
<testcase classname="tests.test_a" name="test_fails"><failure message="assert 1 == 2
 +1">trace</failure></testcase>
<testcase classname="tests.test_a.TestB" name="test_skips"><skipped type="pytest.skip"
 message="5.10 has no fun">tests/test_a.py:3: 5.10 has no fun</skipped></testcase>
<testcase classname="tests.test_a" name="test_skips_badly"><skipped type="pytest.skip"
 message="not today"/></testcase>
<testcase classname="tests.test_a" name="test_is_expected_to_fail"><skipped type="pytest.xfail"
 message=""/></testcase>
<testcase time="3.5"/>
<testcase classname="tests.test_a" name="test_tears_down"/>
<testcase classname="tests.test_a" name="test_tears_down"><error message="failed on teardown"/>
</testcase>
</testsuite></testsuites>
"""


def test_junit_is_read() -> None:
    results = read_junit(JUNIT.encode(), ROW)
    assert results == [
        Result("test_a::test_passes", "pass"),
        Result("test_a::test_fails", "FAIL", "assert 1 == 2  +1"),
        Result("test_a.TestB::test_skips", "skip", "5.10 has no fun"),
        Result("test_a::test_skips_badly", "FAIL", "skipped without a kernel's reason: not today"),
        Result(
            "test_a::test_is_expected_to_fail",
            "FAIL",
            "skipped without a kernel's reason: no reason",
        ),
        Result("test_a::test_tears_down", "FAIL", "failed on teardown"),
    ]
    with pytest.raises(ValueError, match="junit.xml can't be read"):
        read_junit(JUNIT.encode()[:200], ROW)


def test_a_row_passes_only_with_results_and_without_trouble() -> None:
    good, skipped = Result("a", "pass"), Result("b", "skip", "5.10 has no b")
    assert RowResult(ROW, 1, [good, skipped]).passed
    assert not RowResult(ROW, 1, [good, Result("b", "FAIL")]).passed
    assert not RowResult(ROW, 1, []).passed
    assert not RowResult(ROW, 1, [good], "kernel panic").passed


def test_what_passes_the_second_time_is_shown_as_that(tmp_path: Path) -> None:
    case = '<testcase classname="tests.t" name="{}"><failure message="late"/></testcase>'
    first = f"<testsuites>{case.format('a')}{case.format('b')}</testsuites>"
    last = case.format("b").replace("late", "later")
    again = f"<testsuites><testcase classname='tests.t' name='a'/>{last}</testsuites>"
    results = second_time(read_junit(first.encode(), ROW), read_junit(again.encode(), ROW))
    assert results == [Result("t::a", "again", "late"), Result("t::b", "FAIL", "later")]
    row = RowResult(ROW, 1.0, results)
    assert not row.passed and RowResult(ROW, 1.0, results[:1]).passed
    text = summary([row])
    assert "(again)    1\n" in text
    assert "passed the second time only:\n  t::a [5.10]: late\n" in text
    made = machine(tmp_path)
    report = RESULTS.format(status=1).replace("./junit.xml\n", "./junit.xml ./again.xml\n")
    assert run_one(made, report.replace("tar", "echo '<x/>' >again.xml; tar", 1)) is None
    assert made.again.read_text() == "<x/>\n"


def test_summary_is_one_table() -> None:
    new = Row("7.3", "p", "s", "sid")
    rows = [
        RowResult(ROW, 12.3, [Result("t::a", "pass"), Result("t::b", "skip", "5.10 has no b")]),
        RowResult(HEADERS, 60, [], "kernel panic: oops"),
        RowResult(new, 9.8, [Result("t::a", "pass"), Result("t::b", "FAIL", "assert 0")]),
    ]
    assert (
        summary(rows)
        == """\
test       5.10  5.10-headers  7.3
t::a       pass  -             pass
t::b       skip  -             FAIL
(pass)     1     0             1
(FAIL)     0     0             1
(skip)     1     0             0
(seconds)  12    60            10
(kernel)   pass  FAIL          FAIL

skipped:
  t::b [5.10]: 5.10 has no b

failed:
  t::b [7.3]: assert 0

proved nothing:
  5.10-headers: kernel panic: oops"""
    )


# The comparison with bcc.

BCC_RUNQLEN = b"""Sampling run queue length... Hit Ctrl-C to end.


cpu = 0
     runqlen       : count     distribution
        0          : 495      |****************************************|

cpu = 1
     runqlen       : count     distribution
        0          : 0        |                                        |
        1          : 10       |                                        |
        2          : 30       |***                                     |
"""


def test_histograms_of_bcc_and_ours_read_the_same() -> None:
    ours = b"""{"key": {"cpu": 0}, "buckets": [{"lo": 0, "hi": 0, "count": 495}]}
{"key": {"cpu": 1}, "buckets": [{"lo": 1, "hi": 1, "count": 10}, {"lo": 2, "hi": 2, "count": 30}]}
"""
    for side, printed in (("bcc", BCC_RUNQLEN), ("ours", ours)):
        found = compare.histograms(side, printed)
        assert set(found) == {0, 1}
        assert found[1].samples == 40
        assert found[1].bounds == (70, 110)


def test_a_log2_histogram_bounds_the_sum() -> None:
    printed = b"     usecs  : count  distribution\n   0 -> 1  : 2  |**|\n   4 -> 7  : 1  |* |\n"
    assert compare.histograms("bcc", printed)[-1].bounds == (4, 12)


def test_a_newline_in_a_name_is_not_read_back_from_bcc() -> None:
    printed = b"PID    COMM    FD ERR PATH\n12  two words  3   0 /a b\n12  x  -1   2 /two\nlines\n"
    assert compare.opens("bcc", printed) == [(3, 0, b"/a b"), (-1, 2, b"/two")]
    event = b'{"fd": -1, "err": 2, "path": "/two\\nlines"}\n'
    assert compare.opens("ours", event) == [(-1, 2, b"/two\nlines")]


def test_the_page_has_a_line_for_each_kernel_and_tool(tmp_path: Path) -> None:
    assert list(CHECKS) == [(tool, check) for tool, group, _ in compare.CHECKS for check in group]
    findings: list[dict[str, object]] = []
    for tool, check in CHECKS:
        right = {"truth": "3", "found": "3", "right": True}
        wrong = {"truth": "3", "found": "0 | 1", "right": False}
        failed = {"error": "main.c:1: error: no | field", "right": False}
        bcc = failed if tool == "opensnoop" else wrong if check == "cgroups" else right
        findings += [
            {"tool": tool, "check": check, "side": side, **found}
            for side, found in (("bcc", bcc), ("ours", right))
        ]
    versions = {"kernel": "7.3.4", "bcc": "0.37", "python": "3.14"}
    report = tmp_path / "comparison.json"
    report.write_text(json.dumps({"versions": versions, "findings": findings}))
    compared = read_comparison("7.3", report, "7.3: a note.")
    assert compared.ours_are_right and not Compared("7.3").ours_are_right
    text = page([compared])
    assert "| 7.3 | runqlen | yes | **no** | yes | yes |" in text
    assert "| 7.3 | runqlat | yes | yes | yes | yes |" in text
    assert r"| 7.3 | opensnoop | no: `main.c:1: error: no \| field` | – | yes | yes |" in text
    assert r"| 7.3 | **0 \| 1** | 3 | 3 | 3 |" in text
    assert "| 7.3 | 7.3.4 | 0.37 | 3.14 |" in text and "7.3: a note." in text
    # Reasons stand only where there is something to explain.
    assert "#3093" in text and "255 bytes" not in text and "clang" in text


def test_each_part_of_the_page_is_kept_when_the_other_is_written() -> None:
    first = with_section(page([]), ["## Here", "", "one"])
    assert first.startswith(page([])) and "\none\n" in first
    second = with_section(first, ["## Here", "", "another"])
    assert second == first.replace("\none\n", "\nanother\n")
    assert page([], first) == first
    assert page([], page([])) == page([])


# The command.


def run_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(HERE / "run.py"), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        check=False,
        text=True,
    )


@pytest.fixture
def without_7_0(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A world without the kernel 7.0 and without bullseye; what was asked of it."""
    asked = []

    def userland(suite: str, *rest: object) -> object:
        asked.append(suite)
        if suite == "bullseye":
            raise ImageError("cannot build userland bullseye: gone")
        return suite

    def kernel(row: Row, *rest: object) -> object:
        asked.append(row.name)
        if row.name == "7.0":
            raise ImageError("cannot build kernel 7.0: no package")
        return row.name

    monkeypatch.setattr(run, "tools", lambda say: None)
    monkeypatch.setattr(Images, "compiled", lambda self, row, checkout: checkout)
    monkeypatch.setattr(run, "userland", userland)
    monkeypatch.setattr(run, "kernel", kernel)
    return asked


FOUR = "5.10 a b bullseye\n5.10-headers a b bullseye\n6.18 a b trixie\n7.0 a b trixie\n"


def test_rows_that_lack_an_image_are_named_and_the_others_have_theirs(
    without_7_0: list[str],
) -> None:
    images = Images()
    missing: dict[str, str] = {}
    for row in read(FOUR):
        try:
            images.build(row)
        except ImageError as error:
            missing[row.name] = str(error)
    assert missing == {
        "5.10": "cannot build userland bullseye: gone",
        "5.10-headers": "cannot build userland bullseye: gone",
        "7.0": "cannot build kernel 7.0: no package",
    }
    assert list(images.kernels) == ["6.18"]
    assert without_7_0 == ["bullseye", "trixie", "6.18", "7.0"]
    with pytest.raises(ImageError, match="bullseye"):
        images.require(read(FOUR))


@pytest.fixture
def small_matrix(
    without_7_0: list[str], small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> list[dict[str, str]]:
    """Machines that pass the one test of each unit that they are to run, of the checkout `small`;
    what they were told."""
    jobs: list[dict[str, str]] = []

    def prepare(self: Machine, tools: object, kernel: object, userland: object, *rest: Any) -> Any:
        jobs.append({"row": self.row.name, **rest[-1]})
        self.temporary.mkdir(parents=True)
        left_out = rest[-1]["proved"].splitlines()
        cases = "".join(
            f'<testcase classname="tests.{unit.split()[0]}" name="test_it[{unit.split()[-1]}]">'
            f'<properties><property name="unit" value="{unit}"/></properties></testcase>'
            for unit in sorted(EVERY)
            if unit not in left_out
        )
        report = f"<testsuites>{cases}</testsuites>"
        text = RESULTS.format(status=0).replace("<testsuites/>", report)
        return ["sh", "-c", text, "sh", str(self.directory)]

    git = ["git", "-C", str(small), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "init", "--quiet", str(small)], check=True)
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "--quiet", "-m", "x"], check=True)
    monkeypatch.setattr(run, "CHECKOUT", small)
    monkeypatch.setattr(run, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(run, "ask", lambda root: asked())
    monkeypatch.setattr(run, "TABLE", tmp_path / "matrix.txt")
    (tmp_path / "matrix.txt").write_text(FOUR)
    monkeypatch.setattr(proved, "RECORD", small / "proved.txt")
    monkeypatch.setattr(Machine, "prepare", prepare)
    monkeypatch.setattr(Machine, "ports", lambda self: [])
    monkeypatch.setattr(Images, "packages", lambda self, row: [f"linux-image {row.release}"])
    monkeypatch.setattr(Images, "compiler", lambda self, machine, checkout: [])
    monkeypatch.setattr(Images, "compiled", lambda self, row, checkout: checkout)
    return jobs


def test_a_kernel_that_cannot_be_built_is_a_failed_row(
    small_matrix: list[dict[str, str]], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = choose(read(FOUR), "6.18 7.0")
    (tmp_path / "results" / "7.0").mkdir(parents=True)
    (tmp_path / "results" / "7.0" / "junit.xml").write_text("of an earlier run")
    assert run.test(rows, "", 2, 60, False) == 1
    text = capfd.readouterr().out
    assert re.search(rf"^\(pass\) +{len(EVERY)} +0$", text, re.M)
    assert re.search(r"^\(kernel\) +pass +FAIL$", text, re.M)
    assert "proved nothing:\n  7.0: cannot build kernel 7.0: no package\n" in text
    assert not (tmp_path / "results" / "7.0").exists()


def test_what_is_proved_is_not_run_again_until_its_inputs_change(
    small: Path, small_matrix: list[dict[str, str]], capfd: pytest.CaptureFixture[str]
) -> None:
    rows = choose(read(FOUR), "6.18")
    assert run.test(rows, "", 2, 60, False) == 0
    record = proved.read(proved.RECORD)
    assert set(record) == {("6.18", unit) for unit in EVERY}
    commit = proved.commit_of(small)
    assert {proof.commit for proof in record.values()} == {commit}
    # Nothing has changed: no machine starts.
    assert run.test(rows, "", 2, 60, False) == 0
    assert len(small_matrix) == 1
    text = capfd.readouterr().out
    assert f"\n  6.18: {len(EVERY)} on {proved.today()} at {commit}\n" in text
    # A header has: the units of the tool that includes it run.
    with (small / "lib/pytools/compile/bpf/inner.h").open("a") as header:
        header.write("/* changed */\n")
    assert run.test(rows, "", 2, 60, False) == 0
    job = small_matrix[1]
    assert job["modules"].split() == [
        "tests/test_all.py", "tests/test_alpha.py", "tests/test_shared.py",
    ]  # fmt: skip
    assert set(job["proved"].splitlines()) == EVERY - ALPHA
    after = proved.read(proved.RECORD)
    assert {unit for _, unit in after if after["6.18", unit].commit == commit + "+"} == ALPHA
    # FRESH=1 believes nothing.
    assert run.test(rows, "", 2, 60, True) == 0
    assert small_matrix[2]["proved"] == ""
    assert {proof.commit for proof in proved.read(proved.RECORD).values()} == {commit + "+"}


def test_what_fails_is_struck_from_the_record(
    small_matrix: list[dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = choose(read(FOUR), "6.18")
    assert run.test(rows, "", 2, 60, False) == 0
    monkeypatch.setattr(Machine, "unpack", lambda self: "kernel panic: oops")
    assert run.test(rows, "", 2, 60, True) == 1
    assert proved.read(proved.RECORD) == {}


def test_what_is_edited_while_machines_run_is_not_what_they_proved(
    small: Path, small_matrix: list[dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = keys_of(small, row=choose(read(FOUR), "6.18")[0], packages=("linux-image 6.18",))
    built = Images.build

    def build(self: Images, row: Row) -> None:
        with (small / "tools/alpha").open("a") as tool:
            tool.write("# edited\n")
        built(self, row)

    monkeypatch.setattr(Images, "build", build)
    rows = choose(read(FOUR), "6.18")
    assert run.test(rows, "", 2, 60, False) == 0
    assert {proof.unit: proof.key for proof in proved.read(proved.RECORD).values()} == before
    # Of what a machine is made of, the newest text was in it: that proves nothing.
    proved.RECORD.unlink()

    def rebuild(self: Images, row: Row) -> None:
        (small / "tests/kernels/guest.sh").write_text("edited\n")
        built(self, row)

    monkeypatch.setattr(Images, "build", rebuild)
    assert run.test(rows, "", 2, 60, False) == 0
    assert proved.read(proved.RECORD) == {}


def test_list_prints_the_names_in_the_table() -> None:
    result = run_command("list")
    assert result.returncode == 0
    assert result.stdout.split() == [row.name for row in read(TABLE.read_text())]


@pytest.mark.parametrize(
    "arguments", [("test", "--kernels", "4.4"), ("shell", "4.4"), ("images", "--kernels", "4.4")]
)
def test_an_unknown_kernel_is_one_line(arguments: tuple[str, ...]) -> None:
    result = run_command(*arguments)
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.startswith("kernels: no kernel 4.4 in the table, which has: 5.10 ")
    assert result.stderr.count("\n") == 1


@pytest.mark.skipif(
    shutil.which("mmdebstrap") is None or os.geteuid() != 0, reason="needs mmdebstrap and root"
)
def test_no_network_is_one_clear_line_and_no_image(tmp_path: Path) -> None:
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    result = subprocess.run(
        ["unshare", "--net", str(HERE / "run.py"), "images", "--kernels", "7.3"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        check=False,
        text=True,
        env=environment,
    )
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("kernels: cannot build tools qemu: ")
    assert "fetch" in result.stderr
    assert [path.name for path in (tmp_path / "pytools" / "kernels").iterdir()] == ["lock"]


@pytest.mark.parametrize(
    "flags, arguments", [("fpu hypervisor tsc", ["tsc_early_khz=2596142"]), ("fpu tsc", [])]
)
def test_the_clock_s_rate_is_told_where_the_host_knows_it(flags: str, arguments: list[str]) -> None:
    text = f"processor\t: 0\nflags\t\t: {flags}\ncpu MHz\t\t: 2596.142\n\n"
    assert clock_arguments(text) == arguments
