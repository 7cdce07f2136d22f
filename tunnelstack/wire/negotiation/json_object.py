"""
One JSON object of parameters, and where it is agreed so, one for an answer; a line each, unless a system has its own way.

It usually follows a name: C{NegotiationSequence(multistream.MultistreamInitiator(name), JSONInitiator(parameters))}.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from attrs import frozen

from tunnelstack.errors import UsageError
from tunnelstack.settings.record import Record
from tunnelstack.wire.jsonline import LIMIT, LineReader, decode_object, encode
from tunnelstack.wire.negotiation.base import (
    NO_PARAMETERS,
    Agreed,
    Negotiation,
    NegotiationError,
    NegotiationEvent,
    Parameters,
    Proposed,
    ReceiveBuffer,
    Rejected,
    Release,
)

CODE_LIMIT = 64
"""Characters of the longest code; the rest is dropped."""


class JSONReader(Protocol):
    """
    Octets, cut anywhere, to one object.
    """

    def feed(self, octets: bytes) -> None:
        """
        Octets have arrived.
        """

    def next_object(self) -> Parameters | None:
        """
        @return: the object; C{None} while its end is missing.
        @raise PeerError: there is none, or it is too long.
        """

    def take_leftover(self) -> bytes:
        """
        @return: what was fed after the object.
        """


@frozen(eq=False, repr=False)
class ObjectCodec(Record):
    """
    How an object is put into octets and taken from them.

    @ivar encode: its octets, of which none is another object's.
    @ivar reader: makes a reader for an object of at most so many octets.
    @ivar leftover_filter: from the octets that follow an object to those of them that are the application's; C{None} if all
        are.
    @ivar own_frame: an object travels in a frame of its own.
    """

    encode: Callable[[Parameters], bytes]
    reader: Callable[[int], JSONReader]
    leftover_filter: Callable[[bytes], bytes] | None = None
    own_frame: bool = False

    def agreed(self, parameters: Parameters, rest: bytes) -> Agreed:
        """
        @param rest: what was read after the object.
        """
        if self.leftover_filter is None:
            return Agreed(b"", parameters, rest)
        return Agreed(b"", parameters, self.leftover_filter(rest), None if rest else self.leftover_filter)


class _JSONLineReader(LineReader):
    """
    The first line as an object.
    """

    __slots__ = ()

    def next_object(self) -> dict[str, Any] | None:
        line = self.next_line()
        return None if line is None else decode_object(line)


LINE_CODEC = ObjectCodec(encode, _JSONLineReader)
"""A line for each object, as L{tunnelstack.wire.jsonline} has it."""


@frozen(eq=False, repr=False)
class AnswerFormat(Record):
    """
    The forms of an answer that accepts and of one that refuses.

    @ivar yes: from what the owner accepted with to the line's object.
    @ivar no: from the reason and its code to the line's object.
    @ivar refusal: from the object of an answer to the refusal, or C{None} for a yes; it raises a C{PeerError} for an object
        that is neither.
    """

    yes: Callable[[Parameters], Parameters]
    no: Callable[[str, str], Parameters]
    refusal: Callable[[Parameters], Rejected | None]


def _no(reason: str, code: str) -> Parameters:
    return {"ok": False, "code": code, "reason": reason} if code else {"ok": False, "reason": reason}


def _refusal(answer: Parameters) -> Rejected | None:
    match answer:
        case {"ok": True}:
            return None
        case {"ok": False, "reason": str(reason), "code": str(code)}:
            return Rejected(reason, code[:CODE_LIMIT])
        case {"ok": False, "reason": str(reason)}:
            return Rejected(reason)
    raise NegotiationError("an answer is neither yes nor no", members=sorted(answer)[:8])


OK_OR_REASON = AnswerFormat(lambda parameters: {**parameters, "ok": True}, _no, _refusal)
"""C{{"ok":true}}, with further members, or C{{"ok":false,"reason":"..."}}, perhaps with a C{code}."""


class JSONInitiator(Negotiation):
    """
    Sends the parameters, and reads the answer where there is to be one.
    """

    __slots__ = ("_answers", "_codec", "_reader")

    def __init__(
        self,
        parameters: Parameters,
        *,
        answers: AnswerFormat | None = None,
        release: Release | None = None,
        limit: int = LIMIT,
        timeout: float | None = None,
        codec: ObjectCodec = LINE_CODEC,
    ) -> None:
        """
        @param answers: how the answer is read; C{None} if none is expected.
        @param release: unless given, C{ON_REPLY} where there is an answer and C{AT_ONCE} where there is none.
        @param limit: octets of the longest answer.
        @param timeout: seconds.
        @param codec: how an object travels.
        @raise UsageError: JSON cannot hold the parameters, or the application would wait for an answer that never comes.
        """
        usual = Release.AT_ONCE if answers is None else Release.ON_REPLY
        if answers is None and release is Release.ON_REPLY:
            raise UsageError("there is no answer to wait for")
        super().__init__(release or usual, timeout)
        self.own_frame = codec.own_frame
        self._out = [codec.encode(parameters)]
        self._answers = answers
        self._codec = codec
        self._reader = codec.reader(limit)

    def receive_data(self, octets: bytes) -> list[NegotiationEvent]:
        """
        As in L{Negotiation}; the parameters of what is agreed are the answer.

        @raise PeerError: the answer is no JSON object, too long, or neither yes nor no.
        """
        self._check_open()
        if self._answers is None:
            self.settled = True
            return [Agreed(b"", NO_PARAMETERS, octets)]
        self._reader.feed(octets)
        answer = self._reader.next_object()
        if answer is None:
            return []
        rejected = self._answers.refusal(answer)
        self.settled = True
        if rejected is not None:
            return [rejected]
        return [self._codec.agreed(answer, self._reader.take_leftover())]


class JSONResponder(Negotiation):
    """
    Hears the parameters; lets its owner answer where there is to be an answer.
    """

    __slots__ = ("_answers", "_buffered", "_codec", "_proposed", "_reader")

    def __init__(
        self,
        *,
        answers: AnswerFormat | None = None,
        limit: int = LIMIT,
        timeout: float | None = None,
        codec: ObjectCodec = LINE_CODEC,
    ) -> None:
        """
        @param answers: the form of the answer; C{None} for no answer, and then nothing is proposed to the owner.
        @param limit: octets of the longest object.
        @param timeout: seconds.
        @param codec: how an object travels.
        """
        super().__init__(Release.ON_REPLY, timeout)
        self.own_frame = codec.own_frame
        self._answers = answers
        self._codec = codec
        self._reader = codec.reader(limit)
        self._proposed: Parameters | None = None
        self._buffered = ReceiveBuffer(b"")

    def receive_data(self, octets: bytes) -> list[NegotiationEvent]:
        """
        As in L{Negotiation}.

        @raise PeerError: what comes is no JSON object, or too long.
        """
        self._check_open()
        if self._proposed is not None:
            self._buffered.add(octets)
            return []
        self._reader.feed(octets)
        parameters = self._reader.next_object()
        if parameters is None:
            return []
        rest = self._reader.take_leftover()
        if self._answers is None:
            self.settled = True
            return [self._codec.agreed(parameters, rest)]
        self._proposed, self._buffered = parameters, ReceiveBuffer(rest)
        return [Proposed(b"", parameters)]

    def receive_eof(self) -> list[NegotiationEvent]:
        """
        As in L{Negotiation}; while the owner decides, it is no fault.
        """
        return [] if self._proposed is not None else super().receive_eof()

    def accept(self, parameters: Parameters | None = None) -> list[NegotiationEvent]:
        """
        As in L{Negotiation}.
        """
        asked, answers = self._take_proposal()
        self._out.append(self._codec.encode(answers.yes(parameters or {})))
        return [self._codec.agreed(asked, self._buffered.joined())]

    def reject(self, reason: str, code: str = "") -> list[NegotiationEvent]:
        """
        As in L{Negotiation}: final.
        """
        _, answers = self._take_proposal()
        self._out.append(self._codec.encode(answers.no(reason, code)))
        return [Rejected(reason, code)]

    def _take_proposal(self) -> tuple[Parameters, AnswerFormat]:
        if self._proposed is None or self._answers is None:
            raise UsageError("nothing was proposed")
        self._check_open()
        self.settled = True
        return self._proposed, self._answers
