"""
The keys with which the SSH gateway of an edge logs in at devices.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from twisted.conch.ssh.keys import Key
from twisted.internet.defer import Deferred, succeed
from twisted.internet.threads import deferToThread

from tunnelstack.dialect.shellhub.bootstrap import Bootstrap
from tunnelstack.wire.records.shellhub_bootstrap import ACCEPTED
from tunnelstack.wire.records.shellhub_identity import fingerprint

MAX_KEYS = 1024
"""Devices whose key is remembered; making one takes a while."""


class KeyVoucher:
    """
    A key for each device, made when it is first needed, of which the device is told that it is good whenever it asks.
    """

    def __init__(
        self, bootstrap: Bootstrap, newKey: Callable[[], RSAPrivateKey],
        inThread: Callable[..., Deferred[Any]] = deferToThread,
    ) -> None:
        """
        @param newKey: makes one.
        @param inThread: runs a slow call elsewhere.
        """
        self._bootstrap = bootstrap
        self._newKey = newKey
        self._inThread = inThread
        self._keys: dict[str, RSAPrivateKey] = {}

    def __call__(self, agent: str) -> Deferred[Key] | None:
        """
        @param agent: a device's name on the edge.
        @return: a Deferred of the private key to log in with there; C{None} for a device that is not known or not accepted.
        """
        device = self._bootstrap.devices.findByName(agent)
        if device is None or device.status != ACCEPTED:
            return None
        known = self._keys.get(device.uid)
        made = succeed(known) if known is not None else self._inThread(self._newKey)
        return made.addCallback(self._vouch, device.uid)

    def _vouch(self, private: RSAPrivateKey, uid: str) -> Key:
        while len(self._keys) >= MAX_KEYS and uid not in self._keys:
            del self._keys[next(iter(self._keys))]
        self._keys[uid] = private
        key = Key(private)
        self._bootstrap.vouchedKeys.add(fingerprint(key.public().blob()), private, uid)
        return key
