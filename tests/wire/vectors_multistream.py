"""
Golden octets of multistream-select and what they mean to us.

Recorded from multiformats/go-multistream at 17478b8, which is v0.6.1 on the wire.  The numbers of vectors and transcripts are
those of the protocol's page in the documentation.
"""

from __future__ import annotations

from attrs import frozen

from tunnelstack.errors import PeerError
from tunnelstack.wire.negotiation.base import Agreed, NegotiationEvent, NegotiationTruncated, Rejected
from tunnelstack.wire.negotiation.multistream.initiator import UnexpectedAnswer
from tunnelstack.wire.negotiation.multistream.tokens import BadMultistreamToken, WrongVersion

#: The text of a token, and its octets.
TOKENS = {
    "A01": (b"/multistream/1.0.0", "13 2f6d756c746973747265616d2f312e302e30 0a"),
    "A02": (b"na", "03 6e61 0a"),
    "A03": (b"ls", "03 6c73 0a"),
    "A04": (b"/a", "03 2f61 0a"),
    "A05": (b"/yamux/1.0.0", "0d 2f79616d75782f312e302e30 0a"),
    "A06": (b"/ssh/open/1.0.0", "10 2f7373682f6f70656e2f312e302e30 0a"),
    "A07": (b"/ssh/close/1.0.0", "11 2f7373682f636c6f73652f312e302e30 0a"),
    "A08": (b"/http/proxy/1.0.0", "12 2f687474702f70726f78792f312e302e30 0a"),
    "A09": (b"", "01 0a"),
    "A10": (b"y" * 126, "7f" + "79" * 126 + "0a"),
    "A11": (b"y" * 127, "8001" + "79" * 127 + "0a"),
    "A12": (b"y" * 1023, "8008" + "79" * 1023 + "0a"),
}


def octets(text: str) -> bytes:
    """
    Hexadecimal with spaces, and the names of tokens, as octets.
    """
    return b"".join(bytes.fromhex(TOKENS[word][1] if word in TOKENS else word) for word in text.split())


@frozen
class Heard:
    """
    What one side hears, and what comes of it.

    @ivar hears: from the peer.
    @ivar says: what our side has said in the end.
    @ivar outcome: the event, or the class of the error; C{None} while nothing is decided.
    @ivar eof: the peer's direction ends behind what we heard.
    """

    hears: str
    says: str
    outcome: NegotiationEvent | type[PeerError] | None
    eof: bool = False


#: To a responder that knows /a and /b.  Octets that cannot become the header are known by the first that differs.
RESPONDER = {
    "B01": Heard("", "A01", None),
    "B02": Heard("A01 A04 70696e67", "A01 A04", Agreed(b"/a", {}, b"ping")),
    "B03": Heard("A01 032f780a", "A01 A02", None),
    "B04": Heard("A01 A03", "A01 A02", None),
    "B05": Heard("A01 A01 A04", "A01 A02 A04", Agreed(b"/a")),
    "B06": Heard("132f6d756c746973747265616d2f322e302e300a", "A01", WrongVersion),
    "B07": Heard("132f4d756c746973747265616d2f312e302e300a", "A01", WrongVersion),
    "B08": Heard("A01 8108" + "79" * 1024 + "0a", "A01", BadMultistreamToken),
    "B09": Heard("A01 032f6162", "A01", BadMultistreamToken),
    "B10": Heard("A01 00", "A01", BadMultistreamToken),
    "B11": Heard("A01 A09", "A01 A02", None),
    "B12": Heard("9300", "A01", WrongVersion),
    "B13": Heard("ffffffffffffffffff01", "A01", WrongVersion),
    "B14": Heard("A01 042f610d0a", "A01 A02", None),
    "B15": Heard("", "A01", NegotiationTruncated, eof=True),
    "B16": Heard("132f6d75", "A01", NegotiationTruncated, eof=True),
    "B17": Heard("A01 A04", "A01 A04", Agreed(b"/a")),
    "B18": Heard("A01 032f780a 032f620a 7a7a", "A01 A02 032f620a", Agreed(b"/b", {}, b"zz")),
    "B19": Heard("A01 A04 032f620a 7a7a", "A01 A04", Agreed(b"/a", {}, octets("032f620a 7a7a"))),
}

