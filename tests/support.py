"""What the tests share: running the tools, and workloads of known size."""
from __future__ import annotations

import contextlib
import functools
import os
import re
import select
import shlex
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any, Callable, Iterable, Iterator, Sequence

import pytest

from pytools.collection import catalogue

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / "tools"
# Emulated processors stand still while the host does something else, and timers with them: there,
# what takes as long as it should elsewhere takes longer.
EMULATED = bool(os.environ.get("PYTOOLS_KERNEL"))
# Generous: the same tests run in virtual machines that are emulated, where a compiler
# that reads the kernel's headers takes twenty seconds, and minutes on a busy host.
PATIENCE = 600.0 if EMULATED else 120.0


DECLARED = {tool.name: tool for tool in catalogue.tools(str(TOOLS))}


def all_tools() -> list[str]:
    """Every tool of the collection."""
    return sorted(DECLARED)


# Tools without a program in the kernel: they print what there is, and end.
LISTING = {name for name, tool in DECLARED.items() if not tool.traces}


def tool_names() -> list[str]:
    """The tools that trace."""
    return [tool for tool in all_tools() if tool not in LISTING]


def skip_without_functions(name: str, messages: str) -> None:
    """Skip the test where the kernel lets nobody attach to its functions."""
    if "this kernel has no kprobes" in messages:
        kernel = os.environ.get("PYTOOLS_KERNEL", os.uname().release)
        pytest.skip(f"{kernel} has no kprobes, and refuses fentry: {name} can't be tried on it")


HAS_BTF = os.path.exists("/sys/kernel/btf/vmlinux")
needs_btf = pytest.mark.skipif(not HAS_BTF, reason=f"{os.uname().release} has no BTF")
# Without an option, they read what no header of the kernel declares.
NEED_BTF = {"runqlen", "slabratetop"}


def hooks(tool: str) -> set[str]:
    """The kinds of what a tool's template attaches to: ``{"RAW_TRACEPOINT"}``."""
    text = (TOOLS / tool).read_text()
    # Some programs are made by what tools of one kind know.
    for line in re.findall(r"^from pytools\.domains\b.*", text, re.M):
        for name in set(re.findall(r"\w+", line)):
            module = ROOT / "lib" / "pytools" / "domains" / f"{name}.py"
            text += module.read_text() if module.exists() else ""
    included: set[str] = set()
    while new := set(re.findall(r'#include "(\w+\.h)"', text)) - included:
        included |= new
        text += "".join(
            (ROOT / "lib" / "pytools" / "compile" / "bpf" / name).read_text() for name in new
        )
    kinds = (
        "TRACEPOINT|RAW_TRACEPOINT|PERF_EVENT|CLASSIFIER|FUNCTION|FUNCTION_RETURN"
        "|UPROBE|URETPROBE|USDT"
    )
    found = re.findall(rf"^(?:r?\"+)?({kinds})\(", text, re.M)
    if re.search(r"^PROBES\(", text, re.M):
        # Those of try_with.
        of_kernel = any(word.startswith("t:") for word in DECLARED[tool].try_with)
        found.append("TRACEPOINT" if of_kernel else "UPROBE")
    if re.search(r"^\$[A-Z_]+\n\{", text, re.M):
        found.append("RAW_TRACEPOINT")  # or what a new kernel has in its place: differences.py
    assert found, f"{tool} attaches to nothing"
    return set(found)


def end(child: subprocess.Popen[bytes]) -> None:
    """Let a child that waits for the end of its input end."""
    assert child.stdin
    child.stdin.close()
    child.stdin = None
    child.wait()


HAS_KPROBES = os.path.exists("/sys/bus/event_source/devices/kprobe/type")
needs_functions = pytest.mark.skipif(
    not HAS_KPROBES, reason=f"{os.uname().release} has no kprobes, and may refuse fentry"
)

# They attach to functions as well where there are kprobes, or where there are no tracepoints, or
# with an option.
DO_WITHOUT_FUNCTIONS = {"opensnoop", "klockstat", "tcpretrans"}

# In the kernel matrix every test costs eight times, and is emulated. What holds of
# each tool for the same reason is proved there of one, on the host of all.


