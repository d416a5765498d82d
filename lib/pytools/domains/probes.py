"""What can be traced: the tracepoints, functions and events of the kernel, and the
functions and USDT probes of programs and libraries."""
from __future__ import annotations

import fnmatch
import glob
import os
import re

from pytools.base.annotations import NamedTuple, TYPE_CHECKING
from pytools.facts import differences
from pytools.facts.elf import File, Probe
from pytools.base.errors import Failure, Usage, error_text
from pytools.facts.kernel import Kernel
from pytools.load.multi_attach import Target
from pytools.domains.programs import files_of

if TYPE_CHECKING:
    from typing import Callable, Iterable, Iterator, List, Optional, Sequence

    _Arguments = Callable[[Kernel], Callable[[str], Optional[List[str]]]]


__all__ = [
    "Found", "KERNEL_KINDS", "Listed", "arguments_of", "fentries", "find", "find_all", "in_file",
    "in_kernel", "kprobes", "matcher", "raw_tracepoint_modules", "raw_tracepoints", "tracepoints",
]  # fmt: skip

KERNEL_KINDS = (
    "tracepoint", "rawtracepoint", "kprobe", "fentry", "software", "hardware",
)  # fmt: skip
# As perf(1) and bpftrace(8) call them (enum perf_sw_ids, enum perf_hw_id).
SOFTWARE = (
    "alignment-faults", "bpf-output", "cgroup-switches", "context-switches", "cpu-clock",
    "cpu-migrations", "dummy", "emulation-faults", "major-faults", "minor-faults", "page-faults",
    "task-clock",
)  # fmt: skip
HARDWARE = (
    "branch-instructions", "branch-misses", "bus-cycles", "cache-misses", "cache-references",
    "cpu-cycles", "instructions", "ref-cycles", "stalled-cycles-backend",
    "stalled-cycles-frontend",
)  # fmt: skip
PERF_TYPE_RAW = "4"  # of the processors' own unit
BTF_TRACE = "btf_trace_"  # raw tracepoints are typedefs of this name


class Listed(NamedTuple):
    """A probe: its kind, its name (what stands behind the kind and a colon), and its
    arguments, each as C declares it; None where they are not known or not asked for."""

    kind: str
    name: str
    arguments: list[str] | None = None

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"


# The kernel.


def in_kernel(
    kernel: Kernel,
    kinds: Iterable[str],
    arguments: bool = False,
    matches: re.Pattern[str] | None = None,
) -> Iterator[Listed]:
    """The probes of the kernel of those kinds that match, by kind and by name. Raises
    Failure where tracefs can't be read."""
    for kind in kinds:
        names, arguments_of = _LISTS[kind]
        found = names(kernel)
        if matches is not None:
            found = [name for name in found if matches.match(f"{kind}:{name}")]
        if arguments and arguments_of is not None:
            look_up = arguments_of(kernel)
            yield from (Listed(kind, name, look_up(name)) for name in found)
        else:
            yield from (Listed(kind, name) for name in found)


def tracepoints(kernel: Kernel) -> list[str]:
    """The tracepoints, as CATEGORY:NAME."""
    try:
        with open(f"{kernel.tracefs}/available_events") as lines:
            return sorted(line.strip() for line in lines)
    except OSError as error:
        raise Failure(
            f"cannot read the list of tracepoints: {error_text(error.errno or 0)}: tracefs is "
            "readable by root only, unless it is mounted with another mode"
        ) from None


def _tracepoint_arguments(kernel: Kernel) -> Callable[[str], list[str] | None]:
    """The fields of a tracepoint's record, but those that all have."""

    def look_up(name: str) -> list[str] | None:
        path = f"{kernel.tracefs}/events/{name.replace(':', '/')}/format"
        try:
            with open(path) as file:
                fields = re.findall(r"^\tfield:([^;]*);", file.read(), re.M)
        except OSError:
            return None  # of a module that was just unloaded
        return [field for field in fields if not re.search(r"\bcommon_\w+$", field)]

    return look_up


