"""What -l lists: probes by pattern, those of a program, and with -v their arguments and structs."""
from __future__ import annotations

import os
import re
import sys
from fnmatch import fnmatchcase
from functools import partial

from pytools.base.annotations import NamedTuple, TYPE_CHECKING
from pytools.base.errors import Failure
from pytools.bt.expand import expand
from pytools.bt.expansion.attach_points import KERNEL, USER
from pytools.bt.kinds import BY_NAME, full_name
from pytools.bt.parse import decode, parse
from pytools.bt.points import HARDWARE, SOFTWARE, UNITS, is_pattern, point
from pytools.bt.structs import structs
from pytools.domains import probes
from pytools.domains.mapped_files import opened
from pytools.domains.programs import file_of, mapped_files
from pytools.facts.elf import File
from pytools.facts.kernel import running

if TYPE_CHECKING:
    from typing import Callable, Iterable, Iterator, Optional, Sequence

    from pytools.bt.tree import AttachPoint, Program
    from pytools.facts.kernel import Kernel

__all__ = ["listed"]

_TYPE = re.compile(r"(struct|union|enum)\s+(\S+)")
_KERNEL_ITSELF = "vmlinux"


class _Match(NamedTuple):
    """A probe to be listed: ``name`` is what stands behind the kind, ``symbol`` the kernel's name
    of what it is put at."""

    kind: str
    name: str
    symbol: str = ""


def listed(
    pattern: str = "",
    verbose: bool = False,
    pid: Optional[int] = None,
    program: Optional[str] = None,
    parameters: Sequence[str] = (),
    warn: Optional[Callable[[str], None]] = None,
    kernel: Optional[Kernel] = None,
) -> Iterator[str]:
    """The lines of a list: of what matches any of the patterns between commas, or of the probes of
    a program (its text, or a file whose name is the pattern). ``warn`` is told what may be meant
    otherwise; without it, standard error is. ``kernel`` is the one that runs,
    if it is known already. Raises Wrong, Failure."""
    kernel = kernel or running()
    complain = warn or (lambda text: print(text, file=sys.stderr))
    if program is None and pattern and os.path.isfile(pattern):
        with open(pattern, "rb") as file:
            program = decode(file.read(), pattern)
    if program is not None:
        tree = expand(parse(program, pattern or "stdin"), parameters)
        yield from _lines(kernel, _in_program(kernel, tree, pid, complain), verbose)
        return
    if "." in pattern and not set(pattern) & set(":*"):
        complain(
            f"WARNING: It appears that '{pattern}' is a filename but the file does not exist. "
            f"Treating '{pattern}' as a search pattern."
        )
    for one in pattern.split(","):
        one = " ".join(one.split())
        found = _TYPE.fullmatch(one)
        lines = (
            structs(kernel, found[1], found[2], verbose)
            if found
            else _lines(kernel, _matching(kernel, one, pid, complain), verbose)
        )
        any_ = False
        for line in lines:
            any_ = True
            yield line
        if not any_:
            complain(f"WARNING: nothing matches {one or 'any probe'} on this machine")


# Which.


def _in_program(
    kernel: Kernel, program: Program, pid: Optional[int], complain: Callable[[str], None]
) -> Iterator[_Match]:
    """The probes that a program's attach points stand for, each once."""
    seen = set()
    for probe in program.probes:
        for each in probe.points:
            for match in _of_point(kernel, each, pid, complain):
                if match not in seen:
                    seen.add(match)
                    yield match


def _of_point(
    kernel: Kernel, each: AttachPoint, pid: Optional[int], complain: Callable[[str], None]
) -> Iterator[_Match]:
    checked = point(each, pid or 0, unsafe=True)
    if checked.kind in ("begin", "end"):
        return
    if checked.kind in ("interval", "profile"):
        yield _Match(checked.kind, (each.fields[0] if len(each.fields) > 1 else "us") + ":")
    elif checked.kind in ("software", "hardware"):
        yield _Match(checked.kind, each.fields[0] + ":")
    else:
        rest = checked.target
        if checked.kind in ("uprobe", "uretprobe", "usdt") and rest.startswith(":"):
            rest = "*" + rest  # of the process
        yield from _of_kind(kernel, checked.kind, rest, pid, complain)


def _matching(
    kernel: Kernel, pattern: str, pid: Optional[int], complain: Callable[[str], None]
) -> Iterator[_Match]:
    """The probes that match KIND:NAME, or NAME of any kind."""
    if ":" not in pattern:
        pattern = f"*:{pattern or '*'}"
    word, _, rest = pattern.partition(":")
    path = rest.partition(":")[0]
    for kind in _kinds(word, path, pid):
        try:
            yield from _of_kind(kernel, kind, rest or "*", pid, complain)
        except Failure as failure:
            if not is_pattern(word):
                raise
            complain(f"WARNING: {failure}")


def _kinds(word: str, path: str, pid: Optional[int]) -> list[str]:
    """The kinds that a word stands for: those of files only where a file or a process is named."""
    if word and not is_pattern(word):
        return [full_name(word) or word]
    of_files = pid is not None or (not is_pattern(path) and os.path.exists(path))
    among = (*KERNEL, *(USER if of_files else ()))
    return [kind for kind in among if fnmatchcase(kind, word or "*")]


