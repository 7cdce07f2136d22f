"""
The tables of Jetty in configuration files, and what carriers are told of a refusal.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.dialect.jetty.registration import SENTENCES, STATUS, RegistrationRefused
from tunnelstack.dialect.jetty.settings import AgentSettings, EdgeSettings, parseRoute
from tunnelstack.errors import ConfigurationError
from tunnelstack.wire.grpc import Status
from tunnelstack.wire.records.jetty import FORBIDDEN, VERIFY_REJECTED, RegistrationError


class RecordTests(SynchronousTestCase):
    """
    Values that records refuse.
    """

    def test_aURLOfGRPCHasAPort(self) -> None:
        self.assertEqual(EdgeSettings(grpcUrl="grpcs://tunnels.example.net:8091").grpcUrl, "grpcs://tunnels.example.net:8091")
        for wrong in ("https://tunnels.example.net:8091", "grpcs://tunnels.example.net", "grpcs://a:8091/x", "grpcs://a:port"):
            self.assertRaises(ConfigurationError, EdgeSettings, grpcUrl=wrong)

    def test_aRouteHasAPathAndAPort(self) -> None:
        self.assertEqual(parseRoute("/api=8080"), ("/api", "127.0.0.1", 8080))
        self.assertEqual(parseRoute("/api=app.test:80"), ("/api", "app.test", 80))
        for wrong in ("/api", "api=80", "/api=0", "/api=70000", "/api=a b:80", "/a=b=80"):
            self.assertRaises(ConfigurationError, parseRoute, wrong)

    def test_aHostThatIsAllowedIsANameOrASuffix(self) -> None:
        def agent(host: str) -> AgentSettings:
            return AgentSettings(url="https://a.example", tokenFile="t", target="3000", allowHosts=(host,))

        for right in ("app.test", "*.app.test", "127.0.0.1", "::1"):
            self.assertEqual(agent(right).allowHosts, (right,))
        for wrong in ("", "*", "a*.test", "app.test:80"):
            self.assertRaises(ConfigurationError, agent, wrong)


class RefusalTests(SynchronousTestCase):
    """
    Refusals of registrations.
    """

    def test_everyCodeHasAStatusAndASentence(self) -> None:
        self.assertEqual(STATUS.keys(), SENTENCES.keys())

    def test_aStockAgentRecognizesTheSentence(self) -> None:
        refused = RegistrationRefused(VERIFY_REJECTED)
        self.assertEqual((refused.sentence, refused.grpcStatus), ('verify rejected: {"valid":false}', Status.UNAUTHENTICATED))
        self.assertTrue(RegistrationError(message=refused.sentence).is_about_token)
        self.assertEqual(RegistrationRefused(FORBIDDEN, "no plan").sentence, "no plan")

    def test_aPeerMayGiveNoCode(self) -> None:
        self.assertEqual((RegistrationRefused("", "no").grpcStatus, str(RegistrationRefused(""))), (
            Status.UNKNOWN, "the registration was refused",
        ))  # fmt: skip
