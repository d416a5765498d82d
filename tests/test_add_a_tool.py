"""docs/add-a-tool.md: the tool and the test that stand there do what the page says."""
from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import support
from pytools.collection import catalogue
from support import PATIENCE, ROOT

PAGE = (ROOT / "docs" / "add-a-tool.md").read_text()
TOOL, TEST = re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S)
MOST_LINES = 60


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the page's tool and the library."""
    (tmp_path / "pytools").symlink_to(ROOT / "lib" / "pytools")
    path = tmp_path / "chdirsnoop"
    path.write_text(TOOL)
    path.chmod(0o755)
    monkeypatch.setattr(support, "TOOLS", tmp_path)
    monkeypatch.setitem(support.DECLARED, "chdirsnoop", catalogue.tools(str(tmp_path))[0])
    return tmp_path


@pytest.mark.host_only
def test_the_tool_is_a_page_in_the_form_of_all_tools(tools: Path) -> None:
    assert len(TOOL.splitlines()) <= MOST_LINES
    path = str(tools / "chdirsnoop")
    command = [sys.executable, "-m", "black", "--check", "-q", "-l", "100", "-t", "py39", path]
    subprocess.run(command, check=True)
    (declared,) = catalogue.tools(str(tools))
    assert declared.area in catalogue.AREAS and 20 <= len(declared.description) <= 60


def test_the_page_s_test_passes(tools: Path) -> None:
    namespace: dict[str, object] = {}
    exec(compile(TEST, "docs/add-a-tool.md", "exec"), namespace)
    (test,) = (value for name, value in namespace.items() if name.startswith("test_"))
    test()  # type: ignore[operator]


@pytest.mark.host_only
def test_what_follows_from_its_declaration(tools: Path) -> None:
    def run(*arguments: str, folder: str = "/") -> str:
        code = f"import os, sys; os.chdir({folder!r})"
        command = [str(tools / "chdirsnoop"), *arguments]
        result = subprocess.run(
            command, capture_output=True, text=True, timeout=PATIENCE, check=True, input=code
        )
        return result.stdout

    fields = json.loads(run("--schema"))["fields"]
    assert [field["name"] for field in fields] == ["pid", "comm", "container", "err", "path"]
    assert run("-d", "0", "-T", "-p", str(os.getpid())).split() == [
        "TIME",
        "PID",
        "COMM",
        "ERR",
        "PATH",
    ]
    assert run("-d", "0", "--csv", "-p", str(os.getpid())) == "ts,pid,comm,err,path\n"
