"""
A stream handler: each line that is sent on a stream named C{/demo/shout/1.0.0} is sent back in capital letters.
"""

from twisted.internet.protocol import Factory
from twisted.plugin import IPlugin
from twisted.protocols.basic import LineOnlyReceiver
from zope.interface import implementer

from tunnelstack.interfaces import IStreamHandler


class Shout(LineOnlyReceiver):
    delimiter = b"\n"

    def lineReceived(self, line):
        self.sendLine(line.upper())


@implementer(IPlugin, IStreamHandler)
class ShoutHandler(Factory):
    name = b"/demo/shout/1.0.0"
    protocol = Shout


shout = ShoutHandler()
