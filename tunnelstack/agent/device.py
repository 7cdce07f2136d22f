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

from tunnelstack.agent.edge_endpoint import DEVICE_TRUST, makeEdgeEndpoint
from tunnelstack.agent.exit_policy import ExitPolicy
from tunnelstack.agent.ssh_server import makeEmbeddedServer
from tunnelstack.agent.target import Target
from tunnelstack.agent.uplink import Uplink
from tunnelstack.control.auth.signing_key import newKey, parseSigningKey
from tunnelstack.control.config.reader import readFile
from tunnelstack.control.config.records import EMBEDDED, AgentConfig, DeviceConfig, EdgeAddress
from tunnelstack.control.config.state_dir import StateDirectory
from tunnelstack.control.process.exit_status import CredentialRefused, WrongProtocol
from tunnelstack.dialect.shellhub.agent import (
    DeviceIdentity,
    DeviceLink,
    DeviceRefused,
    DeviceStreams,
    DeviceTokenRefused,
    NotAShellHubServer,
    ShellHubDialler,
)
from tunnelstack.errors import PeerError, Refused
from tunnelstack.handler.target_allowlist import TargetAllowlist
from tunnelstack.session.budget import MemoryBudget
from tunnelstack.transport.host_endpoint import hostEndpoint
from tunnelstack.transport.tls import errorText, kindOf


class DeviceService(Service):
    """
    A device of one server.

    @ivar uplink: the L{Uplink} to it.
    """

    log = Logger()

    def __init__(
        self, reactor: Any, config: DeviceConfig, agent: AgentConfig, exitPolicy: ExitPolicy, budget: MemoryBudget, *,
        random: Callable[[], float] = random,
    ) -> None:
        """
        @param config: its files named.
        @param agent: for how long it waits and drains.
        @param exitPolicy: is told what becomes of it.
        @param budget: what its sessions may hold, with all others of this process.
        @raise ConfigurationError: a file cannot be used, or nobody could log in.
        """
        self._edge = EdgeAddress(url=config.url, caFile=config.caFile, proxy=config.proxy)
        edgeEndpoint = makeEdgeEndpoint(reactor, self._edge, DEVICE_TRUST)
        identity = DeviceIdentity(
            key=deviceKey(Path(config.deviceKeyFile)), tenant=config.tenant.lower(), mac=config.mac or None,
            hostname=config.hostname or socket.gethostname(), installKey=config.installKey,
        )
        streams = DeviceStreams(
            reactor, ssh=self._ssh(reactor, config), allowed=TargetAllowlist(config.targets),
            endpoint=lambda host, port: hostEndpoint(reactor, host, port),
        )
        self._dialect = f"shellhub/{config.version}"
        self._dialler = ShellHubDialler(
            reactor, config.url, identity, streams, version=config.version, random=random, endpoint=edgeEndpoint.endpoint,
            sessionOctets=agent.limits.sessionOctets,
        )
        self.uplink = Uplink(
            reactor, self._dialler.dial, self, maxBackoff=agent.backoffSeconds, drainSeconds=agent.drainSeconds, random=random,
        )
        self._exitPolicy = exitPolicy
        self._budget = budget
        exitPolicy.addServer()
        self._lastFailure: object = None

    def _ssh(self, reactor: Any, config: DeviceConfig) -> Any:
        if config.ssh == EMBEDDED:
            return makeEmbeddedServer(
                reactor, config.hostKeysFile, authorizedKeysFile=config.authorizedKeysFile,
                passwordsFile=config.passwordsFile, users=config.users, externalCheck=self._isKeyAuthorized,
            )
        return Target(config.ssh).endpoint(reactor) if config.ssh else None

    def _isKeyAuthorized(self, user: str, key: Key) -> Any:
        """
        Whether the server knows a key; it can say so of RSA keys alone.
        """
        public = key.public()._keyObject
        return (
            self._dialler.registration.isKeyAuthorized(user, public, key.blob())
            if isinstance(public, RSAPublicKey)
            else False
        )

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
        self._lastFailure = None
        self._budget.join(link.session)
        self._exitPolicy.sessionUp(uplink)
        self.log.info(
            "up   edge={edge} dialect={dialect} device={device}", status="session", edge=self._edge.shown,
            dialect=self._dialect, device=link.agent,
        )

    def uplinkDown(self, uplink: Uplink, reason: BaseException) -> None:
        """
        It is gone.
        """
        self._exitPolicy.sessionDown(uplink)
        self.log.warn(
            "session with {edge} lost: {reason}; dialling again", edge=self._edge.shown, reason=str(reason),
            dialect=self._dialect,
        )

    def uplinkFailed(self, uplink: Uplink, reason: BaseException, seconds: float) -> None:
        """
        An attempt failed; said once for each kind of reason.
        """
        if isinstance(reason, (DeviceRefused, DeviceTokenRefused)):
            self._exitPolicy.permanentFailure(CredentialRefused(str(reason)))
        elif isinstance(reason, NotAShellHubServer):
            self._exitPolicy.permanentFailure(WrongProtocol(str(reason)))
        if self._exitPolicy.fatalError is None and self._lastFailure != kindOf(reason):
            self._lastFailure = kindOf(reason)
            log = self.log.critical if isinstance(reason, (Refused, PeerError)) else self.log.warn
            log(
                "no session with {edge}: {reason}; trying again", edge=self._edge.shown, reason=errorText(reason),
                seconds=seconds, dialect=self._dialect,
            )


def deviceKey(path: Path) -> Any:
    """
    The key by which a device is known, made if it is not there.

    @raise ConfigurationError: it cannot be used, or a new one not be kept.
    """
    if path.exists():
        return parseSigningKey(readFile(str(path)), str(path))
    key = newKey()
    text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode("ascii")
    StateDirectory(path.parent).write(path.name, text)
    return key
