"""What goes wrong for reasons outside the tools is one clear line, and nothing stays attached."""
from __future__ import annotations

import collections
import contextlib
import ctypes
import os
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Callable, Iterator, Sequence

import pytest

import capture
import fuzz_options
from programs import program_ids, wait_until_detached
from pytools.base import system
from pytools.base.errors import Usage

from pytools.facts.kernel import running
from pytools.compile.template import render
from pytools.tool.waiting import AGAIN_SECONDS

from support import (
    DECLARED, MISSING, PATIENCE, ROOT, TOOLS, Tool, hooks, in_fork, in_shell, kinds, needed,
    one_in_matrix, parameter, run_tool, tool_names, warm,
)  # fmt: skip

TOOL_NAMES = tool_names()
every_tool = pytest.mark.parametrize("tool", one_in_matrix(TOOL_NAMES))
# For what the library says and does of all tools, before or after the tool's own lines.
KINDS = kinds(TOOL_NAMES)
each_kind = pytest.mark.parametrize("tool", one_in_matrix(KINDS))
host_only = pytest.mark.host_only
NOBODY = 65534


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """No test leaves a program in the kernel."""
    before = program_ids()
    yield
    wait_until_detached(before)


def is_one_line(result: subprocess.CompletedProcess[str], tool: str, *words: str) -> None:
    """The tool failed with one line that has the words."""
    assert result.returncode == 1, result.stderr
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith(f"{tool}: ")
    for word in words:
        assert word in lines[0]


# Refused system calls: seccomp(2) filters, inherited by the compiler's child.

_SECCOMP_DATA_NUMBER, _SECCOMP_DATA_ARGUMENT = 0, 16
_EPERM = 1


def refuse(number: int, argument: int | None = None) -> Callable[[], None]:
    """What makes a process that calls it get EPERM from a system call (with that
    first argument)."""

    def statement(code: int, k: int, jt: int = 0, jf: int = 0) -> bytes:
        return struct.pack("=HBBI", code, jt, jf, k)

    load, equal, give = 0x20, 0x15, 0x06
    allowed, refused = 0x7FFF0000, 0x00050000 | _EPERM
    code = statement(load, _SECCOMP_DATA_NUMBER)
    if argument is None:
        code += statement(equal, number, 0, 1)
    else:
        code += statement(equal, number, 0, 3)
        code += statement(load, _SECCOMP_DATA_ARGUMENT) + statement(equal, argument, 0, 1)
    code += statement(give, refused) + statement(give, allowed)
    buffer = ctypes.create_string_buffer(code, len(code))
    filter_program = struct.pack("@HP", len(code) // 8, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)

    def install() -> None:
        assert buffer  # the filter points into it
        no_new_privileges, set_seccomp, filter_mode = 38, 22, 2
        zero = ctypes.c_ulong(0)
        if libc.prctl(no_new_privileges, ctypes.c_ulong(1), zero, zero, zero):
            os._exit(99)
        if libc.prctl(set_seccomp, ctypes.c_ulong(filter_mode), filter_program, zero, zero):
            os._exit(98)

    return install


BPF, PERF_EVENT_OPEN = system._BPF, system._PERF_EVENT_OPEN
MAP_CREATE, PROG_LOAD, RAW_TRACEPOINT_OPEN = 0, 5, 17


@host_only
@pytest.mark.parametrize("tool", [parameter(tool) for tool in TOOL_NAMES])
def test_a_refused_bpf_call_is_one_line(tool: str) -> None:
    result = run_tool(tool, "--no-cache", "--duration", "0", preexec_fn=refuse(BPF))
    is_one_line(result, tool, "cannot create ", "EPERM", "root lacks some of CAP_BPF and")


@host_only
@each_kind
def test_a_bpf_call_that_is_refused_to_a_cached_program_is_one_line(tool: str) -> None:
    warm(tool)
    result = run_tool(tool, "--csv", "--duration", "0", preexec_fn=refuse(BPF))
    is_one_line(result, tool, "cannot create ", "EPERM", "root lacks some of CAP_BPF and")


@host_only
@each_kind
def test_a_refused_program_is_one_line(tool: str) -> None:
    warm(tool)
    result = run_tool(tool, "--duration", "0", preexec_fn=refuse(BPF, PROG_LOAD))
    is_one_line(result, tool, "cannot load a BPF program: EPERM", "root lacks")


@host_only
@each_kind
def test_a_refused_attachment_is_one_line(tool: str) -> None:
    if "CLASSIFIER" in hooks(tool):  # by netlink, which asks for another capability
        command = ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"]
        result = subprocess.run(
            [*command, str(TOOLS / tool), "--duration", "0"],
            capture_output=True,
            text=True,
            check=False,
        )
        is_one_line(result, tool, "cannot attach to interface lo", "CAP_NET_ADMIN")
        return
    warm(tool)
    found = render(capture.capture(tool), running()).hooks
    if any(hook.kind in ("raw_tracepoint", "tp_btf", "fentry", "fexit") for hook in found):
        result = run_tool(tool, "--duration", "0", preexec_fn=refuse(BPF, RAW_TRACEPOINT_OPEN))
    else:
        result = run_tool(tool, "--duration", "0", preexec_fn=refuse(PERF_EVENT_OPEN))
    is_one_line(result, tool, "EPERM", "root lacks some of CAP_BPF and CAP_PERFMON")


# Not root.


@pytest.fixture(scope="module")
def public() -> Iterator[Path]:
    """A copy of the tools that every user may read."""
    folder = Path(tempfile.mkdtemp(prefix="pytools-test-", dir="/var/tmp"))
    ignore = shutil.ignore_patterns("__pycache__", "pytools")
    shutil.copytree(TOOLS, folder / "tools", symlinks=True, ignore=ignore)
    shutil.copytree(ROOT / "lib" / "pytools", folder / "tools" / "pytools")
    subprocess.run(["chmod", "-R", "a+rX", str(folder)], check=True)
    yield folder / "tools"
    shutil.rmtree(folder)


def as_nobody(command: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups",
         "--inh-caps=-all", "--bounding-set=-all", *command],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=PATIENCE, check=False,
        **options,
    )  # fmt: skip


