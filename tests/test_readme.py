"""README.md and the pages it leads to say what is true of the collection."""
from __future__ import annotations

import re
import subprocess
import xml.etree.ElementTree
from pathlib import Path

import pytest

from support import ROOT, all_tools

pytestmark = pytest.mark.host_only
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_the_table_has_every_tool_once() -> None:
    rows = re.findall(r"^\| \[(\w+)\]\(man/man8/(\w+)\.8\) \| (.+) \|$", README, re.M)
    assert all(name == page for name, page, _ in rows)
    assert sorted(name for name, _, _ in rows) == all_tools()


def test_it_says_what_this_is_in_three_sentences() -> None:
    paragraph = README.split("\n\n")[1].replace("\n", " ")
    assert len(re.findall(r"\.( |$)", paragraph)) == 3


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert target.startswith("https://") or (page.parent / target).exists(), target


def test_the_comparison_is_what_was_measured() -> None:
    text = (ROOT / "docs" / "compared-with-bcc.md").read_text()
    pattern = r"^\| [\d.]+ \| \w+ \| yes \| (yes|\*\*no\*\*) \| yes \| (yes|\*\*no\*\*) \|$"
    rows = re.findall(pattern, text, re.M)
    theirs, ours = ([row[side] for row in rows].count("yes") for side in (0, 1))
    claim = f"Of {len(rows)} times, ours was right in {ours}, and bcc's in {theirs}."
    assert claim in README.replace("\n", " ")


def test_the_picture_is_a_session_of_at_most_80_columns() -> None:
    picture = xml.etree.ElementTree.parse(ROOT / "docs" / "session.svg")
    lines = [element.text or "" for element in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert max(map(len, lines)) <= 80
    commands = [line[2:].split()[0] for line in lines if line.startswith("# ")]
    assert len(commands) >= 3 and set(commands) <= {*all_tools(), "pytools"}
    assert not any("script" in element.tag for element in picture.iter())


def test_make_help_names_every_target_that_is_documented() -> None:
    shown = subprocess.run(
        ["make", "-s", "-C", ROOT, "help"], capture_output=True, text=True, check=True
    ).stdout
    targets = set(re.findall(r"^make ([\w-]+)", shown, re.M))
    text = "\n".join(page.read_text() for page in PAGES)
    assert set(re.findall(r"`make ([\w-]+)", text)) <= targets
