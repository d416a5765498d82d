"""Tools that count interrupts and the time of their handlers: a table by handler, or with -d a
histogram of each (bpf/interrupts.h)."""
from __future__ import annotations

import argparse

from pytools.base.annotations import TYPE_CHECKING
from pytools.base.errors import Usage
from pytools.facts.kernel import online_cpus, possible_cpus
from pytools.read.growth import RowsGrowth, losses
from pytools.read.totals import ENTRIES, Total, Totals
from pytools.tool import arguments
from pytools.tool.definition import Trace
from pytools.tool.fields import Field
from pytools.tool.tables import TableTool

if TYPE_CHECKING:
    from typing import Any, Callable, Sequence

    from pytools.load.program import Program

    # Of a program, what makes of the id of a handler the values of the fields that name it.
    Names = Callable[[Program], Callable[[int], tuple[Any, ...]]]
    Counted = Callable[[], dict[tuple[int, int], Total]]  # by id and CPU


__all__ = ["InterruptTool"]

# Where the ids are small numbers, and no times are wanted.
_COUNTS = """BPF_PERCPU_ARRAY(counts, u64, $IDS);

static inline void add_time(u32 id, u64 nanoseconds)
{
	u64 *count = counts.lookup(&id);

	if (count)
		*count += 1;
}
"""
_TABLE = """#include "totals.h"
#define add_time(id, nanoseconds) \\
	add_to_total(id, $BY_CPU ? bpf_get_smp_processor_id() : 0, nanoseconds)
"""


def _times(heading: str, key: str, added: str, about: str) -> list[Field]:
    """The column of a time, in the unit that people ask for."""
    return [
        Field(
            f"{heading}_{unit}", about, -11, key=key, unit="ns", optional=True, added=added,
            people=lambda ns, each=each: f"{ns // each}",  # type: ignore[misc]
            when=lambda options, unit=unit: options.unit == unit,  # type: ignore[misc]
        )
        for unit, each, about in (("nsecs", 1, ""), ("usecs", 1000, about))
    ]  # fmt: skip


def _no_cpu(options: argparse.Namespace, program: Program) -> str:
    there = options.cpu is None or options.cpu in online_cpus()
    return "" if there else f"CPU {options.cpu} is not online"


