"""
The settings of sessions that a ShellHub server sends its agents, as a map in the answer to their registration.

Genuine agents use only the member that is not a number: they expect integers, and their decoder of JSON gives doubles.  Here a
number may have any form of JSON.

Source: shellhub C{pkg/api/client/client_public.go}, C{NewReverseV2ConfigFromMap}; hashicorp/yamux C{mux.go}, C{VerifyConfig}.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import field, frozen

from tunnelstack.errors import PeerError
from tunnelstack.settings.record import Record

LOWEST_WINDOW = 256 * 1024
"""Octets; the window that every yamux stream begins with."""

_WORD = 1 << 32
_DURATION = 1 << 63
_SECOND = 1_000_000_000


class UnusableSettings(PeerError):
    """
    No session can have the settings: the defaults are to be used.
    """


@frozen(kw_only=True, eq=False, repr=False)
class Settings(Record):
    """
    The settings of an agent's yamux session; the defaults are those of genuine agents.

    @ivar backlog: streams that wait to be accepted.
    @ivar keep_alive: whether the agent pings, every C{interval} seconds.
    @ivar write_timeout: seconds within which a ping must be answered.
    @ivar window: octets that one stream may have in flight to the agent.
    @ivar open_timeout: seconds within which a new stream must be acknowledged.
    @ivar close_timeout: seconds that a stream may stay half open after it was closed.
    """

    backlog: int = field(default=256, metadata={"name": "yamux_accept_backlog"})
    keep_alive: bool = field(default=True, metadata={"name": "yamux_enable_keep_alive"})
    interval: float = field(default=35.0, metadata={"name": "yamux_keep_alive_interval"})
    write_timeout: float = field(default=15.0, metadata={"name": "yamux_connection_write_timeout"})
    window: int = field(default=LOWEST_WINDOW, metadata={"name": "yamux_max_stream_window_size"})
    open_timeout: float = field(default=75.0, metadata={"name": "yamux_stream_open_timeout"})
    close_timeout: float = field(default=300.0, metadata={"name": "yamux_stream_close_timeout"})


DEFAULTS = Settings()


def read_settings_untrusted(config: Mapping[str, Any]) -> Settings:
    """
    @param config: durations are in nanoseconds.  Members that are unknown or of another type are ignored.
    @raise UnusableSettings: no session can have them.
    """
    found: dict[str, Any] = {}
    for attribute in Settings.__attrs_attrs__:
        value = config.get(attribute.metadata["name"])
        if isinstance(attribute.default, bool):
            taken: Any = value if isinstance(value, bool) else None
        elif isinstance(attribute.default, float):
            taken = _seconds(value)
        else:
            taken = _whole(value, _WORD)
        if taken is not None:
            found[attribute.name] = taken
    settings = Settings(**found)
    if settings.backlog <= 0 or settings.interval <= 0 or settings.window < LOWEST_WINDOW or settings.write_timeout <= 0:
        raise UnusableSettings("no session can have the settings that the server has sent")
    return settings


def encode_settings(settings: Settings) -> dict[str, Any]:
    """
    @return: the members that differ from the defaults, for the answer.
    """
    said = {}
    for attribute in Settings.__attrs_attrs__:
        value = getattr(settings, attribute.name)
        if value != attribute.default:
            said[attribute.metadata["name"]] = round(value * _SECOND) if isinstance(attribute.default, float) else value
    return said


def _whole(value: object, bound: int) -> int | None:
    """
    @return: C{None} for a value that is not a whole number between C{-bound} and C{bound}.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not -bound < value < bound:
        return None
    return int(value) if value == int(value) else None


def _seconds(value: object) -> float | None:
    nanoseconds = _whole(value, _DURATION)
    return None if nanoseconds is None else nanoseconds / _SECOND
