"""
The bodies of the API of Jetty's control plane.
"""

from __future__ import annotations

import json

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.wire.jsonline import encode
from tunnelstack.wire.records.jetty_bridge import (
    AttachTunnel,
    BadBody,
    CreateTunnel,
    EdgeRegion,
    Heartbeat,
    RequestLog,
    RequestSample,
    Tunnel,
    encode_attach,
    encode_create,
    encode_heartbeat,
    encode_log,
    encode_sample,
    read_attach_untrusted,
    read_create_untrusted,
    read_error_untrusted,
    read_heartbeat_untrusted,
    read_log_untrusted,
    read_regions_untrusted,
    read_sample_untrusted,
    read_tunnel_untrusted,
    read_tunnels_untrusted,
    rules_untrusted,
    tunnel_members,
)
from tunnelstack.wire.records.jetty_rules import RoutingRule


class RequestTests(SynchronousTestCase):
    def test_whatIsWrittenIsRead(self) -> None:
        rules = (
            RoutingRule(match_type="path_prefix", path_prefix="/a", local_host="x", local_port=1),
            RoutingRule(match_type="header", header_name="x", header_value="y", local_host="127.0.0.1", local_port=2),
            RoutingRule(
                match_type="geo_match", countries=("CH", "de"), geo_invert=True, local_host="x", local_port=3, enabled=False
            ),
        )
        create = CreateTunnel(
            local_host="app.test", local_port=80, subdomain="demo", server="web", protocol="tcp", expires_in=5,
            routing_rules=rules,
        )
        self.assertEqual(read_create_untrusted(encode_create(create)), create)
        for given in ((), rules):
            changed = AttachTunnel(local_host="app.test", local_port=80, routing_rules=given)
            self.assertEqual(read_attach_untrusted(encode_attach(changed)), changed)
        attach = AttachTunnel(local_host="app.test", local_port=80)
        self.assertEqual(read_attach_untrusted(encode_attach(attach)), attach)
        self.assertEqual(json.loads(encode_attach(attach)), {"local_host": "app.test", "local_port": 80, "server": None})

    def test_onlyWhatIsSaidIsWritten(self) -> None:
        self.assertEqual(encode_create(CreateTunnel(local_host="a", local_port=1)), b'{"local_host":"a","local_port":1}\n')
        self.assertEqual((encode_heartbeat(Heartbeat()), encode_heartbeat(Heartbeat(requests=2))), (b"", b'{"requests":2}\n'))
        self.assertEqual(read_heartbeat_untrusted(b""), Heartbeat())

    def test_numbersMayBeTexts(self) -> None:
        self.assertEqual(read_attach_untrusted(b'{"local_host":"a","local_port":"80"}').local_port, 80)
        for wrong in (b'"-1"', b'"8 0"', b"1.5", b"true", b'"\\u0661"', b"null"):
            self.assertRaises(BadBody, read_attach_untrusted, b'{"local_host":"a","local_port":' + wrong + b"}")

    def test_rulesAreReadStrictly(self) -> None:
        path = {"match_type": "path_prefix", "path_prefix": "/a", "local_host": "a", "local_port": 1}
        header = {"match_type": "header", "header_name": "X-A", "header_value": "a b", "local_host": "a", "local_port": 1}
        geo = {"match_type": "geo_match", "countries": ["CH"], "local_host": "a", "local_port": 1}
        self.assertEqual(len(rules_untrusted([path, header, geo] * 10)), 30)
        for wrong in (
            {**path, "match_type": "regex"}, {**path, "path_prefix": ""}, {**path, "path_prefix": "a"},
            {**path, "path_prefix": "/\u00e9"}, {**path, "path_prefix": "/a b"}, {**path, "path_prefix": "/" * 256},
            {**path, "local_host": "a b"}, {**path, "local_host": None}, {**path, "local_port": 0},
            {**path, "local_port": 65_536}, {**path, "enabled": 1}, {**header, "header_name": ""},
            {**header, "header_name": "a b"}, {**header, "header_name": "a:"}, {**header, "header_value": ""},
            {**header, "header_value": " a"}, {**header, "header_value": "a\r\nb"}, {**header, "header_value": "\u2014"},
            {**header, "header_value": "a\t"}, {**geo, "countries": ["CHE"]}, {**geo, "countries": ["CH"] * 251},
            {**geo, "countries": "CH"}, {**geo, "geo_invert": "yes"},
        ):
            with self.assertRaises(BadBody) as refused:
                rules_untrusted([wrong])
            self.assertRegex(refused.exception.member, r"^routing_rules\.")
            self.assertIn(" must be ", str(refused.exception))
        self.assertRaises(BadBody, rules_untrusted, [path] * 33)

    def test_whatIsReportedIsRead(self) -> None:
        sample = RequestSample(
            method="GET", path="/x", query="a=1", status=200, bytes_in=3, bytes_out=5,
            headers=(("A", "1"), ("B", "2"), ("A", "3")),
        )  # fmt: skip
        found = read_sample_untrusted(encode_sample(sample))
        self.assertEqual(found.headers, (("A", "1, 3"), ("B", "2")))
        self.assertEqual(evolve(found, headers=sample.headers), sample)
        self.assertIsNone(json.loads(encode_sample(evolve(sample, query="")))["query"])
        line = RequestLog(method="GET", path="/x", status=200, latency_ms=7)
        self.assertEqual(read_log_untrusted(encode_log(line)), line)

    def test_headersMayBeAnEmptyList(self) -> None:
        body = b'{"method":"GET","path":"/","status":200,"headers":%s}'
        self.assertEqual(read_sample_untrusted(body % b"[]").headers, ())
        self.assertEqual(read_sample_untrusted(body % b'{"A":["1","2",3]}').headers, (("A", "1, 2"),))
        self.assertRaises(BadBody, read_sample_untrusted, body % b"[1]")


