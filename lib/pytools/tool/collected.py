"""What a trace has seen: for those who use a tool without printing."""
from __future__ import annotations

from pytools.base.annotations import NamedTuple, TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any, Mapping


__all__ = ["Collected"]


class Collected(NamedTuple):
    """What a trace has seen from ``began`` to ``ended`` (nanoseconds of the kernel's monotonic
    clock): since its start if it is ``cumulative``, else since the last time.

    ``rows`` are those of a ``kind``: of ``events``, ``table`` and ``stacks`` mappings by the names
    of the schema, with raw values; of ``histograms`` pairs of key (a mapping) and
    ``histogram.Histogram``. ``lost`` counts what is missing, by reason."""

    kind: str
    began: int
    ended: int
    rows: list[Any]
    lost: Mapping[str, int]
    cumulative: bool = False
