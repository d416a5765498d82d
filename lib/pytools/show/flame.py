"""Stacks that were counted, as folded lines, as a flame graph and for speedscope.

All take (frames, outermost first; amount) pairs. Names are untrusted.
"""
from __future__ import annotations

import json
import zlib
from collections import Counter

from pytools import __version__
from pytools.base.annotations import NamedTuple, TYPE_CHECKING
from pytools.base.text import escape
from pytools.read.named_stacks import KERNEL, LABEL, UNNAMED, USER, Frame

if TYPE_CHECKING:
    from typing import Iterable, Iterator, Sequence

    Line = tuple[Sequence[Frame], int]


__all__ = ["Line", "folded", "speedscope", "svg"]


def folded(lines: Iterable[Line]) -> Iterator[str]:
    """A line for each stack: names, with ";" between them, and the amount. (A ";" in
    a name becomes a ":".)

    >>> list(folded([([Frame("sh", LABEL), Frame("main", USER)], 3)]))
    ['sh;main 3\\n']
    """
    sums: Counter[str] = Counter()
    for frames, amount in lines:
        sums[";".join(escape(frame.name).replace(";", ":") for frame in frames)] += amount
    for stack in sorted(sums):
        yield f"{stack} {sums[stack]}\n"


def speedscope(lines: Iterable[Line], title: str, unit: str) -> str:
    """A file for https://www.speedscope.app (see $schema in it)."""
    places: dict[str, int] = {}
    samples, weights = [], []
    for frames, amount in lines:
        samples.append([places.setdefault(frame.name, len(places)) for frame in frames])
        weights.append(amount)
    profile = {
        "type": "sampled",
        "name": title,
        "unit": "microseconds" if unit == "usecs" else "none",
        "startValue": 0,
        "endValue": sum(weights),
        "samples": samples,
        "weights": weights,
    }
    document = {
        "$schema": "https://www.speedscope.app/file-format-schema.json",
        "shared": {"frames": [{"name": name} for name in places]},
        "profiles": [profile],
        "name": title,
        "exporter": f"pytools {__version__}",
    }
    return json.dumps(document) + "\n"


# Flame graphs.

WIDTH = 1200  # of the page, in px; the script makes it as wide as the window
MARGIN = 10
ROW = 18
HEAD = 64
FOOT = 30
LETTER = 7.25  # the width of a letter of FONT
FONT = "12px monospace"
NARROWEST = 0.1  # px: narrower frames are put together
FEWEST_LETTERS = 3


class _Node:
    """A function and the functions that it called, with all that was counted in it."""

    __slots__ = ("frame", "amount", "called")

    def __init__(self, frame: Frame) -> None:
        self.frame = frame
        self.amount = 0
        self.called: dict[Frame, _Node] = {}


class Box(NamedTuple):
    """A frame's place in the graph: ``start`` and ``amount`` in what is counted,
    ``depth`` in rows."""

    frame: Frame
    start: int
    amount: int
    depth: int


def boxes(lines: Iterable[Line]) -> list[Box]:
    """The boxes of a flame graph, each after the one that it stands on: the first is
    all that was counted. Those that would be too narrow to be seen are put together
    with their neighbours, or left out; what they stand on has its true width."""
    whole = _Node(Frame("all", LABEL))
    for frames, amount in lines:
        node = whole
        node.amount += amount
        for frame in frames:
            node = node.called.setdefault(frame, _Node(frame))
            node.amount += amount
    least = whole.amount * NARROWEST / (WIDTH - 2 * MARGIN)
    found: list[Box] = []
    # No recursion: a stack of 127 user and 127 kernel functions is deep enough.
    waiting = [(whole, 0, 0)]
    while waiting:
        node, start, depth = waiting.pop()
        found.append(Box(node.frame, start, node.amount, depth))
        wide = [each for each in node.called.values() if each.amount >= least]
        narrow = [each.amount for each in node.called.values() if each.amount < least]
        wide.sort(key=lambda each: each.frame)
        if sum(narrow) >= least:
            rest = _Node(Frame(f"({len(narrow)} narrow ones)", LABEL))
            rest.amount = sum(narrow)
            wide.append(rest)
        following = []
        for each in wide:
            if each.amount:
                following.append((each, start, depth + 1))
            start += each.amount
        waiting += reversed(following)
    return found


