"""What the C of a program leaves to the reader: probes to attach, records to print, maps to show.

``emit`` makes a plan beside the C; it is kept with the image (``dump``, ``parse``), so that a warm
start knows all that it needs without the text. Everything in it is made of JSON's values: numbers,
texts, lists, dictionaries.

**Types** are lists, the word first; so many bytes lie in a key, a value or a record:

    ["int", size, signed]       ["bool"]  1 byte       ["enum", size, signed, {"0": "NAME"}]
    ["string", n]               n bytes with a NUL in them, zeros behind it; of an argument that
                                is a literal of the script's, ["string", n, "own"]
    ["buffer", n]               u32 length, n bytes
    ["pointer", pointee]        8 bytes; ``pointee`` is C's name of what it points to, or ""
    ["tuple", size, [[offset, type], ...]]
    ["record", size, [[name, offset, type], ...]]
                                a struct or union; a bit-field has [name, offset, type, bit, bits]
    ["array", count, stride, type]
    ["kstack", mode, depth], ["ustack", mode, depth]
                                8 bytes: s32 id as bpf/stacks.h has it (of the maps stacks_DEPTH,
                                more_stacks_DEPTH), u32 tgid; mode: "bpftrace", "perf", "raw",
                                "build_id"
    ["ksym"]  8 bytes, an address                      ["usym"]  u64 address, u32 tgid, u32 0
    ["inet"]                    u32 family (AF_INET, AF_INET6 of Linux), 16 bytes: the address in
                                network order from the first
    ["mac"]  6 bytes            ["username"]  u32 uid  ["cgroup_path"]  u64 id
    ["timestamp", format, clock]
                                u64 nanoseconds of the clock "boot", "monotonic", "tai" or "wall"
    ["strerror"]  s32           ["signal_name"]  s32   ["syscall_name"]  s64 (of the native ABI)
    ["probe"]                   u32, a number of the plan's ``points``
    ["func"]                    the same, or an address: u64
    ["none"]                    no bytes; as a map's key, a u32 of zeros

Types of maps' values only, for what is counted by CPU:

    ["count"]  u64              ["sum", signed]  s64 or u64
    ["min", signed], ["max", signed]      {s64 value; u64 is_set}
    ["avg", signed], ["stats", signed]    {s64 total; u64 count}
    ["hist", bits]              u64, and the key has ``u32 bucket`` behind it: of a power of two
                                with 2^bits parts each
    ["lhist", low, high, step]  u64, and the key has ``u32 bucket``: 0 below low, then one a step,
                                then above
    ["tseries", interval ns, slots, what]
                                {s64 value; u64 meta; u64 interval} and ``u32 slot`` in the key:
                                the number of the interval since 1970 (clock "tai"), which is at
                                interval % slots; meta: when the last value was set (what:
                                "last"), how many there are ("avg", whose value is their sum;
                                "min", "max", "sum": not 0 if there is any)

**Records** come through the ring buffer ``events``: ``struct { u64 id; char data[]; }``. The id is
an index of ``records``. The data begin with the arguments at their offsets (``arguments``: [offset,
type]; ``size`` is where they end). A string among them that is an argument of its own has a u32
length there (with no NUL counted); its bytes follow behind ``size``, in the order of the arguments,
without NUL. Strings in tuples and structs are inline. One that has as many bytes as its type was
cut off; that of an array of characters has a type of one more.

**Keys** of maps without keys are a u32 of zeros. Bucket, slot and generation stand behind the key,
at the next multiple of 4. The buckets of a histogram: 0 of negative numbers, n + 1 of n below
2^bits, then ((power - bits + 1) << bits | the bits behind the first one) + 1.

**Steps**: a program that returns 1 ends its action, the programs behind it are not run.
"""
from __future__ import annotations

import json

from pytools.base.annotations import NamedTuple, TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any, Optional

    Type = list[Any]

FORMAT = 1  # of ``dump``; a plan of another format is made anew


