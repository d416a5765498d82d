"""All that is in the kernel of BPF: each program, map and link with what it is attached to, what it
takes, and who keeps it there."""
from __future__ import annotations

from collections import Counter, defaultdict

from pytools.base.annotations import NamedTuple, TYPE_CHECKING
from pytools.domains import bpf_places
from pytools.domains.bpf_holders import Held, Process, held, pinned
from pytools.domains.bpf_objects import Objects

if TYPE_CHECKING:
    from typing import Callable, Iterable, Mapping

    from pytools.domains.bpf_objects import BpfProgram, Link


__all__ = ["Item", "Summary", "inventory", "summaries"]

# In the order in which they are listed, by the names that people get.
TYPES = {"program": "prog", "map": "map", "link": "link"}
OF_CGROUPS = ("cgroup", "sock_ops")  # what types of programs begin with that cgroups run
OF_FILTERS = {"sched_cls", "sched_act"}
OF_DEVICES = {"xdp", *OF_FILTERS}


class Item(NamedTuple):
    """An object, and a process that keeps it; None of one that no process does. ``programs`` are
    those that use the map, or the program of the link; ``memory`` is in bytes, None of a link."""

    process: Process | None
    type: str
    id: int
    kind: str
    name: str
    tag: str | None
    uid: int | None
    memory: int | None
    programs: tuple[int, ...]
    places: tuple[str, ...]
    pins: tuple[str, ...]


class Summary(NamedTuple):
    """How many objects of a type a process keeps, and what they take."""

    process: Process | None
    type: str
    number: int
    memory: int | None


def inventory(say: Callable[[str], None]) -> list[Item]:
    """Everything, by process: an object that several keep is there several times. Those of none are
    last. ``say`` is told what could not be looked at. Raises Failure."""
    objects = Objects()
    programs = {program.id: program for program in objects.programs(memory=True)}
    maps = {map_.id: map_ for map_ in objects.maps()}
    links = {link.id: link for link in objects.links()}
    holders = held()
    if holders.unread:
        say(
            f"the descriptors of {holders.unread} processes can't be read: run it as root, or with "
            "CAP_SYS_PTRACE"
        )
    kept = _kept(holders, programs, links)

    known = bpf_places.Places(programs, {map_.id: map_.name for map_ in maps.values()})
    # In the order in which they are found, each once.
    places: dict[tuple[str, int], dict[str, None]] = defaultdict(dict)
    kinds = {program.kind for program in programs.values()}
    if kinds.intersection(OF_DEVICES):
        try:
            for program, place in bpf_places.on_devices(filters=bool(kinds & OF_FILTERS)):
                places["program", program][place] = None
        except OSError as error:
            say(f"cannot ask for the programs of network devices: {error.strerror}")
    for link in links.values():
        # The device that a link of XDP has may be in another network namespace.
        told = list(places["program", link.program]) if link.kind == "xdp" else []
        for place in told or [known.of_link(link)]:
            if not place:
                continue
            places["link", link.id][place] = places["program", link.program][place] = None
    for process, events in holders.events.items():
        of_events = [n for n in kept[process]["program"] if programs[n].kind == "perf_event"]
        for program, place in events:
            # Of events that count or sample, the kernel does not tell which program runs.
            for number in [program] if program else of_events if len(of_events) == 1 else []:
                places["program", number][place] = None
    if any(kind.startswith(OF_CGROUPS) for kind in kinds):
        for program, place in bpf_places.in_cgroups():
            places["program", program][place] = None

    pins = pinned()
    users: dict[int, list[int]] = defaultdict(list)
    for each in programs.values():
        for number in each.maps:
            users[number].append(each.id)

    def item(process: Process | None, type_: str, number: int) -> Item:
        at = tuple(places.get((type_, number), ())), tuple(pins.get((type_, number), ()))
        what: tuple[str, int] = TYPES[type_], number
        if type_ == "program":
            one = programs[number]
            memory = objects.program_memory.get(number)
            return Item(process, *what, one.kind, one.name, one.tag, one.uid, memory, (), *at)
        if type_ == "map":
            of, memory = maps[number], objects.map_memory.get(number)
            return Item(
                process, *what, of.kind, of.name, None, None, memory, tuple(users[number]), *at
            )
        link = links[number]
        return Item(process, *what, link.kind, "", None, None, None, (link.program,), *at)

    now: dict[str, Iterable[int]] = {"program": programs, "map": maps, "link": links}
    found, owned = [], set()
    for process in sorted(kept):
        for type_ in TYPES:
            for number in sorted(kept[process][type_].intersection(now[type_])):
                owned.add((type_, number))
                found.append(item(process, type_, number))
    for type_ in TYPES:
        found += [item(None, type_, n) for n in now[type_] if (type_, n) not in owned]
    return found


def _kept(
    holders: Held, programs: Mapping[int, BpfProgram], links: Mapping[int, Link]
) -> dict[Process, dict[str, set[int]]]:
    """What each process keeps, by type: what it has descriptors of, the programs of its links and
    of its perf events, and the maps of all these programs."""
    kept: dict[Process, dict[str, set[int]]] = {}
    for process, direct in holders.objects.items():
        mine: dict[str, set[int]] = {type_: set() for type_ in TYPES}
        for type_, number in direct:
            mine[type_].add(number)
        mine["program"].update(links[n].program for n in mine["link"] if n in links)
        mine["program"].update(program for program, _ in holders.events[process])
        mine["program"].intersection_update(programs)
        for number in mine["program"]:
            mine["map"].update(programs[number].maps)
        kept[process] = mine
    return kept


def summaries(items: Iterable[Item]) -> list[Summary]:
    """The same added up, by process and type, in the order of the items."""
    counts: Counter[tuple[Process | None, str]] = Counter()
    memory: dict[tuple[Process | None, str], int | None] = {}
    for item in items:
        key = item.process, item.type
        counts[key] += 1
        before = memory.get(key)
        memory[key] = before if item.memory is None else (before or 0) + item.memory
    return [Summary(*key, count, memory[key]) for key, count in counts.items()]
