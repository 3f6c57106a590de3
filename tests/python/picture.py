"""Runs a command in a terminal of its own, ends it with q, and writes its last picture as SVG.

For the README: python3 tests/python/picture.py --seconds 5 --size 100x30 host/docs/status.svg stompbox status --admin 127.0.0.1:9613

The command must draw a picture as `status` does: cursor home, lines, an end of line (ESC [K) behind each. It fails
where the command does, or where the command leaves the terminal in another state than it found it in."""

import argparse
import fcntl
import html
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time

HOME = b"\x1b[H"
LEAVE = b"\x1b[?1049l"
CLASSES = {"1": "title", "31": "bad", "32": "good", "33": "notice"}
STYLE = """text { font: 14px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; fill: #d4d4d4; white-space: pre }
.title { font-weight: bold } .good { fill: #57ab5a } .notice { fill: #d6a339 } .bad { fill: #f47067 }"""
COLUMN, LINE, EDGE = 8.4, 19, 14


def record(command, columns, rows, seconds, pictures):
    """What the command wrote up to its end."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    before = termios.tcgetattr(theirs)
    env = {**os.environ, "TERM": "xterm-256color"}
    env.pop("NO_COLOR", None)
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=env)
    written, began, asked = b"", time.monotonic(), False
    while process.poll() is None or select.select([ours], [], [], 0)[0]:
        if select.select([ours], [], [], 0.05)[0]:
            written += os.read(ours, 65536)
        if time.monotonic() - began > seconds + 60:
            process.kill()
        if not asked and written.count(HOME) >= pictures and time.monotonic() - began >= seconds:
            os.write(ours, b"q")
            asked = True
    if process.returncode != 0 or not asked:
        sys.exit(f"{command}: exit code {process.returncode}\n{written.decode(errors='replace')}")
    if termios.tcgetattr(theirs) != before:
        sys.exit("the terminal is not as it was")
    if not written.count(LEAVE) == written.count(b"\x1b[?25h") == 1:
        sys.exit("the screen before is not back")
    return written


def lines(written):
    """The lines of the last picture, each as pairs of class and text."""
    last = written.rsplit(HOME, 1)[1].split(b"\x1b[J", 1)[0].decode()
    for line in last.replace("\r", "").split("\n"):
        runs, style = [], ""
        for part in re.split(r"(\x1b\[[0-9;?]*[A-Za-z])", line):
            code = re.fullmatch(r"\x1b\[([0-9]*)m", part)
            if code:
                style = CLASSES.get(code[1], "")
            elif part and not part.startswith("\x1b"):
                runs.append((style, part))
        yield runs


def svg(picture, columns):
    """The picture as text; each piece is stretched to its columns, whatever the font."""
    width, height = columns * COLUMN + 2 * EDGE, len(picture) * LINE + 2 * EDGE
    yield f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" width="{width:.0f}" height="{height}">'
    yield f"<style>{STYLE}</style>"
    yield f'<rect width="{width:.0f}" height="{height}" rx="8" fill="#1e1e1e"/>'
    for number, runs in enumerate(picture):
        at = 0
        for style, text in runs:
            if text.strip():
                x, y, length = EDGE + at * COLUMN, EDGE + (number + 0.75) * LINE, len(text) * COLUMN
                kind = f' class="{style}"' if style else ""
                place = f'x="{x:.1f}" y="{y:.1f}" textLength="{length:.1f}" xml:space="preserve"'
                yield f"<text {place}{kind}>{html.escape(text)}</text>"
            at += len(text)
    yield "</svg>"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="100x30", help="columns and rows")
    parser.add_argument("--seconds", type=float, default=0, help="how long it runs at least")
    parser.add_argument("--pictures", type=int, default=2, help="how many it draws at least")
    parser.add_argument("file")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    args = parser.parse_args()
    columns, rows = map(int, args.size.split("x"))
    written = record(args.command, columns, rows, args.seconds, args.pictures)
    with open(args.file, "w", encoding="utf-8") as file:
        file.write("\n".join(svg(list(lines(written)), columns)) + "\n")


main()
