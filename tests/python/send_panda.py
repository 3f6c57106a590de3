"""Sends each line of a file with PanDA's own sender class, as PanDA's server does.

usage: send_panda.py HOST PORT USERNAME PASSCODE DESTINATION FILE
"""

import sys
import tempfile

import panda


def main(host, port, username, passcode, destination, path):
    with open(path, encoding="utf-8") as file:
        bodies = file.read().splitlines()
    with tempfile.TemporaryDirectory() as home:
        sender = panda.classes(home).MBSenderProxy(
            name="panda_sender",
            host_port_list=[f"{host}:{port}"],
            destination=destination,
            vhost="/",
            username=username,
            passcode=passcode,
        )
        sender.go()
        panda.wait_until("the login", lambda: sender.got_connected)
        for body in bodies:
            sender.send(body)
        # DISCONNECT goes out with a receipt: when it has come, the broker has all that was sent before.
        sender.stop()
        panda.wait_until("the receipt of DISCONNECT", lambda: not sender.conn.is_connected())


if __name__ == "__main__":
    if len(sys.argv) != 7:
        sys.exit(__doc__)
    main(*sys.argv[1:])
