"""
C{tunnelstack check} refuses the files with which no edge or agent starts, and the file of the other one is called by its name.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.cases.tunnel import BIN

EDGE = '[[edge]]\nurl = "https://edge.example.net"\n'
FILES = {
    '[edge]\n[admin]\nlisten = "ftp:21"\n': ("tunnel-edge",),
    '[edge]\nlisten = ["tcp:99999"]\n': ("tunnel-edge",),
    '[edge]\n[ssh]\nlisten = ["0"]\nauthorized_keys_file = "nowhere"\n': ("tunnel-edge",),
    f'{EDGE}[[service]]\nname = "a"\nkind = "serve"\ntarget = "nowhere"\n': ("tunnel-agent", "start"),
    f'{EDGE}ca_file = "nowhere"\n[[service]]\nname = "a"\ntarget = "3000"\n': ("tunnel-agent", "start"),
    f"{EDGE}": ("tunnel-agent", "start"),
}


def main() -> int:
    """
    @return: 0 if both refuse each file, with a sentence and the same exit code.
    """
    good = True
    with tempfile.TemporaryDirectory() as home:
        environ = {"HOME": home, "PATH": os.environ["PATH"], "TUNNELSTACK_TOKEN": "token"}

        def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [BIN / program, *arguments], env=environ, cwd=home, capture_output=True, text=True, timeout=60
            )

        path = Path(home, "file.toml")
        for text, (program, *arguments) in FILES.items():
            path.write_text(text)
            checked, started = run("tunnelstack", "check", "file.toml"), run(program, "--config", "file.toml", *arguments)
            print(f"{checked.returncode} {started.returncode} {started.stderr.strip()[-160:]}")
            good = good and checked.returncode == started.returncode == 78 and "Traceback" not in started.stderr
        path.write_text(f'{EDGE}[[service]]\nname = "a"\ntarget = "3000"\n')
        started = run("tunnel-edge", "--config", "file.toml")
        print(started.stderr)
        good = good and "agent" in started.stderr and started.stderr.count("\n") == 1
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
