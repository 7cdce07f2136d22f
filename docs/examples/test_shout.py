"""
The test of the handler: two sessions without a network, and octets cut anywhere.
"""

from shout import shout
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.testing import sessionPair


class Caller(Protocol):
    received = b""

    def connectionMade(self):
        self.transport.write(b"is there\nanybody\n")

    def dataReceived(self, data):
        self.received += data


class ShoutTests(SynchronousTestCase):
    def test_everyLineIsSentBackInCapitals(self):
        for cut in (None, 1, 7):                # octets per delivery
            wire, near, _far = sessionPair(shout, cut=cut)
            caller = self.successResultOf(near.connector.connect(Factory.forProtocol(Caller)))
            wire.settle()                       # until both sides have sent everything
            self.assertEqual(caller.received, b"IS THERE\nANYBODY\n")
