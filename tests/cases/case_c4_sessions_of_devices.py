"""
What an edge offers around the sessions of ShellHub's devices: the door answers health checks, operators list and close SSH
sessions, and C{[shellhub.session]} is sent to devices that register.
"""

from __future__ import annotations

import json
import sys

from tests.cases.device import TENANT, devices, ended, openSession, sessions, startDevice
from tests.cases.tunnel import Tunnel, status

TOML = """
[shellhub]
policy = "automatic"

[shellhub.session]
keepalive = false
close_timeout_seconds = 60
"""


def register(tunnel: Tunnel) -> dict[str, object]:
    """
    The settings that an edge sends to a device which registers.
    """
    body = json.dumps({
        "info": {"id": "debian", "version": "v0.26.0"}, "hostname": "other", "identity": {"mac": "02:42:ac:11:00:02"},
        "public_key": "-----BEGIN RSA PUBLIC KEY-----\nAAAA\n-----END RSA PUBLIC KEY-----\n", "tenant_id": TENANT,
    }).encode()
    head = f"POST /api/devices/auth HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    answer = tunnel.send(head.encode() + body).removesuffix(b"<end>")
    print(status(answer))
    return dict(json.loads(answer.partition(b"\r\n\r\n")[2]).get("config", {}))


def main() -> int:
    """
    @return: 0 if all of it works.
    """
    with Tunnel(TOML) as tunnel:
        health = tunnel.get("localhost", b"/healthcheck")
        config = register(tunnel)
        print(status(health), config)
        good = b" 200 " in health.split(b"\r\n")[0] and config == {
            "yamux_enable_keep_alive": False, "yamux_stream_close_timeout": 60_000_000_000,
        }  # fmt: skip
        startDevice(tunnel)
        session = openSession(tunnel)
        table = devices(tunnel, "sessions").stdout
        print(table)
        (one,) = sessions(tunnel)
        close = b"POST /api/sessions/%b/close HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        refused = tunnel.send(close % one["session"].encode())
        print(status(refused))
        good = good and b" 401 " in refused.split(b"\r\n")[0] and one["session"] in table and session.poll() is None
        closed = devices(tunnel, "close", one["session"][:12])
        print(closed.stdout, closed.stderr)
        good = ended(session, 3) and good and closed.returncode == 0 and sessions(tunnel) == []
        return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
