"""What a tool wants to run, before it is rendered for a kernel."""
from __future__ import annotations

from pytools.base.annotations import NamedTuple, TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Mapping, Sequence, Union

    Value = Union[bool, int, bytes]


__all__ = ["Unrendered", "Value"]


class Unrendered(NamedTuple):
    """A template, and what its placeholders stand for (see template). ``code`` and
    ``values`` are part of what is compiled; of ``settings``, only the names are.
    ``probes`` has for each USDT hook the ways in which its arguments are written
    (elf.Probe.arguments), each once."""

    template: str
    code: Mapping[str, str] = {}
    values: Mapping[str, Value] = {}
    settings: Mapping[str, int] = {}
    probes: Mapping[str, Sequence[str]] = {}
