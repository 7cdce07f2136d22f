"""
ShellHub at the agent: the machine is a device of a server, which opens streams to it.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from twisted.conch.ssh.keys import Key
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IStreamClientEndpoint
from zope.interface import implementer

from tunnelstack.dialect.shellhub.dialler import DeviceLink, DeviceTokenRefused, ShellHubDialler
from tunnelstack.dialect.shellhub.registration import DeviceIdentity, DeviceRefused, NotAShellHubServer
from tunnelstack.dialect.shellhub.rsa_keys import newKey, parseSigningKey
from tunnelstack.dialect.shellhub.settings import DeviceSettings
from tunnelstack.dialect.shellhub.streams import DeviceStreams
from tunnelstack.errors import PeerError, Refused
from tunnelstack.handler.target_allowlist import TargetAllowlist
from tunnelstack.interfaces import IAgentDialect, IAgentHost
from tunnelstack.negotiation.endpoint import Handler
from tunnelstack.records import EMBEDDED
from tunnelstack.settings.files import readFile
from tunnelstack.settings.state_dir import StateDirectory
from tunnelstack.transport.host_endpoint import hostEndpoint

DEVICE_KEY = "device.pem"
"""The file of the device's key in the state folder."""


@implementer(IAgentDialect)
class ShellHubAgent:
    """
    A device of one server.

    @ivar link: the session while it is up; else C{None}.
    @ivar dialler: dials the server.
    """

    credentialErrors = (DeviceRefused, DeviceTokenRefused)
    protocolErrors = (NotAShellHubServer,)
    permanentErrors = (Refused, PeerError)

    def __init__(self, host: IAgentHost, settings: DeviceSettings) -> None:
        """
        @raise ConfigurationError: a file cannot be used, or the SSH server would accept no login.
        """
        self.address = urlsplit(settings.url).netloc
        self.name = f"shellhub/{settings.version}"
        self.link: DeviceLink | None = None
        identity = DeviceIdentity(
            key=deviceKey(Path(settings.deviceKeyFile) if settings.deviceKeyFile else host.statePath(DEVICE_KEY)),
            tenant=settings.tenant.lower(), mac=settings.mac or None, hostname=settings.hostname or socket.gethostname(),
            installKey=host.readSecret(settings.installKeyFile) if settings.installKeyFile else "",
        )
        streams = DeviceStreams(
            host.clock, ssh=self._ssh(host, settings), allowed=TargetAllowlist(settings.targets),
            endpoint=lambda name, port: hostEndpoint(host.clock, name, port),
        )
        self.dialler = ShellHubDialler(
            host.clock, settings.url, identity, streams, version=settings.version, random=host.random,
            endpoint=host.edgeEndpoint(settings), sessionOctets=host.sessionLimits.session_octets,
        )

    def _ssh(self, host: IAgentHost, settings: DeviceSettings) -> Handler | IStreamClientEndpoint | None:
        if settings.ssh == EMBEDDED:
            server: Handler = host.embeddedSSH(
                settings.hostKeysFile, settings.authorizedKeysFile, settings.passwordsFile, settings.users,
                self._isKeyAuthorized,
            )
            return server
        endpoint: IStreamClientEndpoint | None = host.target(settings.ssh) if settings.ssh else None
        return endpoint

    def _isKeyAuthorized(self, user: str, key: Key) -> Deferred[bool]:
        """
        @return: fires with whether the server vouches for a key, which must be an RSA key.
        """
        public = key.public()._keyObject
        if not isinstance(public, RSAPublicKey):
            return succeed(False)
        return self.dialler.registration.isKeyAuthorized(user, public, key.blob())

    def dial(self) -> Deferred[DeviceLink]:
        return self.dialler.dial()

    def up(self, link: DeviceLink) -> Deferred[Mapping[str, object]]:
        """
        @return: fires with the name that the server gave the device.
        """
        self.link = link
        return succeed({"device": link.agent})

    def retire(self) -> None:
        self.link = None

    def report(self) -> Mapping[str, object]:
        return {"up": self.link is not None, "device": "" if self.link is None else self.link.agent}


def deviceKey(path: Path) -> RSAPrivateKey:
    """
    @return: the key of a device, which is made if the file does not exist.
    @raise ConfigurationError: the file cannot be read or written, or does not contain a suitable key.
    """
    if path.exists():
        return parseSigningKey(readFile(str(path)), str(path))
    key = newKey()
    text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode("ascii")
    StateDirectory(path.parent).write(path.name, text)
    return key


def makeDialects(host: IAgentHost, tables: Mapping[str, tuple[DeviceSettings, ...]]) -> list[IAgentDialect]:
    """
    @return: a device for each C{[[shellhub]]}.

    @raise ConfigurationError: a file cannot be used.
    """
    return [ShellHubAgent(host, settings) for settings in tables["shellhub"]]
