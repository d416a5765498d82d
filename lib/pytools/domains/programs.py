"""Programs and libraries by path or by name: here, or as processes know them, in their own root
directories and by what they have mapped."""
from __future__ import annotations

import os
import re

from pytools.base import process_files
from pytools.base.annotations import TYPE_CHECKING
from pytools.base.errors import Failure, Usage, error_text
from pytools.domains import c_library
from pytools.domains.mapped_files import MappedFiles, opened
from pytools.facts.elf import File

if TYPE_CHECKING:
    from typing import Callable, Iterator, Sequence


__all__ = ["file_of", "files_of", "mapped_files"]

PROGRAM_FOLDERS = os.defpath.split(":") + ["/usr/local/bin", "/usr/sbin", "/sbin"]
MOST_NAMED = 5  # of processes in a message


def library_folders() -> list[str]:
    """Where libraries are, the first place first."""
    machine = f"{os.uname().machine}-linux-gnu"
    return [
        "/lib64", "/usr/lib64", "/usr/local/lib", f"/usr/lib/{machine}", f"/lib/{machine}",
        "/usr/lib", "/lib",
    ]  # fmt: skip


def file_of(name: str) -> str:
    """The path of a program or library here: of a path itself; of a name, the program of
    that name, or else the library (``c``: libc.so.6). Raises Usage."""
    import glob
    import shutil

    if "/" in name:
        return name
    found = shutil.which(name)
    if found:
        return os.path.realpath(found)
    for folder in library_folders():
        for path in sorted(glob.glob(f"{folder}/{glob.escape(f'lib{name}')}.so*"), reverse=True):
            try:
                descriptor = process_files.open_regular(path)
            except OSError:
                continue
            try:
                if os.pread(descriptor, 4, 0) == b"\x7fELF":  # no linker script
                    return os.path.realpath(path)
            finally:
                os.close(descriptor)
    raise Usage(f"there is no program and no library {name}: give its path")


def mapped_files(pid: int) -> list[tuple[str, str]]:
    """The files that a process runs code of, each once: for ``mapped_files.opened`` the path to
    open, and the name that the process knows it by. Raises Usage where there is no such process,
    Failure where it can't be looked at."""
    try:
        open(f"/proc/{pid}/maps").close()
    except (FileNotFoundError, ProcessLookupError):
        raise Usage(f"there is no process {pid}") from None
    except OSError as error:
        raise Failure(f"cannot look at process {pid}: {error_text(error.errno or 0)}") from None
    found: list[tuple[str, str]] = []

    def add(_: int, path: str, name: str) -> None:
        found.append((path, name))

    # Adding to a list raises nothing to complain of.
    MappedFiles(re.compile("/"), add, lambda failure: None).look(pid)
    return found


def files_of(name: str, pids: Sequence[int] | None, complain: Callable[[str], None]) -> list[File]:
    """The files that a path or a name (``file_of``) stands for, open: here; or with ``pids`` in
    these processes, which may have different ones. ``complain`` is told which processes do not have
    theirs mapped. Raises Usage or Failure."""
    if not pids:
        return [File(file_of(name))]
    found: dict[tuple[int, ...], File] = {}
    without: list[int] = []
    for pid in pids:
        files = list(_mapped(pid, name))
        if not files:
            file = _in_root_or_here(pid, name)
            files = [file]
            if not any(_is(pid, one, file) for one in mapped_files(pid)):
                without.append(pid)
        for file in files:
            found.setdefault(file.identity, file)
    if without:
        who = "process" if len(without) == 1 else "processes"
        some = ", ".join([*map(str, without[:MOST_NAMED]), *["..."][: len(without) > MOST_NAMED]])
        verb = "does" if len(without) == 1 else "do"
        complain(
            f"{who} {some} {verb} not have {name} mapped: nothing is seen of it "
            "unless that changes"
        )
    return list(found.values())


def _mapped(pid: int, name: str) -> Iterator[File]:
    """The files of that name, or that path, that a process has mapped."""
    if "/" in name:
        wanted = re.compile(re.escape(os.path.normpath(name)))
    elif name == "c":
        wanted = c_library.PATTERN
    else:
        part = re.escape(name)
        wanted = re.compile(rf".*/({part}|lib{part}(-[\d.]+)?\.so(\.[\w.]+)?)")
    for path, its_name in mapped_files(pid):
        match = wanted.fullmatch(its_name)
        if match and not match.groupdict().get("loader"):
            yield opened(pid, path, its_name)


def _is(pid: int, mapped: tuple[str, str], file: File) -> bool:
    """Whether a file that a process has mapped is this one."""
    try:
        with opened(pid, *mapped) as other:
            return other.identity == file.identity
    except Failure:
        return False


def _in_root_or_here(pid: int, name: str) -> File:
    """The file of a path or a name in a process's root directory, or else the one of a path here:
    which may be another name of the same file."""
    if "/" not in name:
        for path in _places(pid, name):
            try:
                return File.of_process(pid, path)
            except Failure:
                continue
        raise Usage(
            f"process {pid} has no program and no library {name}, not even in its folders: "
            "give its path"
        )
    if not name.startswith("/"):  # as the user's own shell takes it
        return File(name)
    try:
        return File.of_process(pid, name)
    except Failure as failure:
        try:
            return File(name)
        except Failure:
            raise failure from None


def _places(pid: int, name: str) -> Iterator[str]:
    """Where a program or library of that name may be in a process's root directory."""
    for folder in PROGRAM_FOLDERS:
        yield f"{folder}/{name}"
    start = f"lib{name}.so"
    for folder in library_folders():
        for its_name in sorted(process_files.names_in_root(pid, folder), reverse=True):
            if its_name.startswith(start):
                yield f"{folder}/{its_name}"
