"""Reads messages with PanDA's own listener class and acknowledges them, as PanDA's agent does; writes each body as
a line of JSON.

usage: listen_panda.py HOST PORT USERNAME PASSCODE DESTINATION COUNT
"""

import json
import sys
import tempfile

import panda


def main(host, port, username, passcode, destination, count):
    with tempfile.TemporaryDirectory() as home:
        listener = panda.classes(home).MBListenerProxy(
            name="panda_listener",
            host_port_list=[f"{host}:{port}"],
            destination=destination,
            vhost="/",
            username=username,
            passcode=passcode,
        )
        listener.go()
        bodies = []

        def complete():
            for message in listener.get_messages():
                with message:
                    bodies.append(message.data)
            return len(bodies) >= int(count)

        panda.wait_until(f"{count} messages", complete)
        # DISCONNECT goes out with a receipt: when it has come, the broker has all ACKs.
        connections = list(listener.connection_dict.values())
        listener.stop()
        panda.wait_until("the receipt of DISCONNECT", lambda: not any(c.is_connected() for c in connections))
    for body in bodies:
        print(json.dumps(body))


if __name__ == "__main__":
    if len(sys.argv) != 7:
        sys.exit(__doc__)
    main(*sys.argv[1:])
