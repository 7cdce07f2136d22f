"""
A server and a client of HTTP/2 in one program, on one connection without TLS::

    python http2.py
"""

from twisted.internet import defer, endpoints, task
from zope.interface import implementer

from tunnelstack.interfaces import IHTTP2Receiver
from tunnelstack.transport.http2.endpoint import HTTP2ClientEndpoint, HTTP2ServerFactory


@implementer(IHTTP2Receiver)
class Receiver:
    def informational(self, fields):
        pass

    def headersReceived(self, fields, ended):
        self.fields, self.body = dict(fields), b""

    def dataReceived(self, octets):
        self.body += octets

    def ended(self, trailers):
        pass

    def closed(self):
        pass

    def failed(self, reason):
        print("failed:", reason)


class Shout(Receiver):
    def __init__(self, stream):
        self.stream = stream

    def ended(self, trailers):
        self.stream.sendHeaders([(b":status", b"200"), (b"content-type", b"text/plain")])
        self.stream.write(self.body.upper())
        self.stream.end([(b"shouted-octets", b"%d" % len(self.body))])


class Answer(Receiver):
    def __init__(self):
        self.complete = defer.Deferred()

    def ended(self, trailers):
        self.complete.callback(f"{self.fields[b':status'].decode()} {self.body.decode()} {trailers}")


def post(connection, text):
    answer = Answer()
    head = [(b":method", b"POST"), (b":scheme", b"http"), (b":authority", b"localhost"), (b":path", b"/shout")]
    stream = connection.openStream(head, answer)
    stream.write(text)
    stream.end()
    return answer.complete


async def main(reactor):
    server = endpoints.TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
    port = await server.listen(HTTP2ServerFactory(reactor, Shout))
    tcp = endpoints.TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)
    connection = await HTTP2ClientEndpoint(reactor, tcp).connect()
    for answer in await defer.gatherResults([post(connection, b"hello"), post(connection, b"world")]):
        print(answer)
    await connection.drain()
    await port.stopListening()


if __name__ == "__main__":
    task.react(main)
