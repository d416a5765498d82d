"""The Debian package on a kernel of the matrix: make test-packages-kernels. It is installed into
the running system, a machine that is thrown away; pytest does not find this file by itself."""
from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run(*command: str) -> None:
    result = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, text=True
    )
    assert result.returncode == 0, result.stdout


def test_the_package_is_installed_works_and_is_purged() -> None:
    run("dpkg", "-i", str(ROOT / "pytools.deb"))
    run("sh", str(ROOT / "tests" / "packages" / "installed.sh"))
    assert any(Path("/var/cache/pytools").iterdir())
    run("dpkg", "-P", "pytools")
    for place in ("usr/share/pytools", "usr/sbin/pytools", "var/cache/pytools"):
        assert not (Path("/") / place).exists()