class ResponseTests(SynchronousTestCase):
    def test_aTunnelIsRead(self) -> None:
        tunnel = Tunnel(
            id="01J8ZC4T5Q6R7S8T9V0WXYZABC", subdomain="demo", public_url="https://demo.t.example", local_target="a:1",
            server="web", agent_token="at_1", websocket_url="wss://t.example/agent", grpc_url="grpcs://t.example:8091",
            transports=("grpc", "websocket"), protocol="tcp", assigned_port=2000, public_endpoint="tcp://t.example:2000",
        )
        members = tunnel_members(tunnel)
        self.assertEqual(read_tunnel_untrusted(encode({"data": members})), tunnel)
        self.assertEqual(read_tunnels_untrusted(encode({"data": [members], "meta": {}})), [tunnel])
        self.assertNotIn("at_1", repr(tunnel))

    def test_aGenuineTunnelHasFewerMembers(self) -> None:
        body = {"data": {"id": "01J", "agent_token": "a", "edge": {"websocket_url": "wss://a/agent"}, "limits": [1]}}
        tunnel = Tunnel(id="01J", subdomain="", status="", agent_token="a", websocket_url="wss://a/agent")
        self.assertEqual(read_tunnel_untrusted(encode(body)), tunnel)
        for wrong in (b"{}", b'{"data":[]}', b'{"data":{"id":""}}', b"not json", b'{"data":{"id":"a","edge":[1]}}'):
            self.assertRaises(BadBody, read_tunnel_untrusted, wrong)

    def test_edgesAreRead(self) -> None:
        body = b'{"edges":[{"url":"wss://us.example/agent","region":"us","location":"x"},{"url":"wss://eu.example/agent"}]}'
        self.assertEqual(read_regions_untrusted(body), [
            EdgeRegion(url="wss://us.example/agent", region="us", location="x"), EdgeRegion(url="wss://eu.example/agent"),
        ])
        self.assertRaises(BadBody, read_regions_untrusted, b'{"edges":[{}]}')

    def test_errorsHaveAMessageAndAHint(self) -> None:
        for body, text in (
            (b'{"message":"no","hint":"pay"}', "no (pay)"), (b'{"message":"no"}', "no"), (b'{"hint":"pay"}', "pay"),
            (b"<html>", ""), (b'{"message":5}', ""), (b"", ""),
        ):
            self.assertEqual(read_error_untrusted(body), text)
