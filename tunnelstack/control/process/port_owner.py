"""
The process that listens on a TCP port of this machine, as far as the system shows it: useful when a port is in use.

Source: Linux, proc_net(5) and proc_pid_fd(5).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")
LISTEN = "0A"   # the state of a listening socket


def portOwner(port: int, proc: Path = PROC) -> str:
    """
    @return: for example C{"nginx, process 812"}; C{""} if the system does not show it.
    """
    wanted = {f"socket:[{inode}]" for inode in _listening(port, proc)}
    if not wanted:
        return ""
    for process in sorted(path for path in _entries(proc) if path.name.isdecimal()):
        for descriptor in _entries(process / "fd"):
            with suppress(OSError):
                if os.readlink(descriptor) in wanted:
                    return f"{(process / 'comm').read_text().strip()}, process {process.name}"
    return ""


def _listening(port: int, proc: Path) -> Iterator[str]:
    """
    @return: the inodes of the sockets that listen on the port.
    """
    for table in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in (proc / "net" / table).read_text().splitlines()[1:]:
                columns = line.split()
                if columns[3] == LISTEN and int(columns[1].rpartition(":")[2], 16) == port:
                    yield columns[9]


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []
