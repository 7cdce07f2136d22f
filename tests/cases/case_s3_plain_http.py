"""
A token goes to an edge at C{http:} on another machine only if that is allowed: without C{--insecure} the agent does not dial.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile

from tests.cases.tunnel import BIN, readHead

TOKEN = "ts_00000000_" + "a" * 43


def main() -> int:
    """
    0.0.0.0 stands for another machine: it is no loopback address, and yet leads to a server here.

    @return: 0 if the token was shown only where it may be.
    """
    good = True
    for host, options, shown in (("0.0.0.0", (), False), ("0.0.0.0", ("--insecure",), True), ("127.0.0.1", (), True)):
        with socket.create_server(("127.0.0.1", 0)) as server, tempfile.TemporaryDirectory() as folder:
            server.settimeout(30)
            agent = subprocess.Popen(
                [BIN / "tunnel-agent", "--edge", f"http://{host}:{server.getsockname()[1]}", *options, "http", "3000"],
                env=os.environ | {"STATE_DIRECTORY": folder, "TUNNELSTACK_TOKEN": TOKEN}, stderr=subprocess.PIPE,
                stdout=subprocess.DEVNULL, text=True,
            )  # fmt: skip
            head = b""
            try:
                if shown or agent.wait(30) is None:
                    connection, _ = server.accept()
                    with connection:
                        head = readHead(connection)
            except (TimeoutError, subprocess.TimeoutExpired):
                pass
            agent.terminate()
            _, error = agent.communicate(timeout=30)
        right = (TOKEN.encode() in head) == shown and (shown or (agent.returncode == 64 and "--insecure" in error))
        print(f"{host} {options}: {'good' if right else 'wrong'}: {error[-200:]!r}")
        good = good and right
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
