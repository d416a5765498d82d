"""Rows that have passed, by all that went into them: what has not changed need not run again."""

from __future__ import annotations

import os
import shutil
import tarfile
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from cache import cache_directory, key

__all__ = ["content", "found", "keep"]

# Of each row; the oldest go first.
MOST = 8


def content(checkout: Path) -> str:
    """What a tar file holds, whenever it was written: hash of names, modes, links and contents."""
    state = sha256()
    with tarfile.open(checkout) as tar:
        for member in tar:
            data = tar.extractfile(member) if member.isfile() else None
            digest = sha256(data.read() if data is not None else b"").hexdigest()
            state.update(f"{member.name!r} {member.mode} {member.linkname!r} {digest}\n".encode())
    return state.hexdigest()


def place(row: str, inputs: Sequence[str]) -> Path:
    return cache_directory() / "passed" / row / key(*inputs)


def found(row: str, inputs: Sequence[str], report: Path) -> float | None:
    """Copy the report of a run of ``row`` that passed with the same ``inputs`` to ``report``, and
    return how many seconds it took; None if there was none."""
    known = place(row, inputs)
    try:
        seconds = float((known / "seconds").read_text())
        shutil.rmtree(report.parent, ignore_errors=True)
        report.parent.mkdir(parents=True)
        shutil.copyfile(known / "junit.xml", report)
    except (OSError, ValueError):
        return None
    os.utime(known)
    return seconds


def keep(row: str, inputs: Sequence[str], report: Path, seconds: float) -> None:
    """Remember that ``row`` passed."""
    known = place(row, inputs)
    known.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(report, known / "junit.xml")
    # Last: without it nothing is found.
    (known / "seconds").write_text(f"{seconds}\n")
    entries = sorted(known.parent.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in entries[MOST:]:
        shutil.rmtree(path)
