"""From the typed tree to C and the plan."""
from __future__ import annotations

from pytools.base.annotations import TYPE_CHECKING
from pytools.bt.options import Compiled
from pytools.bt.emit import casts, operators, statements
from pytools.bt.emit.code import Place
from pytools.bt.emit.maps import cpu_map, has_generation, key_size, value_size
from pytools.bt.emit.pieces import head, piece_text, settings_of
from pytools.bt.emit.each import calls_back
from pytools.bt.emit.steps import Frame, steps_of
from pytools.bt.emit.values import Emitter
from pytools.bt.emit.whole import Whole
from pytools.bt.plan import MapPlan, Plan, Point
from pytools.bt.probes import OF_PROGRAM, TEST_RUN
from pytools.bt.typed import Typed
from pytools.bt.types import Aggregate, Int, String
from pytools.compile.callbacks import CALLBACK
from pytools.compile.template import Hook, Rendered
from pytools.facts.differences import has_uprobe_multi

if TYPE_CHECKING:
    from typing import Any

    from pytools.bt import tree
    from pytools.bt.checker import Checked
    from pytools.bt.options import Options
    from pytools.bt.scope import MapFacts
    from pytools.bt.typed import Action
    from pytools.facts.kernel import Kernel

__all__ = ["emit"]

LOADED = (casts, operators, statements)
# What cannot be attached to one process: -p is asked each time.
_OF_ALL_PROCESSES = ("tracepoint", "rawtracepoint", "kprobe", "kretprobe", "fentry", "fexit")
NO_PREALLOC = 1  # BPF_F_NO_PREALLOC
BUCKETS = 16  # keys of a histogram are so many times those of its map
_HOOKS = {
    "begin": "raw_tracepoint", "end": "raw_tracepoint", "interval": "raw_tracepoint",
    "self": "raw_tracepoint", "rawtracepoint": "raw_tracepoint", "tracepoint": "tracepoint",
    "profile": "perf_event", "software": "perf_event", "hardware": "perf_event",
}  # fmt: skip


def emit(program: tree.Program, checked: Checked, kernel: Kernel, options: Options) -> Compiled:
    """C and the plan of a script that has been checked. Raises Wrong."""
    whole = Whole(checked, kernel, options, lambda at: _place(program, at))
    whole.first_marks(settings_of(options))
    programs: list[str] = []
    hooks: list[Hook] = []
    callbacks: list[Hook] = []
    points = [point._replace(programs=[]) for point in checked.points]
    for action in checked.actions:
        for name, text, called in _action(whole, action, len(hooks)):
            programs.append(text)
            hooks.append(_hook(action, name, points, kernel))
            callbacks += [Hook(each, CALLBACK, way) for each, way in called]
            for number in action.points:
                points[number].programs.append(name)
    if options.filter is not None:
        for name in options.filter.settings:
            whole.settings[name] = ["filter", name]
    plan = Plan(
        points,
        whole.records,
        [_map_plan(whole, table.facts, table.table) for table in whole.tables.values()],
        dict(options.config),
        [_warning(program, at, text) for at, text in checked.warnings],
        whole.settings,
        sorted(whole.stacks),
        options.unsafe,
        whole.helpers,
    )
    maps = "".join(_map_text(whole, table.facts, table.table) for table in whole.tables.values())
    losses = 1 + len(whole.tables) + len(whole.stacks)
    text = (
        head(kernel, options)
        + piece_text("bt", kernel, before=f"#define LOSSES {losses}\n")
        + "".join(piece_text(name, kernel) for name in sorted(whole.pieces))
        + "".join(
            piece_text("stacks", kernel, depth=depth, loss=1 + len(whole.tables) + number)
            for number, depth in enumerate(sorted(whole.stacks))
        )
        + whole.bytes_types()
        + maps
        + "\n"
        + "\n".join(programs)
    )
    return Compiled(Rendered(text, hooks + callbacks, "", whole.marks), plan)


def _warning(program: tree.Program, at: Any, text: str) -> str:
    return f"{_place(program, at)}: WARNING: {text}"


def _place(program: tree.Program, at: Any) -> str:
    """NAME:LINE:COLUMNS of what stands there."""
    return program.place(at) if at is not None else program.name