#: To an initiator that has proposed /a.
INITIATOR = {
    "C01": Heard("A01 A04", "A01 A04", Agreed(b"/a")),
    "C02": Heard("A01 A02", "A01 A04", Rejected("the peer supports none of the names that were proposed")),
    "C03": Heard("A01 042f7a7a0a", "A01 A04", UnexpectedAnswer),
    "C04": Heard("0f2f6d756c746973747265616d2f390a A02", "A01 A04", WrongVersion),
    "C05": Heard("", "A01 A04", NegotiationTruncated, eof=True),
    "C06": Heard("A01 8108", "A01 A04", BadMultistreamToken),
    "C07": Heard("A01 A04 A04", "A01 A04", Agreed(b"/a", {}, octets("A04"))),
    "C08": Heard("A01 A04 64617461", "A01 A04", Agreed(b"/a", {}, b"data")),
}


@frozen
class Transcript:
    """
    An exchange with the genuine program.

    @ivar proposes: the names that we propose; none where the peer does.
    @ivar turns: what is said in order: C{"<"} by the peer, C{">"} by us.
    @ivar outcome: as in L{Heard}.
    @ivar early: our application's octets that leave with the proposal.
    """

    proposes: tuple[bytes, ...]
    turns: tuple[tuple[str, str], ...]
    outcome: NegotiationEvent
    early: bytes = b""


#: The pure ones.  We know /a and /b where the peer proposes.
TRANSCRIPTS = {
    "N1": Transcript((b"/a",), (("<", "A01"), (">", "A01 A04"), ("<", "A04")), Agreed(b"/a")),
    "N2": Transcript(
        (b"/x", b"/b"),
        ((">", "A01 032f780a"), ("<", "A01"), ("<", "A02"), (">", "032f620a"), ("<", "032f620a")),
        Agreed(b"/b"),
    ),
    "N3": Transcript(
        (b"/a",),
        ((">", "A01 A04 70696e67"), ("<", "A01"), ("<", "A04"), ("<", "706f6e67")),
        Agreed(b"/a", {}, b"pong"),
        early=b"ping",
    ),
    "N4": Transcript(
        (),
        (("<", "A01 032f780a"), (">", "A01 A02"), ("<", "032f790a"), (">", "A02"), ("<", "032f620a"), (">", "032f620a")),
        Agreed(b"/b"),
    ),
    "N5": Transcript((), (("<", "A01 A04 7878787878"), (">", "A01 A04")), Agreed(b"/a", {}, b"xxxxx")),
    "N7": Transcript((), (("<", "A01 A04 7878787878"), (">", "A01 A04")), Agreed(b"/a", {}, b"xxxxx")),
}

#: A lazy initiator proposes what we do not know and goes on talking: to us, that talk is proposals.
LAZY_REFUSED = {"N6": Heard("A01 A04 7878787878 787878", "A01 A02", None)}

#: A whole stack, yamux below: the peer is the client unless we open.
STACKED = {
    "N8": (
        ("<", "000100010000000100000000"),
        ("<", "000000000000000100000025 A01 A06"),
        (">", "000100020000000100000000 000000000000000100000025 A01 A06"),
        ("<", "00000000000000010000000b 7b226964223a2278227d0a"),
        (">", "000000000000000100000002 6869"),
        ("<", "000100040000000100000000"),
    ),
    "N9": (
        (">", "000100010000000100000000 000000000000000100000030 A01 A06 7b226964223a2278227d0a 000100040000000100000000"),
        ("<", "000000000000000100000014 A01"),
        ("<", "000000000000000100000011 A06"),
        ("<", "000000000000000100000002 6f6b"),
        ("<", "000100040000000100000000"),
    ),
    "N10": (
        ("<", "000100010000000100000000"),
        ("<", "00000000000000010000002a A01 A06 68656c6c6f"),
        (">", "000100020000000100000000 000000000000000100000025 A01 A06"),
        ("<", "000100040000000100000000"),
    ),
}
