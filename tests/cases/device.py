"""
What the cases about devices begin with: a device of ShellHub that is our agent, and SSH sessions on it.
"""

from __future__ import annotations

import json
import subprocess
import threading
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.cases.tunnel import BIN, Tunnel

TENANT = "00000000-0000-4000-0000-000000000000"
NAME = "dev.bench"
"""The name of the device on an edge that was started with C{--dev}."""


def startDevice(tunnel: Tunnel, version: int = 2) -> None:
    """
    Start an agent that is a device with an embedded SSH server, and wait until it is connected.
    """
    public = Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    keys = tunnel.folder / "keys"
    keys.write_bytes(public + b"\n")
    (tunnel.folder / "device.toml").write_text(
        f'[[shellhub]]\nurl = "http://127.0.0.1:{tunnel.port}"\ntenant = "{TENANT}"\nhostname = "bench"\n'
        f'version = {version}\nauthorized_keys_file = "{keys}"\n'
    )
    tunnel.start("device", "tunnel-agent", "--config", str(tunnel.folder / "device.toml"), "start")
    tunnel.waitForLog("device", f"device={NAME}")


def openSession(tunnel: Tunnel) -> subprocess.Popen[bytes]:
    """
    Open an SSH session on the device, and wait for the first line of its server.

    The server writes to the session's stream as a registered producer, as it does while a command runs.
    """
    command = [str(BIN / "tunnelstack"), "connect", "--dev", NAME, "--purpose", "ssh"]
    session = subprocess.Popen(
        command, env=tunnel.environ, cwd=tunnel.folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert session.stdout is not None
    print("the server of the session begins with", session.stdout.readline())
    return session


def sessions(tunnel: Tunnel) -> list[dict[str, Any]]:
    """
    The open sessions, as C{tunnelstack devices sessions} lists them.
    """
    return list(json.loads(devices(tunnel, "sessions", "--json").stdout or '{"sessions": []}')["sessions"])


def devices(tunnel: Tunnel, *arguments: str) -> subprocess.CompletedProcess[str]:
    """
    Run C{tunnelstack devices}.
    """
    command = [str(BIN / "tunnelstack"), "devices", *arguments]
    return subprocess.run(command, env=tunnel.environ, cwd=tunnel.folder, capture_output=True, text=True, timeout=60)


def ended(session: subprocess.Popen[bytes], seconds: float) -> bool:
    """
    Whether the end of a session reaches its client within so many seconds.  The client is stopped then.
    """
    assert session.stdout is not None
    reader = threading.Thread(target=session.stdout.read, daemon=True)
    reader.start()
    reader.join(seconds)
    there = not reader.is_alive()
    session.kill()
    session.wait()
    return there
