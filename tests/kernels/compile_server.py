"""Compiles for a machine: requests and replies, a line each, on the socket that is standard input
and standard output. The other end is in the machine: compile_client.py.

    request   ID JSON                    what compiler_child.py reads
    reply     ID STATUS OUTPUT MESSAGES  its exit status, standard output and standard error; these
                                         two as base64, which may be empty
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys

LIBRARY = "/pytools/lib"
COMPILE = """
import sys
sys.path.insert(0, sys.argv[1])
from pytools.compile import compiler_child as child
"""
# bcc of x86-64 asks clang to protect the flow of control, which clang refuses for the processor
# that ARCH in the environment names. The last word counts.
FOR_ANOTHER_PROCESSOR = """
compile_text = child.compile_text
child.compile_text = lambda lib, text, flags: compile_text(
    lib, text, [*flags, b"-fcf-protection=none"]
)
"""


def code() -> str:
    """What the child that compiles runs."""
    return COMPILE + (FOR_ANOTHER_PROCESSOR if "ARCH" in os.environ else "") + "child.main()"


def answer(line: bytes) -> bytes:
    """The reply to a request; nothing if the line is what remains of one that was broken off."""
    name, _, request = line.strip().partition(b" ")
    try:
        json.loads(request)
    except ValueError:
        return b""
    child = subprocess.run(
        [sys.executable, "-I", "-B", "-c", code(), LIBRARY],
        input=request,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        check=False,
    )
    output, messages = base64.b64encode(child.stdout), base64.b64encode(child.stderr)
    return b"%s %d %s %s\n" % (name, child.returncode, output, messages)


def main() -> None:
    with open(0, "rb") as requests:
        for line in requests:
            reply = answer(line)
            while reply:
                reply = reply[os.write(1, reply) :]


if __name__ == "__main__":
    main()
