"""
Reading the files that a configuration names.
"""

from __future__ import annotations

from pathlib import Path

from tunnelstack.errors import ConfigurationError


def readFile(path: str) -> str:
    """
    @raise ConfigurationError: the file cannot be read, or is not UTF-8 text.
    """
    try:
        return Path(path).read_text("utf-8")
    except OSError as unreadable:
        raise ConfigurationError(f"{path} cannot be read: {unreadable.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path} cannot be read: it is not UTF-8 text") from None
