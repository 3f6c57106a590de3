"""Where PanDA's message broker classes come from, for send_panda.py and listen_panda.py."""

import os
import sys
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


def classes(home):
    """Imports them. Their logger wants a folder and the address of a monitor, which it never asks."""
    os.makedirs(f"{home}/etc/panda")
    with open(f"{home}/etc/panda/panda_common.cfg", "w", encoding="utf-8") as config:
        config.write(LOGGER.format(home=home))
    os.environ["PANDA_HOME"] = home
    from pandacommon.pandamsgbkr import msg_bkr_utils

    return msg_bkr_utils


def wait_until(what, happened):
    limit = time.monotonic() + LIMIT_S
    while not happened():
        if time.monotonic() > limit:
            sys.exit(f"{what} did not happen within {LIMIT_S} s")
        time.sleep(0.01)
