"""
Keeps the last requests of each of several services, or of whatever has a key, within a bound of memory.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from typing import Generic, TypeVar

from attrs import frozen

T = TypeVar("T")

OCTETS = 8 * 1024 * 1024
"""Octets of all samples of one store."""

OVERHEAD = 1024
"""Octets that are counted for each sample beside those of its texts."""


@frozen
class _StoredSample(Generic[T]):
    """
    A sample with what is counted for it.
    """

    key: str
    sample: T
    octets: int


class SampleStore(Generic[T]):
    """
    Samples, the oldest of which make room for new ones.

    @ivar most: the samples of one key that are kept.
    """

    def __init__(self, most: int, octets: int = OCTETS) -> None:
        """
        @param octets: of all samples together.
        """
        self.most = most
        self._limit = octets
        self._octets = 0
        self._number = 0
        self._samples: OrderedDict[str, _StoredSample[T]] = OrderedDict()
        self._keys: dict[str, deque[str]] = {}           # identifiers, the oldest first

    def __len__(self) -> int:
        return len(self._samples)

    def add(self, key: str, sample: T, octets: int, identifier: str = "") -> None:
        """
        Keep a sample.

        @param octets: of its texts.
        @param identifier: by which it is found; no other sample has it.  By default nothing finds it by one.
        """
        self._number += 1
        identifier = identifier or f"#{self._number}"
        self._samples[identifier] = _StoredSample(key, sample, octets + OVERHEAD)
        self._keys.setdefault(key, deque()).append(identifier)
        self._octets += octets + OVERHEAD
        self._shorten(key)
        while self._octets > self._limit:
            self._drop(next(iter(self._samples)))

    def _shorten(self, key: str) -> None:
        while len(self._keys.get(key, ())) > self.most:
            self._drop(self._keys[key][0])

    def resize(self, most: int) -> None:
        """
        Keep fewer or more of each key.
        """
        self.most = most
        for key in list(self._keys):
            self._shorten(key)

    def find(self, identifier: str) -> T | None:
        """
        @return: the sample with an identifier; C{None} if it is not kept.
        """
        kept = self._samples.get(identifier)
        return None if kept is None else kept.sample

    def of(self, key: str) -> list[T]:
        """
        @return: the samples of a key, the oldest first.
        """
        return [self._samples[identifier].sample for identifier in self._keys.get(key, ())]

    def newest(self) -> Iterator[T]:
        """
        @return: all samples, the newest first.
        """
        return (kept.sample for kept in reversed(list(self._samples.values())))

    def forget(self, key: str) -> None:
        """
        Keep no sample of a key.
        """
        for identifier in list(self._keys.get(key, ())):
            self._drop(identifier)

    def _drop(self, identifier: str) -> None:
        """
        Forget a sample, which is the oldest of its key.
        """
        kept = self._samples.pop(identifier)
        self._octets -= kept.octets
        identifiers = self._keys[kept.key]
        identifiers.popleft()
        if not identifiers:
            del self._keys[kept.key]
