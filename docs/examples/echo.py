"""
A server behind a tunnel and a client of it: needs a running edge (C{tunnel-edge --dev}).
"""

from twisted.internet import defer, endpoints, protocol, task
from twisted.protocols.wire import Echo


class Hello(protocol.Protocol):
    def connectionMade(self):
        self.received = defer.Deferred()
        self.transport.write(b"hello, tunnel\n")

    def dataReceived(self, data):
        self.received.callback(data)


async def main(reactor):
    server = endpoints.serverFromString(reactor, "tunnel:echo:kind=stream")
    await server.listen(protocol.Factory.forProtocol(Echo))
    client = endpoints.clientFromString(reactor, "tunnel:echo")     # or in any other process
    hello = await client.connect(protocol.Factory.forProtocol(Hello))
    print(await hello.received)


task.react(main)
