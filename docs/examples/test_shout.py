"""
The test of the handler: two sessions, no network, and octets that are cut anywhere.
"""

from shout import shout
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.testing import sessionPair


class Caller(Protocol):
    heard = b""

    def connectionMade(self):
        self.transport.write(b"is there\nanybody\n")

    def dataReceived(self, data):
        self.heard += data


class ShoutTests(SynchronousTestCase):
    def test_everyLineComesBackLouder(self):
        for cut in (None, 1, 7):                # octets of one delivery
            wire, near, _far = sessionPair(shout, cut=cut)
            caller = self.successResultOf(near.connector.connect(Factory.forProtocol(Caller)))
            wire.settle()                       # until neither side has anything left to say
            self.assertEqual(caller.heard, b"IS THERE\nANYBODY\n")
