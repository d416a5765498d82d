"""Tools that print histograms: their units and keys from one declaration, from C to what is
printed every interval."""
from __future__ import annotations

import argparse
import functools

from pytools.base.annotations import NamedTuple, TYPE_CHECKING
from pytools.load.program import Program
from pytools.read.histogram import Histogram, merged
from pytools.read.samples import NANOSECONDS, LinearSamples, Samples
from pytools.show.histograms import HistogramWriter
from pytools.show.output import Output
from pytools.tool import arguments
from pytools.tool.definition import Tool, Trace
from pytools.tool.waiting import Waiting, announce, intervals

if TYPE_CHECKING:
    from typing import Any, Callable, Collection, Iterable, Mapping, Sequence

    Keyed = list[tuple[dict[str, Any], Histogram]]  # the key says what tells one from the others


__all__ = ["HistogramTool", "HistogramTrace", "Key"]

_UNITS = {
    "usecs": ("-u", "--microseconds"),
    "msecs": ("-m", "--milliseconds"),
    "nsecs": ("-N", "--nanoseconds"),
}


class Key(NamedTuple):
    """What may tell histograms apart: ``name`` is what it is called, ``code`` is C for it (a u64),
    ``words`` makes of that what is printed. ``option`` asks for it, with the text ``help``;
    those without, which share their code, are there together where none is asked for. ``about`` is
    the text about it in the manual page."""

    name: str
    code: str
    option: tuple[str, ...] = ()
    help: str = ""
    about: str = ""
    words: Callable[[int], Any] | None = None


class HistogramTool(Tool):
    """A tool that prints histograms. ``units`` are those it can print, the usual one first;
    ``scale`` and ``label`` are as in ``Histogram`` and ``HistogramTrace``; ``keys`` what may tell
    histograms apart; ``about_values`` and ``about_counts`` the text about the rows in the manual
    page; ``summary`` more names of the option --summary, ``timestamp`` the names of that option.
    Without ``intervals``, the tool has options of its own in place of ``[interval [count]]``.

    In the template ``$SAMPLES`` stands for the maps, for ``add_sample(id, nanoseconds)``, or
    ``add_sample(id, value)`` where the scale is linear, and for the counter ``samples_lost``;
    ``$ID`` for the key that the user asked for."""

    def __init__(
        self,
        text: str | None,
        *,
        units: Sequence[str] = ("usecs", "msecs"),
        scale: str = "log2",
        label: str = "",
        keys: Sequence[Key] = (),
        about_values: str,
        about_counts: str,
        summary: Sequence[str] = (),
        timestamp: Sequence[str] = ("-T", "--timestamp"),
        intervals: bool = True,
        **declared: Any,
    ) -> None:
        super().__init__(text, intervals=intervals, **declared)
        self.units = units
        self.scale = scale
        self.label = label
        self.keys = keys
        self.about_values = about_values
        self.about_counts = about_counts
        self.add_argument(*timestamp, action="store_true", help="print the time")
        self._add_units()
        self._add_keys()
        arguments.add_summary(self.parser, *summary)

    def _add_units(self) -> None:
        self.set_defaults(unit=self.units[0])
        names = {"usecs": "microseconds", "msecs": "milliseconds", "nsecs": "nanoseconds"}
        if self.units[0] == "usecs":
            names["msecs"] += ", not microseconds"
        group: Any = self
        if len(self.units) > 2:
            group = self.add_mutually_exclusive_group()
        for unit in self.units[1:]:
            group.add_argument(
                *_UNITS[unit], dest="unit", action="store_const", const=unit,
                help=f"histogram of {names[unit]}",
            )  # fmt: skip

    def _add_keys(self) -> None:
        group: Any = self
        asked = [key for key in self.keys if key.option]
        self.set_defaults(each=None)
        if len(asked) > 1:
            group = self.add_mutually_exclusive_group()
        for key in asked:
            group.add_argument(
                *key.option, dest="each", action="store_const", const=key.name, help=key.help
            )

    def schema(self) -> dict[str, Any]:
        return {
            **super().schema(),
            "kind": HistogramTrace.kind,
            "scale": self.scale,
            "units": list(self.units),
            "values": self.about_values,
            "counted": self.about_counts,
            "keys": [
                {
                    "name": key.name,
                    "type": "string" if key.words else "integer",
                    "option": max(key.option, key=len) if key.option else None,
                    "about": key.about,
                }
                for key in self.keys
            ],
        }

    def start(
        self,
        options: argparse.Namespace,
        template: str,
        code: Mapping[str, str] = {},
        values: Mapping[str, Any] = {},
        settings: Mapping[str, int] = {},
        sizes: Mapping[str, int] = {},
        ended: Callable[[Program], Callable[[], Collection[tuple[int, int]]]] | None = None,
        always: Callable[[], Collection[int]] = tuple,
        trace: type[HistogramTrace] | None = None,
        names: Callable[[Program], Callable[[int], Any]] | None = None,
        **more: Any,
    ) -> HistogramTrace:
        """Load a template's program, attach it, and trace. ``ended`` makes of the program a
        function that gives samples which the reader has itself, (id, nanoseconds), at the end of
        each interval; ``always`` is that of LinearSamples; ``names`` makes of the program what
        stands in place of the ``words`` of keys.
        ``trace`` is HistogramTrace or a class made from it, ``more`` what it takes."""
        keys = [key for key in self.keys if key.name == options.each]
        keys = keys or [key for key in self.keys if not key.option]
        samples: Samples | LinearSamples
        if self.scale == "linear":
            samples = LinearSamples(bool(keys), options.summary, always)
        else:
            samples = Samples(NANOSECONDS[options.unit], bool(keys), options.summary)
        traced = self.load(
            options,
            template,
            {"SAMPLES": samples.code, "ID": keys[0].code if keys else "0", **code},
            values,
            settings,
            sizes,
        )
        more_samples = ended(traced) if ended else _none
        name = names(traced) if names else None

        worded = [(key, name or key.words) for key in keys]

        def read() -> tuple[Keyed, int]:
            more = more_samples()
            lost = samples.lost()
            return [
                ({key.name: words(each) if words else each for key, words in worded}, histogram)
                for each, histogram in samples.since_last(more).items()
            ], lost

        samples.read(traced)
        more.setdefault("label", self.label)
        return (trace or HistogramTrace)(self, options, traced, read, options.unit, **more)