@pytest.mark.any_types
@every_tool
def test_without_privileges_a_tool_says_what_to_do(tool: str, public: Path) -> None:
    for cache in ((), ("--no-cache",)) if tool in KINDS else ((),):
        result = as_nobody(
            [str(public / tool), *needed(tool, [*cache, "--duration", "0"])],
            env={**os.environ, "HOME": "/"},
        )
        is_one_line(result, tool, "root")


@host_only
def test_another_user_s_images_are_where_the_user_says(public: Path) -> None:
    """A user who may load programs (here: one that never gets that far) has a
    cache of their own, and root's stays as it is."""
    folder = Path(tempfile.mkdtemp(prefix="pytools-test-", dir="/var/tmp"))
    try:
        os.chown(folder, NOBODY, NOBODY)
        environment = {**os.environ, "XDG_CACHE_HOME": str(folder)}
        code = (
            "import sys; sys.path.insert(0, sys.argv[1])\n"
            "from pytools.base import cache\n"
            "with cache.Cache(cache.folder()) as images:\n"
            "    images.store('name', b'image'); print(images.load('name'), images.why_not)\n"
        )
        command = [sys.executable, "-c", code, str(public)]
        result = as_nobody(command, env=environment)
        assert result.stdout == "b'image' \n", result.stderr
        assert (folder / "pytools" / "name").stat().st_uid == NOBODY
        assert (folder / "pytools").stat().st_mode & 0o777 == 0o700
    finally:
        shutil.rmtree(folder)


# A kernel that lacks something: file systems hidden in a mount namespace.


