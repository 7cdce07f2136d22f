"""
What an agent of GoDoxy reads of requests to its API.
"""

from __future__ import annotations

import json
from base64 import b64encode

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.errors import PeerError
from tunnelstack.wire.http1.head import Fields
from tunnelstack.wire.records.godoxy_api import (
    AgentInfo,
    HealthResult,
    ProxyTarget,
    decode_health_untrusted,
    decode_info_untrusted,
    proxy_fields,
)
from tunnelstack.wire.records.godoxy_proxy import (
    HEALTH_SECONDS,
    LONGEST_HEALTH_SECONDS,
    LONGEST_RESPONSE_SECONDS,
    RESPONSE_SECONDS,
    BadProxyRequest,
    HealthQuery,
    ProxiedServer,
    decode_health_query_untrusted,
    decode_proxied_server_untrusted,
    encode_agent_info,
    encode_health,
    read_authority,
)


def newer(scheme: str = "http", host: str = "a:1", **config: object) -> Fields:
    encoded = b64encode(json.dumps(config).encode())
    return [(b"X-Proxy-Scheme", scheme.encode()), (b"X-Proxy-Host", host.encode()), (b"X-Proxy-Config", encoded)]


class ServerTests(SynchronousTestCase):
    """
    The web server that a request names.
    """

    def test_theNewerFieldsAreRead(self) -> None:
        for fields, server in (
            (newer(), ProxiedServer(scheme="http", host="a", port=1, server_name="a")),
            (newer("https", "a"), ProxiedServer(scheme="https", host="a", port=443, server_name="a")),
            (newer("h2c", "[::1]"), ProxiedServer(scheme="h2c", host="::1", port=80, server_name="::1")),
            (
                newer("https", "10.0.0.1:8443", no_tls_verify=True, ssl_server_name="b", max_conns_per_host=7),
                ProxiedServer(scheme="https", host="10.0.0.1", port=8443, insecure=True, server_name="b", connections=7),
            ),
            (
                newer(response_header_timeout=1_500_000_000, ssl_server_name="on", disable_compression=True),
                ProxiedServer(scheme="http", host="a", port=1, server_name="a", response_seconds=1.5),
            ),
        ):
            self.assertEqual(decode_proxied_server_untrusted(fields), server)

    def test_oneOfTheNewerFieldsMakesThemNewer(self) -> None:
        for fields in (newer()[:2], newer()[1:]):
            self.assertRaises(BadProxyRequest, decode_proxied_server_untrusted, fields)

    def test_theOlderFieldsAreRead(self) -> None:
        for https, verify, seconds, server in (
            (b"true", b"1", b"5", ProxiedServer(
                scheme="https", host="a", port=443, insecure=True, server_name="a", response_seconds=5.0)),
            (b"yes", b"", b"-1", ProxiedServer(scheme="http", host="a", port=80, server_name="a")),
        ):  # fmt: skip
            fields = [
                (b"X-Proxy-Host", b"a"), (b"X-Proxy-Https", https), (b"X-Proxy-Skip-Tls-Verify", verify),
                (b"X-Proxy-Response-Header-Timeout", seconds),
            ]
            self.assertEqual(decode_proxied_server_untrusted(fields), server)

    def test_timesHaveBounds(self) -> None:
        for nanoseconds, seconds in ((0, RESPONSE_SECONDS), (-5, RESPONSE_SECONDS), (10**30, LONGEST_RESPONSE_SECONDS),
            (10**400, LONGEST_RESPONSE_SECONDS), (-(10**400), RESPONSE_SECONDS),      # no float is as large
        ):
            server = decode_proxied_server_untrusted(newer(response_header_timeout=nanoseconds))
            self.assertEqual(server.response_seconds, seconds)

    def test_aLatencyThatNoFloatHoldsIsRejected(self) -> None:
        for number in (1 << 63, -(1 << 63), 10**400):
            self.assertRaises(PeerError, decode_health_untrusted, b'{"healthy":true,"latency":%d}' % number)

    def test_whatCannotBeDoneIsNamed(self) -> None:
        config = {"ssl_certificate": "/a", "ssl_trusted_certificate": "/b", "ssl_protocols": ["tlsv1.1"]}
        server = decode_proxied_server_untrusted(newer(**config))
        self.assertEqual(server.unsupported, ("ssl_trusted_certificate", "ssl_certificate", "ssl_protocols"))
        self.assertEqual(decode_proxied_server_untrusted(newer(ssl_protocols=["tlsv1.0", "tlsv1.3"])).unsupported, ())
        self.assertEqual(decode_proxied_server_untrusted(newer(ssl_protocols={})).unsupported, ())

    def test_authoritiesAreRead(self) -> None:
        self.assertEqual(read_authority("[fe80::1%eth0]:1", 0), ("fe80::1%eth0", 1))
        for text in ("", "a b", "a:b", "a/b", "a@b", "::1", "a:0", "a:65536", "[a", "a\r\nb", "a:80:80"):
            self.assertRaises(BadProxyRequest, read_authority, text, 80)
        self.assertRaises(BadProxyRequest, read_authority, "a", 0)

    def test_whatAnEdgeOfOursSendsIsRead(self) -> None:
        for version in ((0, 18, 6), (0, 31, 0)):
            target = ProxyTarget(scheme="https", host="[fd00::1]:8443", insecure=True, response_seconds=7.0)
            server = decode_proxied_server_untrusted(proxy_fields(target, version))
            self.assertEqual(
                server, ProxiedServer(
                    scheme="https", host="fd00::1", port=8443, insecure=True, server_name="fd00::1", response_seconds=7.0
                )
            )  # fmt: skip
        named = decode_proxied_server_untrusted(proxy_fields(ProxyTarget(host="a", server_name="b"), (0, 31, 0)))
        self.assertEqual(named.server_name, "b")

    @given(st.binary(max_size=80), st.binary(max_size=40))
    def test_anyConfigurationIsJudged(self, config: bytes, host: bytes) -> None:
        for encoded in (config, b64encode(config)):
            fields = [(b"X-Proxy-Scheme", b"http"), (b"X-Proxy-Host", host), (b"X-Proxy-Config", encoded)]
            try:
                decode_proxied_server_untrusted(fields)
            except BadProxyRequest:
                continue


