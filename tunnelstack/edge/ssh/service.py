"""
The SSH gateway as a service of the edge: it listens, reads the authorized keys, and finds devices by name.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, inlineCallbacks, maybeDeferred
from twisted.internet.interfaces import IAddress, IListeningPort, IStreamClientEndpoint, IStreamServerEndpoint
from twisted.logger import Logger

from tunnelstack.control.auth.key_vouching import parseVouchRule
from tunnelstack.control.config.records import SSHConfig
from tunnelstack.edge.listeners import endpointOf
from tunnelstack.errors import ConfigurationError, Denied
from tunnelstack.records import SSHPurpose, Visitor
from tunnelstack.settings.state_dir import StateDirectory
from tunnelstack.stream.errors import UnsupportedPurpose
from tunnelstack.transport.peers import addressText

if TYPE_CHECKING:
    from twisted.conch.ssh.keys import Key

    from tunnelstack.edge.running_edge import RunningEdge
    from tunnelstack.edge.ssh.gateway import Login, SSHGateway

HOST_KEYS = "ssh_host_keys"
"""The file of the gateway's host keys in the state folder."""


class SSHGatewayService(Service):
    """
    The SSH gateway of one edge.
    """

    log = Logger()

    def __init__(self, edge: RunningEdge) -> None:
        self._edge = edge
        self._listening: list[IListeningPort] = []

    @property
    def addresses(self) -> list[IAddress]:
        """
        The addresses on which the gateway listens.
        """
        return [port.getHost() for port in self._listening]

    def addressFor(self, host: str) -> str:
        """
        @param host: the host name of the edge.
        @return: the address for SSH clients, C{host:port}; C{""} while the gateway does not listen.
        """
        ports = [port for address in self.addresses if (port := getattr(address, "port", 0))]
        return f"{host}:{ports[0]}" if ports else ""

    @inlineCallbacks
    def listen(self) -> Generator[Deferred[IListeningPort], IListeningPort, None]:
        """
        Listen on the configured endpoints, if there are any.

        @return: a C{Deferred}; it fails with L{ConfigurationError} if an endpoint or a file of the configuration is invalid.
        """
        config: SSHConfig = self._edge.config.ssh
        if not config.listen:
            return
        gateway = self._makeGateway(config)
        for text in config.listen:
            endpoint = gatewayEndpoint(self._edge.clock, text)
            port = yield endpoint.listen(gateway)
            self._listening.append(port)
            address = port.getHost()
            self.log.info("ready    port {port}", status="ssh", port=getattr(address, "port", addressText(address)))

    def _makeGateway(self, config: SSHConfig) -> SSHGateway:
        from tunnelstack.edge.ssh.gateway import SSHGateway  # imports Conch, which is slow to load
        from tunnelstack.handler.ssh.credentials import AuthorizedKeys, LoginPolicy
        from tunnelstack.handler.ssh.host_keys import hostKeys

        checkGateway(config)
        keys = AuthorizedKeys(Path(config.authorizedKeysFile)) if config.authorizedKeysFile else None

        rules = tuple(map(parseVouchRule, config.vouch))

        def vouch(login: Login, key: Key) -> Deferred[Key] | None:
            names = keys.names(key) if keys is not None else []
            covered = any(rule.covers(names, login.user, login.device) for rule in rules)
            return self._edge.dialects.keyFor(login.device) if covered else None

        jumps = (
            LoginPolicy(keys=keys.check, users=frozenset(config.jumpUsers))
            if keys is not None and config.jumpUsers
            else None
        )
        return SSHGateway(
            self._edge.clock, hostKeys(self._hostKeysFile(config)), self._dial, jumps=jumps, vouch=vouch,
            known=keys.check if keys is not None and rules else None, admit=self._edge.admission.admit,
        )

    def _hostKeysFile(self, config: SSHConfig) -> Path:
        if config.hostKeysFile:
            return Path(config.hostKeysFile)
        if not self._edge.config.stateDirectory:
            raise ConfigurationError("[ssh] host_keys_file is required if there is no state folder")
        state = StateDirectory(Path(self._edge.config.stateDirectory))
        state.make()
        return state.path(HOST_KEYS)

    def _dial(self, name: str, session: str) -> IStreamClientEndpoint:
        tunnel, purpose = self._edge.agents.sshTarget(name)
        if isinstance(purpose, SSHPurpose):
            purpose = SSHPurpose(session)
        try:
            endpoint: IStreamClientEndpoint = tunnel.endpointFor(purpose, Visitor(scheme="ssh"), wait=True)
        except UnsupportedPurpose:
            raise Denied("absent", f"{name} does not offer SSH") from None
        return endpoint

    @inlineCallbacks
    def stopService(self) -> Generator[Any, Any, None]:
        yield super().stopService()
        yield self.close()

    def close(self) -> Deferred[list[tuple[bool, object]]]:
        """
        Stop to listen; open connections stay.
        """
        ports, self._listening = self._listening, []
        return DeferredList([maybeDeferred(port.stopListening) for port in ports], consumeErrors=True)


def gatewayEndpoint(reactor: Any, text: str) -> IStreamServerEndpoint:
    """
    @return: one of the endpoints on which the gateway listens.
    @raise ConfigurationError: the endpoint string is invalid.
    """
    return endpointOf(reactor, text, "[ssh] listen: ")


def checkGateway(config: SSHConfig) -> None:
    """
    @raise ConfigurationError: a file of an enabled gateway cannot be used.  If the authorized keys are removed later, no key is
        accepted.
    """
    if not config.listen:
        return
    if config.authorizedKeysFile and not Path(config.authorizedKeysFile).is_file():
        raise ConfigurationError(f"[ssh] authorized_keys_file: {config.authorizedKeysFile} does not exist")
    if config.hostKeysFile and Path(config.hostKeysFile).exists():
        from tunnelstack.handler.ssh.host_keys import hostKeys  # imports Conch, which is slow to load

        hostKeys(Path(config.hostKeysFile))
