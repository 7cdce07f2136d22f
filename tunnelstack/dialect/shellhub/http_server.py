"""
The plain HTTP of a ShellHub server: a table of routes, and responses as the genuine server sends them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Union

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from tunnelstack.doors import HTTPDoor
from tunnelstack.exchange.whole_message import JSON, WholeMessageServer, WholeRequest, WholeResponse
from tunnelstack.wire.records.shellhub_bootstrap import BODY, encode_message

Response = Union[WholeResponse, "Deferred[WholeResponse]"]

Respond = Callable[[WholeRequest], Response]


@frozen
class Route:
    """
    A path with its methods.

    @ivar methods: what answers each method.
    @ivar prefix: whether the paths below C{path} belong to the route as well.
    """

    path: str
    methods: Mapping[bytes, Respond]
    prefix: bool = False

    def respond(self, request: WholeRequest) -> Response:
        """
        @return: the answer of the request's method; 405 if the route does not have it.
        """
        respond = self.methods.get(request.head.method)
        if respond is None:
            return messageResponse(405, "Method Not Allowed", (b"Allow", b", ".join(self.methods)))
        return respond(request)


def doorsOf(routes: Iterable[Route], clock: IReactorTime) -> list[HTTPDoor]:
    """
    @return: a door for each route.
    """
    return [
        HTTPDoor(
            path=route.path.encode(), prefix=route.prefix,
            server=WholeMessageServer(route.respond, clock=clock, bodyOctets=BODY, refuse=messageResponse),
        )
        for route in routes
    ]


class RequestRefused(Exception):
    """
    A request is refused.

    @ivar response: the refusal.
    """

    def __init__(self, response: WholeResponse, reason: str) -> None:
        """
        @param reason: for the log.
        """
        super().__init__(reason)
        self.response = response


def messageResponse(status: int, text: str, *fields: tuple[bytes, bytes]) -> WholeResponse:
    """
    @return: a refusal, a JSON object with the member C{message}.
    """
    return WholeResponse(status, encode_message(text), JSON, fields)


def jsonResponse(body: bytes) -> WholeResponse:
    """
    @return: a response with status 200 and a JSON object, which is the only kind of body that genuine agents read.
    """
    return WholeResponse(200, body, JSON)