def raw_tracepoints(kernel: Kernel) -> list[str]:
    """The raw tracepoints; where the kernel has no BTF, the names of tracepoints, of
    which not every one is there."""
    if not kernel.has_btf:
        return sorted({name.rpartition(":")[2] for name in tracepoints(kernel)})
    return sorted(raw_tracepoint_modules(kernel))


def raw_tracepoint_modules(kernel: Kernel) -> dict[str, str]:
    """The raw tracepoints of a kernel with BTF, and the module of each (empty for the kernel
    itself)."""
    return {**_module_raw_tracepoints(), **dict.fromkeys(_raw_tracepoint_types(kernel), "")}


def _raw_tracepoint_types(kernel: Kernel) -> dict[str, int]:
    from pytools.facts.btf import TYPEDEF

    return {
        name[len(BTF_TRACE) :]: type_id
        for name, type_id in kernel.btf.names(TYPEDEF).items()
        if name.startswith(BTF_TRACE)
    }


def _module_raw_tracepoints() -> dict[str, str]:
    """Those of loaded modules (since Linux commit 36e68442d1af, v5.11), and which of them has it.
    Their BTF has names in a part of its own; that is all that is read of it."""
    found: dict[str, str] = {}
    for path in glob.glob("/sys/kernel/btf/*"):
        if path.endswith("/vmlinux"):
            continue
        try:
            with open(path, "rb") as file:
                names = re.findall(rb"\0btf_trace_(\w+)(?=\0)", file.read())
        except OSError:
            continue
        found.update(dict.fromkeys((name.decode() for name in names), os.path.basename(path)))
    return found


def _raw_tracepoint_arguments(kernel: Kernel) -> Callable[[str], list[str] | None]:
    if not kernel.has_btf:
        return lambda name: None
    btf, types = kernel.btf, _raw_tracepoint_types(kernel)

    def look_up(name: str) -> list[str] | None:
        if name not in types:
            return None
        named = btf.with_names(types[name], name)
        return [text for _, text in btf.parameters(named)[1:]]  # the first is the program's own

    return look_up


def kprobes(kernel: Kernel) -> list[str]:
    """The functions that a kprobe can be put at."""
    return sorted(kernel.functions()) if kernel.has_kprobes else []


def fentries(kernel: Kernel) -> list[str]:
    """The functions of the kernel itself whose arguments are known, and that a program
    can be attached to without a kprobe."""
    from pytools.facts.btf import FUNC

    if not differences.has_fentry(kernel):
        return []
    try:
        # A kernel that lets nobody attach to functions does not list them either.
        open(f"{kernel.tracefs}/available_filter_functions").close()
    except OSError:
        return []
    known = kernel.btf.names(FUNC)
    return sorted(
        name for name, module in kernel.functions().items() if name in known and not module
    )


def _function_arguments(kernel: Kernel) -> Callable[[str], list[str] | None]:
    if not kernel.has_btf:
        return lambda name: None
    from pytools.facts.btf import FUNC

    btf, modules = kernel.btf, kernel.functions()
    known = btf.names(FUNC)

    def look_up(name: str) -> list[str] | None:
        if modules[name] or name not in known:
            return None
        return [text for _, text in btf.parameters(known[name])]

    return look_up


def _hardware(kernel: Kernel) -> Sequence[str]:
    for path in glob.glob("/sys/bus/event_source/devices/*/type"):
        with open(path) as file:
            if file.read().strip() == PERF_TYPE_RAW:
                return HARDWARE
    return ()  # as in most virtual machines