def svg(lines: Iterable[Line], title: str, unit: str) -> str:
    """A flame graph: an SVG document that needs nothing else. A click on a box (or
    Enter) makes it as wide as the page, a regular expression colours the boxes that
    it matches, and says how much of all they are."""
    found = boxes(lines)
    total = found[0].amount
    depth = max(box.depth for box in found)
    bottom = HEAD + (depth + 1) * ROW
    drawn = "".join(_group(box, total, bottom) for box in found if box.amount or not box.depth)
    return _PAGE % {
        "width": WIDTH,
        "height": bottom + FOOT,
        "font": FONT,
        "title": _xml(escape(title)),
        "middle": WIDTH // 2,
        "right": WIDTH - MARGIN,
        "margin": MARGIN,
        "detail": bottom + 20,
        "unit": _xml(unit),
        "boxes": drawn,
        "script": _SCRIPT
        % {"width": WIDTH, "margin": MARGIN, "letter": LETTER, "fewest": FEWEST_LETTERS},
    }


def _group(box: Box, total: int, bottom: int) -> str:
    scale = (WIDTH - 2 * MARGIN) / total if total else 0
    left = MARGIN + box.start * scale
    width = box.amount * scale if total else WIDTH - 2 * MARGIN
    top = bottom - (box.depth + 1) * ROW
    name = escape(box.frame.name)
    text = _fitting(name, width)
    return (
        f'<g tabindex="0" class="{box.frame.kind}" data-start="{box.start}" '
        f'data-amount="{box.amount}" data-depth="{box.depth}"><title>{_xml(name)}</title>'
        f'<rect x="{left:.2f}" y="{top}" width="{width:.2f}" height="{ROW - 1}" '
        f'fill="{_colour(box.frame)}"/>'
        f'<text x="{left + 3:.2f}" y="{top + 13}">{_xml(text)}</text></g>\n'
    )


def _fitting(name: str, width: float) -> str:
    """As much of a name as fits."""
    room = int((width - 6) / LETTER)
    if len(name) <= room:
        return name
    return name[: room - 2] + ".." if room >= FEWEST_LETTERS else ""


def _colour(frame: Frame) -> str:
    """By kind; of one kind, always the same for a name."""
    shade = zlib.crc32(frame.name.encode("utf-8", "surrogateescape")) % 100
    if frame.kind == USER:
        return f"hsl({10 + shade * 40 // 100},90%,{62 + shade % 9}%)"
    if frame.kind == KERNEL:
        return f"hsl({200 + shade * 25 // 100},70%,{70 + shade % 9}%)"
    if frame.kind == UNNAMED:
        return "hsl(0,0%,80%)"
    return f"hsl({95 + shade * 30 // 100},35%,{74 + shade % 6}%)"


def _xml(text: str) -> str:
    for character, written in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;")):
        text = text.replace(character, written)
    return text


# "%%" is a "%".
_PAGE = """\
<?xml version="1.0" encoding="UTF-8"?>
<svg xmlns="http://www.w3.org/2000/svg" width="%(width)d" height="%(height)d"
viewBox="0 0 %(width)d %(height)d">
<style>
text, input, button { font: %(font)s; }
text { pointer-events: none; fill: #111; }
.heading { font-size: 16px; }
g[tabindex]:hover rect, g[tabindex]:focus rect { stroke: #000; stroke-width: 1; }
g[tabindex] { cursor: pointer; outline: none; }
g.around rect { opacity: 0.5; }
g.found rect { fill: #d0f; }
g.found text { fill: #fff; }
input, button { border: 1px solid #888; border-radius: 3px; background: #fff; color: #111; }
input.wrong { background: #fcc; }
</style>
<rect width="100%%" height="100%%" fill="#fafafa"/>
<text id="heading" class="heading" x="%(middle)d" y="26" text-anchor="middle">%(title)s</text>
<foreignObject x="%(margin)d" y="34" width="700" height="26">
<div xmlns="http://www.w3.org/1999/xhtml"><input id="pattern" type="text" size="30"
placeholder="search (regular expression)" aria-label="search"/>
<button id="reset" type="button">reset</button></div>
</foreignObject>
<text id="matched" x="%(right)d" y="51" text-anchor="end"></text>
<text id="detail" x="%(margin)d" y="%(detail)d"></text>
<g id="boxes" data-unit="%(unit)s">
%(boxes)s</g>
<script><![CDATA[
%(script)s]]></script>
</svg>
"""

