"""Users by name: here, or as a process knows them, in its own root directory and user namespace."""
from __future__ import annotations

import functools
import os

from pytools.base.errors import Usage
from pytools.base.process_files import open_in_root

__all__ = ["user_name", "user_number"]

MOST_BYTES = 1 << 20  # of a process's /etc/passwd


@functools.lru_cache(maxsize=1024)
def user_name(number: int) -> str:
    """The name of a user here; the number where there is none.

    >>> user_name(0), user_name(0xFFFFFFFE)
    ('root', '4294967294')
    """
    import pwd

    try:
        return pwd.getpwuid(number).pw_name
    except (KeyError, OverflowError):
        return str(number)


def user_number(name: str, pids: list[int] | None) -> int:
    """The number of the user of that name, as the first user namespace has it: the one that these
    processes know, or else the one here. Raises Usage if there is none, or if it is another one for
    each of several processes."""
    known = {number for number in (_in_process(pid, name) for pid in pids or ()) if number >= 0}
    if len(known) > 1:
        numbers = " and ".join(map(str, sorted(known)))
        raise Usage(f"argument -u/--uid: {name!r} is a user of its own in processes: {numbers}")
    if known:
        return known.pop()
    import pwd

    try:
        return pwd.getpwnam(name).pw_uid
    except (KeyError, ValueError):
        where = f", neither here nor in process {', '.join(map(str, pids))}" if pids else ""
        raise Usage(f"argument -u/--uid: there is no user {name!r}{where}") from None


def _in_process(pid: int, name: str) -> int:
    """The user of that name in a process's /etc/passwd; -1 if there is none."""
    try:
        descriptor = open_in_root(pid, "/etc/passwd")
    except OSError:
        return -1
    with open(descriptor, "rb") as file:
        text = file.read(MOST_BYTES)
    for line in text.splitlines():
        words = line.split(b":")
        if len(words) > 2 and words[0] == os.fsencode(name) and words[2].isdigit():
            return _here(pid, int(words[2]))
    return -1


def _here(pid: int, number: int) -> int:
    """The number that a user of a process's user namespace has here; -1 if it has none."""
    try:
        with open(f"/proc/{pid}/uid_map") as file:
            ranges = [tuple(map(int, line.split())) for line in file]
    except OSError:
        return -1
    for inside, outside, count in ranges:
        if inside <= number < inside + count:
            return outside + number - inside
    return -1