def _of_kind(
    kernel: Kernel,
    kind: str,
    rest: str,
    pid: Optional[int],
    complain: Callable[[str], None],
) -> Iterator[_Match]:
    """Those of a kind whose name matches."""
    if kind in ("uprobe", "uretprobe", "usdt"):
        yield from _in_files(kind, rest, pid)
        return
    names = _NAMES.get(kind)
    if names is None:
        if kind not in BY_NAME:
            complain(f"WARNING: {kind} is no kind of probes")
        return
    module, colon, _ = rest.partition(":")
    for name, symbol in names(kernel, bool(colon)):
        shown = name.rstrip(":")
        with_category = kind in ("tracepoint", "fentry", "fexit", "rawtracepoint")
        own = shown.rpartition(":")[2] if with_category and not colon else shown
        if fnmatchcase(own, rest.rstrip(":") or "*"):
            yield _Match(kind, name, symbol)


def _functions(kernel: Kernel, modules: bool) -> Iterator[tuple[str, str]]:
    if not kernel.has_kprobes:
        return
    for name, module in sorted(kernel.functions().items()):
        yield (f"{module or _KERNEL_ITSELF}:{name}" if modules else name), name


def _fentries(kernel: Kernel, modules: bool) -> Iterator[tuple[str, str]]:
    for name in probes.fentries(kernel):
        yield f"{_KERNEL_ITSELF}:{name}", name


def _raw_tracepoints(kernel: Kernel, modules: bool) -> Iterator[tuple[str, str]]:
    if not kernel.has_btf:
        return
    for name, module in sorted(probes.raw_tracepoint_modules(kernel).items()):
        yield f"{module or _KERNEL_ITSELF}:{name}", name


def _tracepoints(kernel: Kernel, modules: bool) -> Iterator[tuple[str, str]]:
    return ((name, name) for name in probes.tracepoints(kernel))


def _events(events: Iterable[tuple[str, tuple[str, int]]]) -> list[tuple[str, str]]:
    names = [name for event, (other, _) in events for name in (event, other) if name]
    return [(f"{name}:", "") for name in sorted(names)]


_UNITS = [(f"{unit}:", "") for unit in sorted(UNITS)]
# By kind: what there is, as (name, the symbol). The flag: modules are a part of the name.
_NAMES: dict[str, Callable[[Kernel, bool], Iterable[tuple[str, str]]]] = {
    "tracepoint": _tracepoints,
    "rawtracepoint": _raw_tracepoints,
    "kprobe": _functions,
    "kretprobe": _functions,
    "fentry": _fentries,
    "fexit": _fentries,
    "software": lambda kernel, modules: _events(SOFTWARE.items()),
    "hardware": lambda kernel, modules: _events(HARDWARE.items()),
    "interval": lambda kernel, modules: _UNITS,
    "profile": lambda kernel, modules: _UNITS,
    "self": lambda kernel, modules: [("signal:SIGUSR1", "")],
}


# In files.


def _in_files(kind: str, rest: str, pid: Optional[int]) -> Iterator[_Match]:
    """The functions or USDT probes of files: PATH:NAME, PATH:PROVIDER:NAME, or a process's NAME."""
    path, colon, name = rest.partition(":")
    if not colon:
        path, name = "*", rest
    if kind == "usdt" and ":" not in name:
        name = f"*:{name}"
    for file in _files(path, pid):
        with file:
            if kind == "usdt":
                names = {f"{probe.provider}:{probe.name}" for probe in file.probes()}
            else:
                names = {function.name for function in file.functions()}
            for each in sorted(names):
                if fnmatchcase(each, name or "*"):
                    yield _Match(kind, f"{file.path}:{each}")


def _files(path: str, pid: Optional[int]) -> Iterator[File]:
    """The files of a path, a name, or a pattern: of this machine, or what a process has mapped."""
    if not is_pattern(path):
        yield File(_path_of(path))
        return
    if pid is None and path == "*":
        raise Failure("of which file? Give its path, or a process (-p PID)")
    for open_ in _opening(path, pid):
        try:
            yield open_()
        except Failure:
            continue  # a pattern may match what is no program


def _opening(pattern: str, pid: Optional[int]) -> Iterator[Callable[[], File]]:
    if pid is None:
        import glob

        yield from (partial(File, name) for name in sorted(glob.glob(pattern)))
        return
    for path, name in mapped_files(pid):
        if fnmatchcase(name, pattern):
            yield partial(opened, pid, path, name)


def _path_of(name: str) -> str:
    """The path of a program or a library (bash, libc)."""
    if name.startswith("lib") and "/" not in name and not os.path.exists(name):
        return file_of(name[3:].partition(".so")[0])
    return file_of(name)


# What is shown.


def _lines(kernel: Kernel, matches: Iterable[_Match], verbose: bool) -> Iterator[str]:
    look_ups: dict[str, Callable[[_Match], list[str]]] = {}
    for match in matches:
        yield f"{match.kind}:{match.name}"
        if verbose and match.symbol:
            if match.kind not in look_ups:
                look_ups[match.kind] = _arguments(kernel, match.kind)
            yield from (f"    {_spaced(text)}" for text in look_ups[match.kind](match))


def _arguments(kernel: Kernel, kind: str) -> Callable[[_Match], list[str]]:
    """What tells the arguments of a probe of that kind as C declares them; of fexit, what it
    returns, too."""
    look_up = probes.arguments_of(kernel, {"fexit": "fentry"}.get(kind, kind))

    def arguments(match: _Match) -> list[str]:
        found = list((look_up and look_up(match.symbol)) or ())
        if kind == "fexit":
            function = kernel.btf.function(match.symbol)
            if function and function.result != "void":
                found.append(f"{function.result} retval")
        return found

    return arguments


def _spaced(declaration: str) -> str:
    """``struct sock *sk`` as bpftrace writes it: ``struct sock * sk``."""
    return re.sub(r"\s*(\*+)\s*(\w+)$", r" \1 \2", declaration)
