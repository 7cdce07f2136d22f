"""
The API of the edge, as the stock agent uses it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from twisted.internet.protocol import Factory
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.changed_settings import changes
from tests.dialect.jetty.support import NOW, Place
from tunnelstack.dialect.jetty.sample_log import MOST_OF_TUNNEL
from tunnelstack.dialect.jetty.settings import GRPC, EdgeSettings, RolloutSettings
from tunnelstack.dialect.jetty.tunnel_store import FILE, MOST_OF_OWNER, TunnelStore, newIdentifier
from tunnelstack.errors import ConfigurationError, Denied
from tunnelstack.interfaces import IAdminResources, IReloadableDialect
from tunnelstack.settings.state_dir import StateDirectory
from tunnelstack.testing import Network
from tunnelstack.wire.records.jetty_bridge import BODY

ULID = r"^[0-9A-HJKMNP-TV-Z]{26}$"


class BridgeCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.logged: list[dict[str, Any]] = []
        globalLogPublisher.addObserver(self.logged.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.logged.append)
        self.place = self.open()

    def open(self, settings: EdgeSettings | None = None, **others: Any) -> Place:
        place = Place(settings, **others)
        self.addCleanup(place.stop)
        return place

    def refused(self, status: int, method: str, path: str, body: Any = None, **others: Any) -> str:
        """
        @return: the message of a refusal.
        """
        answer = self.place.send(method, path, body, **others)
        self.assertEqual(answer.status, status, answer)
        self.assertEqual(answer.fields["content-type"], "application/json")
        self.assertEqual(sorted(answer.json), ["hint", "message"])
        message: str = answer.json["message"]
        return message


class CreationTests(BridgeCase):
    """
    C{POST /api/tunnels}.
    """

    def test_theDialectProvidesItsInterfaces(self) -> None:
        self.assertTrue(verifyObject(IReloadableDialect, self.place.dialect))
        self.assertTrue(verifyObject(IAdminResources, self.place.dialect))

    def test_aTunnelHasWhatItsAgentNeeds(self) -> None:
        tunnel = self.place.create(subdomain="demo")
        self.assertRegex(tunnel.pop("id"), ULID)
        self.assertGreater(len(tunnel.pop("agent_token")), 40)
        self.assertEqual(tunnel, {
            "subdomain": "demo", "public_url": "http://demo.localhost:8080", "local_target": "127.0.0.1:3000",
            "status": "awaiting_connection", "server": None, "protocol": "http",
            "edge": {"websocket_url": "ws://localhost:8080/agent", "transports": ["websocket"]},
        })

    def test_theTokenIsToldOnceAndKeptAsADigest(self) -> None:
        created = self.place.create(subdomain="demo")
        (listed,) = self.place.send("GET", "/api/tunnels").data
        self.assertNotIn("agent_token", listed)
        self.assertTrue(self.place.store.hasToken(created["id"], created["agent_token"]))
        self.assertNotIn(created["agent_token"], repr(self.place.store.tunnels) + repr(self.logged))

    def test_aNameIsChosenAsTheTokenAllows(self) -> None:
        self.assertRegex(self.place.create()["subdomain"], r"^[a-z]+-[a-z0-9]{8}$")
        self.assertEqual(self.place.create(agent="desk")["subdomain"], "desk")
        self.assertEqual(self.place.create(agent="www")["subdomain"], "web", "www is reserved")
        names = [self.place.create(port, agent="team")["subdomain"] for port in (1, 2, 3)]
        self.assertEqual(names[0], "team")
        self.assertRegex(names[1], r"^team-[a-z0-9]{8}$")
        self.assertEqual(len(set(names)), 3)

    def test_aTokenWithOneNameUsesItAgain(self) -> None:
        first = self.place.create(3000, agent="desk")
        second = self.place.create(4000, agent="desk")
        self.assertEqual((second["id"], second["local_target"]), (first["id"], "127.0.0.1:4000"))
        self.assertNotEqual(second["agent_token"], first["agent_token"])
        self.assertFalse(self.place.store.hasToken(first["id"], first["agent_token"]))

    def test_aNameOfAnotherIsRefused(self) -> None:
        self.place.create(subdomain="team-a", agent="team")
        body = {"local_host": "127.0.0.1", "local_port": 3000}
        self.assertIn("another credential", self.refused(422, "POST", "/api/tunnels", {**body, "subdomain": "team-a"}))
        message = self.refused(403, "POST", "/api/tunnels", {**body, "subdomain": "other"}, agent="desk")
        self.assertIn("the token does not allow http:other", message)
        for name, said in (("www", "reserved"), ("a.b", "must be a name"), ("-", "must be a name"), ("x" * 64, "characters")):
            self.assertIn(said, self.refused(422, "POST", "/api/tunnels", {**body, "subdomain": name}))

    def test_aRawTunnelHasAPortOfTheRights(self) -> None:
        first, second = (self.place.create(5432, protocol="tcp") for _ in range(2))
        self.assertIn(first["assigned_port"], range(2000, 2010))
        self.assertEqual(first["public_endpoint"], f"tcp://{first['subdomain']}.localhost:{first['assigned_port']}")
        self.assertNotEqual(first["assigned_port"], second["assigned_port"])
        self.assertEqual(self.place.create(53, protocol="udp")["protocol"], "udp")
        body = {"local_host": "127.0.0.1", "local_port": 1, "protocol": "tcp"}
        self.assertIn("does not allow tcp", self.refused(403, "POST", "/api/tunnels", body, agent="desk"))

    def test_aPortThatAnotherProgramHasIsNotChosen(self) -> None:
        for port in range(2000, 2009):
            self.place.network.listenTCP(port, Factory())
        self.assertEqual(self.place.create(5432, protocol="tcp")["assigned_port"], 2009)

    def test_portsAreUsedUp(self) -> None:
        for _ in range(10):
            self.place.create(5432, protocol="tcp")
        store = self.place.store
        self.assertEqual(sorted(each.port for each in store.tunnels), list(range(2000, 2010)))
        again = self.place.create(5432, protocol="tcp")
        self.assertIn(again["id"], [each.id for each in store.tunnels], "one that no agent serves")

    def test_anOwnerHasABoundedNumberOfTunnels(self) -> None:
        for number in range(MOST_OF_OWNER):
            self.place.store.add(f"t{number}", "laptop")
        body = {"local_host": "127.0.0.1", "local_port": 3000, "subdomain": "one-more"}
        self.assertIn(f"has {MOST_OF_OWNER} tunnels", self.refused(422, "POST", "/api/tunnels", body))
        self.place.create(agent="desk")

    def test_aTunnelMayExpire(self) -> None:
        tunnel = self.place.create(subdomain="demo", expires_in=60)
        self.place.time += 59
        self.assertIsNotNone(self.place.store.find(tunnel["id"]))
        self.place.time += 1
        self.assertIsNone(self.place.store.find(tunnel["id"]))
        self.assertEqual(self.place.send("GET", "/api/tunnels").data, [])

    def test_rulesAreKept(self) -> None:
        rule = {"match_type": "path_prefix", "path_prefix": "/api", "local_host": "127.0.0.1", "local_port": "8000"}
        tunnel = self.place.create(routing_rules=[rule])
        stored = self.place.store.find(tunnel["id"])
        assert stored is not None
        self.assertEqual((stored.rules[0].path_prefix, stored.rules[0].local_port), ("/api", 8000))

    def test_bodiesAreReadStrictly(self) -> None:
        right = {"local_host": "127.0.0.1", "local_port": 3000}
        for wrong in (
            {"local_port": 3000}, {**right, "local_port": 0}, {**right, "local_port": 70_000}, {**right, "local_port": True},
            {**right, "local_host": "a b"}, {**right, "local_host": "http://x"}, {**right, "protocol": "sctp"},
            {**right, "subdomain": 5}, {**right, "routing_rules": {}}, {**right, "routing_rules": [1]},
            {**right, "routing_rules": [{}] * 33},
            {**right, "routing_rules": [{"match_type": "regex", "local_host": "x", "local_port": 1}]},
            {**right, "expires_in": -1}, {**right, "server": "x" * 256},
        ):
            self.assertIn(" must be ", self.refused(422, "POST", "/api/tunnels", wrong))
        for body in (b"[]", b"{", b'{"local_port":1,"local_port":2}', b"\xff"):
            self.assertEqual(self.refused(400, "POST", "/api/tunnels", body), "the body must be a JSON object")
        self.refused(413, "POST", "/api/tunnels", b" " * (BODY + 1))


class TokenTests(BridgeCase):
    """
    Who may use the API.
    """

    def test_aTokenIsNeeded(self) -> None:
        for token in ("", "ts_abcd_" + "x" * 43, "wrong"):
            for method, path in (
                ("GET", "/api/tunnels"), ("POST", "/api/tunnels"), ("DELETE", "/api/tunnels/X"),
                ("POST", "/api/tunnels/X/attach"), ("GET", "/api/reserved-subdomains"),
                ("GET", "/api/tunnel-request-samples/1"),
            ):
                self.assertIn("token is not accepted", self.refused(401, method, path, token=token))
        self.assertNotIn("x" * 43, repr(self.logged))

    def test_tunnelsOfOthersDoNotExist(self) -> None:
        tunnel = self.place.create(subdomain="demo")
        self.assertEqual(self.place.send("GET", "/api/tunnels", agent="desk").data, [])
        at = f"/api/tunnels/{tunnel['id']}"
        attach = {"local_host": "127.0.0.1", "local_port": 3000, "server": None}
        for method, path, body in (
            ("GET", at, None), ("DELETE", at, None), ("POST", f"{at}/attach", attach), ("POST", f"{at}/heartbeat", None),
            ("POST", "/api/tunnels/NONE/attach", attach),
        ):
            self.assertEqual(self.refused(404, method, path, body, agent="desk"), "there is no such tunnel")
        self.assertEqual(len(self.place.store.tunnels), 1)

    def test_pathsAndMethodsAreLimited(self) -> None:
        self.refused(404, "POST", "/api/tunnels/X/other")
        self.refused(404, "POST", "/api/tunnels/X/attach/more")
        self.refused(405, "PUT", "/api/tunnels")
        self.refused(405, "GET", "/api/tunnels/X/attach")
        answer = self.place.send("PATCH", "/api/tunnels/X")
        self.assertEqual((answer.status, answer.fields["allow"]), (405, "GET, DELETE"))

    def test_thePublishedHostsHaveNoAPI(self) -> None:
        self.place.create(subdomain="demo")
        self.assertNotEqual(self.place.send("GET", "/api/tunnels", host="demo.localhost").status, 200)


class TunnelTests(BridgeCase):
    """
    What an agent does with its tunnel.
    """

    def setUp(self) -> None:
        super().setUp()
        self.tunnel = self.place.create(subdomain="demo", server="web-1")
        self.at = f"/api/tunnels/{self.tunnel['id']}"

    def test_attachingIssuesANewToken(self) -> None:
        answer = self.place.send("POST", f"{self.at}/attach", {"local_host": "localhost", "local_port": 81, "server": None})
        self.assertEqual(answer.status, 200)
        attached = answer.data
        self.assertEqual(
            [attached[each] for each in ("id", "subdomain", "local_target", "server")],
            [self.tunnel["id"], "demo", "localhost:81", "web-1"],
        )
        self.assertTrue(self.place.store.hasToken(self.tunnel["id"], attached["agent_token"]))
        self.assertFalse(self.place.store.hasToken(self.tunnel["id"], self.tunnel["agent_token"]))

    def test_attachingChangesTheRulesIfItNamesSome(self) -> None:
        attach = {"local_host": "localhost", "local_port": 81}
        rule = {"match_type": "header", "header_name": "x", "header_value": "1", "local_host": "127.0.0.1", "local_port": 9}
        rulesOf = self.place.store.rulesOf
        for more, ports in (
            ({"routing_rules": [rule]}, [9]), ({}, [9]), ({"routing_rules": None}, [9]), ({"routing_rules": []}, []),
        ):
            self.assertEqual(self.place.send("POST", f"{self.at}/attach", {**attach, **more}).status, 200)
            self.assertEqual([each.local_port for each in rulesOf(self.tunnel["id"])], ports)
        message = self.refused(422, "POST", f"{self.at}/attach", {**attach, "routing_rules": [{**rule, "match_type": "x"}]})
        self.assertEqual(message, "routing_rules.match_type must be one of path_prefix, header, geo_match")
        self.assertEqual(rulesOf("none"), ())

    def test_heartbeatsAreCounted(self) -> None:
        for body in (None, {"requests": 2}, {"requests": 1, "bytes_in": 10, "bytes_out": 20}):
            self.assertEqual(self.place.send("POST", f"{self.at}/heartbeat", body).status, 200)
        (record,) = self.place.dialect.getHandlers[b"/jetty/tunnels"]()["tunnels"]  # type: ignore[index]
        self.assertEqual([record[each] for each in ("requests", "bytes_in", "bytes_out")], [3, 10, 20])
        self.assertGreater(record["seen"], 0)
        self.refused(422, "POST", f"{self.at}/heartbeat", {"requests": -1})

    def test_samplesCanBeReadAgainWithoutCredentials(self) -> None:
        sample = {
            "method": "GET", "path": "/x", "query": None, "status": 200, "bytes_in": 1, "bytes_out": 2,
            "headers": {"Authorization": "Bearer s3cret", "Accept": "*/*", "proxy-Authorization": "s3cret"},
        }
        answer = self.place.send("POST", f"{self.at}/request-samples", sample)
        self.assertEqual(answer.status, 201)
        kept = self.place.send("GET", f"/api/tunnel-request-samples/{answer.data['id']}").data
        self.assertEqual((kept["path"], kept["query"], kept["headers"]["Accept"]), ("/x", None, "*/*"))
        self.assertNotIn("s3cret", json.dumps(kept))
        self.refused(404, "GET", f"/api/tunnel-request-samples/{answer.data['id']}", agent="desk")
        self.refused(404, "GET", "/api/tunnel-request-samples/NONE")
        self.refused(422, "POST", f"{self.at}/request-samples", {**sample, "status": 99})
        self.place.send("DELETE", self.at)
        self.refused(404, "GET", f"/api/tunnel-request-samples/{answer.data['id']}")

    def test_onlyTheNewestSamplesAreKept(self) -> None:
        sample = {"method": "GET", "path": "/x", "status": 200, "headers": []}
        ids = [
            self.place.send("POST", f"{self.at}/request-samples", sample).data["id"] for _ in range(MOST_OF_TUNNEL + 1)
        ]
        self.refused(404, "GET", f"/api/tunnel-request-samples/{ids[0]}")
        self.assertEqual(self.place.send("GET", f"/api/tunnel-request-samples/{ids[1]}").status, 200)

    def test_linesAboutRequestsAreAccepted(self) -> None:
        line = {"method": "GET", "path": "/", "status": 200, "latency_ms": 5}
        self.assertEqual(self.place.send("POST", f"{self.at}/request-log", line).status, 201)
        self.refused(422, "POST", f"{self.at}/request-log", {"method": "GET"})

    def test_aTunnelIsDeleted(self) -> None:
        answer = self.place.send("DELETE", self.at)
        self.assertEqual((answer.status, answer.body), (204, b""))
        self.refused(404, "DELETE", self.at)
        self.place.create(subdomain="demo")

    def test_namesOfTunnelsAreReserved(self) -> None:
        answer = self.place.send("GET", "/api/reserved-subdomains")
        self.assertEqual(answer.json, {"data": [{"subdomain": "demo", "tunnel_id": self.tunnel["id"]}], "meta": {}})


class OpenTests(BridgeCase):
    """
    What needs no token.
    """

    def test_theEdgeIsTold(self) -> None:
        answer = self.place.send("GET", "/api/cli/edge-regions", token="")
        self.assertEqual(answer.json, {"edges": [{"url": "ws://localhost:8080/agent", "region": "localhost", "location": ""}]})
        self.assertEqual(self.place.send("GET", "/api/cli/bootstrap", token="").json, answer.json)

    def test_thereIsNoLogin(self) -> None:
        for method, path in (("POST", "/api/cli/auth/session"), ("GET", "/api/cli/auth/poll")):
            answer = self.place.send(method, path, token="")
            self.assertEqual(answer.status, 404)
            self.assertIn("tunnelstack token new", answer.json["hint"])

    def test_reportsOfFailuresAreLoggedSometimes(self) -> None:
        for number in range(5):
            report = {"http_status": 502, "reason": f"bad gateway\x1b[2J {number}", "client": "jetty"}
            self.assertEqual(self.place.send("POST", "/api/telemetry/edge-ws-failure", report, token="").status, 204)
        self.place.network.passTime(61)
        self.place.send("POST", "/api/telemetry/edge-ws-failure", {"reason": "x"}, token="")
        lines = [event for event in self.logged if "others" in event]
        self.assertEqual([(event["reason"], event["others"]) for event in lines], [("bad gateway\\x1b[2J 0", 0), ("x", 4)])
        self.refused(422, "POST", "/api/telemetry/edge-ws-failure", {"reason": "x" * 201}, token="")


class VerificationTests(BridgeCase):
    """
    C{POST /api/edge/tunnel/verify}, from another edge.
    """

    def test_anotherEdgeShowsItsSecret(self) -> None:
        place = self.open(secret="s3cret")
        tunnel = place.create(subdomain="demo")
        asked = {"tunnel_id": tunnel["id"], "agent_token": tunnel["agent_token"], "edge_id": "e2"}

        def verify(secret: str = "s3cret", **members: str) -> Any:
            fields = (f"X-Jetty-Edge-Secret: {secret}",) if secret else ()
            return place.send("POST", "/api/edge/tunnel/verify", {**asked, **members}, token="", fields=fields)

        answer = verify()
        self.assertEqual((answer.status, answer.json["valid"], answer.json["subdomain"]), (200, True, "demo"))
        for wrong in ({"agent_token": "x"}, {"tunnel_id": "x"}):
            self.assertEqual((verify(**wrong).status, verify(**wrong).json), (403, {"valid": False}))
        self.assertEqual([verify(secret="").status, verify(secret="wrong").status], [401, 401])

    def test_withoutASecretNobodyVerifies(self) -> None:
        asked = {"tunnel_id": "x", "agent_token": "y"}
        for fields in ((), ("X-Jetty-Edge-Secret: ",)):
            self.refused(401, "POST", "/api/edge/tunnel/verify", asked, token="", fields=fields)


class AddressTests(BridgeCase):
    """
    What agents are told of carriers.
    """

    def edgeOf(self, settings: EdgeSettings, **others: Any) -> Any:
        place = self.open(settings, **others)
        return place.create(subdomain="demo")["edge"]

    def test_gRPCIsOfferedBesideWebSocket(self) -> None:
        edge = self.edgeOf(EdgeSettings(transportMode=GRPC))
        self.assertEqual(edge, {
            "websocket_url": "ws://localhost:8080/agent", "grpc_url": "grpc://localhost:8091",
            "transports": ["grpc", "websocket"],
        })

    def test_itsAddressMayBeGiven(self) -> None:
        settings = EdgeSettings(transportMode=GRPC, noWebsocket=True, grpcUrl="grpcs://g.example.net:443")
        edge = self.edgeOf(settings, publicUrl="https://tunnels.example.net", domain="tunnels.example.net")
        self.assertEqual(
            edge, {"websocket_url": "", "grpc_url": "grpcs://g.example.net:443", "transports": ["grpc"]}
        )

    def test_anAddressThatAgentsCannotUseIsNotTold(self) -> None:
        edge = self.edgeOf(EdgeSettings(transportMode=GRPC), publicUrl="https://tunnels.example.net")
        self.assertEqual(edge, {"websocket_url": "wss://tunnels.example.net/agent", "transports": ["websocket"]})

    @changes("edge [jetty.rollout] grpc_percent")
    def test_onlyAShareOfTheTunnelsIsToldOfGRPC(self) -> None:
        for percent, low, high in ((0, 0, 0), (30, 1, 59), (100, 60, 60)):
            place = self.open(EdgeSettings(transportMode=GRPC), percent=percent)
            told = ["grpc_url" in place.create(number)["edge"] for number in range(1, 61)]
            self.assertTrue(low <= sum(told) <= high, (percent, told))
            again = ["grpc_url" in each["edge"] for each in place.send("GET", "/api/tunnels").data]
            self.assertEqual(sum(again), sum(told), "the same ones")

    def test_theShareChangesWhileTheEdgeRuns(self) -> None:
        place = self.open(EdgeSettings(transportMode=GRPC))
        place.create(subdomain="demo")
        apply = place.dialect.prepareReload({"jetty": {"jetty.rollout": (RolloutSettings(grpcPercent=0),)}})
        self.assertIn("grpc_url", place.send("GET", "/api/tunnels").data[0]["edge"])
        apply()
        self.assertNotIn("grpc_url", place.send("GET", "/api/tunnels").data[0]["edge"])


class StoreTests(SynchronousTestCase):
    """
    The file of tunnels.
    """

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.state = StateDirectory(self.folder)

    def test_tunnelsOutliveTheEdge(self) -> None:
        place = Place(state=self.state)
        created = place.create(
            subdomain="demo", server="web", routing_rules=[{"path_prefix": "/a", "local_host": "x", "local_port": 1}]
        )
        before = place.store.tunnels
        place.stop()
        text = (self.folder / FILE).read_text()
        self.assertNotIn(created["agent_token"], text)
        self.assertEqual((self.folder / FILE).stat().st_mode & 0o777, 0o600)
        again = TunnelStore(self.state, Network(), lambda: NOW)
        self.assertEqual(again.tunnels, before)
        self.assertTrue(again.hasToken(created["id"], created["agent_token"]))

    def test_itIsWrittenSoonAfterAChange(self) -> None:
        network = Network()
        store = TunnelStore(self.state, network, lambda: NOW)
        store.add("demo", "laptop")
        store.add("more", "laptop")
        self.assertFalse((self.folder / FILE).exists())
        network.passTime(1)
        self.assertEqual(len(json.loads((self.folder / FILE).read_text())["tunnels"]), 2)

    def test_anUnreadableFileIsAnError(self) -> None:
        self.folder.mkdir()
        right = {
            "id": "A", "subdomain": "demo", "owner": "laptop", "protocol": "http", "principal": None, "localTarget": "",
            "server": "", "tokenSha256": "", "port": 0, "expires": 0.0, "rules": [],
        }
        for wrong in (
            "", "{}", "[]", json.dumps({"tunnels": [{}]}), json.dumps({"tunnels": [{**right, "subdomain": "A B"}]}),
            json.dumps({"tunnels": [{**right, "protocol": "x"}]}), json.dumps({"tunnels": [{**right, "port": "1"}]}),
            json.dumps({"tunnels": [{**right, "principal": {"agent": "x"}}]}), json.dumps({"tunnels": [{**right, "id": 5}]}),
            json.dumps({"tunnels": [{**right, "rules": [{"path_prefix": "/a", "local_host": "x", "local_port": 0}]}]}),
        ):
            (self.folder / FILE).write_text(wrong)
            self.assertRaises(ConfigurationError, TunnelStore, self.state, Network())
        (self.folder / FILE).write_text(json.dumps({"tunnels": [right]}))
        self.assertEqual(len(TunnelStore(self.state, Network()).tunnels), 1)

    def test_laterIdentifiersAreGreater(self) -> None:
        self.assertLess(newIdentifier(NOW), newIdentifier(NOW + 0.001))
        self.assertRegex(newIdentifier(NOW), ULID)
        self.assertNotEqual(newIdentifier(NOW), newIdentifier(NOW))

    def test_aTunnelWithoutATokenHasNone(self) -> None:
        store = TunnelStore(None, Network())
        tunnel = store.add("demo", "laptop")
        self.assertFalse(store.hasToken(tunnel.id, ""))
        self.assertFalse(store.hasToken("", ""))
        self.assertRaises(Denied, store.add, "demo", "desk")


class AdministrationTests(BridgeCase):
    """
    What operators see and change.
    """

    def test_anOperatorReservesANameForAnOwner(self) -> None:
        dialect = self.place.dialect
        added = dialect.postHandlers[b"/jetty/tunnels/add"]({"name": "team-x", "owner": "team"})
        self.assertEqual(added["tunnel"]["url"], "http://team-x.localhost:8080")  # type: ignore[index]
        tunnel = self.place.create(subdomain="team-x", agent="team")
        (record,) = dialect.getHandlers[b"/jetty/tunnels"]()["tunnels"]  # type: ignore[index]
        self.assertEqual(
            [record[each] for each in ("id", "owner", "target", "agents", "transports")],
            [tunnel["id"], "team", "127.0.0.1:3000", 0, []],
        )
        removed = dialect.postHandlers[b"/jetty/tunnels/remove"]({"tunnel": "team-x"})
        self.assertEqual(removed["tunnel"]["id"], tunnel["id"])  # type: ignore[index]
        self.assertEqual(self.place.store.tunnels, [])

    def test_aReservedRawTunnelGetsItsPortWhenItIsUsed(self) -> None:
        self.place.dialect.postHandlers[b"/jetty/tunnels/add"]({"name": "db", "owner": "laptop", "protocol": "tcp"})
        self.assertIn(self.place.create(subdomain="db", protocol="tcp")["assigned_port"], range(2000, 2010))

    def test_wrongRequestsAreDenied(self) -> None:
        for path, asked in (
            ("add", {}), ("add", {"name": 5}), ("add", {"name": "a", "protocol": "x"}), ("add", {"name": "www"}),
            ("remove", {"tunnel": "none"}), ("remove", {"tunnel": 5}),
        ):
            self.assertRaises(Denied, self.place.dialect.postHandlers[f"/jetty/tunnels/{path}".encode()], asked)
