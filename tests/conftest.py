"""Where the tests find what they test, and how hard hypothesis tries."""
from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any, Iterator

import hypothesis
import pytest

HERE = Path(__file__).resolve().parent
# setup.cfg says the same to pytest 7 and newer.
for path in (HERE, HERE.parent / "lib"):
    if str(path) not in sys.path:
        sys.path.insert(0, str(path))

# A module that no kernel can change: in the matrix it isn't even read, which takes a second there.
NO_KERNEL = re.compile(r"^pytestmark = (\[\s*)?pytest\.mark\.(rendering|host_only)\b", re.M)
if "PYTOOLS_KERNEL" in os.environ:
    collect_ignore = [
        path.name for path in HERE.glob("test_*.py") if NO_KERNEL.search(path.read_text())
    ]

# The same examples in every run, so that a failure is a change's own. For others:
# PYTOOLS_FUZZ=5000 pytest -k fuzz
EXAMPLES = int(os.environ.get("PYTOOLS_FUZZ", "0"))
hypothesis.settings.register_profile(
    "pytools",
    deadline=None,
    database=None,
    derandomize=not EXAMPLES,
    suppress_health_check=[
        hypothesis.HealthCheck.too_slow,
        hypothesis.HealthCheck.data_too_large,
        hypothesis.HealthCheck.filter_too_much,
    ],
)
hypothesis.settings.load_profile("pytools")


@pytest.hookimpl(hookwrapper=True)  # type: ignore[misc]
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """In a test machine, say at once why a test failed: should the machine die or its
    time be over, the report at the end never comes."""
    outcome: Any = yield
    report = outcome.get_result()
    if report.failed and "PYTOOLS_KERNEL" in os.environ:
        writer = item.config.get_terminal_writer()
        writer.line()
        writer.line(report.longreprtext)


def pytest_configure(config: pytest.Config) -> None:
    # With -n: what one of the processes has running is no other's. See programs.py.
    if hasattr(config, "workerinput"):
        os.setpgrp()