# By kind: the names of all, and what looks the arguments of one up.
_LISTS: dict[str, tuple[Callable[[Kernel], Sequence[str]], _Arguments | None]] = {
    "tracepoint": (tracepoints, _tracepoint_arguments),
    "rawtracepoint": (raw_tracepoints, _raw_tracepoint_arguments),
    "kprobe": (kprobes, _function_arguments),
    "fentry": (fentries, _function_arguments),
    "software": (lambda kernel: SOFTWARE, None),
    "hardware": (_hardware, None),
}


def arguments_of(kernel: Kernel, kind: str) -> Callable[[str], list[str] | None] | None:
    """What looks up the arguments of a probe of that kind by its name, as C declares them; None of
    a kind that has none."""
    look_up = _LISTS[kind][1] if kind in _LISTS else None
    return look_up(kernel) if look_up else None


# Programs and libraries.


def in_file(file: File, arguments: bool = False) -> Iterator[Listed]:
    """The functions of a file, and its USDT probes; the arguments of a probe as
    their sizes in bytes (minus: a signed number), in the places of the first of
    several, and those of a function not at all: a program's symbols don't tell."""
    names = sorted({function.name for function in file.functions()})
    yield from (Listed("uprobe", f"{file.path}:{name}") for name in names)
    probes: dict[str, Probe] = {}
    for probe in file.probes():
        probes.setdefault(f"{probe.provider}:{probe.name}", probe)
    for name, probe in sorted(probes.items()):
        found = probe.arguments.split() if arguments else None
        yield Listed("usdt", f"{file.path}:{name}", found)


# Patterns.


class Found(NamedTuple):
    """What is to be traced: a name for people, and the places that have it; their
    ``number`` is still to be given."""

    name: str
    places: list[Target]


def here(name: str) -> list[File]:
    """The file of a path or a name, whichever process it is about."""
    return files_of(name, None, lambda text: None)


def find(
    kernel: Kernel,
    pattern: str,
    regex: bool = False,
    files: Callable[[str], list[File]] = here,
) -> list[Found]:
    """What a pattern of bcc's form stands for, by name: ``FUNCTION`` or ``p:FUNCTION`` of
    the kernel, ``t:CATEGORY:NAME``, ``LIBRARY:FUNCTION`` or ``p:LIBRARY:FUNCTION``,
    ``u:LIBRARY:PROBE`` or ``u:LIBRARY:PROVIDER:PROBE``; the last part with * and ?, or
    a regular expression that matches its beginning. The ``files`` of a LIBRARY stay
    open. Raises Usage, Failure where there is nothing of the kind."""
    kind, colon, rest = pattern.partition(":")
    if not colon or kind not in ("p", "t", "u"):
        kind, rest = "p", pattern
    if kind == "t":
        category, _, name = rest.partition(":")
        found = _find_tracepoints(kernel, category, name, regex)
    elif kind == "u":
        found = _in_files(_find_usdt, pattern, rest, regex, files)
    elif ":" in rest.lstrip(":"):
        found = _in_files(_find_user_functions, pattern, rest, regex, files)
    else:
        found = _find_functions(kernel, rest.lstrip(":"), regex)
    if not found:
        raise Failure(f"nothing that can be traced matches {pattern} (tplist lists what can)")
    return found


def find_all(
    kernel: Kernel,
    patterns: Iterable[str],
    regex: bool = False,
    files: Callable[[str], list[File]] = here,
) -> tuple[list[str], list[Target]]:
    """What any of the patterns stands for (``find``), each once: the names, and the places,
    whose numbers are those of their names in the list."""
    by_name: dict[str, list[Target]] = {}
    seen = set()
    for pattern in patterns:
        for one in find(kernel, pattern, regex, files):
            places = by_name.setdefault(one.name, [])
            for place in one.places:  # Files of one name may be several.
                known = place.kind, place.name, place.file and place.file.identity, place.offset
                if known not in seen:
                    seen.add(known)
                    places.append(place)
    targets = [
        place._replace(number=number)
        for number, places in enumerate(by_name.values())
        for place in places
    ]
    return list(by_name), targets


