"""What Python makes of the checkout's modules, as a tar file on standard output: of the tests, with
the assertions that pytest has rewritten. Runs on the host, in a machine's userland
(compile_root.sh), since an emulated processor takes a minute for it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path

CHECKOUT = Path("/pytools")


def make() -> None:
    """Leave it in the folders where Python looks for it. A module that can't be imported here is
    one for the machine to make."""
    environment = {name: value for name, value in os.environ.items() if "PYTHON" not in name}
    python = [sys.executable, "-m"]
    pytest = [*python, "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"]
    pytest += ["--continue-on-collection-errors", *map(str, CHECKOUT.glob("tests/test_*.py"))]
    for command in ([*python, "compileall", "-q", "lib", "tests/kernels"], pytest):
        subprocess.run(
            command, cwd=CHECKOUT, env=environment, stdout=subprocess.DEVNULL, check=False
        )


def main() -> None:
    make()
    with tarfile.open(fileobj=sys.stdout.buffer, mode="w|", format=tarfile.GNU_FORMAT) as tar:
        for place in sorted(CHECKOUT.rglob("__pycache__")):
            tar.add(place, str(place.relative_to(CHECKOUT)))


if __name__ == "__main__":
    main()
