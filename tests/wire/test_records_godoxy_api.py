"""
The answers of a GoDoxy agent's API, and the fields by which it is told where to forward a request.
"""

from __future__ import annotations

import json
from base64 import b64decode

from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.wire.records.godoxy_api import (
    NAME_CHARACTERS,
    AgentInfo,
    BadAnswer,
    HealthResult,
    ProxyTarget,
    decode_health_untrusted,
    decode_info_untrusted,
    health_target,
    is_proxy_field,
    proxy_fields,
    read_version,
)

INFO = b'{"version":"v0.31.0","name":"nas","runtime":"docker"}\n'
"""As godoxy v0.31.0 answers."""


class InfoTests(SynchronousTestCase):
    def test_aGenuineAnswerIsRead(self) -> None:
        info = AgentInfo(name="nas", version="v0.31.0", runtime="docker")
        self.assertEqual(decode_info_untrusted(INFO), info)

    def test_unknownMembersAreIgnoredAndMissingOnesAreEmpty(self) -> None:
        self.assertEqual(decode_info_untrusted(b'{"Name":"x","more":[1]}'), AgentInfo())

    def test_nonsenseIsAnError(self) -> None:
        for body in (b"", b"[]", b"<html>", b'{"name":1}', b'{"name":"a","name":"b"}', b'{"name":"\xff"}', INFO[:-3]):
            self.assertRaises(BadAnswer, decode_info_untrusted, body)

    def test_textOfTheAgentIsPrintableAndShort(self) -> None:
        info = decode_info_untrusted(json.dumps({"name": "a\x1b[2J\n", "version": "v" * 1000}).encode())
        self.assertEqual(info.name, "a\\x1b[2J\\n")
        self.assertEqual(len(info.version), NAME_CHARACTERS + 1)


class HealthTests(SynchronousTestCase):
    def test_answers(self) -> None:
        self.assertEqual(
            decode_health_untrusted(b'{"healthy":true,"detail":"","latency":1500000000}'),
            HealthResult(healthy=True, latency=1.5),
        )
        self.assertEqual(
            decode_health_untrusted(b'{"healthy":false,"detail":"refused"}'), HealthResult(healthy=False, detail="refused")
        )
        for body in (b"{}", b'{"healthy":1}', b'{"healthy":true,"latency":"1s"}', b'{"healthy":true,"detail":2}', b"null"):
            self.assertRaises(BadAnswer, decode_health_untrusted, body)

    def test_theRequest(self) -> None:
        self.assertEqual(
            health_target("tcp", "[::1]:80"), b"/godoxy/agent/health?scheme=tcp&host=%5B%3A%3A1%5D%3A80&timeout=5000"
        )
        self.assertEqual(
            health_target("https", "a&b:1", "/x", 1.5),
            b"/godoxy/agent/health?scheme=https&host=a%26b%3A1&path=%2Fx&timeout=1500",
        )


class ProxyTests(SynchronousTestCase):
    """
    Sections 7 and 8.3 of the description of the wire.
    """

    def test_versionsAreRead(self) -> None:
        for text, version in (
            ("v0.31.0", (0, 31, 0)), ("v1.2.3-rc1", (1, 2, 3)), ("0.31.0", (0, 0, 0)), ("", (0, 0, 0)), ("v1.2", (0, 0, 0)),
            ("v1.2.3 x", (0, 0, 0)), ("v" + "9" * 40 + ".0.0", (0, 0, 0)),
        ):  # fmt: skip
            self.assertEqual(read_version(text), version, text)

    def test_laterAgentsGetTheirFields(self) -> None:
        target = ProxyTarget(scheme="https", host="127.0.0.1:8443", insecure=True, server_name="wiki", response_seconds=1.5)
        names, values = zip(*proxy_fields(target, (0, 18, 7)), strict=True)
        self.assertEqual(names, (b"X-Proxy-Scheme", b"X-Proxy-Host", b"X-Proxy-Config"))
        self.assertEqual(values[:2], (b"https", b"127.0.0.1:8443"))
        self.assertEqual(json.loads(b64decode(values[2])), {
            "no_tls_verify": True, "response_header_timeout": 1_500_000_000, "max_conns_per_host": 0,
            "disable_compression": False, "ssl_server_name": "wiki",
        })

    def test_aPlainTargetIsThatOfTheGenuineProgram(self) -> None:
        config = dict(proxy_fields(ProxyTarget(host="a:1"), (0, 31, 0)))[b"X-Proxy-Config"]
        self.assertEqual(
            b64decode(config),
            b'{"no_tls_verify":false,"response_header_timeout":0,"max_conns_per_host":0,"disable_compression":false}',
        )

    def test_earlierAgentsGetTheirFields(self) -> None:
        target = ProxyTarget(scheme="https", host="a:1", insecure=True, response_seconds=7.0)
        for version in ((0, 18, 6), (0, 0, 0)):
            self.assertEqual(proxy_fields(target, version), [
                (b"X-Proxy-Host", b"a:1"), (b"X-Proxy-Https", b"true"), (b"X-Proxy-Skip-Tls-Verify", b"true"),
                (b"X-Proxy-Response-Header-Timeout", b"7"),
            ])

    def test_theirNamesInEverySpelling(self) -> None:
        for name in (b"X-Proxy-Host", b"x-proxy-config", b"X_Proxy_Scheme", b"X-PROXY-ANYTHING"):
            self.assertTrue(is_proxy_field(name), name)
        for name in (b"Proxy-Host", b"X-Proxied-By", b"X-ProxyHost", b"A-X-Proxy-Host"):
            self.assertFalse(is_proxy_field(name), name)
