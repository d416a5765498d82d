"""What is read from files and written to them: the columns of tables about that, and the order of
their rows."""
from __future__ import annotations

from pytools.base.annotations import TYPE_CHECKING
from pytools.tool.fields import Field

if TYPE_CHECKING:
    from typing import Callable, Mapping, Sequence

    from pytools.tool.tables import TableTool


__all__ = ["FIELDS", "SORTS", "add_sort"]


def _kib(size: int) -> int:
    return size >> 10


FIELDS = (
    Field("READS", "Calls that read.", -6, added="sum"),
    Field("WRITES", "Calls that write.", -6, added="sum"),
    Field(
        "R_Kb", "What they read: in KiB for people, in bytes for programs.", -7, key="rbytes",
        people=_kib, unit="bytes", added="sum",
    ),
    Field(
        "W_Kb", "The same of what they wrote.", -7, key="wbytes", people=_kib, unit="bytes",
        added="sum",
    ),
)  # fmt: skip

# By the values of these fields.
SORTS: Mapping[str, Callable[[Sequence[int]], int]] = {
    "all": sum,
    **{
        field.name: lambda amounts, place=place: amounts[place]  # type: ignore[misc]
        for place, field in enumerate(FIELDS)
    },
}


def add_sort(tool: TableTool) -> None:
    """Add the option that chooses one of SORTS."""
    tool.add_argument(
        "-s", "--sort", choices=SORTS, default="all", help="by what rows are sorted (all)"
    )
