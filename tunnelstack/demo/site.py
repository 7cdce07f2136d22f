"""
The site of the demo: a page that shows the request as the server received it, a clock as server-sent events, and bodies of any
size.  It is an ordinary C{twisted.web} site, independent of tunnels.
"""

from __future__ import annotations

from datetime import datetime
from html import escape
from typing import Any, cast

from twisted.internet.protocol import ServerFactory
from twisted.internet.task import LoopingCall
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site
from twisted.web.static import Data

from tunnelstack.control.process.reactor import runningReactor
from tunnelstack.transport.peers import portOf

PAGE = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>tunnelstack demo</title>
<link rel="stylesheet" href="/style.css">
<main>
<h1>This page came through a tunnel</h1>
<p>A small site on <code>{local}</code> serves this page. Only programs on its own machine can connect to it. The edge received
your request and sent it over one stream of the agent's session, and the agent forwarded it to the site.</p>
<svg viewBox="0 0 640 90" role="img" aria-label="browser, edge, agent, site">
<g fill="none" stroke="currentColor" stroke-width="2">
<path d="M105 45h70M305 45h50M465 45h70" stroke-dasharray="6 6"><animate attributeName="stroke-dashoffset" from="12" to="0"
dur="0.8s" repeatCount="indefinite"/></path>
<rect x="5" y="20" width="100" height="50" rx="8"/><rect x="175" y="20" width="130" height="50" rx="8"/>
<rect x="355" y="20" width="110" height="50" rx="8"/><rect x="535" y="20" width="100" height="50" rx="8"/></g>
<g fill="currentColor" text-anchor="middle"><text x="55" y="50">browser</text><text x="240" y="50">edge</text>
<text x="410" y="50">agent</text><text x="585" y="50">site</text></g></svg>
<h2>A clock</h2>
<p><output id="clock">...</output> <small>(server-sent events: the site sends one every second)</small></p>
<h2>The request as the site received it</h2>
<table>{rows}</table>
<h2>Try these commands</h2>
<pre>curl {base}/
curl -N {base}/clock
curl -o /dev/null {base}/octets/100000000
curl --data-binary @/etc/services {base}/echo</pre>
</main>
<script>
new EventSource("/clock").onmessage = event => document.getElementById("clock").textContent = event.data;
</script>
"""

STYLE = b"""\
:root { color-scheme: light dark; --ink: #1b2733; --paper: #fbfaf7; --line: #d8d4ca; --accent: #0b6e6e }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e2d8; --paper: #14191f; --line: #333c46; --accent: #58c2c2 } }
body { margin: 0; background: var(--paper); color: var(--ink); font: 17px/1.55 Georgia, serif }
main { max-width: 44rem; margin: 3rem auto; padding: 0 1.2rem }
h1 { font-size: 2.2rem; line-height: 1.15 } h2 { margin-top: 2.2rem; font-size: 1.2rem; color: var(--accent) }
svg { width: 100%; color: var(--accent); font: 16px system-ui, sans-serif; margin-top: 1rem }
code, pre, table, output { font: 14px/1.5 ui-monospace, monospace }
output { font-size: 1.5rem } table { border-collapse: collapse; width: 100% }
td { border-top: 1px solid var(--line); padding: .3rem .6rem .3rem 0; vertical-align: top; overflow-wrap: anywhere }
pre { background: color-mix(in srgb, var(--ink) 7%, transparent); padding: 1rem; border-radius: 8px; overflow-x: auto }
"""

CHUNK = b"through the tunnel, " * 3200
"""The content of large bodies."""


class FrontPage(Resource):
    """
    C{/}: the page.
    """

    def render_GET(self, request: Request) -> bytes:
        host = (request.getHeader("x-forwarded-host") or request.getHeader("host") or "").encode("latin-1", "replace").decode()
        rows = "".join(
            f"<tr><td>{escape(name.decode('latin-1'))}<td>{escape(value.decode('latin-1'))}"
            for name, values in sorted(request.requestHeaders.getAllRawHeaders())
            for value in values
        )
        local = request.getHost()
        request.setHeader(b"content-type", b"text/html; charset=utf-8")
        page = PAGE.format(rows=rows, base=escape(f"http://{host}"), local=f"{local.host}:{local.port}")
        return page.encode()


class ClockEvents(Resource):
    """
    C{/clock}: server-sent events, one per second until the client disconnects.
    """

    isLeaf = True

    def render_GET(self, request: Request) -> int:
        request.setHeader(b"content-type", b"text/event-stream")
        request.setHeader(b"cache-control", b"no-store")
        ticking = LoopingCall(self._tick, request)
        request.notifyFinish().addBoth(lambda _: ticking.stop())
        ticking.start(1.0)
        return NOT_DONE_YET

    def _tick(self, request: Request) -> None:
        request.write(f"data: {datetime.now():%H:%M:%S}\n\n".encode())


class OctetsResource(Resource):
    """
    C{/octets/N}: a body of N octets, produced as fast as it is read, in constant memory.
    """

    isLeaf = True

    def render_GET(self, request: Request) -> bytes | int:
        count = b"".join(request.postpath or [])
        if not count.isdigit() or len(count) > 12:
            request.setResponseCode(404)
            return b"Use a path with a number of octets, such as /octets/1000000.\n"
        request.setHeader(b"content-type", b"application/octet-stream")
        request.setHeader(b"content-length", count)
        request.registerProducer(_Body(request, int(count)), False)
        return NOT_DONE_YET


class _Body:
    """
    A pull producer of one body.
    """

    def __init__(self, request: Request, left: int) -> None:
        self._request = request
        self._left = left

    def resumeProducing(self) -> None:
        piece = CHUNK[: self._left]
        self._left -= len(piece)
        if piece:
            self._request.write(piece)
        if not self._left:
            self._request.unregisterProducer()
            self._request.finish()

    def stopProducing(self) -> None:
        """
        The client has disconnected; there is nothing to release.
        """


class EchoResource(Resource):
    """
    C{/echo}: the body of the request is sent back.
    """

    isLeaf = True

    def render_POST(self, request: Any) -> bytes:
        request.setHeader(b"content-type", b"application/octet-stream")
        body: bytes = request.content.read()
        return body

    render_PUT = render_POST

    def render_GET(self, request: Request) -> bytes:
        return b"Send a body with POST, for example: curl --data-binary @FILE URL\n"


def makeSite() -> Site:
    """
    Make the site with all its pages.
    """
    root = Resource()
    for path, resource in (
        (b"", FrontPage()), (b"style.css", Data(STYLE, "text/css")), (b"clock", ClockEvents()), (b"octets", OctetsResource()),
        (b"echo", EchoResource()),
    ):  # fmt: skip
        root.putChild(path, resource)
    site = Site(root)
    site.noisy = False
    return site


def main() -> None:
    """
    Serve the site on a free port of the loopback interface, and print the port.
    """
    reactor = runningReactor()
    port = reactor.listenTCP(0, cast(ServerFactory, makeSite()), interface="127.0.0.1")
    print("site", portOf(port.getHost()), flush=True)  # noqa: T201
    reactor.run()
