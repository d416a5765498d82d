"""What a tool wants to run, before it is rendered for a kernel."""
from __future__ import annotations

from typing import Mapping, NamedTuple, Union

__all__ = ["Source", "Value"]

Value = Union[bool, int, bytes]


class Source(NamedTuple):
    """A template, and what its placeholders stand for (see template). ``code`` and
    ``values`` are part of what is compiled; of ``settings``, only the names are."""

    template: str
    code: Mapping[str, str] = {}
    values: Mapping[str, Value] = {}
    settings: Mapping[str, int] = {}
