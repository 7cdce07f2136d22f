"""
Ports for programs that have to be given one.

A port that was found by binding to port 0 may be lost until the program binds it: the kernel gives it to whoever asks for any
port, or connects.  So these ports are not among those that the kernel gives away, and each is reserved for this process.
"""

from __future__ import annotations

import contextlib
import random
import socket
from pathlib import Path

LOWEST = 10_000

_reserved: list[socket.socket] = []


def freePort() -> int:
    """
    @return: a port that nobody uses, for TCP and for UDP; no other test gets it while this process lives.
    """
    while True:
        port = random.choice(_ports())
        if _isFree(port) and _reserve(port):
            return port


def _ports() -> range:
    """
    @return: the ports that the kernel does not give away.
    """
    try:
        first, last = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    except OSError:
        first, last = 32_768, 60_999
    return range(LOWEST, first) if first > 2 * LOWEST else range(last + 1, 65_536) or range(LOWEST, 65_536)


def _isFree(port: int) -> bool:
    with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp, contextlib.suppress(OSError):
        tcp.bind(("127.0.0.1", port))
        udp.bind(("127.0.0.1", port))
        return True
    return False


def _reserve(port: int) -> bool:
    """
    @return: whether no other process has reserved it: a name without a file, which ends with its process.
    """
    name = socket.socket(socket.AF_UNIX)
    try:
        name.bind(f"\0tunnelstack.tests.port.{port}")
    except FileNotFoundError:                 # a system without such names
        pass
    except OSError:
        name.close()
        return False
    _reserved.append(name)
    return True