class Point(NamedTuple):
    """Something that a program of the image is attached to. ``text`` is what the builtin ``probe``
    says of it.

    ``kind`` and ``target``: begin, end, interval (period in nanoseconds), self (a signal) are run
    by the tool itself (BPF_PROG_TEST_RUN of raw tracepoint programs); tracepoint (CATEGORY:NAME),
    rawtracepoint (NAME), kprobe, kretprobe, fentry, fexit (FUNCTION), uprobe, uretprobe
    (PATH:FUNCTION or PATH:ADDRESS), usdt (PATH:PROVIDER:NAME), profile (period in nanoseconds or
    frequency in Hz), software, hardware (EVENT, period). ``offset`` is that in a function, in
    bytes. A pattern in a target (``*``, ``?``, ``[]``) is resolved when it is attached, and then
    stands for many points (``attaching`` numbers those behind the plan's own). ``programs`` are of
    the image: several are steps of one action, run one after the other, or the ways of a usdt.
    """

    kind: str
    target: str
    text: str
    programs: list[str]
    offset: int = 0
    period: int = 0
    frequency: int = 0
    # "error", "warn", "ignore": if there is no such probe; "others": a warning if there is another
    # of the same action.
    missing: str = ""
    # Where the attach point stands in the text: first character, behind the last. Errors of
    # attaching say it.
    at: list[int] = []
    action: int = 0  # which one of the script it belongs to


class Record(NamedTuple):
    """What one kind of record is for. ``action``:

    printf, system, cat, errorf, warnf, debugf (``text``: the format in ``pieces``), join
    (``pieces``: the separator), print (one argument: the value; its type may be a tuple), time
    (``pieces``: the format), strftime is a type; print_map (``map``, and constants ``top``,
    ``divisor``), print_element (``map``: the arguments are the key and the value of a map that is
    not by CPU; of one that is by CPU, the key), clear, zero (``map``), exit (its argument: the
    code), warning (``pieces``: what is wrong), error (``pieces``: what failed; the argument: the
    helper's error). ``pieces`` of a format are texts, and conversions as [flags, width, precision,
    length, letter].
    """

    action: str
    arguments: list[list[Any]] = []  # [[offset, type], ...]
    size: int = 0
    pieces: list[Any] = []
    map: str = ""
    top: int = 0
    divisor: int = 0
    at: str = ""  # FILE:LINE:COLUMN, for errors


class MapPlan(NamedTuple):
    """A map of the script. ``name`` as in the script, with its @; ``table`` the map's name in the
    image."""

    name: str
    table: str
    key: Type  # ["none"] of a scalar; a tuple for several keys
    value: Type
    entries: int
    generation: bool = False  # the key ends with u32 generation (bpf/generation.h)
    lru: bool = False


class Plan(NamedTuple):
    points: list[Point]
    records: list[Record]
    maps: list[MapPlan]
    config: dict[str, Any] = {}  # as checked: numbers, texts, booleans
    warnings: list[str] = []  # whole lines, which are said at each start
    # Numbers that are put in when it is loaded (template's settings): name -> how to find it:
    # ["parameter", n], ["pid"], ["start"] (nanoseconds of the boot clock), ["cpid"],
    # ["kaddr", SYMBOL], ["uaddr", PATH, SYMBOL], ["probed", PATH, FUNCTION, OFFSET],
    # ["unmoved", PATH], ["cgroupid", PATH], ["constant", n],
    # ["filter", NAME], ["cpus"], ["index"] (of multi_attach.py)
    settings: dict[str, list[Any]] = {}
    stacks: list[int] = []  # the depths of which there are stack maps
    unsafe: bool = False
    # Helpers that the kernel may refuse: where one that calls it stands in the text.
    helpers: dict[str, list[int]] = {}

    def dump(self) -> bytes:
        """The plan as bytes, for ``parse``."""
        return json.dumps([FORMAT, *self], separators=(",", ":")).encode()

    @classmethod
    def parse(cls, data: bytes) -> Optional[Plan]:
        """What ``dump`` wrote; None if it is of another format. Raises ValueError if it is
        damaged."""
        try:
            form, points, records, maps, *rest = json.loads(data)
            if form != FORMAT:
                return None
            return cls(
                [Point(*point) for point in points],
                [Record(*record) for record in records],
                [MapPlan(*each) for each in maps],
                *rest,
            )
        except (TypeError, RecursionError) as error:
            raise ValueError(f"damaged plan: {error}") from None
