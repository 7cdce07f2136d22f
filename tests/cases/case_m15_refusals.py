"""
C{tunnelstack connect} to a purpose that nobody serves, to an SSH server that is not there, and without the right: three
sentences, three exit codes.
"""

from __future__ import annotations

import subprocess
import sys

from tests.cases.tunnel import BIN, Tunnel
from tests.ports import freePort


def main() -> int:
    """
    @return: 0 if each cause has its own sentence and code.
    """
    with Tunnel() as tunnel:
        tunnel.startAgent("tcp", freePort(), name="db")
        made = subprocess.run(
            [BIN / "tunnelstack", "token", "new", "ada", "--allow", "dial:other"], env=tunnel.environ, capture_output=True,
            text=True, check=True, timeout=60,
        )  # fmt: skip
        other = {"TUNNELSTACK_TOKEN": made.stdout.strip()}
        edge, seen = f"http://localhost:{tunnel.port}", []
        for environ, arguments, code, sentence in (
            ({}, ("dev", "--dev", "--purpose", "/demo/shout/1.0.0"), 76, "dev does not serve the purpose /demo/shout/1.0.0"),
            ({}, ("dev", "--dev", "--purpose", "ssh"), 69, "dev cannot be reached: dev has no SSH server"),
            (other, ("db", "--edge", edge), 77, "the token does not allow dial:db"),
        ):  # fmt: skip
            done = subprocess.run(
                [BIN / "tunnelstack", "connect", *arguments], env=tunnel.environ | environ, capture_output=True, text=True,
                stdin=subprocess.DEVNULL, timeout=60,
            )  # fmt: skip
            print(done.returncode, done.stderr.strip())
            seen.append((done.returncode, done.stderr) == (code, f"tunnelstack: {sentence}\n"))
        return 0 if all(seen) else 1


if __name__ == "__main__":
    sys.exit(main())
