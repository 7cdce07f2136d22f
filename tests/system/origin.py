"""
A web server that does by hand, octet by octet, whatever a test of HTTP needs to see: nothing is between the test and its words.

As a program (C{python -m tests.system.origin [PORT]}) it says its port and serves until it is killed.
"""

from __future__ import annotations

import hashlib
import socket
import struct
import sys
import threading
from base64 import b64encode
from collections.abc import Iterator
from queue import Queue
from typing import Any

PATIENCE = 20.0
MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Talk:
    """
    One end of a connection that speaks HTTP/1.1, blocking.
    """

    def __init__(self, connection: Any) -> None:
        self.socket = connection
        self.socket.settimeout(PATIENCE)
        self._buffer = b""

    def __enter__(self) -> Talk:
        return self

    def __exit__(self, *reason: object) -> None:
        self.socket.close()

    def reset(self) -> None:
        """
        Close the connection, and lose what is on its way.
        """
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def say(self, *pieces: bytes) -> None:
        self.socket.sendall(b"".join(pieces))

    def more(self) -> bytes:
        """
        What comes next, C{b""} at the end.
        """
        if self._buffer:
            data, self._buffer = self._buffer, b""
            return data
        data = self.socket.recv(65536)
        return bytes(data)

    def until(self, mark: bytes) -> bytes:
        """
        All up to a mark, which is included; less if it ends before.
        """
        while mark not in self._buffer:
            data = self.socket.recv(65536)
            if not data:
                found, self._buffer = self._buffer, b""
                return found
            self._buffer += data
        found, _, self._buffer = self._buffer.partition(mark)
        return found + mark

    def exactly(self, octets: int) -> bytes:
        pieces, left = [], octets
        while left:
            data = self.more()
            if not data:
                raise AssertionError(f"{left} of {octets} octets are missing")
            if len(data) > left:
                data, self._buffer = data[:left], data[left:]
            pieces.append(data)
            left -= len(data)
        return b"".join(pieces)

    def rest(self) -> bytes:
        """
        All to the end.
        """
        return b"".join(iter(self.more, b""))

    def head(self) -> Head:
        return Head(self.until(b"\r\n\r\n"))

    def chunks(self) -> Iterator[bytes]:
        """
        Each chunk as it comes; C{self.trailers} at the end.
        """
        while size := int(self.until(b"\r\n"), 16):
            yield self.exactly(size)
            self.exactly(2)
        self.trailers = []
        while (line := self.until(b"\r\n")) != b"\r\n":
            self.trailers.append(line[:-2])

    def body(self, head: Head) -> bytes:
        """
        The body that a head announces.
        """
        if head.field("transfer-encoding") == "chunked":
            return b"".join(self.chunks())
        length = head.field("content-length")
        return self.exactly(int(length)) if length is not None else b""

    def ended(self) -> bool:
        """
        Whether the other side has ended, with or without a reset, and said nothing more.
        """
        try:
            return self.more() == b""
        except ConnectionError:
            return True


class Head:
    """
    A start line and fields.
    """

    def __init__(self, octets: bytes) -> None:
        self.octets = octets
        first, *lines = octets.decode("latin-1").split("\r\n")
        self.first = first.split(" ", 2)
        self.fields = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines if line)]

    @property
    def status(self) -> int:
        return int(self.first[1]) if len(self.first) > 1 else 0

    def field(self, name: str) -> str | None:
        values = [value for known, value in self.fields if known == name]
        return ", ".join(values) if values else None


