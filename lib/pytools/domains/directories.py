"""Directories whose trees are watched: which a pattern names, and how a program knows them
(bpf/tree.h)."""
from __future__ import annotations

import argparse
import glob
import itertools
import os
import resource

from pytools.base.annotations import TYPE_CHECKING
from pytools.base.errors import Failure, Usage, error_text
from pytools.compile.unrendered import Unrendered
from pytools.load import program, test_run

if TYPE_CHECKING:
    from pytools.load.program import Program

__all__ = ["Directories", "named"]

MOST = 16384
FILES_BESIDE = 256  # that a tool has open, maps and programs among them

# Run by the tool itself: it puts the directory that the tool has open into the map.
_LEARN = r"""
#include <linux/sched.h>
#include "open_file.h"

BPF_HASH(directories, u64, u32, 1);
BPF_ARRAY(opened, u32, 2); /* the descriptor, and the number of the directory */

RAW_TRACEPOINT(sys_enter)
{
	u32 first = 0, second = 1, *descriptor = opened.lookup(&first);
	u32 *number = opened.lookup(&second);
	struct file *file;
	struct dentry *dentry;
	u64 key;

	if (!descriptor || !number)
		return 1;
	file = open_file((struct task_struct *)bpf_get_current_task(), *descriptor);
	if (!file)
		return 1;
	READ(dentry, file->f_path.dentry);
	key = (u64)dentry;
	return !!directories.insert(&key, number);
}
"""


def named(patterns: str) -> list[str]:
    """The directories that patterns name, separated by commas, each once and in their order.
    A pattern with ``**`` goes down any number of levels. Raises Usage for one that names none."""
    found: dict[str, None] = {}
    for pattern in patterns.split(","):
        # What is no pattern names itself.
        names = glob.iglob(pattern, recursive=True) if glob.has_magic(pattern) else [pattern]
        directories = list(itertools.islice(filter(os.path.isdir, names), MOST + 1))
        if not directories:
            raise Usage(f"argument -d: {_why_none(pattern)}")
        found.update(dict.fromkeys(sorted(directories)))
        if len(found) > MOST:
            raise Usage(f"argument -d: {patterns} names more than {MOST} directories")
    return list(found)


def _why_none(pattern: str) -> str:
    if not pattern:
        return "a name is empty"
    if glob.has_magic(pattern):
        return f"no directory matches {pattern}"
    if os.path.exists(pattern):
        return f"{pattern} is no directory"
    return f"there is no directory {pattern}"


class Directories:
    """Directories that are kept open while a program watches them: by what the kernel has open,
    they are known wherever they are moved to, and on file systems on which several files share a
    number. ``paths`` are those that are watched: of several paths to one directory, the first."""

    def __init__(self, paths: list[str], watching: Program, options: argparse.Namespace) -> None:
        self.paths: list[str] = []
        self._open: list[int] = []
        _allow_files(len(paths))
        source = Unrendered(_LEARN)
        shared = {"directories": os.dup(watching.maps["directories"].fd)}
        learning = program.prepare(source, {}, not options.no_cache, _unsaid, shared)
        try:
            for path in paths:
                self._learn(path, learning)
        finally:
            learning.close()

    def _learn(self, path: str, learning: Program) -> None:
        try:
            descriptor = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise Failure(f"cannot open {path}: {error_text(error.errno or 0)}") from None
        opened = learning.maps["opened"]
        opened.put(0, descriptor)
        opened.put(1, len(self.paths))
        if test_run.run(learning.descriptor("raw_tracepoint__sys_enter")):
            os.close(descriptor)  # known by another path
            return
        self._open.append(descriptor)
        self.paths.append(path)

    def close(self) -> None:
        """Let the directories be closed, when nothing watches them any more."""
        while self._open:
            os.close(self._open.pop())


def _unsaid(line: str) -> None:
    """Where nobody asked what was done."""


def _allow_files(number: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < number + FILES_BESIDE:
        wanted = min(number + FILES_BESIDE, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
