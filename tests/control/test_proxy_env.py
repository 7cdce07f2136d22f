"""
Which proxy leads to an edge.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.control.config.proxy_env import bypassesProxy, proxyFor

PROXY = "http://proxy:3128"


class ProxyTests(SynchronousTestCase):
    """
    The environment's words.
    """

    def test_theSchemeOfTheEdgeDecides(self) -> None:
        for environ, http, https in (
            ({}, "", ""), ({"HTTPS_PROXY": PROXY}, "", PROXY), ({"https_proxy": PROXY, "HTTPS_PROXY": "x"}, "", PROXY),
            ({"HTTP_PROXY": PROXY}, PROXY, ""), ({"http_proxy": ""}, "", ""),
        ):  # fmt: skip
            self.assertEqual(proxyFor("http://edge.example", environ), http, environ)
            self.assertEqual(proxyFor("https://edge.example", environ), https, environ)

    def test_thisMachineNeedsNone(self) -> None:
        environ = {"HTTP_PROXY": PROXY, "HTTPS_PROXY": PROXY}
        for host in ("localhost", "a.localhost", "localhost.", "127.0.0.1", "127.8.9.1:80", "[::1]:8080"):
            self.assertEqual(proxyFor(f"http://{host}", environ), "", host)

    def test_noStrangerChoosesTheProxyOfACGIProgram(self) -> None:
        environ = {"HTTP_PROXY": PROXY, "REQUEST_METHOD": "GET"}
        self.assertEqual(proxyFor("http://edge.example", environ), "")
        self.assertEqual(proxyFor("http://edge.example", environ | {"http_proxy": PROXY}), PROXY)

    def test_hostsInNO_PROXYAreExempt(self) -> None:
        yes = (
            ("a.example", "a.example"), ("b.a.example", "a.example"), ("b.a.example", ".a.example"),
            ("b.a.example", "*.a.example"),
            ("a.example", "x, a.example:443 y"), ("a.example", "*"), ("a.example", "A.Example."), ("10.1.2.3", "10.0.0.0/8"),
            ("10.1.2.3", "10.1.2.3"), ("10.1.2.3", "10.1.2.3:443"), ("fd00::1", "fd00::/8"), ("fd00::1", "fd00::1"),
            ("fd00::1", "[fd00:0::1]:443"),
        )  # fmt: skip
        no = (
            ("a.example", ""), ("ba.example", "a.example"), ("a.example", "b.a.example"), ("a.example", "a.example:80"),
            ("11.1.2.3", "10.0.0.0/8"), ("10.1.2.33", "10.1.2.3"), ("a.example", "10.0.0.0/8"), ("a.example", "/"),
            ("fd00::1", "[fd00::1]:80"), ("a.example", "."),
        )  # fmt: skip
        for host, rules in yes:
            self.assertTrue(bypassesProxy(host, 443, rules), (host, rules))
        for host, rules in no:
            self.assertFalse(bypassesProxy(host, 443, rules), (host, rules))
        self.assertEqual(proxyFor("https://a.example", {"HTTPS_PROXY": PROXY, "NO_PROXY": "a.example"}), "")