# Names reach the page as text only; none is ever read as markup or as a script.
_SCRIPT = """\
"use strict";
(function () {
var room = %(width)d - 2 * %(margin)d, letter = %(letter)s, fewest = %(fewest)d;
var page = document.documentElement, heading = document.getElementById("heading");
var graph = document.getElementById("boxes"), unit = graph.getAttribute("data-unit");
var detail = document.getElementById("detail"), matched = document.getElementById("matched");
var pattern = document.getElementById("pattern"), reset = document.getElementById("reset");
var boxes = [], i;
for (i = 0; i !== graph.children.length; i++) {
  var group = graph.children[i];
  boxes.push({
    group: group, title: group.children[0], rect: group.children[1], text: group.children[2],
    name: group.children[0].textContent,
    start: Number(group.getAttribute("data-start")),
    amount: Number(group.getAttribute("data-amount")),
    depth: Number(group.getAttribute("data-depth"))
  });
}
var all = boxes[0], view = all;

function share(amount) {
  return (all.amount ? 100 * amount / all.amount : 0).toFixed(2) + "%%";
}

function description(box) {
  return box.name + " (" + box.amount.toLocaleString("en") + " " + unit + ", " +
    share(box.amount) + ")";
}

function fitting(name, width) {
  var letters = Math.floor((width - 6) / letter);
  if (letters >= name.length) return name;
  return letters >= fewest ? name.slice(0, letters - 2) + ".." : "";
}

function show(target) {
  view = target;
  boxes.forEach(function (box) {
    var below = view.depth > box.depth && view.start >= box.start &&
      box.start + box.amount >= view.start + view.amount;
    var above = box.depth >= view.depth && box.start >= view.start &&
      view.start + view.amount >= box.start + box.amount;
    box.group.style.display = below || above ? "" : "none";
    box.group.classList.toggle("around", below);
    if (!below && !above) return;
    var left = %(margin)d, width = room;
    if (above && view.amount) {
      left += (box.start - view.start) / view.amount * room;
      width = box.amount / view.amount * room;
    }
    box.rect.setAttribute("x", left);
    box.rect.setAttribute("width", width);
    box.text.setAttribute("x", left + 3);
    box.text.textContent = fitting(box.name, width);
  });
}

function search() {
  var expression = null, end = -1, depth = 0, sum = 0;
  pattern.classList.remove("wrong");
  try {
    if (pattern.value) expression = new RegExp(pattern.value);
  } catch (error) {
    pattern.classList.add("wrong");
  }
  // Boxes come in the order of their start, the lower ones first: what stands on
  // a box that was counted is not counted again.
  boxes.forEach(function (box) {
    var found = expression !== null && box !== all && expression.test(box.name);
    box.group.classList.toggle("found", found);
    if (found && box.start >= end) {
      sum += box.amount;
      end = box.start + box.amount;
    }
  });
  matched.textContent = expression === null ? "" : "matched: " + share(sum);
}

boxes.forEach(function (box) {
  box.title.textContent = description(box);
  function say() { detail.textContent = description(box); }
  box.group.addEventListener("mouseover", say);
  box.group.addEventListener("focus", say);
  box.group.addEventListener("click", function () { show(box); });
  box.group.addEventListener("keydown", function (event) {
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      show(box);
    }
  });
});
function fit() {
  var width = Math.max(window.innerWidth - 2 * %(margin)d, 600);
  page.setAttribute("width", width);
  page.setAttribute("viewBox", "0 0 " + width + " " + page.getAttribute("height"));
  heading.setAttribute("x", width / 2);
  matched.setAttribute("x", width - %(margin)d);
  room = width - 2 * %(margin)d;
  show(view);
}

window.addEventListener("resize", fit);
pattern.addEventListener("input", search);
reset.addEventListener("click", function () {
  pattern.value = "";
  search();
  show(all);
});
document.addEventListener("keydown", function (event) {
  if (event.key === "Escape") {
    show(all);
  } else if (event.key === "/" ? event.target !== pattern : event.key === "f" && event.ctrlKey) {
    event.preventDefault();
    pattern.focus();
  }
});
fit();
})();
"""
