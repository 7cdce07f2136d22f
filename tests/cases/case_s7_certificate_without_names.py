"""
An edge whose certificate is signed by the trusted authority, but has no names or one malformed name.

The agent must reject it, with the cause and before it sends its token; C{tunnelstack doctor} must report it.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.cases.tunnel import BIN, Tunnel, waitUntil
from tests.ports import freePort
from tests.transport.certificates import authority
from tunnelstack.transport.tls import TLSIdentity

CAUSES = {
    "goodbeside": "",
    "nosan": "its certificate contains no host names",
    "wild": "its certificate is for *.invalid, evil.example, not for localhost",
    "malformed": "its certificate contains only malformed host names: f*o*.example",
    "expired": "its certificate has expired, on ",
}
"""For each certificate, what the agent and the doctor report; C{""} where they accept it."""


def names(*them: str) -> Sequence[x509.GeneralName]:
    """
    For a C{subjectAltName}.
    """
    return [x509.DNSName(name) for name in them]


def identities() -> dict[str, TLSIdentity]:
    """
    The certificates of the edge.
    """
    issue = authority().issue
    return {
        "goodbeside": issue(names("*.invalid", "localhost")),
        "nosan": issue(None),
        "wild": issue(names("*.invalid", "evil.example")),
        "malformed": issue(names("f*o*.example")),
        "expired": issue(names("localhost"), days=(-9, -2)),
    }


def listeners(folder: Path) -> dict[str, tuple[int, str]]:
    """
    Write each certificate to a folder of its own.

    @return: for each, a port and the endpoint string of the edge.
    """
    found = {}
    for name, identity in identities().items():
        (folder / name).mkdir()
        key = identity.key.to_cryptography_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        pem = identity.certificate.to_cryptography().public_bytes(Encoding.PEM)
        (folder / name / "default.pem").write_bytes(pem + key)
        port = freePort()
        found[name] = port, f"tls:{folder / name}:port={port}:interface=127.0.0.1"
    return found


def config(tunnel: Tunnel, name: str, port: int, ca: Path) -> str:
    """
    The configuration file of an agent with one service.
    """
    path = tunnel.folder / f"{name}.toml"
    path.write_text(
        f'[[edge]]\nurl = "https://localhost:{port}"\nca_file = "{ca}"\n[[service]]\nname = "{name}"\ntarget = "1"\n'
    )
    return str(path)


def doctor(tunnel: Tunnel, file: str) -> tuple[bool, str]:
    """
    What C{tunnelstack doctor} finds of TLS: whether it is good, and its sentences.
    """
    command = [str(BIN / "tunnelstack"), "doctor", "--json", "--config", file]
    environ = tunnel.environ | {"TUNNELSTACK_TOKEN": tunnel.token}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60)
    checks = {check["check"]: check for check in json.loads(done.stdout)["checks"]} if done.stdout else {}
    tls = checks.get("tls", {"good": None, "says": done.stderr, "remedy": ""})
    return tls["good"], f"{tls['says']}; {tls['remedy']}"


def main() -> int:
    """
    @return: the exit code.
    """
    faults = []
    with tempfile.TemporaryDirectory() as path:
        folder = Path(path)
        ca = folder / "ca.pem"
        ca.write_bytes(authority().certificate.to_cryptography().public_bytes(Encoding.PEM))
        ports = listeners(folder)
        with Tunnel("", *(endpoint for _, endpoint in ports.values())) as tunnel:
            for name, (port, _) in ports.items():
                tunnel.start(
                    name, "tunnel-agent", "--config", config(tunnel, name, port, ca), "start", TUNNELSTACK_TOKEN=tunnel.token,
                )  # fmt: skip
            for name, cause in CAUSES.items():
                waitUntil(lambda name=name: re.search("no session with| -> ", tunnel.log(name)))
                accepted = " -> " in tunnel.log(name)
                sound, report = doctor(tunnel, str(tunnel.folder / f"{name}.toml"))
                reported = cause in tunnel.log(name) and cause in report and "Traceback" not in tunnel.log(name)
                verdict = "as it should" if accepted == sound == (not cause) and reported else "FAULT"
                print(f"{name:<11} session={accepted!s:<5} doctor={sound!s:<5} {verdict}: {report}")
                if verdict == "FAULT":
                    faults.append(name)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
