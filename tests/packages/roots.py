"""Clean Debian roots: a release and what pytools depends on, with nothing to build with."""
from __future__ import annotations

import sys
import tarfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "kernels"))

from cache import entry  # noqa: E402
from debian import mmdebstrap  # noqa: E402

SUITES = ("bullseye", "bookworm", "trixie", "sid")
# What the package depends on, so that dpkg alone can install it; and what shows manual pages
# and completes. RPM packages are installed with rpm.
PACKAGES = (
    "bash-completion", "man-db", "mount", "python3-bpfcc", "python3-pyroute2", "python3-tabulate",
    "rpm",
)  # fmt: skip


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def archive(suite: str) -> Path:
    """A tar file of the suite's root, built once. Raises ImageError."""

    def build(place: Path, scratch: Path) -> None:
        tar = scratch / "root.tar"
        mmdebstrap("essential", suite, PACKAGES, tar)
        tar.rename(place / "root.tar")

    return entry("packages", suite, [suite, PACKAGES], build, say) / "root.tar"


def unpack(suite: str, folder: Path) -> None:
    """Write the suite's root into an empty folder."""
    with tarfile.open(archive(suite)) as tar:
        tar.extractall(folder)
