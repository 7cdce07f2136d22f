"""
The edge that was started with C{--dev}, as agents of the same user find it in the state folder.

C{dev.toml} has its URL and its token.  The edge that holds the administration socket of the folder owns the file: it writes the
file when it is ready, and removes it at its end.  C{dev.token} has the token alone.  It stays, so that agents can reconnect
after a restart, and all edges with C{--dev} accept it.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from os import close
from pathlib import Path

from tunnelstack.control.auth.tokens import newToken
from tunnelstack.control.config.records import EdgeAddress
from tunnelstack.errors import ConfigurationError
from tunnelstack.settings.state_dir import ADMIN_SOCKET, StateDirectory, socketPath

DEV_FILE = "dev.toml"
DEV_TOKEN = "dev.token"

DEV_TEXT = """\
# Written by "tunnel-edge --dev" for agents with --dev and for tunnel: endpoints.  Keep it private: it contains a token.
url = "{url}"
token = "{token}"
"""


def readDevEdge(state: StateDirectory) -> EdgeAddress | None:
    """
    @return: the edge that was started with C{--dev}; C{None} if none runs.
    @raise ConfigurationError: the file is damaged.
    """
    text = state.read(DEV_FILE)
    if text is None:
        return None
    import tomllib  # an edge reads the file only if another edge has written it

    try:
        kept = tomllib.loads(text)
        return EdgeAddress(url=str(kept["url"]), token=str(kept["token"]), tokenFile=str(state.path(DEV_TOKEN)))
    except (tomllib.TOMLDecodeError, KeyError, ConfigurationError):
        raise ConfigurationError(f"{state.path(DEV_FILE)} is damaged: delete it and start tunnel-edge --dev again") from None


def writeDevEdge(state: StateDirectory, edge: EdgeAddress) -> None:
    """
    Write the file.
    """
    state.write(DEV_FILE, DEV_TEXT.format(url=edge.url, token=edge.token))


def readDevToken(state: StateDirectory) -> str:
    """
    @return: the token of edges with C{--dev}; C{""} if none was started yet.
    @raise ConfigurationError: the file cannot be read.
    """
    return (state.read(DEV_TOKEN) or "").strip()


def keptDevToken(state: StateDirectory) -> str:
    """
    @return: the token of edges with C{--dev}, a new one the first time.
    @raise ConfigurationError: the file cannot be read.
    """
    token = readDevToken(state)
    if not token:
        token = newToken().token
        with suppress(ConfigurationError):     # without a writable folder the token is good for one run
            state.create(DEV_TOKEN, token + "\n")
            token = readDevToken(state) or token
    return token


def isStale(edge: EdgeAddress) -> bool:
    """
    @return: whether C{dev.toml} names this edge, and no edge holds the administration socket beside that file.
    """
    path = Path(edge.tokenFile)
    if path.name != DEV_TOKEN:
        return False
    state = StateDirectory(path.parent)
    left = readDevEdge(state)
    return left is not None and left.url == edge.url and not _answers(state.path(ADMIN_SOCKET))


def _answers(path: Path) -> bool:
    """
    @return: whether a process listens on a Unix socket.
    """
    descriptor = -1
    try:
        shortened, descriptor = socketPath(path)
        with socket.socket(socket.AF_UNIX) as connection:
            connection.setblocking(False)
            connection.connect(shortened)
    except BlockingIOError:
        return True                           # it has many connections to accept
    except OSError:
        return False
    finally:
        if descriptor >= 0:
            close(descriptor)
    return True
