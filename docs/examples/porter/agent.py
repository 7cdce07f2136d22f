"""
The example dialect "porter" at the agent: it dials, and serves each stream from one local web server.
"""

from urllib.parse import urlsplit

from twisted.internet.defer import inlineCallbacks
from twisted.internet.protocol import Factory
from zope.interface import implementer

from tunnelstack.dialect.http_entry import OneProtocol
from tunnelstack.dialect.session_link import SessionLink
from tunnelstack.exchange.forward import Forwarder
from tunnelstack.exchange.pool import ExchangePool
from tunnelstack.exchange.server import HTTPServerProtocol
from tunnelstack.interfaces import IAgentDialect
from tunnelstack.session.yamux import YamuxSession
from tunnelstack.transport.websocket.client import WebSocketClientEndpoint
from tunnelstack.transport.websocket.errors import UpgradeFailed, UpgradeRefused


@implementer(IAgentDialect)
class PorterAgent(Factory):
    name = "porter"
    credentialErrors, protocolErrors, permanentErrors = (UpgradeRefused,), (UpgradeFailed,), (UpgradeRefused, UpgradeFailed)

    def __init__(self, host, settings):
        self.host = host
        self.address = urlsplit(settings.url).netloc
        token = host.readSecret(settings.tokenFile)
        self.web = WebSocketClientEndpoint(
            host.clock, settings.url + "/porter", headers=[("Authorization", f"Bearer {token}")],
            endpoint=host.edgeEndpoint(settings),
        )
        self.server = Forwarder(ExchangePool(host.target(settings.target), clock=host.clock).exchange)

    def buildProtocol(self, address):
        return HTTPServerProtocol(self.server, clock=self.host.clock)

    @inlineCallbacks
    def dial(self):
        session = YamuxSession(False, clock=self.host.clock, limits=self.host.sessionLimits)
        session.listener.listen(self)
        yield self.web.connect(OneProtocol(session))
        return SessionLink(session)

    def up(self, link):
        return link.ping().addCallback(lambda seconds: {"rtt": f"{seconds * 1000:.1f}ms"})

    def retire(self):
        pass

    def report(self):
        return {}


def makeDialects(host, tables):
    return [PorterAgent(host, settings) for settings in tables["porter"]]
