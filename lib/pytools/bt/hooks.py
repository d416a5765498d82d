"""A plan's points to attachments, in an order in which the programs of one hook run as they stand
in the script."""
from __future__ import annotations

from pytools.base.annotations import TYPE_CHECKING
from pytools.base.errors import Failure
from pytools.bt.attaching import OFF, Missing, is_pattern, place_of

if TYPE_CHECKING:
    from typing import NoReturn

    from pytools.bt.attaching import Attaching
    from pytools.bt.plan import Point

__all__ = ["RUN_BY_US", "attach_all"]

# What the tool runs itself: nothing is attached.
RUN_BY_US = ("begin", "end", "interval", "self")
USER = ("uprobe", "uretprobe", "usdt")
# The kernel runs these in the reverse of the order in which they were attached.
REVERSED = ("kprobe", "fentry", "fexit", *USER)


def attach_all(attaching: Attaching) -> int:
    """Attach all points; how many probes they stand for. Raises Failure or Wrong, with nothing left
    attached."""
    points = attaching.plan.points
    forward = [point for point in points if point.kind not in REVERSED]
    backward = [point for point in points if point.kind in REVERSED]
    count = 0
    attached: set[int] = set()  # actions
    missing: list[tuple[Point, str]] = []
    try:
        for point in [*forward, *reversed(backward)]:
            try:
                count += _attach(attaching, point)
                attached.add(point.action)
            except Missing as why:
                if point.missing == "others" or is_pattern(point.target):
                    missing.append((point, str(why)))
                else:
                    _not_there(attaching, point, str(why))
        _say_missing(attaching, missing, attached)
        if not count:
            raise Failure("Attachment failed for all probes.")
    except BaseException:
        attaching.attachment.detach()
        raise
    finally:
        attaching.close_files()
    return count


def _say_missing(
    attaching: Attaching, missing: list[tuple[Point, str]], attached: set[int]
) -> None:
    """Say what was skipped because another point of its action is there. Raises Wrong if there is
    none."""
    old = []
    for point, why in missing:
        policy = _policy(attaching, point)
        if point.action not in attached and policy in ("others", "error"):
            only = is_pattern(point.target)
            _refuse(point, f"Probe has no valid attach points. {why}" if only else why)
        if policy == "others":
            old.append(point.text)
        elif policy != "ignore":
            attaching.warn(point, f"{why} Skipping.")
    if old:
        attaching.warn(None, f"Skipping what is not here: {', '.join(sorted(set(old)))}")


def _attach(attaching: Attaching, point: Point) -> int:
    if point.kind in RUN_BY_US:
        return 1
    if point.kind == OFF:
        return 0
    if point.kind in USER:
        from pytools.bt import user_hooks  # few programs need both

        return user_hooks.attach_point(attaching, point)
    from pytools.bt import kernel_hooks

    return kernel_hooks.attach_point(attaching, point)


def _policy(attaching: Attaching, point: Point) -> str:
    """What is to be done if a point is missing."""
    return point.missing or str(attaching.plan.config.get("missing_probes", "error"))


def _not_there(attaching: Attaching, point: Point, why: str) -> None:
    policy = _policy(attaching, point)
    if policy == "warn":
        attaching.warn(point, f"{why} Skipping.")
    elif policy == "error":
        _refuse(point, why)


def _refuse(point: Point, why: str) -> NoReturn:
    from pytools.bt.wrong import Wrong  # where all are there, nobody needs it

    hint = "If this is expected, set the 'missing_probes' config variable to 'warn'."
    raise Wrong(place_of(point), why, hint)
