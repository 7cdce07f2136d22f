"""
The names that agents hold, or held lately: a request for one is answered with 503 and C{Retry-After}, and not with 404.

They are kept in the state folder, so that this is true after a restart of the edge as well, before its agents have come back.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator

from attrs import define
from twisted.application.service import Service
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from tunnelstack.errors import ConfigurationError
from tunnelstack.records import Principal
from tunnelstack.settings.record import Record
from tunnelstack.settings.state_dir import StateDirectory
from tunnelstack.wire.printable_text import printable

FILE = "names.json"

MOST = 10_000
"""Names that are remembered; those that were held longest ago are forgotten first."""

LATELY_SECONDS = 7 * 86_400.0
"""Seconds for which a name is remembered after it was released."""

WRITE_SECONDS = 1.0
"""Seconds after a change until the file is written."""

REFRESH_SECONDS = 3600.0
"""Seconds after which it is written anyway, because names are held still."""

Pair = tuple[str, str]
"""A kind of services and a name."""


@define(eq=False, repr=False)
class RememberedName(Record):
    """
    @ivar agent: the last holder.
    @ivar realm: of the holder; C{""} if it has a credential of the edge.
    @ivar heldAt: when the name was last known to be held, in seconds of the clock.
    @ivar held: whether it is held now, or as soon as its agent is connected.
    """

    agent: str
    realm: str
    heldAt: float
    held: bool = True


class RememberedNames:
    """
    The memory of a registry.

    @ivar isLive: whether an agent of this name has a credential that the edge accepts.
    @ivar onChange: called after each change.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        """
        @param now: gives the seconds of a clock.
        """
        self._now = now
        self._names: dict[Pair, RememberedName] = {}
        self.isLive: Callable[[str], bool] = lambda agent: True
        self.onChange: Callable[[], object] = lambda: None

    def __iter__(self) -> Iterator[tuple[Pair, RememberedName]]:
        return iter(list(self._names.items()))

    def claimed(self, pair: Pair, principal: Principal) -> None:
        """
        An agent holds the name from now on.
        """
        self.restore(pair, RememberedName(principal.agent, principal.realm, self._now()))
        self.onChange()

    def released(self, pair: Pair) -> None:
        """
        The name is released.
        """
        name = self._names.get(pair)
        if name is not None:
            name.held, name.heldAt = False, self._now()
            self.onChange()

    def expect(self, pair: Pair, principal: Principal) -> None:
        """
        An agent is to hold the name as soon as it is connected.
        """
        known = self._names.get(pair)
        if known is None or not known.held:
            self.restore(pair, RememberedName(principal.agent, principal.realm, self._now()))

    def forget(self, pair: Pair, agent: str) -> None:
        """
        The agent does not hold the name, and will not.
        """
        known = self._names.get(pair)
        if known is not None and known.agent == agent:
            del self._names[pair]
            self.onChange()

    def restore(self, pair: Pair, name: RememberedName) -> None:
        """
        Remember a name as the latest.
        """
        self._names.pop(pair, None)
        self._names[pair] = name
        if len(self._names) > MOST:
            del self._names[next(iter(self._names))]

    def wasHeld(self, pair: Pair, agent: str = "", within: float = LATELY_SECONDS) -> bool:
        """
        @param agent: only if this agent held it; C{""} is any.
        @param within: seconds.
        @return: whether the name is held, or was, by an agent that could come back.
        """
        name = self._names.get(pair)
        if name is None or agent not in ("", name.agent) or not (name.held or self._now() - name.heldAt <= within):
            return False
        return bool(name.realm) or self.isLive(name.agent)


class NamesFile(Service):
    """
    Keeps the names of a registry in the state folder.
    """

    log = Logger()

    def __init__(
        self, clock: IReactorTime, names: RememberedNames, state: StateDirectory, time: Callable[[], float] = time.time
    ) -> None:
        """
        @param time: gives the time of day; ages are kept by it.
        """
        self._clock = clock
        self._names = names
        self._state = state
        self._time = time
        self._timer: IDelayedCall | None = None
        names.onChange = self._changed

    def startService(self) -> None:
        super().startService()
        self._read()
        self._timer = self._clock.callLater(REFRESH_SECONDS, self._write)

    def stopService(self) -> None:
        super().stopService()
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
            self._save()

    def _changed(self) -> None:
        if self._timer is not None and self._timer.getTime() > self._clock.seconds() + WRITE_SECONDS:
            self._timer.cancel()              # reset() to an earlier time would search all delayed calls of the reactor
            self._timer = self._clock.callLater(WRITE_SECONDS, self._write)

    def _write(self) -> None:
        self._timer = self._clock.callLater(REFRESH_SECONDS, self._write)
        self._save()

    def _save(self) -> None:
        now, today = self._clock.seconds(), self._time()
        records = [
            {"kind": kind, "name": name, "agent": known.agent, "held": round(today - (0 if known.held else now - known.heldAt))}
            for (kind, name), known in self._names if not known.realm
        ]
        try:
            self._state.write(FILE, json.dumps({"names": records}) + "\n")
        except ConfigurationError as unwritable:
            self.log.warn("the names of services are not kept: {reason}", reason=str(unwritable))

    def _read(self) -> None:
        """
        A file that cannot be read is not missed: it is written again as agents connect.
        """
        try:
            records = json.loads(self._state.path(FILE).read_text("utf-8"))["names"]
            for record in records:
                self._restore(str(record["kind"]), str(record["name"]), str(record["agent"]), float(record["held"]))
        except FileNotFoundError:
            return
        except (OSError, ValueError, TypeError, KeyError, RecursionError) as wrong:
            self.log.warn(
                "{file} in the state folder is not used, since it is damaged: {reason}", file=FILE,
                reason=printable(str(wrong), 200),
            )

    def _restore(self, kind: str, name: str, agent: str, held: float) -> None:
        age = self._time() - held
        if 0 <= age <= LATELY_SECONDS:
            self._names.restore((kind, name), RememberedName(agent, "", self._clock.seconds() - age, False))
