"""
One setting: an attribute of a frozen record that knows its default, its bounds, its unit and what it is for, so that the
reader of files, the command line and the page of the documentation all say the same.

Keys are C{snake_case} in files and C{camelCase} as attributes, by L{keyOf}; a duration ends in C{Seconds}.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from attrs import NOTHING, Attribute, field

from tunnelstack.errors import ConfigurationError

Check = Callable[[Any], None]


def keyOf(attribute: str) -> str:
    """
    C{"drainSeconds"} is C{"drain_seconds"} in a file.
    """
    return re.sub(r"[A-Z]", lambda capital: f"_{capital.group().lower()}", attribute)


def setting(
    default: Any = NOTHING,
    says: str = "",
    *,
    check: Check | None = None,
    inFile: bool = True,
    factory: Callable[[], Any] | None = None,
    secret: bool = False,
    live: bool = False,
    secretFile: bool = False,
) -> Any:
    """
    An attribute of a configuration record.

    @param default: its value where nothing is said; without one it must be given.
    @param says: what it means, its unit, and why the default is what it is.
    @param check: called with the value; raises L{ConfigurationError} with a sentence that begins with a verb ("must be ...").
    @param inFile: C{False} for what a command line or a program decides alone.
    @param secret: never shown.
    @param secretFile: it is the path of a file that no other user should be able to read.
    @param live: a running process takes a new value when it reads its configuration again.
    """

    def validate(record: Any, attribute: Attribute[Any], value: Any) -> None:
        if check is not None:
            try:
                check(value)
            except ConfigurationError as mistake:
                raise ConfigurationError(f"{keyOf(attribute.name)} {mistake}") from None

    given: dict[str, Any] = {"factory": factory} if factory is not None else {"default": default}
    metadata = {"says": says, "check": check, "inFile": inFile, "live": live, "secretFile": secretFile}
    return field(**given, validator=validate, metadata=metadata, repr=not secret)


def atLeast(lowest: float, highest: float | None = None) -> Check:
    """
    A number within bounds, both included.
    """

    def check(value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ConfigurationError(f"must be a number, not {value!r}")
        if not (value >= lowest and (highest is None or value <= highest)):
            bounds = f"at least {lowest:g}" if highest is None else f"from {lowest:g} to {highest:g}"
            raise ConfigurationError(f"must be {bounds}, not {value!r}")

    return check


def oneOf(*choices: str | int) -> Check:
    """
    One of a few words or numbers.
    """

    def check(value: Any) -> None:
        if value not in choices:
            raise ConfigurationError(f"must be one of {', '.join(map(str, choices))}, not {value!r}")

    return check


def each(check: Check) -> Check:
    """
    Every item of a tuple.
    """

    def checkAll(values: Any) -> None:
        for value in values:
            check(value)

    return checkAll


def matching(pattern: str, described: str) -> Check:
    """
    Text of a certain form.
    """
    form = re.compile(pattern)

    def check(value: Any) -> None:
        if not (isinstance(value, str) and form.fullmatch(value)):
            raise ConfigurationError(f"must be {described}, not {value!r}")

    return check
