"""
The names of a multistream responder, found without reading a token where they arrive in the usual form.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tunnelstack.wire.negotiation.multistream.tokens import HEADER_SIZE, opening, token


class NameTable:
    """
    The names of a responder, with their answers made once; shared by all responders of a listener.
    """

    __slots__ = ("_echoes", "_match", "_starts")

    def __init__(
        self, names: Iterable[bytes] = (), *, asked: Iterable[bytes] = (), match: Callable[[bytes], bool] | None = None,
    ) -> None:
        """
        @param names: those that are accepted by the responder itself.
        @param asked: those that its owner accepts, after L{Proposed}.
        @param match: returns whether any other name is accepted.
        """
        self._echoes: dict[bytes, tuple[bytes, bytes, bool]] = {}
        self._starts: dict[bytes, tuple[bytes, bytes, bool]] = {}
        self._match = match
        for name in names:
            self.add(name)
        for name in asked:
            self.add(name, ask=True)

    def add(self, name: bytes, ask: bool = False) -> None:
        """
        Add a name, or change whether the owner decides.
        """
        agreed = opening(name)
        self._echoes[name] = self._starts[agreed] = (name, agreed[HEADER_SIZE:], ask)

    def discard(self, name: bytes) -> None:
        """
        Know a name no longer.
        """
        if self._echoes.pop(name, None) is not None:
            del self._starts[opening(name)]

    def match_start(self, octets: bytes) -> tuple[bytes, bytes, bool] | None:
        """
        The common case, by one look: C{octets} begin with the header and a known name of fewer than 127 octets.

        @return: name, echo, and whether the owner decides.
        """
        if len(octets) <= HEADER_SIZE:
            return None
        return self._starts.get(octets[: HEADER_SIZE + 1 + octets[HEADER_SIZE]])

    def find(self, name: bytes) -> tuple[bytes, bytes, bool] | None:
        """
        @return: name, echo, and whether the owner decides; C{None} for an unknown name.
        """
        found = self._echoes.get(name)
        if found is None and self._match is not None and self._match(name):
            return (name, token(name), False)
        return found