def _none() -> Collection[tuple[int, int]]:
    return ()


class HistogramTrace(Trace):
    """Histograms that are read every interval: ``histograms`` gives those since the last time, and
    how many samples were lost. ``unit`` is that of the values, ``label`` heads them, and
    ``counted`` their counts. ``losses`` are more of them: how many samples, and by reason what
    JSON names apart. ``whole`` says that what is still traced is in none, so that the program is
    detached before they are read for the last time. ``heading`` is that of HistogramWriter.
    ``attach`` and ``detach`` attach and detach the program if those of ``Program`` without
    arguments do not; with ``anew``, what was counted before all was attached is left out."""

    kind = "histograms"

    def __init__(
        self,
        tool: Tool,
        options: argparse.Namespace,
        traced: Program,
        histograms: Callable[[], tuple[Keyed, int]],
        unit: str,
        label: str = "",
        counted: str = "count",
        losses: Callable[[Program], Callable[[], tuple[int, Mapping[str, int]]]] | None = None,
        whole: bool = True,
        attach: Callable[[Program], None] = Program.attach,
        detach: Callable[[Program], None] = Program.detach,
        anew: bool = False,
        doing: str = "",
        heading: Callable[[Mapping[str, Any]], Iterable[str]] | None = None,
    ) -> None:
        super().__init__(tool, options, traced)
        self._heading = heading
        self._histograms = histograms
        self._unit, self._label, self._counted = unit, label, counted
        self._losses = losses(traced) if losses else None
        self._whole = whole
        self._doing = doing or tool.doing
        self._traced, self._detach = traced, detach
        self.attach(functools.partial(attach, traced), *[histograms] * anew)

    def detach(self) -> None:
        self._detach(self._traced)

    def read(self) -> tuple[list[Any], Mapping[str, int]]:
        keyed, lost = self._histograms()
        more, beside = self._losses() if self._losses else (0, {})
        return keyed, {**({"lost": lost + more} if lost + more else {}), **beside}

    def added(self, before: list[Any], rows: list[Any]) -> list[Any]:
        found = {tuple(key.items()): histogram for key, histogram in before}
        for key, histogram in rows:
            known = found.get(tuple(key.items()))
            found[tuple(key.items())] = merged(known, histogram) if known else histogram
        return [(dict(key), histogram) for key, histogram in found.items()]

    def print(self, output: Output, waiting: Waiting) -> None:
        options = self.options
        announce(options, self._doing)
        form, label = options.form, self._label
        writer = HistogramWriter(output, form, self._unit, label, self._counted, self._heading)
        for last in intervals(options, waiting):
            if last and self._whole:
                self.stop()
            if options.timestamp:
                output.stamp(options.form)
            keyed, lost = self._histograms()
            more, beside = self._losses() if self._losses else (0, {})
            if lost + more:
                output.message(f"{lost + more} samples lost")
            self.seen = self.seen or any(histogram.samples for _, histogram in keyed)
            self.write(output, writer, keyed, lost + more, beside)

    def write(
        self,
        output: Output,
        writer: HistogramWriter,
        keyed: Keyed,
        lost: int,
        beside: Mapping[str, int],
    ) -> None:
        """Write the histograms of an interval."""
        writer.write(keyed, lost, beside)
