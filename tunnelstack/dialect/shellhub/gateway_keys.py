"""
The keys with which the SSH gateway of an edge logs in at devices.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from twisted.internet.defer import Deferred, succeed
from twisted.internet.threads import deferToThread

from tunnelstack.dialect.shellhub.bootstrap import Bootstrap
from tunnelstack.wire.records.shellhub_bootstrap import ACCEPTED
from tunnelstack.wire.records.shellhub_identity import fingerprint

if TYPE_CHECKING:
    from twisted.conch.ssh.keys import Key

MAX_KEYS = 1024
"""Devices whose key is kept; to make a key takes a while."""


class GatewayKeys:
    """
    One key for each device, which is made when it is first needed.  The edge vouches for it on the device's request.
    """

    def __init__(
        self, bootstrap: Bootstrap, newKey: Callable[[], RSAPrivateKey],
        inThread: Callable[[Callable[[], RSAPrivateKey]], Deferred[RSAPrivateKey]] = deferToThread,
    ) -> None:
        """
        @param newKey: makes a key.
        @param inThread: calls a slow function in a thread.
        """
        self._bootstrap = bootstrap
        self._newKey = newKey
        self._inThread = inThread
        self._keys: dict[str, RSAPrivateKey] = {}

    def keyFor(self, agent: str) -> Deferred[Key] | None:
        """
        @param agent: the name of a device on the edge.
        @return: fires with the private key to log in with there; C{None} for a device that is unknown or not accepted.
        """
        device = self._bootstrap.devices.findByName(agent)
        if device is None or device.status != ACCEPTED:
            return None
        known = self._keys.get(device.uid)
        made = succeed(known) if known is not None else self._inThread(self._newKey)
        return made.addCallback(self._vouch, device.uid)

    def _vouch(self, private: RSAPrivateKey, uid: str) -> Key:
        from twisted.conch.ssh.keys import (
            Key,  # loads Conch, which an edge without visitors of SSH does not need
        )

        while len(self._keys) >= MAX_KEYS and uid not in self._keys:
            del self._keys[next(iter(self._keys))]
        self._keys[uid] = private
        key = Key(private)
        self._bootstrap.vouchedKeys.add(fingerprint(key.public().blob()), private, uid)
        return key