def _in_files(
    find_in: Callable[[File, str, bool], list[Found]],
    pattern: str,
    rest: str,
    regex: bool,
    files: Callable[[str], list[File]],
) -> list[Found]:
    """What is found in the files of LIBRARY:NAME."""
    library, colon, name = rest.partition(":")
    if not library or not colon or not name:
        raise Usage(f"{pattern}: a program or library and a name are missing")
    return [found for file in files(library) for found in find_in(file, name, regex)]


def _name_matcher(pattern: str, regex: bool) -> Callable[[str], object]:
    try:
        return re.compile(pattern if regex else fnmatch.translate(pattern), re.S).match
    except re.error as error:
        raise Usage(f"{pattern!r} is no regular expression: {error}") from None


def _find_tracepoints(kernel: Kernel, category: str, name: str, regex: bool) -> list[Found]:
    if not category or not name:
        raise Usage(f"t:{category}:{name}: a tracepoint is t:CATEGORY:NAME")
    wanted_category, wanted_name = _name_matcher(category, regex), _name_matcher(name, regex)
    found = []
    for known in tracepoints(kernel):
        its_category, _, its_name = known.partition(":")
        if wanted_category(its_category) and wanted_name(its_name):
            found.append(Found(known, [Target("tracepoint", known, 0)]))
    return found


def _find_functions(kernel: Kernel, name: str, regex: bool) -> list[Found]:
    if not kernel.has_kprobes:
        raise Failure(
            f"cannot attach to function {name}: this kernel has no kprobes "
            "(CONFIG_KPROBE_EVENTS)"
        )
    symbol = kernel.attachable(name)
    if symbol is not None:
        symbols = [symbol]
    else:
        matches = _name_matcher(name, regex)
        symbols = sorted(filter(matches, kernel.functions()))
    return [Found(symbol, [Target("function", symbol, 0)]) for symbol in symbols]


def _find_user_functions(file: File, name: str, regex: bool) -> list[Found]:
    matches = _name_matcher(name, regex)
    # One place may have several names: it is counted once, under the shortest.
    names: dict[int, str] = {}
    for function in file.functions():
        # Those that choose a function when the program starts are not called later.
        if not function.indirect and matches(function.name):
            known = names.get(function.offset, function.name)
            names[function.offset] = min(known, function.name, key=lambda n: (len(n), n))
    places: dict[str, list[Target]] = {}
    for offset, label in names.items():
        place = Target("user", label, 0, file, offset)
        places.setdefault(label, []).append(place)
    head = os.path.basename(file.path)
    return [Found(f"{head}:{label}", places[label]) for label in sorted(places)]


def _find_usdt(file: File, name: str, regex: bool) -> list[Found]:
    matches = _name_matcher(name, regex)
    places: dict[str, list[Target]] = {}
    for probe in file.probes():
        label = f"{probe.provider}:{probe.name}"
        if matches(probe.name) or matches(label):
            place = Target("usdt", label, 0, file, probe.offset, probe.semaphore)
            places.setdefault(label, []).append(place)
    head = os.path.basename(file.path)
    return [Found(f"{head}:{label}", places[label]) for label in sorted(places)]


def matcher(patterns: list[str]) -> re.Pattern[str] | None:
    """A regular expression for probes (``str(Listed)``) that match any of several
    patterns with *, ? and [...]: the whole, or what stands behind the kind, or behind
    any other colon. None if there are no patterns.

    >>> bool(matcher(["sched_*"]).match("tracepoint:sched:sched_switch"))
    True
    """
    if not patterns:
        return None
    parts = "|".join(fnmatch.translate(pattern) for pattern in patterns)
    try:
        return re.compile(f"(?:.*:)?(?:{parts})", re.S)
    except re.error as error:  # a range without characters, in Python 3.9
        raise Usage(f"{' '.join(patterns)}: {error}") from None
