"""
URLs of the local server in bodies, which become those of the public host.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.wire.records.jetty_bodies import public_body

HOSTS = frozenset(("app.test", "localhost"))


def html(text: str) -> str:
    return public_body("text/html", text.encode(), HOSTS, "d.t.example").decode()


class HTMLTests(SynchronousTestCase):
    def test_attributesAreRewritten(self) -> None:
        for name in ("href", "src", "ACTION", "formaction", "data", "poster", "cite", "data-url", "data-src"):
            self.assertEqual(html(f'<a {name}="http://app.test:3000/x?y#z">'), f'<a {name}="https://d.t.example/x?y#z">')
        self.assertEqual(html("<a href = '//localhost/a'>"), "<a href = 'https://d.t.example/a'>")

    def test_otherURLsAreKept(self) -> None:
        for text in (
            '<a href="/x">', '<a href="https://other.example/">', "<p>http://app.test/</p>", '<a title="http://app.test/">',
            '<a href=http://app.test/>', '<a href="mailto:a@app.test">', "not <", '<a href="', "<script", "<script>",
            "<style>x",
        ):
            self.assertEqual(html(text), text)

    def test_sourceSetsAreRewritten(self) -> None:
        self.assertEqual(
            html('<img srcset="http://app.test/a 1x, /b 2x,http://app.test/c">'),
            '<img srcset="https://d.t.example/a 1x, /b 2x,https://d.t.example/c">',
        )

    def test_refreshesAreRewritten(self) -> None:
        self.assertEqual(
            html('<meta http-equiv="refresh" content="5; url=http://app.test/x">'),
            '<meta http-equiv="refresh" content="5; url=https://d.t.example/x">',
        )
        text = '<meta name="x" content="5; url=http://app.test/x">'
        self.assertEqual(html(text), text)

    def test_stylesAreRewritten(self) -> None:
        self.assertEqual(
            html("<p style=\"background: url('http://app.test/i.png')\"><style>a{b:url(http://app.test/j)}</style>"),
            "<p style=\"background: url('https://d.t.example/i.png')\"><style>a{b:url(https://d.t.example/j)}</style>",
        )

    def test_quotedURLsInScriptsAreRewritten(self) -> None:
        self.assertEqual(
            html("<script>a='http://app.test/x';b=\"//app.test\";// http://app.test/\n</script><a href='http://app.test'>"),
            "<script>a='https://d.t.example/x';b=\"https://d.t.example/\";// http://app.test/\n</script>"
            "<a href='https://d.t.example/'>",
        )
        script = b"fetch(`https://app.test/api`)"
        self.assertEqual(public_body("text/javascript", script, HOSTS, "d.t.example"), b"fetch(`https://d.t.example/api`)")

    def test_otherTypesAreNotRead(self) -> None:
        body = b'{"url":"http://app.test/"}'
        self.assertEqual(public_body("application/json", body, HOSTS, "d.t.example"), body)

    @given(st.binary(max_size=300))
    def test_octetsOfAnyKindAreKept(self, body: bytes) -> None:
        for kind in ("text/html", "text/javascript"):
            self.assertEqual(public_body(kind, body, HOSTS, "d.t.example"), body)

    def test_longBodiesTakeTimeInProportion(self) -> None:
        """
        Each would take minutes if the time grew with the square.
        """
        for piece in ("<meta ", "<script>", ' href="', " href='x", "url(", "'//", "<style ", ' srcset="', " href="):
            text = piece * 40_000
            self.assertEqual(html(text), text)
