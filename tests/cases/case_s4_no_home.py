"""
Without HOME, and as a user that has no home folder (C{docker run --user 12345}), nothing is made in the working directory: each
command that needs the state folder ends with a sentence that names STATE_DIRECTORY, and works with it.

It takes root and setpriv (util-linux) to become such a user.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.cases.tunnel import BIN, waitUntil

UNKNOWN = next(uid for uid in range(54_321, 60_000) if uid not in {user.pw_uid for user in pwd.getpwall()})
COMMANDS = (
    ("tunnel-edge", "--dev", "--port", "0"), ("tunnel-agent", "--dev", "http", "3000"), ("tunnelstack", "status"),
    ("tunnelstack", "token", "new", "a"),
)  # fmt: skip


def run(folder: str, command: tuple[str, ...], **environ: str) -> tuple[int | None, str]:
    """
    Run a command in a folder, as a user without a home, until it ends or is ready.

    @return: its exit code, C{None} if it had to be stopped; and what it printed.
    """
    program, *arguments = command
    with tempfile.NamedTemporaryFile() as log:
        process = subprocess.Popen(
            ["setpriv", "--reuid", str(UNKNOWN), "--regid", str(UNKNOWN), "--clear-groups", BIN / program, *arguments],
            cwd=folder, env={"PATH": os.environ["PATH"], "HOME": "~"} | environ, stdin=subprocess.DEVNULL, stdout=log,
            stderr=log,
        )  # fmt: skip
        waitUntil(lambda: process.poll() is not None or b"ready" in Path(log.name).read_bytes(), 30)
        code = process.poll()
        process.terminate()
        process.wait(30)
        return code, Path(log.name).read_text()


def main() -> int:
    """
    @return: 0 if nothing was made in the working directory.
    """
    if os.getuid() != 0 or shutil.which("setpriv") is None:
        print("not tried: only root can become a user without a home folder (setpriv)")
        return 0
    good = True
    folder = tempfile.mkdtemp(prefix="tunnelstack-case-")
    os.chmod(folder, 0o777)
    try:
        for command in COMMANDS:
            code, text = run(folder, command)
            made = sorted(path.name for path in Path(folder).iterdir())
            right = code == 78 and "STATE_DIRECTORY" in text and not made
            good = good and right
            print(f"{' '.join(command)}: code {code}, made {made}, {text.strip()!r}")
        code, text = run(folder, COMMANDS[0], STATE_DIRECTORY=os.path.join(folder, "state"))
        made = sorted(path.name for path in Path(folder).iterdir())
        print(f"with STATE_DIRECTORY: code {code}, made {made}")
        return 0 if good and made == ["state"] and "ready" in text else 1
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    sys.exit(main())
