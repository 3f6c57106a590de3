"""Reads streams of frames with stomp.py, as a connection would: for each line of hex digits in a file it prints a list
of [command, headers, body in hex] in JSON.

usage: read_stomp.py FILE CHUNK_BYTES
"""

import json
import sys

from stomp.transport import BaseTransport
from stomp.utils import parse_frame


class Wire(BaseTransport):
    def __init__(self, chunks):
        super().__init__(auto_decode=False)
        self.chunks = chunks
        self.blocking = False
        self.running = True

    def receive(self):
        return self.chunks.pop(0) if self.chunks else None

    def frames(self):
        while self.chunks:
            for raw in self._BaseTransport__read():
                frame = parse_frame(raw)
                if frame is not None:
                    yield frame


def main(path, size):
    with open(path, encoding="ascii") as file:
        for line in file:
            stream = bytes.fromhex(line.strip())
            chunks = [stream[at : at + size] for at in range(0, len(stream), size)]
            print(json.dumps([[frame.cmd, frame.headers, frame.body.hex()] for frame in Wire(chunks).frames()]))


main(sys.argv[1], int(sys.argv[2]))