def hidden(
    *folders: str, then: str = "", tool: str, options: str = "--duration 0"
) -> subprocess.CompletedProcess[str]:
    """Run a tool where the folders are empty, after some more shell commands."""
    script = "".join(f"[ ! -d {f} ] || mount -t tmpfs -o mode=755 none {f}\n" for f in folders)
    script += f"{then}\ncd {TOOLS}; exec {in_shell(tool, *options.split())}"
    return subprocess.run(
        ["unshare", "-m", "--propagation", "private", "sh", "-ec", script],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip


TRACEFS = ("/sys/kernel/tracing", "/sys/kernel/debug")


@every_tool
def test_without_btf_and_headers_a_tool_says_what_is_missing(tool: str) -> None:
    # Where there was no BTF before, the cache has an image that needs neither.
    folders = ("/sys/kernel/btf", "/lib/modules", "/usr/src")
    result = hidden(*folders, tool=tool, options="--no-cache --duration 0")
    is_one_line(result, tool, "BTF")


@host_only
@pytest.mark.parametrize(
    "tool", one_in_matrix(sorted(TOOL_NAMES, key=lambda tool: "TRACEPOINT" not in hooks(tool)))
)
def test_a_tool_needs_no_mounted_tracefs(tool: str) -> None:
    result = hidden(*TRACEFS, tool=tool, options="--no-cache --duration 0")
    assert (result.returncode, MISSING.sub(b"", result.stderr.encode())) == (0, b"")


@host_only
@pytest.mark.parametrize("tool", one_in_matrix(t for t in TOOL_NAMES if "TRACEPOINT" in hooks(t)))
def test_without_tracefs_a_tool_says_what_to_do(tool: str, tmp_path: Path) -> None:
    """Not mounted, and (since fsopen(2) is refused) not to be mounted."""

    def hide() -> None:
        # Not by mount(8): in newer userlands it calls fsopen(2) itself.
        system.own_mount_namespace()
        for folder in TRACEFS:
            if os.path.isdir(folder):
                system.bind_mount(str(tmp_path), folder)
        refuse(system._FSOPEN)()

    result = run_tool(tool, "--duration", "0", preexec_fn=hide)
    is_one_line(result, tool, "tracefs", "mount -t tracefs")


@host_only
@each_kind
def test_a_locked_down_kernel_is_named(tool: str) -> None:
    """securityfs says so, and loading a program is refused."""
    warm(tool)
    script = (
        "mount -t tmpfs none /sys/kernel/security\n"
        "echo 'none integrity [confidentiality]' >/sys/kernel/security/lockdown\n"
        f"cd {TOOLS}; exec {in_shell(tool, '--duration', '0')}"
    )
    result = subprocess.run(
        ["unshare", "-m", "--propagation", "private", "sh", "-ec", script],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=PATIENCE, check=False,
        preexec_fn=refuse(BPF, PROG_LOAD),
    )  # fmt: skip
    is_one_line(result, tool, "EPERM", "locked down (confidentiality)")


# Tools whose programs name nothing of the kernel's: nothing reads its types for them.
NAMES_NO_TYPES = {"flowtop"}


@host_only
@pytest.mark.parametrize("damaged", ["cut short", "not BTF"])
@each_kind
def test_damaged_types_are_named(tool: str, damaged: str, tmp_path: Path) -> None:
    types = tmp_path / "vmlinux"
    whole = Path("/sys/kernel/btf/vmlinux").read_bytes()
    types.write_bytes(whole[:1000] if damaged == "cut short" else b"no BTF at all, but long enough")
    then = f"mount -t tmpfs none /sys/kernel/btf; cp {types} /sys/kernel/btf/vmlinux"
    result = hidden(tool=tool, then=then, options="--no-cache --duration 0")
    if tool in NAMES_NO_TYPES:
        assert not result.returncode and not result.stderr
    else:
        is_one_line(result, tool, "damaged type information")


@pytest.mark.host_only  # the host compiles for the matrix
@each_kind
def test_without_bcc_a_tool_says_what_to_install(tool: str) -> None:
    places = [p for p in sys.path if os.path.isdir(os.path.join(p, "bcc"))]
    assert places
    bcc = [os.path.join(place, "bcc") for place in places]
    result = hidden(*bcc, tool=tool, options="--no-cache --duration 0")
    assert result.returncode == 1 and result.stdout == ""
    assert "python3-bpfcc" in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr


# Standard output.


@host_only
@pytest.mark.parametrize("form", ["--json", "--csv", "-v"])
@each_kind
def test_a_closed_standard_output_is_one_line(tool: str, form: str) -> None:
    result = run_tool(tool, form, "--duration", "0", preexec_fn=lambda: os.close(1))
    is_one_line(result, tool, "standard output is closed")


@host_only
@each_kind
def test_a_full_device_is_one_line(tool: str) -> None:
    with open("/dev/full", "w") as full:
        result = subprocess.run(
            # A tool that reports stacks has none yet, but a heading.
            [str(TOOLS / tool), *needed(tool, ["--duration", "0", "--csv"])],
            stdout=full, stderr=subprocess.PIPE, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
    assert result.returncode == 1
    # Another program's I/O may have begun before the tool did.
    lines = [line for line in result.stderr.splitlines() if "began unseen" not in line]
    assert lines == [f"{tool}: cannot write to standard output: No space left on device"]


@host_only
@each_kind
def test_closed_standard_input_and_error_do_no_harm(tool: str) -> None:
    def close() -> None:
        os.close(0)
        os.close(2)

    for cache in ((), ("--no-cache",)):
        result = run_tool(tool, *cache, "--duration", "0", preexec_fn=close)
        assert (result.returncode, result.stderr) == (0, "")


@host_only
@each_kind
def test_nothing_is_printed_to_nowhere_when_all_is_closed(tool: str) -> None:
    """Standard output's number must not become that of /dev/null."""
    result = run_tool(tool, "--duration", "0", preexec_fn=lambda: os.closerange(0, 3))
    assert (result.returncode, result.stdout) == (1, "")


@host_only
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_reader_that_stopped_holds_no_tool_that_is_ended_twice(number: int) -> None:
    """What it has seen is for the reader still; whoever ends it again wants no more of that."""
    read, write = os.pipe()
    try:
        with Tool("opensnoop", stdout=write) as tool:
            waits = Path(f"/proc/{tool.process.pid}/wchan")
            while "pipe_write" not in waits.read_text():
                for path in range(1000):
                    with contextlib.suppress(OSError):
                        open(f"/nonexistent/{path}")
            tool.process.send_signal(number)
            # Not at once: the second signal of timeout(1) is not meant so.
            with pytest.raises(subprocess.TimeoutExpired):
                tool.process.wait(2 * AGAIN_SECONDS)
            tool.process.send_signal(number)
            tool.wait()
            assert b"what was not written yet is lost" in tool.messages
    finally:
        os.close(read)
        os.close(write)


# Limits of the process (ulimit), as low as they can be.


def limited(kind: int, most: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(kind, (most, most))


@host_only
@pytest.mark.parametrize("most", [5, 6, 8, 11, 13, 15, 18])
@pytest.mark.parametrize("tool", kinds(TOOL_NAMES)[:1])
def test_too_few_descriptors_are_one_line(tool: str, most: int) -> None:
    for cache in ((), ("--no-cache",)):
        limits = limited(resource.RLIMIT_NOFILE, most)
        result = run_tool(tool, *cache, "--duration", "0", preexec_fn=limits)
        if result.returncode:
            *_, line = result.stderr.splitlines()  # above it, what the verifier said
            assert result.returncode == 1 and line.startswith(f"{tool}: "), result.stderr
        assert "Traceback" not in result.stderr


@host_only
@pytest.mark.parametrize("kind, most", [
    ("AS", 24 << 20), ("AS", 32 << 20), ("AS", 64 << 20), ("AS", 200 << 20), ("DATA", 8 << 20),
    ("STACK", 128 << 10), ("FSIZE", 0), ("CORE", 0), ("MEMLOCK", 0), ("NPROC", 1),
    ("SIGPENDING", 0), ("MSGQUEUE", 0), ("RTPRIO", 0),
])  # fmt: skip
def test_low_limits_are_one_line_or_do_no_harm(kind: str, most: int) -> None:
    warm("runqlat")
    for tool, *cache in (("runqlat",), ("profile", "--no-cache")):
        limits = limited(getattr(resource, f"RLIMIT_{kind}"), most)
        result = run_tool(tool, *cache, "--duration", "0", preexec_fn=limits)
        assert "Traceback" not in result.stderr, result.stderr
        assert result.returncode in (0, 1), result.stderr
        assert "not installed" not in result.stderr


# Bad usage.


def takes(tool: str, dest: str) -> bool:
    return any(action.dest == dest for action in capture.load(tool).parser._actions)


def bad_usage(tool: str) -> Iterator[tuple[list[str], int]]:
    """(arguments, exit status)"""
    nobody = str(2**22)  # one more than the highest process id there can be
    yield ["--no-such-option"], 2
    yield ["--duration", "-1"], 2
    yield ["--duration", "nan"], 2
    yield ["--duration", "soon"], 2
    yield ["--json", "--csv"], 2
    if not DECLARED[tool].try_with:
        yield ["1", "2", "3"], 2
    if takes(tool, "interval"):
        for arguments in (["-1"], ["0"], ["1", "0"], ["1", "-1"], ["1", "junk"], ["x"]):
            yield arguments, 2
        yield ["1", "1.5"], 2
    if takes(tool, "frequency"):
        for frequency in ("0", "-99", "1e3", "99999999999999999999", "x"):
            yield ["--frequency", frequency], 2
    for dest, option in (
        ("pid", "--pid"),
        ("tid", "--tid"),
        ("mntns", "--mntns"),
        ("pidns", "--pidns"),
    ):
        if takes(tool, dest):
            yield [option, nobody], 2
            for junk in ("0", "-1", "x", "4194305", "1,,2", "1;2", ""):
                yield [option, junk], 2
            yield [f"{option}=--"], 2  # no end of options
    if takes(tool, "cgroup"):
        for path in ("/nonexistent", "/", "/proc/self/cgroup", ""):
            yield ["--cgroup", path], 1
    if takes(tool, "comm"):
        for name in ("", "sixteen letters!"):
            yield ["--comm", name], 2
    if takes(tool, "flag_filter"):
        yield ["-f", "O_NOTHING"], 2
        yield ["-f", ""], 2
    if takes(tool, "uid"):
        yield ["-u", "-1"], 2


@host_only
@pytest.mark.parametrize("tool", TOOL_NAMES)
def test_bad_usage_is_one_line(tool: str) -> None:
    """What it says of a command line, it says before anything is started: only the first is given
    to a new process."""
    run: Callable[..., subprocess.CompletedProcess[str]] = run_tool
    for arguments, status in bad_usage(tool):
        result = run(tool, *arguments)
        assert (result.returncode, result.stdout) == (status, ""), (arguments, result.stderr)
        assert len(result.stderr.splitlines()) == 1, (arguments, result.stderr)
        assert result.stderr.startswith(f"{tool}: "), arguments
        run = in_fork


@host_only
def test_random_command_lines_end_with_a_line_at_most() -> None:
    """The first of those that tests/fuzz_options.py tries by the thousand."""
    assert list(fuzz_options.mistakes(200, 16, 0, collections.Counter())) == []


# In front of what argparse would take for the first argument, and blame.
UNKNOWN = [
    (["--no-such-option", "/sys"], "--no-such-option"),
    (["--no-such-option=1", "/sys"], "--no-such-option"),
    (["--no such option", "/sys"], "--no such option"),
    (["-@", "/sys"], "-@"),
    (["--json", "-@1", "/sys", "--nor-this"], "-@"),
]
UNKNOWN_BEHIND = [
    (["-v@", "/sys"], "-@"),
    (["--duration", "1", "-@"], "-@"),
    (["--duration=1", "-@"], "-@"),
]
BEHIND_ITS_LETTER = (["-vd1", "-@"], "-@")  # where -d is no other option


@pytest.mark.any_types
@pytest.mark.parametrize("tool", one_in_matrix(TOOL_NAMES))
def test_an_option_that_does_not_exist_is_named(
    tool: str, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = capture.load(tool).parser
    cases = UNKNOWN + UNKNOWN_BEHIND * DECLARED[tool].traces
    letter = parser._option_string_actions.get("-d")
    if letter and letter.dest == "duration":
        cases.append(BEHIND_ITS_LETTER)
    for arguments, option in cases:
        with pytest.raises(SystemExit) as ended:
            parser.parse_args(arguments)
        message = f"{tool}: there is no option {option} (see {tool} --help)\n"
        assert (ended.value.code, capsys.readouterr().err) == (2, message), arguments


@host_only
def test_what_is_no_option_is_not_taken_for_one(capsys: pytest.CaptureFixture[str]) -> None:
    parser = capture.load("runqlat").parser
    assert parser.unknown_option(["-p", "-@", "-mT", "--comm", "--no-such", "--", "-@"]) is None
    for given in (["--help", "--no-such"], ["--version", "-@"]):
        with pytest.raises(SystemExit) as ended:
            parser.parse_args(given)
        assert ended.value.code in (0, None)
    capsys.readouterr()
    for given, words in (
        (["--cgroupmap", "x"], "there is no option --cgroupmap: did you mean --cgroup?"),
        (["-p", "-@"], "argument -p/--pid: expected one argument"),
        (["-5"], "argument interval: '-5' is not a number from 0 on"),
    ):
        with pytest.raises(SystemExit):
            parser.parse_args(given)
        assert capsys.readouterr().err == f"runqlat: {words} (see runqlat --help)\n"


@pytest.mark.any_types
@pytest.mark.parametrize("tool", one_in_matrix(TOOL_NAMES))
def test_bad_usage_is_bad_usage_in_each_python(tool: str) -> None:
    """In this process, which takes no time: what argparse accepts changes now and then."""
    for arguments, status in bad_usage(tool):
        if status == 2:
            with pytest.raises((SystemExit, Usage)) as caught:
                capture.capture(tool, arguments)
            assert getattr(caught.value, "code", 2) == 2, arguments


@host_only
@pytest.mark.parametrize("tool", kinds(tool for tool in TOOL_NAMES if takes(tool, "cgroup")))
def test_an_unreadable_cgroup_is_named(tool: str, public: Path) -> None:
    folder = tempfile.mkdtemp()  # 0700
    try:
        path = os.path.join(folder, "inner")
        result = as_nobody(
            [str(public / tool), *needed(tool, ["--cgroup", path])], env={**os.environ, "HOME": "/"}
        )
        is_one_line(result, tool, path, "Permission denied")
    finally:
        os.rmdir(folder)


# Mistakes in a template.


RENDERED_OR_COMPILED = [
    ("template.replace('PERF_EVENT', '$NOWHERE PERF_EVENT', 1)", "$NOWHERE is not replaced"),
    ("template.replace('$LENGTH', '')", "no placeholder $LENGTH"),
    ("template + '$'", "begins no placeholder"),
    ("template.replace('return 0;', 'return 0;}')", "cannot compile"),
]


@pytest.mark.parametrize(
    "change, message",
    [
        *(pytest.param(*mistake, marks=host_only) for mistake in RENDERED_OR_COMPILED),
        ("template + '\\nRAW_TRACEPOINT(nowhere)\\n{\\n\\treturn 0;\\n}\\n'", "no raw tracepoint"),
        ("template.replace('length = 0', '').replace('return 0;', 'while (1);')", "kernel refused"),
    ],
)
def test_a_wrong_template_fails_in_one_line_at_the_end(change: str, message: str) -> None:
    tool = "runqlen"
    code = (
        "import sys, runpy; sys.path.insert(0, sys.argv[1])\n"
        "sys.argv = ['runqlen', '--cfs', '--duration', '0']\n"
        "from pytools.load import program\n"
        "prepare = program.prepare\n"
        f"change = lambda template: {change}\n"
        "program.prepare = lambda source, *rest: prepare(\n"
        "    source._replace(template=change(source.template)), *rest)\n"
        f"runpy.run_path({str(TOOLS / tool)!r}, run_name='__main__')\n"
    )
    result = subprocess.run(
        ["/usr/bin/python3", "-c", code, str(TOOLS)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert (result.returncode, result.stdout) == (1, ""), result.stderr
    assert "Traceback" not in result.stderr
    assert message in result.stderr.splitlines()[-1]
