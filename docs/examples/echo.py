"""
A server behind a tunnel and a client of it: needs a running edge (C{tunnel-edge --dev}).

Warnings are written to standard error.  While the edge is down, the endpoints report it there and try again.
"""

import sys

from twisted.internet import defer, endpoints, protocol, task
from twisted.logger import (
    FilteringLogObserver,
    LogLevel,
    LogLevelFilterPredicate,
    globalLogBeginner,
    textFileLogObserver,
)
from twisted.protocols.wire import Echo

from tunnelstack.errors import TunnelError


class Hello(protocol.Protocol):
    def connectionMade(self):
        self.received = defer.Deferred()
        self.transport.write(b"hello, tunnel\n")

    def dataReceived(self, data):
        self.received.callback(data)


async def talk(reactor):
    server = endpoints.serverFromString(reactor, "tunnel:echo:kind=stream")
    await server.listen(protocol.Factory.forProtocol(Echo))
    client = endpoints.clientFromString(reactor, "tunnel:echo")     # or in any other process
    hello = await client.connect(protocol.Factory.forProtocol(Hello))
    print(await hello.received)


async def main(reactor):
    try:
        await talk(reactor)
    except TunnelError as error:                # no edge is configured, or it refuses
        sys.exit(str(error))


warnings = FilteringLogObserver(textFileLogObserver(sys.stderr), [LogLevelFilterPredicate(LogLevel.warn)])
globalLogBeginner.beginLoggingTo([warnings], redirectStandardIO=False)
task.react(main)