def parameter(tool: str, in_matrix: bool = True) -> Any:
    """A tool as the parameter of a test that runs it as it is, without options of its own."""
    marks = [] if in_matrix else [pytest.mark.host_only]
    if tool in NEED_BTF:
        marks.append(needs_btf)
    if hooks(tool) & {"FUNCTION", "FUNCTION_RETURN"} and tool not in DO_WITHOUT_FUNCTIONS:
        marks.append(needs_functions)
    return pytest.param(tool, marks=marks)


def on_host_only(*values: Any) -> list[Any]:
    """A test's parameters that aren't run in the matrix, where others of the same test are."""
    return [pytest.param(value, marks=pytest.mark.host_only) for value in values]


# What a tool may say of a machine that was busy before it started, and is, or that is slow, or that
# has no disk 8:0 (try_with of biolatpcts).
MISSING = re.compile(
    rb"\w+: (\d+ (requests unmatched|(events|requests|stacks|samples) lost|calls missed)\b"
    rb"|(at|de)tached (to|from) \d+ of|nothing was seen: there is no disk 8:0$).*\n?",
    re.M,
)


def one_in_matrix(tools: Iterable[str]) -> list[Any]:
    """The tools as a test's parameters: all of them on the host, the first in the matrix."""
    return [parameter(tool, in_matrix=not number) for number, tool in enumerate(tools)]


def kinds(tools: Iterable[str], by_class: bool = True) -> list[str]:
    """Those tools of which none before them attaches to the same, or is of the same class: what
    the library does for all tools is proved of one of each kind."""
    seen: set[str] = set()
    found = []
    for tool in tools:
        kind = hooks(tool)
        if by_class:
            kind |= set(re.findall(r"^tool = (\w+)\(", (TOOLS / tool).read_text(), re.M))
        if kind - seen:
            found.append(tool)
        seen |= kind
    return found


def one_of_each_kind() -> list[Any]:
    """Tools as a test's parameters, also in the matrix: those that attach to something that
    none before them attaches to."""
    return [parameter(tool) for tool in kinds(tool_names(), by_class=False)]


def needed(tool: str, arguments: Sequence[str]) -> list[str]:
    """The arguments, and those before them without which the tool is not started."""
    given = any(":" in argument for argument in arguments) or "--help" in arguments
    declared = DECLARED.get(tool)  # None for a script that starts one
    return [*([] if given or declared is None else declared.try_with), *arguments]


def in_shell(tool: str, *arguments: str) -> str:
    """A tool's name with what it needs and these arguments, for a shell in its folder."""
    return shlex.join([f"./{tool}", *needed(tool, arguments)])


