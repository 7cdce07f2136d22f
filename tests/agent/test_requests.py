"""
What an agent keeps of a request that is over.
"""

from __future__ import annotations

from types import SimpleNamespace

from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.agent.requests import recordFromExchange
from tunnelstack.control.access_record import Descriptions
from tunnelstack.wire.http1.head import RequestHead


class RequestTests(SynchronousTestCase):
    """
    Requests of exchanges.
    """

    def test_theTargetIsInASCII(self) -> None:
        head = RequestHead(b"GET", b"/gr\xc3\xbc\xc3\x9fe?\xff", [(b"X-Forwarded-For", b"192.0.2.1, 10.0.0.1")])
        exchange = SimpleNamespace(head=head, host=b"a", trace="t", status=200, octets=3)
        request = recordFromExchange(Descriptions("agent"), "site", exchange, 0.5, 7.0)
        self.assertEqual((request.target, request.visitor), ("/gr%C3%BC%C3%9Fe?%FF", "192.0.2.1"))
        self.assertEqual((request.description.role, request.seconds, request.ended), ("agent", 0.5, 7.0))
