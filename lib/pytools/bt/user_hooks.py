"""Points in programs and libraries: their files by path, by name or by pattern, the functions and
USDT probes in them, and the attachments."""
from __future__ import annotations

import glob
import os
import shutil

from pytools.base.annotations import TYPE_CHECKING
from pytools.base.errors import Failure, Usage
from pytools.bt.attaching import Missing, Stale, is_pattern, matching
from pytools.domains import programs
from pytools.facts.elf import File
from pytools.load import attach
from pytools.load.multi_attach import Target

if TYPE_CHECKING:
    from pytools.bt.attaching import Attaching
    from pytools.bt.plan import Point
    from pytools.facts.elf import Probe

__all__ = ["attach_point", "files_of"]

# Their functions are libc's own since glibc 2.34.
MERGED = ("libpthread", "libdl", "librt", "libutil")


def attach_point(attaching: Attaching, point: Point) -> int:
    """Attach a uprobe, uretprobe or usdt; how many probes it stands for. Raises Failure."""
    path, _, rest = point.target.partition(":")
    pid, look_in = attaching.pid, attaching.look_in
    files = attaching.files(path, look_in, files_of)
    if not files:
        raise Missing(f"No matches for {point.kind} {point.target}.")
    if point.kind == "usdt":
        return _usdt(attaching, point, files, rest, pid)
    if attaching.is_for_many(point):
        return _functions(attaching, point, files, rest)
    places = _places(attaching, files, rest, point)
    if not places and path in MERGED:
        places = _places(attaching, attaching.files("libc", look_in, files_of), rest, point)
    if not places:
        raise Missing(f"No matches for {point.kind} {point.target}.")
    program = [(attaching.spec(point.programs[0]), attaching.descriptor(point.programs[0]))]
    for file, place in places:
        attach.attach_user(attaching.attachment, program, file, [(place, 0)], pid)
    return len(places)


# Files.


def files_of(path: str, pid: int = -1) -> list[File]:
    """The files that a path, a name or a pattern stands for: here, or as a process has them, all of
    them without a path. Raises Failure where one cannot be read; files that a pattern matches need
    not be programs."""
    if is_pattern(path) or not path:
        return _matching_files(path or "*", pid)
    if pid > 0:
        name = path[3:] if path.startswith("lib") and "." not in path else path
        return programs.files_of(name, [pid], lambda text: None)
    return [File(path_of(path))]


def _matching_files(pattern: str, pid: int) -> list[File]:
    from pytools.domains.mapped_files import opened

    if pid > 0:
        mapped = programs.mapped_files(pid)
        wanted = set(matching({name for _, name in mapped}, _absolute(pattern)))
        return [opened(pid, path, name) for path, name in mapped if name in wanted]
    found = []
    for path in sorted(glob.glob(pattern)):
        if not os.path.isfile(path) or os.path.islink(path):
            continue
        try:
            found.append(File(path))
        except Failure:
            continue
    return found


def _absolute(pattern: str) -> str:
    return pattern if pattern.startswith(("/", "*")) else os.path.abspath(pattern)


def path_of(name: str) -> str:
    """The path of a program or a library, which may be named as file, without its lib or its .so:
    bash, libc, libc.so.6, c. Raises Failure."""
    if "/" in name:
        return name
    found = shutil.which(name)
    if found:
        return found
    if name.startswith("lib"):
        for folder in programs.library_folders():
            for ending in ("", ".so", ".so.[0-9]*"):
                paths = sorted(glob.glob(f"{folder}/{glob.escape(name)}{ending}"))
                for path in paths:
                    with open(path, "rb") as file:
                        if file.read(4) == b"\x7fELF":  # no linker script
                            return path
    try:
        return programs.file_of(name)
    except Usage as error:
        raise Failure(str(error)) from None


# Functions.


def _places(
    attaching: Attaching, files: list[File], name: str, point: Point
) -> list[tuple[File, int]]:
    return [(file, place) for file in files for place in _offsets(attaching, file, name, point)]


def _offsets(attaching: Attaching, file: File, name: str, point: Point) -> list[int]:
    """Where in a file a function is, or what an address stands for."""
    address = _number(name)
    if address is not None:
        place = file.offset_of(address, code=True)
        if place is None:
            raise Failure(f"Could not resolve address: {file.path}:{address:#x}")
        return [place]
    found = sorted(attaching.functions(file, name), key=lambda function: not function.default)
    places = []
    for function in found[:1]:
        if not function.size and not attaching.plan.unsafe:
            raise Failure(
                f"Could not determine boundary for {name} (symbol has size 0).\nUse --unsafe to "
                "force attachment. WARNING: This option could lead to data corruption in the "
                "target process."
            )
        if point.offset and function.size and point.offset >= function.size:
            raise Failure(f"Offset outside the function bounds ('{name}' size is {function.size})")
        places.append(function.offset + point.offset)
    return places


def _number(text: str) -> int | None:
    try:
        return int(text, 0)
    except ValueError:
        return None


def _functions(attaching: Attaching, point: Point, files: list[File], pattern: str) -> int:
    targets, names = [], []
    for file in files:
        by_place: dict[int, str] = {}
        functions = [f for f in file.functions() if not f.indirect]
        wanted = set(matching({f.name for f in functions}, pattern))
        for function in functions:
            if function.name in wanted:
                known = by_place.get(function.offset, function.name)
                by_place[function.offset] = min(known, function.name, key=lambda n: (len(n), n))
        for place, name in sorted(by_place.items()):
            targets.append(Target("user", name, 0, file, place))
            names.append(f"{file.path}:{name}")
    if not targets:
        raise Missing(f"No matches for {point.kind} {point.target}.")
    return attaching.attach_many(point, targets, names)


# USDT.


def _usdt(attaching: Attaching, point: Point, files: list[File], rest: str, pid: int) -> int:
    """One program of the point for each way in which the arguments are written, which stands in
    place of the program's target: an empty one if it asks for none."""
    provider, _, pattern = rest.rpartition(":")
    count = 0
    for file in files:
        ways: dict[str, list[Probe]] = {}
        for probe in file.probes():
            fits = not provider or matching([probe.provider], provider)
            if fits and matching([probe.name], pattern or "*"):
                ways.setdefault(probe.arguments, []).append(probe)
        count += len({(p.provider, p.name) for found in ways.values() for p in found})
        for arguments, found in ways.items():
            program = _program_for(attaching, point, arguments)
            if attaching.is_for_many(point):
                names = [f"{file.path}:{p.provider}:{p.name}" for p in found]
                targets = [
                    Target("user", name, 0, file, p.offset, p.semaphore)
                    for name, p in zip(names, found)
                ]
                attaching.attach_many(point, targets, names, program)
                continue
            pair = [(attaching.spec(program), attaching.descriptor(program))]
            places = [(p.offset, p.semaphore) for p in found]
            attach.attach_user(attaching.attachment, pair, file, places, pid)
    if not count:
        raise Missing(f"No matches for usdt {point.target}.")
    return count


def _program_for(attaching: Attaching, point: Point, arguments: str) -> str:
    for name in point.programs:
        if attaching.spec(name).target in ("", arguments):
            return name
    raise Stale(f"{point.text}: arguments {arguments!r}")