def run_tool(name: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a tool to its end."""
    options.setdefault("timeout", PATIENCE)
    options.setdefault("errors", "surrogateescape")
    result = subprocess.run(
        [str(TOOLS / name), *needed(name, arguments)],
        capture_output=True,
        text=True,
        check=False,
        **options,
    )
    skip_without_functions(name, result.stderr)
    return result


def in_fork(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """What a tool prints, and how it ends, in a process that has Python and the library already:
    for what it does before anything is started."""
    status, output, messages = forked(name, needed(name, arguments))
    return subprocess.CompletedProcess([name], status, output.decode(), messages.decode())


def forked(
    name: str, arguments: Sequence[str], before: Callable[[], object] = bool
) -> tuple[int, bytes, bytes]:
    """How a tool ends in such a process, and what it wrote to standard output and error; ``before``
    is called there first."""
    import capture

    module = capture.load(name)
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as messages:
        child = os.fork()
        if not child:
            try:
                before()
                for number, file in enumerate((output, messages), 1):
                    os.dup2(file.fileno(), number)
                sys.stdout, sys.stderr = open(1, "w"), open(2, "w", errors="backslashreplace")
                sys.argv = [str(TOOLS / name), *arguments]
                module.tool.run(module.start)
            except SystemExit as error:  # argparse's
                sys.stdout.flush()
                os._exit(int(error.code or 0))
            except BaseException:
                traceback.print_exc()
                sys.stderr.flush()
            finally:
                os._exit(99)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        for file in (output, messages):
            file.seek(0)
        return status, output.read(), messages.read()


@functools.lru_cache(maxsize=None)
def warm(tool: str) -> None:
    """Have a tool's image in the cache."""
    run_tool(tool, "--duration", "0")


class Tool:
    """A tool that runs beside the test. It has attached when the constructor
    returns (which -v lets it say)."""

    def __init__(self, name: str, *arguments: str, stdout: Any = subprocess.PIPE) -> None:
        self.process = subprocess.Popen(
            [str(TOOLS / name), *needed(name, ["-v", *arguments])],
            stdout=stdout,
            stderr=subprocess.PIPE,
        )
        self.messages = b""
        deadline = time.monotonic() + PATIENCE
        # The last line that a tool says before it waits for events.
        while b"Hit Ctrl-C to end." not in self.messages:
            assert time.monotonic() < deadline, f"{name} does not attach: {self.messages!r}"
            assert self.process.stderr is not None
            if select.select([self.process.stderr], [], [], 1)[0]:
                data = os.read(self.process.stderr.fileno(), 65536)
                if not data:
                    self.process.communicate()
                    skip_without_functions(name, self.messages.decode())
                assert data, f"{name} ended: {self.messages.decode()}"
                self.messages += data

    def stop(self, number: int = signal.SIGINT) -> str:
        """Interrupt the tool; what it printed. Fails if it ends with an error."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> str:
        """Wait for the tool's own end; what it printed."""
        output, messages = self.process.communicate(timeout=PATIENCE)
        self.messages += messages
        assert self.process.returncode == 0, self.messages.decode()
        return (output or b"").decode("utf-8", "surrogateescape")

    def __enter__(self) -> Tool:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()


@contextlib.contextmanager
def python_child(code: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A Python program in a process of its own, with pipes on its standard input
    and output to keep in step with it; killed at the end, with its children."""
    child = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield child
    finally:
        # Its session, for it may have children.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.communicate()


# A program that keeps in step with the test: it writes a line when it is ready
# and goes on when it is sent one.
SPIN = """
import os, sys
os.sched_setaffinity(0, [int(sys.argv[1])])
print("ready", flush=True)
while True:
    pass
"""


@contextlib.contextmanager
def busy_loops(cpu: int, number: int, cgroups: list[Path] | None = None) -> Iterator[list[int]]:
    """Processes that keep a CPU busy, each in a cgroup of its own if given."""
    with contextlib.ExitStack() as stack:
        children = [stack.enter_context(python_child(SPIN, str(cpu))) for _ in range(number)]
        for child in children:
            assert child.stdout is not None and child.stdout.readline() == b"ready\n"
        for child, cgroup in zip(children, cgroups or []):
            (cgroup / "cgroup.procs").write_text(str(child.pid))
        yield [child.pid for child in children]


def state_of(pid: int) -> str:
    """The letter of a process's state."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def wait_for_state(pid: int, state: str) -> None:
    """Until a process is in the state of that letter."""
    while state_of(pid) != state:
        os.sched_yield()


def last_cpu() -> int:
    """The online CPU with the highest number; the tests leave the first ones free."""
    from pytools.facts.kernel import online_cpus

    return online_cpus()[-1]


@contextlib.contextmanager
def cgroups(number: int, controller: str = "cpu") -> Iterator[list[Path]]:
    """Cgroups that have the controller, side by side in a folder of their own."""
    version1 = Path("/sys/fs/cgroup") / controller
    if (version1 / "cgroup.procs").exists():
        base = version1
    else:
        base = Path("/sys/fs/cgroup")
        available = (base / "cgroup.controllers").read_text().split()
        assert controller in available, f"no cgroup controller {controller}: {available}"
        (base / "cgroup.subtree_control").write_text(f"+{controller}")
    top = base / f"pytools-test-{os.getpid()}"
    top.mkdir()
    folders = [top / str(i) for i in range(number)]
    try:
        if (top / "cgroup.subtree_control").exists():
            (top / "cgroup.subtree_control").write_text(f"+{controller}")
        for folder in folders:
            folder.mkdir()
        yield folders
    finally:
        for folder in [*folders, top]:
            deadline = time.monotonic() + PATIENCE
            while folder.exists() and time.monotonic() < deadline:
                try:
                    folder.rmdir()
                except OSError:  # its last process has not been reaped yet
                    os.sched_yield()
