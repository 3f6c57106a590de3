"""Sends each line of a file with stomp.py, each with a receipt, and waits for all receipts.

usage: send_stomp.py HOST PORT USERNAME PASSCODE DESTINATION FILE
"""

import sys
import threading

import stomp

LIMIT_S = 60


class Receipts(stomp.ConnectionListener):
    def __init__(self, wanted):
        self.missing = set(wanted)
        self.done = threading.Event()
        self.error = None

    def on_receipt(self, frame):
        self.missing.discard(frame.headers.get("receipt-id"))
        if not self.missing:
            self.done.set()

    def on_error(self, frame):
        self.error = frame.headers.get("message")
        self.done.set()


def main(host, port, username, passcode, destination, path):
    with open(path, encoding="utf-8") as file:
        bodies = file.read().splitlines()
    receipts = Receipts(f"r{number}" for number in range(len(bodies)))
    connection = stomp.Connection12([(host, int(port))], vhost="/", auto_content_length=False)
    connection.set_listener("receipts", receipts)
    connection.connect(username, passcode, wait=True)
    for number, body in enumerate(bodies):
        connection.send(destination, body, headers={"persistent": "true", "receipt": f"r{number}"})
    if bodies and not receipts.done.wait(LIMIT_S):
        sys.exit(f"{len(receipts.missing)} of {len(bodies)} receipts did not come within {LIMIT_S} s")
    if receipts.error:
        sys.exit(f"the broker reports: {receipts.error}")
    connection.remove_listener("receipts")
    connection.disconnect()


if __name__ == "__main__":
    if len(sys.argv) != 7:
        sys.exit(__doc__)
    main(*sys.argv[1:])