class InterruptTool(TableTool):
    """A tool that counts interrupts. ``named`` are the fields that name a handler, the first one
    with what tells it from all others. ``counting`` is the long name of the option -C.

    In the template ``$TIMES`` stands for what interrupts.h needs, and ``$BEGINS`` for the program
    that calls handler_begins(), which ``start`` is given."""

    def __init__(
        self, text: str | None, *, named: Sequence[Field], counting: str, **declared: Any
    ) -> None:
        table = [
            *named,
            Field(
                "CPU", "The CPU, with --cpus.", -3, key="cpu", optional=True, option=("--cpus",),
                help="print each CPU separately",
            ),
            *_times("TOTAL", "time_ns", "sum", "The time in the handler; TOTAL_nsecs with -N."),
            Field(
                "TOTAL_count", "", -11, key="count", added="sum",
                when=lambda options: options.counting,
            ),
            Field(
                "COUNT", "How often the handler ran; TOTAL_count with -C.", -9, key="count",
                added="sum", when=lambda options: not options.counting,
            ),
            *_times("MAX", "maximum_ns", "max", "The longest time of one; MAX_nsecs with -N."),
        ]  # fmt: skip
        super().__init__(
            text, table=table, duration=["--duration"], under_way=_no_cpu, **declared
        )  # fmt: skip
        self._named = named
        self.set_defaults(unit="usecs")
        add = self.add_argument
        add("-T", "--timestamp", action="store_true", help="print the time")
        add(
            "-N", "--nanoseconds", dest="unit", action="store_const", const="nsecs",
            help="times in nanoseconds",
        )  # fmt: skip
        add(
            "-C", f"--{counting}", dest="counting", action="store_true",
            help="count interrupts, and measure no times",
        )  # fmt: skip
        add("-d", "--dist", action="store_true", help="print a histogram of times for each")
        add(
            "-c", "--cpu", type=arguments.number_from(0, 1 << 20), help="only on this CPU"
        )  # fmt: skip
        arguments.add_summary(self.parser)

    def schema(self) -> dict[str, Any]:
        histogram = {
            "option": "--dist",
            "kind": "histograms",
            "scale": "log2",
            "units": ["usecs", "nsecs"],
            "keys": [
                {"name": field.name, "type": field.type, "option": None, "about": field.about}
                for field in self._named
            ],
        }
        return {**super().schema(), "histograms": histogram}

    def start(
        self, options: argparse.Namespace, template: str, begins: str, names: Names, ids: int = 0
    ) -> Trace:
        """Load a template's program, attach it, and trace. ``ids`` is how many handlers there may
        be, if their ids are the numbers from 0 on."""
        if options.summary:  # which is that of histograms
            options.dist = True
        if options.counting and (options.dist or options.unit == "nsecs"):
            raise Usage("-C measures no times: it goes with none of -d, --summary and -N")
        if options.counting:
            options.unit = ""
        settings = {
            "CPU": -1 if options.cpu is None else options.cpu,
            "TIMED": not options.counting,
        }
        code = {"BEGINS": "" if options.counting else begins}
        if options.dist:
            return self._histograms(options, template, code, settings, names)
        lost = "BPF_PERCPU_ARRAY(lost, u64, 1);\n"
        if options.counting and ids:
            code["TIMES"] = lost + _COUNTS
            program = self.load(options, template, code, {"IDS": ids}, settings)
            return self._table(options, program, _counts(program, options.cpus), names)
        code["TIMES"] = lost + _TABLE
        settings["BY_CPU"] = options.cpus
        sizes = {"totals": ENTRIES}
        program = self.load(options, template, code, settings=settings, sizes=sizes)
        return self._table(options, program, Totals(program).since_last, names)

    def _table(
        self, options: argparse.Namespace, program: Program, totals: Counted, names: Names
    ) -> Trace:
        name = names(program)

        def rows() -> list[tuple[Any, ...]]:
            found = sorted(
                totals().items(), key=lambda item: (item[1].sum, item[1].number), reverse=True
            )
            return [
                (*name(handler), cpu, total.sum, total.number, total.maximum)
                for (handler, cpu), total in found
            ]

        values = [field.value for field in self._named]
        return self.trace(
            options, program, rows, values=[*values, "cpu", "time_ns", "count", "maximum_ns"],
            lost=losses(program), what="interrupts",
        )  # fmt: skip

    def _histograms(
        self,
        options: argparse.Namespace,
        template: str,
        code: dict[str, str],
        settings: dict[str, int],
        names: Names,
    ) -> Trace:
        from pytools.read.samples import NANOSECONDS, Samples
        from pytools.tool.histograms import HistogramTrace

        samples = Samples(NANOSECONDS[options.unit], True, options.summary)
        program = self.load(
            options, template, {**code, "TIMES": f"{samples.code}\n#define add_time add_sample\n"},
            settings=settings,
        )  # fmt: skip
        samples.read(program)
        name, keys = names(program), [field.name for field in self._named]

        def read() -> tuple[list[Any], int]:
            lost = samples.lost()
            found = samples.since_last().items()
            return [(dict(zip(keys, name(handler))), each) for handler, each in found], lost

        return HistogramTrace(self, options, program, read, options.unit)


def _counts(program: Program, by_cpu: bool) -> Counted:
    """What gives the counts of _COUNTS since the last time, by id and CPU."""
    counts, growth, cpus = program.maps["counts"], RowsGrowth(), possible_cpus()

    def since_last() -> dict[tuple[int, int], Total]:
        counted = [
            ((number, cpus[place] if by_cpu else 0), (count,))
            for number, of_cpus in counts.items()
            for place, count in enumerate(of_cpus)
        ]
        return {(number, cpu): Total(count) for number, cpu, count in growth.since_last(counted)}

    return since_last
