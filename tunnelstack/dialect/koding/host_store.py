"""
The virtual hosts of an edge and the clients that serve them.

A client is known by its identifier alone, a secret of which only the SHA-256 is kept.  Hosts and ports come from the
configuration file, which may be read again, and from commands, whose hosts are kept in the state folder.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from hashlib import sha256

from attrs import asdict, evolve, frozen
from twisted.logger import Logger

from tunnelstack.dialect.koding.settings import checkIPAddress, checkPublicHost
from tunnelstack.errors import ConfigurationError, Denied
from tunnelstack.settings.state_dir import StateDirectory
from tunnelstack.wire.printable_text import printable

FILE = "koding_hosts.json"

MAX_HOSTS = 10_000
"""Hosts that commands may add."""

NAME_PREFIX = "koding."
"""Begins the names of clients on the edge.  The rest is the first host."""


@frozen(kw_only=True)
class Host:
    """
    A virtual host.

    @ivar host: in lower case, without a port.
    @ivar digest: SHA-256 of the client's identifier, in hexadecimal digits.
    @ivar client: the name of the client on the edge.
    @ivar configured: it is in the configuration file.
    """

    host: str
    digest: str
    client: str = ""
    configured: bool = False


@frozen(kw_only=True)
class Port:
    """
    A TCP port for the client of a host.

    @ivar address: on which it is opened; C{""} for that of the ports of all agents.
    @ivar configured: it is in the configuration file.
    """

    port: int
    host: str
    address: str = ""
    configured: bool = False


def digestOf(identifier: bytes) -> str:
    """
    What is kept of an identifier.
    """
    return sha256(identifier).hexdigest()


class HostStore:
    """
    All virtual hosts and ports of an edge.
    """

    log = Logger()

    def __init__(
        self, state: StateDirectory | None = None, hosts: Iterable[Host] = (), ports: Iterable[Port] = ()
    ) -> None:
        """
        @param state: where hosts of commands are kept; C{None} keeps nothing.
        @param hosts: those of the configuration file.
        @raise ConfigurationError: what is kept cannot be read.
        """
        self._state = state
        self._hosts: dict[str, Host] = {}
        self._ports: dict[tuple[int, str], Port] = {}
        self._names: dict[str, str] = {}                 # digest -> the client's name
        self._watcher: Callable[[], object] = lambda: None
        kept, keptPorts = self._read()
        for host in (*hosts, *kept):                     # a host of the file precedes that of a command
            if host.host not in self._hosts:
                self._put(host)
        for port in (*keptPorts, *ports):
            self._ports[port.port, port.address] = port

    @property
    def hosts(self) -> list[Host]:
        """
        All hosts, by name.
        """
        return sorted(self._hosts.values(), key=lambda host: host.host)

    @property
    def ports(self) -> list[Port]:
        """
        All ports, by number.
        """
        return sorted(self._ports.values(), key=lambda port: (port.port, port.address))

    def watch(self, watcher: Callable[[], object]) -> None:
        """
        Call C{watcher} after each change.
        """
        self._watcher = watcher

    def clientOf(self, identifier: bytes) -> str | None:
        """
        @return: the name of the client with an identifier; C{None} if no host has it.  What is looked up is a digest, so the
            time depends on no identifier.
        """
        return self._names.get(digestOf(identifier))

    def digestOfClient(self, client: str) -> str:
        """
        @return: the digest of a client's identifier; C{""} for none.
        """
        return next((digest for digest, name in self._names.items() if name == client), "")

    def find(self, host: str) -> Host | None:
        """
        @return: C{None} for a host that is not known.
        """
        return self._hosts.get(host)

    def portsOf(self, client: str) -> list[Port]:
        """
        The ports of a client.
        """
        return [port for port in self.ports if (host := self._hosts.get(port.host)) is not None and host.client == client]

    # Changes

    def add(self, host: str, digest: str) -> Host:
        """
        Add a host.

        @raise Denied: it is not a host name, or there already.
        """
        _checked(checkPublicHost, host, "the host")
        if host in self._hosts:
            raise Denied("taken", f"there is a host {host} already; revoke it first")
        if len(self._hosts) >= MAX_HOSTS:
            raise Denied("limit", f"there are {MAX_HOSTS} hosts already")
        added = self._put(Host(host=host, digest=digest))
        self._changed(f"{host} added for {added.client}")
        return added

    def revoke(self, host: str) -> Host:
        """
        Remove a host and its ports.

        @raise Denied: there is none, or it is in the configuration file.
        """
        found = self._hosts.get(host)
        if found is None:
            raise Denied("unknown", f"there is no host {printable(host)}")
        if found.configured:
            raise Denied("not-allowed", f"{host} is in the configuration file: remove it there, and reload the edge")
        del self._hosts[host]
        self._ports = {key: port for key, port in self._ports.items() if port.host != host or port.configured}
        self._forgetNames()
        self._changed(f"{host} revoked from {found.client}")
        return found

    def open(self, port: int, host: str, address: str = "") -> Port:
        """
        Add a port for the client of a host.

        @raise Denied: the host is not known, or the port is in use.
        """
        if host not in self._hosts:
            raise Denied("unknown", f"there is no host {printable(host)}")
        if not 0 < port < 65_536:
            raise Denied("malformed", f"{port} is not a port number")
        if address:
            _checked(checkIPAddress, address, "the address")
        same = [other for number, other in self._ports if number == port]
        if address in same or (same and "" in (address, *same)):
            raise Denied("taken", f"port {port} is used already; close it first")
        added = self._ports[port, address] = Port(port=port, host=host, address=address)
        self._changed(f"port {port} opened for {self._hosts[host].client}")
        return added

    def close(self, port: int, address: str = "") -> Port:
        """
        Remove a port.

        @raise Denied: there is none, or it is in the configuration file.
        """
        found = self._ports.get((port, address))
        if found is None:
            raise Denied("unknown", f"there is no port {port}{f' of {printable(address)}' if address else ''}")
        if found.configured:
            raise Denied("not-allowed", f"port {port} is in the configuration file: remove it there, and reload the edge")
        del self._ports[port, address]
        self._changed(f"port {port} closed")
        return found

    def configure(self, hosts: Iterable[Host], ports: Iterable[Port]) -> None:
        """
        Replace the hosts and ports of the configuration file.
        """
        kept = [host for host in self._hosts.values() if not host.configured]
        self._hosts = {}
        for host in (*hosts, *kept):
            if host.host not in self._hosts:
                self._put(host)
        self._ports = {key: port for key, port in self._ports.items() if not port.configured}
        for port in ports:
            self._ports[port.port, port.address] = port
        self._forgetNames()
        self._watcher()

    def _put(self, host: Host) -> Host:
        """
        Keep a host under the name that its client has, or gets now.
        """
        name = self._names.get(host.digest) or self._newName(host)
        self._names[host.digest] = name
        put = self._hosts[host.host] = evolve(host, client=name)
        return put

    def _newName(self, host: Host) -> str:
        name = host.client or NAME_PREFIX + host.host
        return name if name not in self._names.values() else f"{name}.{host.digest[:8]}"

    def _forgetNames(self) -> None:
        """
        Forget the clients without a host.
        """
        used = {host.digest for host in self._hosts.values()}
        self._names = {digest: name for digest, name in self._names.items() if digest in used}

    def _changed(self, what: str) -> None:
        self.log.info("{what}", what=what, status="host")
        self._write()
        self._watcher()

    # The file

    def _read(self) -> tuple[list[Host], list[Port]]:
        text = None if self._state is None else self._state.read(FILE)
        if text is None:
            return [], []
        try:
            kept = json.loads(text)
            return [Host(**each) for each in kept["hosts"]], [Port(**each) for each in kept["ports"]]
        except (ValueError, KeyError, TypeError):
            raise ConfigurationError(
                f"{self._state and self._state.path(FILE)} cannot be read; move it away to begin without its hosts"
            ) from None

    def _write(self) -> None:
        if self._state is None:
            return
        kept = {
            "hosts": [asdict(host) for host in self.hosts if not host.configured],
            "ports": [asdict(port) for port in self.ports if not port.configured],
        }
        try:
            self._state.write(FILE, json.dumps(kept, indent=1) + "\n")
        except ConfigurationError as unwritable:
            self.log.error("hosts cannot be kept: {reason}", reason=str(unwritable))


def _checked(check: Callable[[object], None], value: str, what: str) -> None:
    """
    @raise Denied: a value is malformed.
    """
    try:
        check(value)
    except ConfigurationError as wrong:
        raise Denied("malformed", f"{what} {wrong}") from None
