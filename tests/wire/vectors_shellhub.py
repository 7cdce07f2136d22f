"""
Golden octets of ShellHub, recorded from shellhub at 6f3a47e (just after 0.27.0-rc.6), server and agent; the numbers are those
of the protocol's page.  Identifiers and dates are normalised.
"""

from __future__ import annotations

from tunnelstack.wire.records.shellhub import HTTPProxy, SSHClose, SSHOpen, Target

SERVER, AGENT = "S>A", "A>S"

#: The lengths and payloads of frames: J5's and J6's envelope, J6's answer.
ENVELOPE = (
    "000000307b22686f7374223a223132372e302e302e31222c226964223a227265712d31222c22"
    "706f7274223a2238303830227d0a"
)
FAILURE = (
    "000000337b226572726f72223a226661696c656420746f206469616c20746f20746865206164"
    "647265737320616e6420706f7274227d0a"
)

#: Vectors that are conversations on yamux: who says what.
TRANSCRIPTS = {
    "J3": [
        (SERVER, "000100010000000100000000"),
        (
            SERVER,
            "000000000000000100000025132f6d756c746973747265616d2f312e302e300a102f7373682f6f70656e2f312e302e300a",
        ),
        (AGENT, "000100020000000100000000"),
        (AGENT, "000000000000000100000014132f6d756c746973747265616d2f312e302e300a"),
        (AGENT, "000000000000000100000011102f7373682f6f70656e2f312e302e300a"),
        (SERVER, "0000000000000001000000107b226964223a22736573732d31227d0a"),
        (AGENT, "00000000000000010000000c5353482d322e302d476f0d0a"),
        (AGENT, "000100040000000100000000"),
        (SERVER, "000100040000000100000000"),
    ],
    "J4": [
        (SERVER, "000100010000000300000000"),
        (
            SERVER,
            "000000000000000300000026132f6d756c746973747265616d2f312e302e300a112f7373682f636c6f73652f312e302e300a",
        ),
        (AGENT, "000100020000000300000000"),
        (AGENT, "000000000000000300000014132f6d756c746973747265616d2f312e302e300a"),
        (AGENT, "000000000000000300000012112f7373682f636c6f73652f312e302e300a"),
        (SERVER, "0000000000000003000000107b226964223a22736573732d31227d0a"),
        (AGENT, "000100040000000300000000"),
    ],
    "J5": [
        (SERVER, "000100010000000500000000"),
        (
            SERVER,
            "000000000000000500000027132f6d756c746973747265616d2f312e302e300a122f687474702f70726f78792f312e302e300a",
        ),
        (AGENT, "000100020000000500000000"),
        (AGENT, "000000000000000500000014132f6d756c746973747265616d2f312e302e300a"),
        (AGENT, "000000000000000500000013122f687474702f70726f78792f312e302e300a"),
        (SERVER, "0000000000000005" + ENVELOPE),
        (AGENT, "0000000000000005000000107b22737461747573223a226f6b227d0a"),
        (SERVER, "000000000000000500000012474554202f20485454502f312e310d0a0d0a"),
    ],
    "J6": [
        (SERVER, "000100010000000700000000"),
        (
            SERVER,
            "000000000000000700000027132f6d756c746973747265616d2f312e302e300a122f687474702f70726f78792f312e302e300a",
        ),
        (AGENT, "000100020000000700000000"),
        (AGENT, "000000000000000700000014132f6d756c746973747265616d2f312e302e300a"),
        (AGENT, "000000000000000700000013122f687474702f70726f78792f312e302e300a"),
        (SERVER, "0000000000000007" + ENVELOPE),
        (AGENT, "0000000000000007" + FAILURE),
        (SERVER, "000100040000000700000000"),
    ],
    "J7": [
        (SERVER, "000100010000000900000000"),
        (SERVER, "00000000000000090000001e132f6d756c746973747265616d2f312e302e300a092f782f312e302e300a"),
        (AGENT, "000100020000000900000000"),
        (AGENT, "000000000000000900000014132f6d756c746973747265616d2f312e302e300a"),
        (AGENT, "000000000000000900000004036e610a"),
        (SERVER, "000000000000000900000011102f7373682f6f70656e2f312e302e300a"),
        (AGENT, "000000000000000900000011102f7373682f6f70656e2f312e302e300a"),
    ],
    "J8": [
        (SERVER, "000200010000000000000000"),
        (AGENT, "000200020000000000000000"),
        (SERVER, "000200010000000000000001"),
        (AGENT, "000200020000000000000001"),
    ],
}