def _hook(action: Action, name: str, points: list[Point], kernel: Kernel) -> Hook:
    target = points[action.points[0]].target
    if action.many:
        return Hook(name, "probes", action.way if action.kind == "usdt" else target)
    kind = _HOOKS.get(action.kind, action.kind)
    if action.kind in ("uprobe", "uretprobe", "usdt") and has_uprobe_multi(kernel):
        kind += ".multi"
    if action.kind == "rawtracepoint":
        target = target.rpartition(":")[2]
    if action.type_id and not target.startswith(OF_PROGRAM):
        target = target.rpartition(":")[2]
    return Hook(name, kind, action.way if action.kind == "usdt" else target, action.type_id)


def _action(
    whole: Whole, action: Action, first: int
) -> list[tuple[str, str, list[tuple[str, str]]]]:
    """The programs of an action: (name, C, the functions that it has called back)."""
    own = action.kind in TEST_RUN
    frame = Frame()
    steps = steps_of(action.statements, frame) if own else [list(action.statements)]
    offsets: dict[tuple[int, str, int], int] = {}
    if len(steps) > 1:
        frame.take(8)
        for variable in action.variables:
            kind = variable.declared or variable.type
            offsets[variable.key] = frame.take(kind.size + 8 * isinstance(kind, String))
    found = []
    table = ""
    for number, step in enumerate(steps):
        name = f"p{first + number}"
        e = Emitter(whole, name, action, "return 1;" if own else "return 0;")
        e.frame = offsets
        e.captured = calls_back(whole, step)
        if len(steps) > 1:
            e.frame_table = table = table or f"frame_{name}"
            if not number:
                e.zero(Place("frame"), frame.size)
        if action.kind in _OF_ALL_PROCESSES and whole.options.pid:
            pid = whole.setting("GIVEN_PID", ["pid"])
            own_pid = e.scalar(Typed("pid", Int(4, False), (0, 0), ("curr_ns",)))
            e.line(f"if ({own_pid} != {pid})\n\t\treturn 0;")
        if not own and whole.options.filter is not None:
            e.line("if (!wanted((struct task_struct *)bpf_get_current_task()))\n\t\treturn 0;")
        if action.predicate is not None and not number:
            mark = e.mark()
            e.line(f"if (!{e.truth(action.predicate)})\n\t\t{e.leave}")
            e.release(mark)
        for node in step:
            e.statement(node)
        found.append((name, e))
    texts = [
        (name, e.text(), [(child.name, child.called) for child in e.children]) for name, e in found
    ]
    if table:
        name, text, called = texts[0]
        frame_type = whole.bytes_type(frame.size)
        texts[0] = name, f"BPF_ARRAY({table}, {frame_type}, 1);\n{text}", called
    return texts


# Maps.


def _entries(whole: Whole, facts: MapFacts) -> int:
    entries: int = facts.entries or whole.config["max_map_keys"]
    if facts.scalar:
        entries = 1
    if isinstance(facts.value, Aggregate) and facts.value.bucketed:
        details = facts.value.details
        if facts.value.kind == "hist":
            each = BUCKETS << details[0] if not facts.scalar else (65 << details[0]) + 2
        elif facts.value.kind == "lhist":
            each = (details[1] - details[0]) // details[2] + 2
        else:
            each = details[1]
        entries = min(entries * each, 1 << 20)
    # Counts of the generation that is being read are there still.
    return 2 * entries if has_generation(facts) else entries


def _map_plan(whole: Whole, facts: MapFacts, table: str) -> MapPlan:
    key = ["none"] if facts.scalar or facts.scalar is None else whole.plan(facts.key)
    return MapPlan(
        facts.label,
        table,
        key,
        whole.plan(facts.value),
        _entries(whole, facts),
        has_generation(facts),
        "lru" in facts.kind,
    )


def _map_text(whole: Whole, facts: MapFacts, table: str) -> str:
    kind = "percpu_hash" if cpu_map(facts) else "hash"
    flags = 0
    if "lru" in facts.kind:
        kind = f"lru_{kind}"
    elif cpu_map(facts) and whole.allocates:
        flags = NO_PREALLOC
    key, value = whole.bytes_type(key_size(facts)), whole.bytes_type(value_size(facts))
    return f'BPF_F_TABLE("{kind}", {key}, {value}, {table}, 1, {flags});\n'
