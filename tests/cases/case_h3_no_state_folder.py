"""
H3: C{tunnel-agent ssh --authorized-keys FILE} makes the state folder, in which it keeps its host keys.
"""

from __future__ import annotations

import stat
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.cases.tunnel import Tunnel


def main() -> int:
    with Tunnel() as tunnel, tempfile.TemporaryDirectory() as home:
        keys = Path(home, "keys")
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(keys)], check=True)
        state = Path(home, "deep", "state")
        tunnel.start(
            "agent", "tunnel-agent", "--edge", f"http://localhost:{tunnel.port}", "ssh", "--authorized-keys", f"{keys}.pub",
            "--name", "shell", STATE_DIRECTORY=str(state), TUNNELSTACK_TOKEN=tunnel.token,
        )  # fmt: skip
        tunnel.waitForLog("agent", "tunnel:shell")
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (state, *state.iterdir())}
        print(tunnel.log("agent"), {name: oct(mode) for name, mode in modes.items()})
        return bool(modes["state"] != 0o700 or any(mode & 0o077 for mode in modes.values()))


if __name__ == "__main__":
    sys.exit(main())
