"""Members of kernel structs that have got another name, so that old scripts can be read on."""
from __future__ import annotations

from pytools.base.annotations import NamedTuple, TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Container, Optional

__all__ = ["Renamed", "renamed"]


class Renamed(NamedTuple):
    """The member's new name, the commit that gave it, and the first version with it."""

    name: str
    commit: str
    version: str


# By struct and old name. If a struct has both members, nothing is looked up here.
_RENAMED = {
    ("struct cfs_rq", "nr_running"): Renamed("nr_queued", "736c55a02c47", "v6.14"),
    ("struct cfs_rq", "h_nr_running"): Renamed("h_nr_queued", "7b8a702d9438", "v6.14"),
    ("struct task_struct", "state"): Renamed("__state", "2f064a59a11f", "v5.14"),
    ("struct iov_iter", "iov"): Renamed("__iov", "de4f5fed3f23", "v6.4"),
}


def renamed(struct: str, member: str, members: Container[str]) -> Optional[Renamed]:
    """What a struct with those members calls the one that had that name.

    >>> renamed("struct task_struct", "state", ["__state"]).version
    'v5.14'
    """
    found = _RENAMED.get((struct, member))
    return found if found is not None and found.name in members else None
