"""
C{tunnel:} endpoints against a whole edge in one process: without sockets, in virtual time.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IStreamClientEndpoint, IStreamServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.protocols.wire import Echo
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import Site
from zope.interface.verify import verifyObject

from tunnelstack.control.config.dev_edge import writeDevEdge
from tunnelstack.control.config.records import EdgeAddress
from tunnelstack.control.process.exit_status import CredentialRefused
from tunnelstack.edge.service import EdgeService
from tunnelstack.endpoints import (
    LINGER,
    SharedAgent,
    TunnelClientEndpoint,
    TunnelServerEndpoint,
    clientFromOptions,
    serverFromOptions,
)
from tunnelstack.errors import ConfigurationError, Denied, Refused
from tunnelstack.records import Service
from tunnelstack.settings.state_dir import StateDirectory
from tunnelstack.testing import Caller, EdgeAndAgent

URL = f"http://localhost:{EdgeAndAgent.PORT}"


class Counted(Factory):
    """
    Builds echoes and notices what happens to it.
    """

    protocol = Echo
    noisy = False

    def __init__(self) -> None:
        self.addresses: list[Any] = []
        self.running = 0

    def startFactory(self) -> None:
        self.running += 1

    def stopFactory(self) -> None:
        self.running -= 1

    def buildProtocol(self, address: Any) -> Protocol | None:
        self.addresses.append(address)
        return super().buildProtocol(address)


class Who(Resource):
    """
    Answers with what the server knows of its visitor and of itself.
    """

    isLeaf = True

    def render_GET(self, request: Any) -> bytes:
        peer, host = request.transport.getPeer(), request.getHost()
        return f"{peer.host} {host.host}:{host.port}".encode()


class Case(SynchronousTestCase):
    """
    An edge, and endpoints of the process.
    """

    def setUp(self) -> None:
        self.begin()
        self.addCleanup(self.tidy)

    def begin(self, *allow: str) -> None:
        """
        Start an edge.

        @param allow: what the token may do; everything unless given.
        """
        self.whole = EdgeAndAgent(**({"allow": allow} if allow else {}))
        self.network: Any = self.whole.network
        self.network.callWhenRunning = lambda call: call()
        self.network.addSystemEventTrigger = lambda *arguments: arguments
        self.network.removeSystemEventTrigger = lambda trigger: None
        self.edges = (EdgeAddress(url=URL, token=self.whole.token),)
        self.whole.edge.startService()

    def tidy(self) -> None:
        """
        Every uplink that is left ends.
        """
        for sharedAgent in list(SharedAgent.shared.values()):
            sharedAgent.stop()
        self.whole.stop()
        self.assertEqual(SharedAgent.shared, {})

    def server(self, name: str = "echo", kind: str = "", port: int = 0, token: str = "") -> TunnelServerEndpoint:
        edges = (EdgeAddress(url=URL, token=token),) if token else self.edges
        return TunnelServerEndpoint(self.network, edges, name, kind, port)

    def client(self, name: str = "echo", purpose: str = "") -> TunnelClientEndpoint:
        return TunnelClientEndpoint(self.network, self.edges, name, purpose)

    def listens(self, factory: Any, **what: Any) -> Any:
        listening = self.server(**what).listen(factory)
        self.network.settle()
        return self.successResultOf(listening)

    def dial(self, name: str = "echo", purpose: str = "") -> Deferred[Any]:
        dialled = self.client(name, purpose).connect(Factory.forProtocol(Caller))
        self.network.settle()
        return dialled


class ServerTests(Case):
    """
    Listening.
    """

    def test_partsProvideTheirInterfaces(self) -> None:
        verifyObject(IStreamServerEndpoint, self.server())
        verifyObject(IStreamClientEndpoint, self.client())
        verifyObject(IListeningPort, self.listens(Counted()))

    def test_aWebServerSeesItsVisitor(self) -> None:
        site = Site(Who(), reactor=self.network)
        self.addCleanup(site.doStop)
        port = self.listens(site, name="site")
        self.assertTrue(self.whole.get("site.localhost").endswith(b"127.0.0.1 site.localhost:8080"))
        host = port.getHost()
        self.assertEqual((host.name, host.host, host.port, host.url), ("site", "site.localhost", 8080, "http://site.localhost:8080"))

    def test_withoutAKindItIsAWebHostAndANameToDial(self) -> None:
        factory = Counted()
        self.listens(factory)
        caller = self.successResultOf(self.dial())
        caller.transport.write(b"hello")
        self.network.settle()
        self.assertEqual(caller.got, b"hello")
        self.assertEqual({service.kind for service in self.server().services}, {"http", "stream"})

    def test_aTokenForWebHostsIsEnough(self) -> None:
        """
        A token for web hosts alone is enough, and that it is for nothing else is no news.
        """
        self.whole.stop()
        self.begin("http:*")
        self.listens(Counted(), name="site")
        self.failureResultOf(self.dial("site"), Refused)

    def test_nothingAllowedFails(self) -> None:
        self.whole.stop()
        self.begin("http:other")
        factory = Counted()
        listening = self.server().listen(factory)
        self.network.settle()
        self.assertEqual(self.failureResultOf(listening, Denied).value.code, "not-allowed")
        self.assertEqual((factory.running, SharedAgent.shared), (0, {}))

    def test_aTCPServiceGetsAPortOfTheEdge(self) -> None:
        factory = Counted()
        port = self.listens(factory, kind="tcp")
        self.assertEqual(self.whole.visit(b"hello", port.getHost().port).got, b"hello")
        self.assertEqual(factory.addresses[0].host, "127.0.0.1")

    def test_aWrongTokenFails(self) -> None:
        factory = Counted()
        listening = self.server(token="ts_0000_wrong").listen(factory)
        self.network.settle()
        self.failureResultOf(listening, CredentialRefused)
        self.assertEqual((factory.running, SharedAgent.shared), (0, {}))

    def test_itWaitsForAnEdgeThatIsNotThereYet(self) -> None:
        self.whole.edge.stopService()
        self.network.settle()
        listening = self.server().listen(Counted())
        self.network.passTime(100)
        self.assertNoResult(listening)
        self.whole.edge = EdgeService(self.network, self.whole.edge.config)
        self.whole.edge.startService()
        self.network.passTime(100)
        self.successResultOf(listening)

    def test_cancellingWithdrawsTheName(self) -> None:
        self.whole.edge.stopService()
        self.network.settle()
        factory = Counted()
        listening = self.server().listen(factory)
        self.network.passTime(3)
        listening.cancel()
        self.failureResultOf(listening)
        self.network.passTime(60)
        self.assertEqual((factory.running, SharedAgent.shared), (0, {}))

    def test_stopListeningWithdraws(self) -> None:
        factory = Counted()
        port = self.listens(factory)
        self.assertEqual(factory.running, 1)
        stopped = port.stopListening()
        self.network.settle()
        self.successResultOf(stopped)
        self.assertIn(b" 503 ", self.whole.get("echo.localhost").partition(b"\r\n")[0])
        self.assertEqual((factory.running, SharedAgent.shared), (0, {}))
        self.successResultOf(port.stopListening())

    def test_itIsAnnouncedAgainAfterAReconnection(self) -> None:
        self.listens(Counted())
        for tunnel in list(self.whole.edge.registry):
            tunnel.abort("for a test")
        self.network.passTime(60)
        caller = self.successResultOf(self.dial())
        caller.transport.write(b"again")
        self.network.settle()
        self.assertEqual(caller.got, b"again")

    def test_oneNameOnceInAProcess(self) -> None:
        self.listens(Counted())
        factory = Counted()
        self.failureResultOf(self.server().listen(factory), CannotListenError)
        self.assertEqual(factory.running, 0)
        caller = self.successResultOf(self.dial())
        self.assertTrue(caller.transport.connected)


class ClientTests(Case):
    """
    Dialling.
    """

    def test_dialingAnUnknownNameIsRefused(self) -> None:
        failure = self.failureResultOf(self.dial("nobody"), Refused)
        self.assertIn("no service nobody can be dialled at this edge", str(failure.value))

    def test_theUplinkStaysForTheNextAndGoesAfterTheLast(self) -> None:
        self.listens(Counted()).getHost()
        one = self.successResultOf(self.dial())
        self.network.passTime(2 * LINGER)
        self.assertEqual(len(SharedAgent.shared), 1)
        self.assertTrue(one.transport.connected)

    def test_aClientAloneKeepsItsUplinkWhileItIsConnected(self) -> None:
        self.whole.agent.startService()
        self.whole.agent.publish(Service(name="echo", kind="stream"), Counted())
        self.network.settle()
        one = self.successResultOf(self.dial())
        self.network.passTime(3 * LINGER)
        one.transport.write(b"still here")
        self.network.settle()
        self.assertEqual(one.got, b"still here")
        one.transport.loseConnection()
        self.network.passTime(2 * LINGER + 1)
        self.assertEqual(SharedAgent.shared, {})
        self.assertEqual(len(list(self.whole.edge.registry)), 1)

    def test_allEndpointsShareOneAgent(self) -> None:
        for name in ("one", "two", "three"):
            self.listens(Counted(), name=name)
        for name in ("one", "two", "three"):
            self.successResultOf(self.dial(name))
        self.assertEqual((len(SharedAgent.shared), len(list(self.whole.edge.registry))), (1, 1))


class StringTests(SynchronousTestCase):
    """
    What is written in endpoint strings.
    """

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.environ = {"STATE_DIRECTORY": str(self.folder)}
        writeDevEdge(StateDirectory(self.folder), EdgeAddress(url=URL, token="dev-token"))

    def test_pluginsAreFound(self) -> None:
        self.patch(__import__("os"), "environ", self.environ)
        self.assertIsInstance(serverFromString(None, "tunnel:site"), TunnelServerEndpoint)
        self.assertIsInstance(clientFromString(None, "tunnel:site"), TunnelClientEndpoint)

    def test_everyParameterOfAStringIsUsed(self) -> None:
        token = self.folder / "token"
        token.write_text("file-token\n")
        self.environ["TUNNELSTACK_TOKEN"] = "env-token"
        said = {"edge": "https://a.net", "tokenFile": str(token)}
        server = serverFromOptions(None, "db", kind="tcp", port="2000", environ=self.environ, **said)
        self.assertEqual([(service.kind, service.port) for service in server.services], [("tcp", 2000)])
        self.assertEqual(server.edges, (EdgeAddress(url="https://a.net", token="file-token", tokenFile=str(token)),))
        client = clientFromOptions(None, "db", purpose="/demo/shout/1.0.0", environ=self.environ, **said)
        self.assertEqual((client.name, client.purpose), ("db", "/demo/shout/1.0.0"))

    def test_aTokenCrossesTheNetworkUnencryptedOnlyIfTheStringSaysSo(self) -> None:
        environ = self.environ | {"TUNNELSTACK_TOKEN": "t"}
        for make in (serverFromOptions, clientFromOptions):
            error = self.assertRaises(ConfigurationError, make, None, "db", edge="http://a.net", environ=environ)
            self.assertIn("unencrypted", str(error))
            made = make(None, "db", edge="http://a.net", insecure="yes", environ=environ)
            self.assertEqual(made.edges[0].token, "t")

    def test_mistakesInStringsAreSentencesThatNameTheStringAndTheParameter(self) -> None:
        self.patch(__import__("os"), "environ", self.environ)
        both = serverFromString, clientFromString
        for parse, text, sentence in (
            *((parse, "tunnel:", "tunnel: needs the name of a service") for parse in both),
            *((parse, "tunnel", "tunnel: needs the name of a service") for parse in both),
            *((parse, "tunnel:edge=https\\://a.net", "tunnel: needs the name of a service") for parse in both),
            *((parse, "tunnel:db:egde=https\\://a.net", "tunnel:db: unknown parameter egde; did you mean edge?")
              for parse in both),
            (serverFromString, "tunnel:db:purpose=/a/1", "tunnel:db: unknown parameter purpose; there are edge, "),
            (clientFromString, "tunnel:db:kind=tcp", "tunnel:db: unknown parameter kind; there are edge, "),
            *((parse, "tunnel:db:edge=https://a.net:84", "tunnel:db: the part '//a.net' has no") for parse in both),
            (serverFromString, "tunnel:db:kind=udp", "tunnel:db: kind must be one of http, stream, tcp, not 'udp'"),
            (serverFromString, "tunnel:db:kind=tcp:port=x", "tunnel:db: port must be a number up to 65535, not 'x'"),
            *((parse, "tunnel:db:insecure=1", "tunnel:db: insecure must be yes or no, not '1'") for parse in both),
            *((parse, "tunnel:db:edge=a b", "tunnel:db: --edge must be a URL") for parse in both),
        ):
            error = self.assertRaises(ConfigurationError, parse, None, text)
            self.assertIn(f"the endpoint string {sentence}", str(error))

    def test_mistakesNameTheParameter(self) -> None:
        for name, options, told in (
            ("Not A Name", {}, "the name of a tunnel must be a name of up to 63"),
            ("a", {"kind": "udp"}, "kind must be one of http, stream, tcp, not 'udp'"),
            ("a", {"port": "1"}, "port is only for kind=tcp"),
            ("a", {"kind": "tcp", "port": "99999"}, "port must be a number up to 65535"),
            ("a", {"edge": "a b"}, "--edge must be a URL"),
            ("a", {"edge": "https://a.net"}, "no token for https://a.net is configured"),
            ("a", {"edge": "https://a.net", "insecure": "true"}, "insecure must be yes or no, not 'true'"),
        ):
            error = self.assertRaises(
                ConfigurationError, serverFromOptions, None, name, environ=self.environ, **options
            )
            self.assertIn(told, str(error))
