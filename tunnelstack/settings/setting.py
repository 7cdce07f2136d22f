"""
A setting: an attribute of a frozen record with its default, bounds, unit and purpose, which the reader of files, the command
line and the page of the documentation share.

Keys are C{snake_case} in files and C{camelCase} as attributes, see L{keyOf}.  The name of a duration ends in C{Seconds}.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, cast

from attrs import NOTHING, Attribute, Factory, field

from tunnelstack.errors import ConfigurationError
from tunnelstack.wire.printable_text import quoted

Check = Callable[[object], None]


def keyOf(attribute: str) -> str:
    """
    @return: the key in a file: C{"drain_seconds"} for C{"drainSeconds"}.
    """
    return re.sub(r"[A-Z]", lambda capital: f"_{capital.group().lower()}", attribute)


def setting(
    default: object = NOTHING,
    says: str = "",
    *,
    check: Check | None = None,
    inFile: bool = True,
    factory: Callable[[], object] | None = None,
    secret: bool = False,
    live: bool = False,
    secretFile: bool = False,
    created: bool = False,
    convert: Callable[[Any], Any] | None = None,
) -> Any:
    """
    An attribute of a configuration record.

    @param default: without one, the setting is required.
    @param says: meaning, unit, and the reason for the default.
    @param check: called with the value; raises L{ConfigurationError} with a message that begins with a verb ("must be ...").
    @param inFile: C{False} for a value that only a command line or a program sets.
    @param secret: left out of C{repr}.
    @param created: the path of a file that is created if it does not exist.
    @param secretFile: the path of a file that no other user should be able to read.
    @param convert: called with the value before C{check}; returns the form that the record has, or a value that is wrong as it
        is.
    @param live: a running process applies a new value when it reloads its configuration.
    """

    def validate(record: object, attribute: Attribute[object], value: object) -> None:
        if check is not None:
            try:
                check(value)
            except ConfigurationError as mistake:
                raise ConfigurationError(f"{keyOf(attribute.name)} {mistake}") from None

    metadata = {
        "says": says, "check": check, "inFile": inFile, "live": live, "secretFile": secretFile, "convert": convert,
        "created": created,
    }  # fmt: skip
    return field(
        default=default if factory is None else Factory(factory), validator=validate, metadata=metadata, repr=not secret,
        converter=convert,
    )


def formatValue(value: object) -> str:
    """
    @return: a value of a configuration file for messages, in the notation of the file except for the quotes of texts.
    """
    match value:
        case bool():
            return str(value).lower()
        case str():
            return quoted(value)
        case list() | tuple():
            return f"[{', '.join(map(formatValue, value))}]"
        case dict():
            return "a table"
    return str(value)


def _numberText(number: float) -> str:
    return str(int(number)) if number == int(number) else f"{number:g}"


def atLeast(lowest: float, highest: float | None = None) -> Check:
    """
    @return: a check for a number between bounds, both included.
    """

    def check(value: object) -> None:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ConfigurationError(f"must be a number, not {formatValue(value)}")
        if not (value >= lowest and (highest is None or value <= highest)):
            low = _numberText(lowest)
            bounds = f"at least {low}" if highest is None else f"from {low} to {_numberText(highest)}"
            raise ConfigurationError(f"must be {bounds}, not {formatValue(value)}")

    return check


def oneOf(*choices: str | int) -> Check:
    """
    @return: a check for one of several words or numbers.
    """

    def check(value: object) -> None:
        if value not in choices:
            raise ConfigurationError(f"must be one of {', '.join(map(str, choices))}, not {formatValue(value)}")

    return check


def each(check: Check) -> Check:
    """
    @return: a check for every item of a tuple.
    """

    def checkAll(values: object) -> None:
        for value in cast("Iterable[object]", values):
            check(value)

    return checkAll


def matching(pattern: str, described: str) -> Check:
    """
    @return: a check for text that matches C{pattern} as a whole.
    """
    form = re.compile(pattern)

    def check(value: object) -> None:
        if not (isinstance(value, str) and form.fullmatch(value)):
            raise ConfigurationError(f"must be {described}, not {formatValue(value)}")

    return check