class Origin:
    """
    Listens, and does what each path says.

    @ivar keeps: connections are kept between requests; otherwise each answer says that it is the last, and is.
    @ivar heads: of all requests, in order.
    @ivar steps: what a test lets happen next.
    @ivar happened: what a test may wait for.
    """

    def __init__(self, keeps: bool, port: int = 0) -> None:
        self.keeps = keeps
        self.heads: list[Head] = []
        self.steps: Queue[bytes] = Queue()
        self.happened: Queue[str] = Queue()
        self._closed = threading.Event()
        self._listening = socket.create_server(("127.0.0.1", port), backlog=256)
        self.port = int(self._listening.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._closed.set()
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: Any) -> None:
        talk = Talk(connection)
        connection.settimeout(None)
        with talk:
            try:
                while True:
                    octets = talk.until(b"\r\n\r\n")
                    if not octets:
                        return
                    head = Head(octets)
                    self.heads.append(head)
                    path = head.first[1].partition("?")[0].strip("/").partition("/")[0] or "length"
                    if getattr(self, "on_" + path, self.on_other)(talk, head) is False or not self.keeps:
                        return
            except (OSError, ValueError, AssertionError):
                self.happened.put("broken")

    def answer(self, talk: Talk, body: bytes, *fields: bytes, status: bytes = b"200 OK") -> None:
        talk.say(self.start(status, b"Content-Length: %d" % len(body), *fields), body)

    def start(self, status: bytes, *fields: bytes) -> bytes:
        if not self.keeps:
            fields = (*fields, b"Connection: close")
        return b"\r\n".join((b"HTTP/1.1 " + status, *fields, b"", b""))

    # What paths do

    def on_length(self, talk: Talk, head: Head) -> None:
        talk.body(head)
        self.answer(talk, b"hello")

    def on_other(self, talk: Talk, head: Head) -> None:
        self.answer(talk, b"nothing here", status=b"404 Not Found")

    def on_chunked(self, talk: Talk, head: Head) -> None:
        talk.say(self.start(b"200 OK", b"Transfer-Encoding: chunked"), b"5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\n")

    def on_close(self, talk: Talk, head: Head) -> bool:
        talk.say(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end")
        return False

    def on_echo(self, talk: Talk, head: Head) -> None:
        self.answer(talk, talk.body(head))

    def on_through(self, talk: Talk, head: Head) -> None:
        """
        Each chunk goes back before the next is read.
        """
        talk.say(self.start(b"200 OK", b"Transfer-Encoding: chunked"))
        for chunk in talk.chunks():
            talk.say(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        talk.say(b"0\r\n\r\n")

    def on_trailers(self, talk: Talk, head: Head) -> None:
        talk.body(head)
        told = b"".join(line + b"\r\n" for line in getattr(talk, "trailers", []))
        fields = b"Transfer-Encoding: chunked", b"Trailer: X-Sum"
        talk.say(self.start(b"200 OK", *fields), b"%x\r\n%b\r\n0\r\nX-Sum: 42\r\n\r\n" % (len(told) or 1, told or b"-"))

    def on_fields(self, talk: Talk, head: Head) -> None:
        talk.body(head)
        self.answer(talk, head.octets, b"Keep-Alive: timeout=5", b"Proxy-Authenticate: Basic", b"X-Kept: yes")

    def on_expect(self, talk: Talk, head: Head) -> None:
        self.happened.put("head")
        talk.say(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.answer(talk, talk.body(head))

    def on_refuse(self, talk: Talk, head: Head) -> bool:
        talk.say(b"HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        return False

    def on_hints(self, talk: Talk, head: Head) -> None:
        talk.say(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n" * 2)
        self.answer(talk, b"hello")

    def on_head(self, talk: Talk, head: Head) -> None:
        talk.say(self.start(b"200 OK", b"Content-Length: 1000"))

    def on_none(self, talk: Talk, head: Head) -> None:
        talk.say(self.start(b"204 No Content"))

    def on_same(self, talk: Talk, head: Head) -> None:
        talk.say(self.start(b"304 Not Modified", b'ETag: "a"', b"Content-Length: 1000"))

    def on_upgrade(self, talk: Talk, head: Head) -> bool:
        """
        Raw octets: says something without being asked, and says back what it hears.
        """
        if head.field("upgrade") != "raw":
            self.answer(talk, b"no")
            return True
        talk.say(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: raw\r\nConnection: Upgrade\r\n\r\nhere I am.")
        while data := talk.more():
            talk.say(data.upper())
        talk.say(b"!bye")
        return False

    def on_websocket(self, talk: Talk, head: Head) -> bool:
        key = (head.field("sec-websocket-key") or "").encode()
        accept = b64encode(hashlib.sha1(key + MAGIC, usedforsecurity=False).digest())
        talk.say(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %b\r\n\r\n"
            % accept
        )
        while True:
            first, second = talk.exactly(2)
            length = second & 127
            if length == 126:
                length = int.from_bytes(talk.exactly(2), "big")
            mask = talk.exactly(4)
            data = bytes(octet ^ mask[place % 4] for place, octet in enumerate(talk.exactly(length)))
            size = bytes([length]) if length < 126 else b"\x7e" + length.to_bytes(2, "big")
            talk.say(bytes([first]) + size + data)
            if first & 15 == 8:
                return False

    def on_events(self, talk: Talk, head: Head) -> bool:
        """
        Each event is made when the test asks for it, and not before.
        """
        talk.say(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
        while step := self.steps.get(timeout=PATIENCE):
            talk.say(b"data: " + step + b"\n\n")
        return False

    def on_poll(self, talk: Talk, head: Head) -> None:
        self.happened.put("polled")
        self.answer(talk, self.steps.get(timeout=PATIENCE))

    def on_large(self, talk: Talk, head: Head) -> None:
        length = int(head.first[1].partition("?")[2])
        talk.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 128 * 1024)   # the kernel's memory is for others as well
        talk.say(self.start(b"200 OK", b"Content-Length: %d" % length))
        piece, left = bytes(range(256)) * 256, length
        while left:
            talk.say(piece[:left])
            left -= min(left, len(piece))

    def on_swallow(self, talk: Talk, head: Head) -> None:
        left, digest = int(head.field("content-length") or 0), hashlib.sha256()
        while left:
            data = talk.exactly(min(left, 65536))
            digest.update(data)
            left -= len(data)
        self.answer(talk, digest.hexdigest().encode())

    def on_deaf(self, talk: Talk, head: Head) -> bool:
        """
        Read nothing of the body.
        """
        talk.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._closed.wait()
        return False

    def on_break(self, talk: Talk, head: Head) -> bool:
        return False

    def on_half(self, talk: Talk, head: Head) -> bool:
        talk.say(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        return False

    def on_nonsense(self, talk: Talk, head: Head) -> bool:
        talk.say(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
        return False

    def on_silent(self, talk: Talk, head: Head) -> bool:
        self.happened.put("asked")
        self.happened.put("gone" if talk.ended() else "talks on")
        return False


if __name__ == "__main__":
    sys.stdout.write(f"{Origin(keeps=True, port=int((sys.argv[1:] or ['0'])[0])).port}\n")
    sys.stdout.flush()
    threading.Event().wait()