SESSION = SSHOpen("sess-1")
END = SSHClose("sess-1")
PROXY = HTTPProxy("127.0.0.1", 8080, "req-1")

#: What each conversation asks for.
ASKED: dict[str, Target] = {"J3": SESSION, "J4": END, "J5": PROXY, "J6": PROXY, "J7": SESSION}

#: Version 1: what is asked, the octets of the request, how many they are, and those of a yes (at the beginning of 2026).
NOW = 1767225600.0
REQUESTS: dict[str, tuple[Target, bytes, int, bytes, int]] = {
    "J9": (SESSION, b"GET /ssh/sess-1 HTTP/1.1\r\nHost: \r\nUser-Agent: Go-http-client/1.1\r\n\r\n", 68, b"", 0),
    "J10": (
        END,
        b"GET /ssh/close/sess-1 HTTP/1.1\r\nHost: \r\nUser-Agent: Go-http-client/1.1\r\n\r\n",
        74,
        b"HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\nContent-Length: 0\r\n\r\n",
        75,
    ),
    "J11": (
        HTTPProxy("127.0.0.1", 8080),
        b"CONNECT /http/proxy/127.0.0.1:8080 HTTP/1.1\r\nHost: \r\nUser-Agent: Go-http-client/1.1\r\n\r\n",
        87,
        b"HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\nTransfer-Encoding: chunked\r\n\r\n",
        84,
    ),
}

DIALLER, TICKET = "00112233445566778899aabbccddeeff", "11111111-2222-4333-8444-555555555555"
PATH = f"/ssh/revdial?revdial.dialer={DIALLER}&uuid={TICKET}"

#: J9's control lines, in order; they are those of revdial's own page.
KEEP_ALIVE = b'{"command":"keep-alive"}\n'
CONN_READY = (
    b'{"command":"conn-ready","connPath":"/ssh/revdial?revdial.dialer=00112233445566778899aabbccddeeff'
    b'\\u0026uuid=11111111-2222-4333-8444-555555555555"}\n'
)
PICKUP_FAILED = (
    b'{"command":"pickup-failed","connPath":"/nope?revdial.dialer=abc\\u0026uuid=def","err":"websocket: bad handshake"}\n'
)

#: J12: at the end of a session, inside the stream of SSH.
JUNK = bytes.fromhex(
    "44454c455445202f7373682f636c6f73652f736573732d3120485454502f312e310d0a486f73743a200d0a557365722d4167656e743a20476f2d"
    "687474702d636c69656e742f312e310d0a0d0a"
)

#: J1 and J2: a key and its answer; an acknowledgement of yamux as an agent's frame, and its mask.
KEY, ACCEPT = b"dGhlIHNhbXBsZSBub25jZQ==", b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
MASK, MASKED = bytes.fromhex("37fa213d"), bytes.fromhex("828c37fa213d37fb213f37fa213c37fa213d")

PEM = "-----BEGIN RSA PUBLIC KEY-----\nAAAA\n-----END RSA PUBLIC KEY-----\n"
TENANT = "00000000-0000-4000-0000-000000000000"
MAC = "02:42:ac:11:00:02"
UID = "1e75e8a4b765e8f2b8e1e6b87923c23765b37548058c0072b52bae995c263d89"
