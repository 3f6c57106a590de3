"""Sends each line of a file with PanDA's own sender class, as PanDA's server does.

usage: send_panda.py HOST PORT USERNAME PASSCODE DESTINATION FILE
"""

import os
import sys
import tempfile
import time

LIMIT_S = 30
LOGGER = """[logger]
logdir = {home}
loghost = 127.0.0.1
monport-apache = 9
monurlprefix =
method = POST
encoding = json
"""


def sender_class(home):
    """Imports PanDA's sender. Its logger wants a folder and the address of a monitor, which it never asks."""
    os.makedirs(f"{home}/etc/panda")
    with open(f"{home}/etc/panda/panda_common.cfg", "w", encoding="utf-8") as config:
        config.write(LOGGER.format(home=home))
    os.environ["PANDA_HOME"] = home
    from pandacommon.pandamsgbkr.msg_bkr_utils import MBSenderProxy

    return MBSenderProxy


def wait_until(what, happened):
    limit = time.monotonic() + LIMIT_S
    while not happened():
        if time.monotonic() > limit:
            sys.exit(f"{what} did not happen within {LIMIT_S} s")
        time.sleep(0.01)


def main(host, port, username, passcode, destination, path):
    with open(path, encoding="utf-8") as file:
        bodies = file.read().splitlines()
    with tempfile.TemporaryDirectory() as home:
        sender = sender_class(home)(
            name="panda_sender",
            host_port_list=[f"{host}:{port}"],
            destination=destination,
            username=username,
            passcode=passcode,
        )
        sender.go()
        wait_until("the login", lambda: sender.got_connected)
        for body in bodies:
            sender.send(body)
        # DISCONNECT goes out with a receipt: when it has come, the broker has all that was sent before.
        sender.stop()
        wait_until("the receipt of DISCONNECT", lambda: not sender.conn.is_connected())


if __name__ == "__main__":
    if len(sys.argv) != 7:
        sys.exit(__doc__)
    main(*sys.argv[1:])
