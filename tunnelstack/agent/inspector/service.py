"""
The inspector of an agent as a service: it keeps the last requests, and listens for its page, its programs, and its API.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from secrets import token_urlsafe
from time import time

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IListeningPort, IStreamServerEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure

from tunnelstack.agent.inspector.access import COOKIE, Access
from tunnelstack.agent.inspector.recorder import RequestRecorder
from tunnelstack.agent.inspector.replay import Replayer
from tunnelstack.agent.inspector.resources import InspectorResources
from tunnelstack.control.config.records import InspectConfig
from tunnelstack.control.config.sources import Sources, readToken
from tunnelstack.control.secret_files import TokenFile
from tunnelstack.errors import ConfigurationError
from tunnelstack.exchange.bounded_factory import BoundedHTTPFactory
from tunnelstack.exchange.whole_message import WholeMessageServer
from tunnelstack.interfaces import IReactor
from tunnelstack.pages.access import PageToken, isLoopback
from tunnelstack.pages.resources import AccessServer, refusal
from tunnelstack.transport.error_text import errorText
from tunnelstack.transport.peers import addressText
from tunnelstack.version import VERSION
from tunnelstack.wire.printable_text import quoted

MAX_CONNECTIONS = 32
"""Connections of pages and programs at the same time."""

EDITED_OCTETS = 8 * 1024 * 1024
"""Octets of an edited request in JSON."""

TOKEN_NAME = "inspector.token"
"""The file in the state folder with the token."""


def inspectorEndpoint(reactor: IReactor, config: InspectConfig) -> IStreamServerEndpoint:
    """
    @return: where the inspector listens.
    @raise ConfigurationError: the endpoint string is invalid.
    """
    try:
        endpoint: IStreamServerEndpoint = serverFromString(reactor, config.listen)
    except Exception as error:      # parsers of endpoint strings are plugins, and may raise any exception
        raise ConfigurationError(
            f"[inspect] listen: {quoted(config.listen)} is not a valid endpoint: {errorText(error)}"
        ) from None
    return endpoint


def checkInspector(reactor: IReactor, config: InspectConfig, environ: Mapping[str, str] = os.environ) -> None:
    """
    Check a configuration, and create nothing.

    @raise ConfigurationError: the endpoint string is invalid, the token file cannot be used, or there is no folder for one.
    """
    inspectorEndpoint(reactor, config)
    if config.tokenFile:
        readToken(config.tokenFile)
    elif not isLoopback(config.listen):
        Sources(environ).state.read(TOKEN_NAME)


def inspectorToken(config: InspectConfig, environ: Mapping[str, str]) -> TokenFile | None:
    """
    @return: the token, from its file; C{None} if none is needed.
    @raise ConfigurationError: the file cannot be used, or the state folder cannot be written.
    """
    if config.tokenFile:
        return TokenFile(config.tokenFile, readToken(config.tokenFile))
    if isLoopback(config.listen):
        return None
    state = Sources(environ).state
    if state.read(TOKEN_NAME) is None:
        state.create(TOKEN_NAME, token_urlsafe(24) + "\n")
    path = str(state.path(TOKEN_NAME))
    return TokenFile(path, readToken(path))


class Inspector(Service):
    """
    The inspector of one agent.

    @ivar recorder: keeps the requests.
    @ivar addresses: where it listens.
    """

    log = Logger()

    def __init__(
        self, reactor: IReactor, config: InspectConfig, serverOf: Callable[[str], object], environ: Mapping[str, str]
    ) -> None:
        """
        @param serverOf: gives the server of the requests of a service, for replays.
        @param environ: the environment, which names the state folder.
        @raise ConfigurationError: as from L{inspectorEndpoint} and L{inspectorToken}.
        """
        self._clock = reactor
        self._config = config
        self._endpoint = inspectorEndpoint(reactor, config)
        self._tokenFile = config.tokenFile
        token = inspectorToken(config, environ)
        if token is not None and not self._tokenFile:
            self._tokenFile = str(Sources(environ).state.path(TOKEN_NAME))
        self._port: IListeningPort | None = None
        self.recorder = RequestRecorder(config, time)
        self._replayer = Replayer(reactor, self.recorder, serverOf)
        access = Access(None if token is None else PageToken(token, COOKIE))
        self._resources = InspectorResources(
            reactor, self.recorder, self._replayer, access, config.reveal, VERSION
        )
        server = WholeMessageServer(self._resources.respond, clock=reactor, bodyOctets=EDITED_OCTETS, refuse=refusal)
        self._factory = BoundedHTTPFactory(AccessServer(access.refusal, server), reactor, MAX_CONNECTIONS)

    @property
    def addresses(self) -> list[IAddress]:
        return [] if self._port is None else [self._port.getHost()]

    def startService(self) -> None:
        """
        Listen.  If that fails, it is logged, and the agent works without an inspector.
        """
        super().startService()
        self._endpoint.listen(self._factory).addCallbacks(self._listening, self._notListening)

    def _listening(self, port: IListeningPort) -> None:
        if not self.running:
            port.stopListening()
            return
        self._port = port
        token = f"  (its token is in {self._tokenFile})" if self._tokenFile else ""
        self.log.info("http://{where}/{token}", where=addressText(port.getHost()), token=token, status="inspect")

    def _notListening(self, failure: Failure) -> None:
        error: BaseException = failure.value or OSError()
        reason = error.socketError if isinstance(error, CannotListenError) else error
        self.log.error(
            "there is no inspector, because {listen} cannot be listened on: {reason}", listen=self._config.listen,
            reason=errorText(reason),
        )

    def stopService(self) -> Deferred[None] | None:
        super().stopService()
        self._replayer.stop()
        self._resources.stop()
        port, self._port = self._port, None
        return None if port is None else port.stopListening()