class HealthTests(SynchronousTestCase):
    """
    Examinations.
    """

    def test_queries(self) -> None:
        for target, query in (
            (b"/h", HealthQuery()),
            (b"/h?scheme=tcp&host=a&port=1&timeout=1500", HealthQuery(scheme="tcp", host="a", port="1", seconds=1.5)),
            (b"/h?scheme=http&host=a%3A1&path=%2Fb%20c", HealthQuery(scheme="http", host="a:1", path="/b c")),
            (b"/h?timeout=x&timeout=1", HealthQuery(seconds=HEALTH_SECONDS)),
            (b"/h?timeout=0", HealthQuery(seconds=HEALTH_SECONDS)),
            (b"/h?timeout=999999999", HealthQuery(seconds=LONGEST_HEALTH_SECONDS)),
            (b"/h?host=%ff&path=\xff", HealthQuery(host="\ufffd", path="\xff")),
        ):
            self.assertEqual(decode_health_query_untrusted(target), query, target)

    @given(st.binary(max_size=60))
    def test_anyQueryIsRead(self, query: bytes) -> None:
        decode_health_query_untrusted(b"/h?" + query)

    def test_answers(self) -> None:
        self.assertEqual(encode_health(True, "", 0.0015), b'{"healthy":true,"detail":"","latency":1500000}\n')
        self.assertEqual(encode_health(False, 'a "b"\n', -1), b'{"healthy":false,"detail":"a \\"b\\"\\n","latency":0}\n')

    def test_answersAreReadByAnEdgeOfOurs(self) -> None:
        found = decode_health_untrusted(encode_health(False, "no answer", 0.25))
        self.assertEqual(found, HealthResult(healthy=False, detail="no answer", latency=0.25))
        info = decode_info_untrusted(encode_agent_info("v0.31.0", "a", "podman", udp=False))
        self.assertEqual(info, AgentInfo(name="a", version="v0.31.0", runtime="podman"))

    def test_theAgentDescribesItself(self) -> None:
        self.assertEqual(
            encode_agent_info("v1.2.3", "a", "docker", udp=True),
            b'{"version":"v1.2.3","name":"a","runtime":"docker","supports_tcp_stream":true,"supports_udp_stream":true}\n',
        )
