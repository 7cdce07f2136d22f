"""
C{dev.toml} in the state folder: the URL and the token of an edge that was started with C{--dev}, for agents of the same user.
"""

from __future__ import annotations

import tomllib

from tunnelstack.control.config.records import EdgeAddress
from tunnelstack.errors import ConfigurationError
from tunnelstack.settings.state_dir import StateDirectory

DEV_FILE = "dev.toml"

DEV_TEXT = """\
# Written by "tunnel-edge --dev" for agents with --dev and for tunnel: endpoints.  Keep it private: it contains a token.
url = "{url}"
token = "{token}"
"""


def readDevEdge(state: StateDirectory) -> EdgeAddress | None:
    """
    @return: the edge that was last started with C{--dev}, or C{None}.
    @raise ConfigurationError: the file is damaged.
    """
    text = state.read(DEV_FILE)
    if text is None:
        return None
    try:
        kept = tomllib.loads(text)
        return EdgeAddress(url=str(kept["url"]), token=str(kept["token"]))
    except (tomllib.TOMLDecodeError, KeyError, ConfigurationError):
        raise ConfigurationError(f"{state.path(DEV_FILE)} is damaged: delete it and start tunnel-edge --dev again") from None


def writeDevEdge(state: StateDirectory, edge: EdgeAddress) -> None:
    """
    Write the file.
    """
    state.write(DEV_FILE, DEV_TEXT.format(url=edge.url, token=edge.token))
