"""
The SSH front door as a part of the edge: where it listens, whose keys it takes, and how it finds who is asked for.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, inlineCallbacks, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.logger import Logger

from tunnelstack.control.auth.key_vouching import readWord
from tunnelstack.control.config.records import SSHConfig
from tunnelstack.control.config.state_dir import State
from tunnelstack.errors import ConfigurationError, Denied
from tunnelstack.records import Visitor
from tunnelstack.stream.errors import UnsupportedPurpose

if TYPE_CHECKING:
    from twisted.conch.ssh.keys import Key

    from tunnelstack.edge.ssh.gateway import Login, SSHDoor

HOST_KEYS = "ssh_host_keys"
"""In the state folder."""


class SSHEntrance(Service):
    """
    The front door of one edge.
    """

    log = Logger()

    def __init__(self, edge: Any) -> None:
        """
        @param edge: the L{EdgeService<tunnelstack.edge.service.EdgeService>}.
        """
        self._edge = edge
        self._listening: list[Any] = []

    @property
    def addresses(self) -> list[Any]:
        """
        Where it listens.
        """
        return [port.getHost() for port in self._listening]

    def where(self, host: str) -> str:
        """
        What SSH clients connect to, C{host:port}.

        @param host: by which they know the edge.
        @return: C{""} as long as there is no such door.
        """
        ports = [port for address in self.addresses if (port := getattr(address, "port", 0))]
        return f"{host}:{ports[0]}" if ports else ""

    @inlineCallbacks
    def listen(self) -> Any:
        """
        Listen where the configuration says, if anywhere.

        @return: a C{Deferred}; it fails with L{ConfigurationError} where the configuration cannot be followed.
        """
        said: SSHConfig = self._edge.config.ssh
        if not said.listen:
            return
        door = self._door(said)
        for text in said.listen:
            try:
                endpoint = serverFromString(self._edge.clock, text)
            except (ValueError, TypeError, KeyError, IndexError) as error:
                raise ConfigurationError(f"[ssh] listen: {text!r} is no endpoint to listen on: {error}") from None
            port = yield endpoint.listen(door)
            self._listening.append(port)
            address = port.getHost()
            self.log.info("ready    port {port}", status="ssh", port=getattr(address, "port", str(address)))

    def _door(self, said: SSHConfig) -> SSHDoor:
        from tunnelstack.edge.ssh.gateway import SSHDoor  # with Conch below it, which is slow to load
        from tunnelstack.handler.ssh.credentials import AuthorizedKeys, Logins
        from tunnelstack.handler.ssh.host_keys import hostKeys

        keys = AuthorizedKeys(_readable(said.authorizedKeysFile)) if said.authorizedKeysFile else None

        words = tuple(map(readWord, said.vouch))

        def vouch(login: Login, key: Key) -> Any:
            names = keys.names(key) if keys is not None else []
            covered = any(word.covers(names, login.user, login.device) for word in words)
            return self._edge.vouch(login.device) if covered else None

        jumps = Logins(keys=keys.check, users=frozenset(said.jumpUsers)) if keys is not None and said.jumpUsers else None
        return SSHDoor(
            self._edge.clock, hostKeys(self._keysFile(said)), self._dial, jumps=jumps, vouch=vouch,
            known=keys.check if keys is not None and words else None, admits=self._edge.accept.admits,
        )

    def _keysFile(self, said: SSHConfig) -> Path:
        if said.hostKeysFile:
            return Path(said.hostKeysFile)
        if not self._edge.config.stateDirectory:
            raise ConfigurationError("[ssh] needs a host_keys_file where there is no state folder")
        state = State(Path(self._edge.config.stateDirectory))
        state.make()
        return state.path(HOST_KEYS)

    def _dial(self, name: str) -> IStreamClientEndpoint:
        tunnel, purpose = self._edge.agents.shell(name)
        try:
            endpoint: IStreamClientEndpoint = tunnel.endpointFor(purpose, Visitor(scheme="ssh"), wait=True)
        except UnsupportedPurpose:
            raise Denied("absent", f"{name} offers no SSH") from None
        return endpoint

    @inlineCallbacks
    def stopService(self) -> Any:
        """
        Listen no more.
        """
        yield super().stopService()
        yield self.close()

    def close(self) -> Deferred[Any]:
        """
        Let nobody in any more; those who are here stay.
        """
        ports, self._listening = self._listening, []
        return DeferredList([maybeDeferred(port.stopListening) for port in ports], consumeErrors=True)


def _readable(path: str) -> Path:
    """
    @raise ConfigurationError: there is no such file; one that goes later lets nobody in.
    """
    if not Path(path).is_file():
        raise ConfigurationError(f"[ssh] authorized_keys_file: there is no file {path}")
    return Path(path)
