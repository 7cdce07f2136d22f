"""
This machine as a device: a session with one server of ShellHub's kind, kept for ever, and what it opens served.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from random import random
from typing import Any

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from twisted.application.service import Service
from twisted.conch.ssh.keys import Key
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.logger import Logger

from tunnelstack.agent.edge_endpoint import wayTo
from tunnelstack.agent.exit_policy import Outlook
from tunnelstack.agent.ssh_server import embedded
from tunnelstack.agent.target import Target
from tunnelstack.agent.uplink import Uplink
from tunnelstack.control.auth.signing_key import keyFrom, newKey
from tunnelstack.control.config.reader import readFile
from tunnelstack.control.config.records import EMBEDDED, AgentConfig, DeviceConfig, EdgeAddress
from tunnelstack.control.config.state_dir import State
from tunnelstack.control.process.exit_status import CredentialRefused, WrongProtocol
from tunnelstack.dialect.shellhub.agent import (
    DeviceLink,
    DeviceRefused,
    DeviceStreams,
    Identity,
    NoServer,
    ShellHubDialler,
    TokenRefused,
)
from tunnelstack.errors import PeerError, Refused
from tunnelstack.handler.target_allowlist import Allowed
from tunnelstack.transport.host_endpoint import hostEndpoint
from tunnelstack.transport.tls import reasonOf


class DeviceService(Service):
    """
    A device of one server.

    @ivar uplink: the L{Uplink} to it.
    """

    log = Logger()

    def __init__(
        self, reactor: Any, config: DeviceConfig, agent: AgentConfig, outlook: Outlook, *,
        random: Callable[[], float] = random,
    ) -> None:
        """
        @param config: its files named.
        @param agent: for how long it waits and drains.
        @param outlook: is told what becomes of it.
        @raise ConfigurationError: a file cannot be used, or nobody could log in.
        """
        self._edge = EdgeAddress(url=config.url, caFile=config.caFile, proxy=config.proxy)
        way = wayTo(reactor, self._edge)
        identity = Identity(
            key=deviceKey(Path(config.deviceKeyFile)), tenant=config.tenant.lower(), mac=config.mac or None,
            hostname=config.hostname or socket.gethostname(), installKey=config.installKey,
        )
        streams = DeviceStreams(
            reactor, ssh=self._ssh(reactor, config), allowed=Allowed(config.targets),
            endpoint=lambda host, port: hostEndpoint(reactor, host, port),
        )
        self._dialect = f"shellhub/{config.version}"
        self._dialler = ShellHubDialler(
            reactor, config.url, identity, streams, version=config.version, random=random, endpoint=way.endpoint,
        )
        self.uplink = Uplink(
            reactor, self._dialler.dial, self, cap=agent.backoffSeconds, drainSeconds=agent.drainSeconds, random=random,
        )
        self._outlook = outlook
        outlook.expect()
        self._said: type | None = None

    def _ssh(self, reactor: Any, config: DeviceConfig) -> Any:
        if config.ssh == EMBEDDED:
            return embedded(
                reactor, config.hostKeysFile, authorizedKeysFile=config.authorizedKeysFile,
                passwordsFile=config.passwordsFile, users=config.users, elsewhere=self._vouched,
            )
        return Target(config.ssh).endpoint(reactor) if config.ssh else None

    def _vouched(self, user: str, key: Key) -> Any:
        """
        Whether the server knows a key; it can say so of RSA keys alone.
        """
        public = key.public()._keyObject
        return self._dialler.registration.vouch(user, public, key.blob()) if isinstance(public, RSAPublicKey) else False

    def startService(self) -> None:
        """
        Dial.
        """
        super().startService()
        self.uplink.start()

    @inlineCallbacks
    def stopService(self) -> Any:
        """
        Let what is under way end, for as long as the configuration says.
        """
        stopped: Deferred[None] = self.uplink.stop()
        yield stopped
        yield super().stopService()

    # What the uplink tells

    def uplinkUp(self, uplink: Uplink, link: DeviceLink) -> None:
        """
        There is a session.
        """
        self._said = None
        self._outlook.up(uplink)
        self.log.info(
            "up   edge={edge} dialect={dialect} device={device}", status="session", edge=self._edge.shown,
            dialect=self._dialect, device=link.agent,
        )

    def uplinkDown(self, uplink: Uplink, reason: BaseException) -> None:
        """
        It is gone.
        """
        self._outlook.down(uplink)
        self.log.warn(
            "session with {edge} lost: {reason}; dialling again", edge=self._edge.shown, reason=str(reason),
            dialect=self._dialect,
        )

    def uplinkFailed(self, uplink: Uplink, reason: BaseException, seconds: float) -> None:
        """
        An attempt failed; said once for each kind of reason.
        """
        if isinstance(reason, (DeviceRefused, TokenRefused)):
            self._outlook.hopeless(CredentialRefused(str(reason)))
        elif isinstance(reason, NoServer):
            self._outlook.hopeless(WrongProtocol(str(reason)))
        if self._outlook.ending is None and self._said is not type(reason):
            self._said = type(reason)
            log = self.log.critical if isinstance(reason, (Refused, PeerError)) else self.log.warn
            log(
                "no session with {edge}: {reason}; trying again", edge=self._edge.shown, reason=reasonOf(reason),
                seconds=seconds, dialect=self._dialect,
            )


def deviceKey(path: Path) -> Any:
    """
    The key by which a device is known, made if it is not there.

    @raise ConfigurationError: it cannot be used, or a new one not be kept.
    """
    if path.exists():
        return keyFrom(readFile(str(path)), str(path))
    key = newKey()
    text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode("ascii")
    State(path.parent).write(path.name, text)
    return key
