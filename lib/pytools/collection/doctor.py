"""What this machine offers to the tools, and which of them work on it.

A tool is asked as it is: its template is rendered for the running kernel, and an empty
program is attached for a moment to everything that it attaches to. What the compiler
would need is looked for, but not loaded.
"""
from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import subprocess

from pytools.base.annotations import NamedTuple, TYPE_CHECKING
from pytools.base import cache
from pytools.base.beside import Beside
from pytools.collection import catalogue
from pytools.facts import kernel
from pytools.load import loader, program
from pytools.load.attach import Sampling, attach
from pytools.compile.compiler import NO_BCC_TEXT, require_headers
from pytools.base.errors import Failure
from pytools.compile.image import Image, ProgramSpec
from pytools.compile.unrendered import Unrendered
from pytools.compile.template import Hook, render

if TYPE_CHECKING:
    from typing import Callable, Iterable, Iterator


__all__ = ["Finding", "machine", "tools"]

OLDEST = (5, 10)
FREQUENCY = 49  # samples a second, of a program that does nothing for a moment
# include/uapi/linux/capability.h
CAPABILITIES = {
    "CAP_DAC_READ_SEARCH": 2, "CAP_SYS_PTRACE": 19, "CAP_SYS_ADMIN": 21, "CAP_SYSLOG": 34,
    "CAP_PERFMON": 38, "CAP_BPF": 39,
}  # fmt: skip
COMPILER_LIBRARY = "libbcc.so.0"


class Finding(NamedTuple):
    """What was asked for, what was found, and, unless it is empty, what is wrong with
    that and what to do about it."""

    name: str
    found: str
    why_not: str = ""


# The machine.


def machine(running: kernel.Kernel) -> list[Finding]:
    """What the machine offers, whichever tool needs it."""
    return [
        _kernel(running),
        _asked("types", lambda: _types(running)),
        _asked("tracefs", lambda: _tracefs(running)),
        _lockdown(),
        _asked("privileges", _privileges),
        _functions(),
        *_compiler(),
        *[_package(name) for name in ("pyroute2", "tabulate")],
        _cache(),
    ]


def _asked(name: str, ask: Callable[[], str]) -> Finding:
    try:
        return Finding(name, ask())
    except Failure as error:
        return Finding(name, "no", str(error))


def _kernel(running: kernel.Kernel) -> Finding:
    old = "" if running.version >= OLDEST else "the tools are made for Linux 5.10 and newer"
    return Finding("kernel", f"{running.release} {os.uname().machine}", old)


def _types(running: kernel.Kernel) -> str:
    if running.has_btf:
        return f"BTF, {os.stat(kernel.BTF_PATH).st_size / 2**20:.1f} MiB"
    if os.path.isdir(running.headers):
        return f"headers in {running.headers}"
    raise Failure(
        "the kernel has no BTF (CONFIG_DEBUG_INFO_BTF): install the headers of " + running.release
    )


def _tracefs(running: kernel.Kernel) -> str:
    running.tracepoint_id("sched", "sched_switch")
    path = running.tracefs
    return "mounted nowhere; the tools do without" if path.startswith("/proc/") else path


def _lockdown() -> Finding:
    try:
        with open(loader.LOCKDOWN_PATH) as file:
            state = re.findall(r"\[(\w+)\]", file.read())
    except OSError:
        state = []
    return Finding("lockdown", state[0] if state else "none", loader.lockdown_hint().lstrip(": "))


def _privileges() -> str:
    with open("/proc/self/status") as file:
        effective = int(re.findall(r"^CapEff:\s*(\w+)", file.read(), re.M)[0], 16)
    held = [name for name, bit in sorted(CAPABILITIES.items()) if effective >> bit & 1]
    loader.require_permission()
    who = "root" if os.geteuid() == 0 else f"user {os.geteuid()}"
    return f"{who}, with {' '.join(held) or 'no capability'}"


def _functions() -> Finding:
    """Whether functions can be traced is asked by each tool that does; here, how."""
    probes = "kprobes" if os.path.exists("/sys/bus/event_source/devices/kprobe") else "no kprobes"
    return Finding("functions", probes)


