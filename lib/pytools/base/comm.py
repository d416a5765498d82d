"""The name of a task as /proc has it."""
from __future__ import annotations

__all__ = ["comm"]


def comm(folder: str) -> bytes | None:
    """The name of the task that a folder is about, /proc/PID or /proc/PID/task/TID, with all that
    it has set (proc(5), comm); None where the task has ended."""
    try:
        with open(f"{folder}/comm", "rb") as file:
            return file.read()[:-1]  # the kernel adds a newline; a name may end in one, too
    except OSError:
        return None
