"""
The example dialect "porter" at the edge: a WebSocket at /porter, yamux on it, and a stream for each HTTP connection.
"""

from zope.interface import implementer

from tunnelstack.dialect.http_entry import HTTPEntry, OneProtocol, bearerToken, upgradeToWebSocket
from tunnelstack.dialect.session_tunnel import SessionTunnel
from tunnelstack.doors import HTTPDoor
from tunnelstack.exchange.whole_message import textResponse
from tunnelstack.interfaces import IDialect
from tunnelstack.records import Claim, HTTPPurpose, Service
from tunnelstack.session.yamux import YamuxSession
from tunnelstack.stream.address import StreamAddress
from tunnelstack.stream.errors import UnsupportedPurpose


@implementer(IDialect)
class PorterEdge:
    name = "porter"

    def doors(self, edge):
        self.edge = edge
        server = HTTPEntry(edge.clock, self.authenticate, self.enter, self.refuse)
        return [HTTPDoor(path=b"/porter", method=b"GET", server=server)]

    def close(self):
        pass

    def authenticate(self, head, exchange):
        return self.edge.authenticate(Claim(dialect=self.name, address=exchange.peer, token=bearerToken(head.fields)))

    def enter(self, principal, exchange):
        address = StreamAddress(key=principal.agent, principal=principal, dialect=self.name, peer=exchange.peer)
        session = YamuxSession(True, clock=self.edge.clock, limits=self.edge.sessionLimits, address=address)

        def endpointFor(purpose, visitor, wait):
            if not isinstance(purpose, HTTPPurpose):
                raise UnsupportedPurpose("porter carries HTTP only")
            return session.connector

        tunnel = SessionTunnel(
            session, principal, dialect=self.name, instance="", endpointFor=endpointFor, clock=self.edge.clock,
            bounds=self.edge.bounds,
        )
        session.whenUp().addCallback(self.arrive, tunnel).addErrback(lambda failure: tunnel.abort(failure.value))
        upgradeToWebSocket(exchange, OneProtocol(session), clock=self.edge.clock)

    def arrive(self, up, tunnel):
        self.edge.arrived(tunnel)
        return self.edge.announce(tunnel, Service(name=tunnel.key))

    def refuse(self, failure, exchange):
        return textResponse(401, "The token is not accepted.")


def makeDialects(edge, tables):
    return [PorterEdge()]