def _compiler() -> list[Finding]:
    package = _package_file("bcc")
    if not package:
        return [Finding("bcc", "not installed", NO_BCC_TEXT), Finding("LLVM", "not asked")]
    try:
        with open(os.path.join(os.path.dirname(package), "version.py")) as file:
            version = re.findall(r"__version__\s*=\s*[\"'](.+?)[\"']", file.read())
    except OSError:
        version = []
    library = _library(COMPILER_LIBRARY)
    missing = "" if library else f"{COMPILER_LIBRARY} is missing: reinstall bcc"
    return [
        Finding("bcc", version[0] if version else "of unknown version", missing),
        Finding("LLVM", _llvm(library) if library else "not asked"),
    ]


def _package_file(name: str) -> str:
    """The file of a Python package that is not imported for it; empty: not installed."""
    found = importlib.util.find_spec(name)
    return found.origin or "" if found else ""


def _library(name: str) -> str:
    """The path of a shared library, as the dynamic linker knows it; empty: none."""
    for command in ("/sbin/ldconfig", "/usr/sbin/ldconfig"):
        try:
            listed = subprocess.run([command, "-p"], stdout=subprocess.PIPE, check=False).stdout
        except OSError:
            continue
        for line in listed.decode("utf-8", "surrogateescape").splitlines():
            if line.split(None, 1)[:1] == [name]:
                return line.rpartition(" => ")[2]
    return ""


def _llvm(library: str) -> str:
    """The LLVM that a library names among those it needs."""
    with open(library, "rb") as file:
        names = set(re.findall(rb"libLLVM[-.][\w.-]+", file.read()))
    versions = {text for name in names for text in re.findall(rb"\d+(?:\.\d+)*", name)}
    return str(max(versions, key=len).decode()) if versions else "inside bcc"


def _package(name: str) -> Finding:
    if _package_file(name):
        return Finding(name, importlib.metadata.version(name))
    return Finding(name, "not installed", f"install python3-{name}")


def _cache() -> Finding:
    path = cache.folder()
    if not os.path.lexists(path):
        return Finding("cache", f"{path}, empty")
    with cache.Cache(path) as images:
        if images.why_not:
            text = "the tools work, but compile each time: remove it, and they make it anew"
            return Finding("cache", path, f"{images.why_not}; {text}")
    sizes = [entry.stat().st_size for entry in os.scandir(path)]
    return Finding("cache", f"{path}, {len(sizes)} images, {sum(sizes) / 1024:.0f} KiB")


# The tools.


def tools(paths: Iterable[str], running: kernel.Kernel) -> Iterator[Finding]:
    """Whether each tool would work: what it attaches to, or why it would not. To detach, the kernel
    takes its time: the next tool does not wait for that, and the end does."""
    detaching: list[Beside] = []
    try:
        for path in paths:
            yield _tool(path, running, detaching)
    finally:
        for each in detaching:
            each.wait(None)


def _tool(path: str, running: kernel.Kernel, detaching: list[Beside]) -> Finding:
    try:
        source = catalogue.source(catalogue.load(path))
        found = _attachable(source, running, detaching) if source else "no BPF program"
    except Failure as error:
        return Finding(os.path.basename(path), "no", str(error))
    except ImportError as error:
        return Finding(os.path.basename(path), "no", f"{error}: install python3-{error.name}")
    except SystemExit:
        return Finding(os.path.basename(path), "no", "it refuses its own first example")
    return Finding(os.path.basename(path), found)


def _attachable(source: Unrendered, running: kernel.Kernel, detaching: list[Beside]) -> str:
    loader.require_permission()
    for fentry in (True, False):
        rendered = render(source, running, fentry, loader.takes_types)
        require_headers(rendered)
        try:
            detaching.append(_attach_empty(rendered.hooks, running))
        except loader.TypesRefused:
            if not fentry:
                raise
        else:
            break
    if not (_package_file("bcc") and _library(COMPILER_LIBRARY)):
        with cache.Cache(cache.folder()) as images:
            if images.load(program.cached_name(source, running, fentry)) is None:
                raise Failure(NO_BCC_TEXT)
    return ", ".join(sorted({f"{hook.kind} {hook.target}".strip() for hook in rendered.hooks}))


def _attach_empty(hooks: list[Hook], running: kernel.Kernel) -> Beside:
    """Attach empty programs to all hooks; what detaches them."""
    programs = [
        ProgramSpec(hook.program, hook.kind, hook.target, loader.EMPTY, [], [], *hook[3:])
        for hook in hooks
    ]
    loaded = loader.load(Image([], programs))
    try:
        return Beside(attach(loaded, running, Sampling(FREQUENCY)).detach)
    finally:
        for _, descriptor in loaded.programs:
            os.close(descriptor)
