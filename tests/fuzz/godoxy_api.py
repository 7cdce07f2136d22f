"""
Bent octets for the answers of a GoDoxy agent's API.
"""

from __future__ import annotations

from collections.abc import Hashable

from tunnelstack.errors import PeerError
from tunnelstack.wire.records.godoxy_api import decode_health_untrusted, decode_info_untrusted, read_version

SEEDS = [
    b'{"version":"v0.31.0","name":"nas","runtime":"docker"}\n',
    b'{"healthy":true,"detail":"","latency":1500000000}',
    b'{"healthy":false,"detail":"dial tcp: refused","latency":1.5e9}',
]
FOUND = [
    b'{"healthy":true,"latency":1' + b"0" * 400 + b"}",  # no float is as large
]


def target(data: bytes) -> Hashable:
    """
    @return: what both readers made of it.
    """
    return info(data), health(data)


def info(data: bytes) -> Hashable:
    try:
        found = decode_info_untrusted(data)
        return min(len(found.name), 2), read_version(found.version) > (0, 18, 6), found.runtime in ("docker", "podman")
    except PeerError as error:
        return str(error.args[0])


def health(data: bytes) -> Hashable:
    try:
        found = decode_health_untrusted(data)
        return found.healthy, bool(found.detail), found.latency > 0
    except PeerError as error:
        return str(error.args[0])
