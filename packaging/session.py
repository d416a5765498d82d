#!/usr/bin/python3
"""Record docs/session.svg: commands are run on a terminal of their own, and drawn with
what they really printed, to the character. Needs root, as the tools do."""
from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import termios
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COLUMNS, ROWS = 80, 60
COMMANDS = [
    "runqlat --summary 1 1",
    "opensnoop -n cat | head -8",
    "runqlen --json -O 2 1",
]
# Something to see: programs that wait for a CPU, and that open files which are not there.
LOAD = """export LC_ALL=C
while :; do cat /etc/hostname /etc/hosts /etc/nonesuch >/dev/null 2>&1; sleep 0.1; done"""
LOOP = "while :; do :; done"

# Of a fixed-width font, in units of the picture.
CHARACTER, LINE, SIZE, MARGIN = 8.4, 18, 14, 16
HEAD = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
    'font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, monospace" font-size="{size}">\n'
    "<title>A terminal session with pytools</title>\n"
    '<rect width="100%" height="100%" rx="6" fill="#1b1f24"/>\n'
)


def recorded(command: str) -> list[str]:
    """What a command shows on a terminal."""
    terminal, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    path = f"{ROOT / 'tools'}:{ROOT / 'sbin'}:{os.environ['PATH']}"
    process = subprocess.Popen(
        ["sh", "-c", command], stdin=end, stdout=end, stderr=end, start_new_session=True,
        env={**os.environ, "PATH": path, "LC_ALL": "C.UTF-8"},
    )  # fmt: skip
    os.close(end)
    data = b""
    try:
        while part := os.read(terminal, 65536):
            data += part
    except OSError:  # the last program that had it is gone
        pass
    os.close(terminal)
    if process.wait():
        raise SystemExit(f"{command}: status {process.returncode}\n{data.decode()}")
    lines = data.decode().replace("\r\n", "\n").rstrip("\n").split("\n")
    wrong = [line for line in lines if not line.isprintable()]
    if wrong:
        raise SystemExit(f"{command}: this line can't be drawn: {wrong[0]!r}")
    # As a terminal does with lines that are too long for it.
    return [
        line[start : start + COLUMNS]
        for line in lines
        for start in range(0, max(1, len(line)), COLUMNS)
    ]


def drawn(session: list[tuple[str, list[str]]]) -> str:
    """The session as SVG, each line as wide as its characters are many."""
    rows = []
    for number, (command, lines) in enumerate(session):
        rows += [("", "")] * bool(number) + [(f"# {command}", "#7ee787")]
        rows += [(line, "#d7dde4") for line in lines]
    text = HEAD.format(
        width=2 * MARGIN + COLUMNS * CHARACTER, height=2 * MARGIN + LINE * len(rows), size=SIZE
    )
    for number, (line, colour) in enumerate(rows):
        if line.strip():
            text += (
                f'<text x="{MARGIN}" y="{MARGIN + SIZE + LINE * number}" fill="{colour}" '
                f'textLength="{len(line) * CHARACTER:.1f}" lengthAdjust="spacingAndGlyphs" '
                f'xml:space="preserve">{escape(line, quote=False)}</text>\n'
            )
    return text + "</svg>\n"


def main() -> None:
    loads = [
        subprocess.Popen(["nice", "sh", "-c", script], start_new_session=True)
        for script in (LOAD, LOOP, LOOP)
    ]
    try:
        session = [(command, recorded(command)) for command in COMMANDS]
    finally:
        for load in loads:
            os.killpg(load.pid, 9)
            load.wait()
    (ROOT / "docs" / "session.svg").write_text(drawn(session))


if __name__ == "__main__":
    main()
