"""
C{-h} and C{help} print the help, and a misspelt command or subcommand is answered with the one that was probably meant.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

from tests.cases.tunnel import BIN


def main() -> int:
    """
    @return: 0 if each command line ends with its exit code and prints its words.
    """
    good = True
    with tempfile.TemporaryDirectory() as home:
        environ = {"HOME": home, "PATH": os.environ["PATH"]}
        for line, code, words in (
            ("tunnelstack -h", 0, "Usage: tunnelstack"), ("tunnelstack help token", 0, "Usage: tunnelstack token"),
            ("tunnel-edge -h", 0, "Usage: tunnel-edge"), ("tunnel-agent help", 0, "Usage: tunnel-agent"),
            ("tunnelstack stauts", 64, "did you mean status?"), ("tunnelstack token nwe a", 64, "did you mean new?"),
            ("tunnel-agent htpp 3000", 64, "did you mean http?"),
        ):  # fmt: skip
            program, *arguments = line.split()
            done = subprocess.run([BIN / program, *arguments], env=environ, capture_output=True, text=True, timeout=60)
            right = done.returncode == code and words in done.stdout + done.stderr
            print(f"{line}: {done.returncode}, {(done.stdout or done.stderr).splitlines()[:1]}")
            good = good and right
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
