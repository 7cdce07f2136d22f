"""
The agent's own SSH server, as a configuration describes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from twisted.conch.ssh.keys import Key
from twisted.internet.defer import Deferred, maybeDeferred, succeed

from tunnelstack.errors import ConfigurationError
from tunnelstack.handler.ssh.credentials import AuthorizedKeys, LoginPolicy, PasswordFile
from tunnelstack.handler.ssh.host_keys import hostKeys
from tunnelstack.handler.ssh.local_user import ownUser
from tunnelstack.handler.ssh.server import EmbeddedSSH

KeyCheck = Callable[[str, Key], Any]
"""Whether somebody else vouches for a user's key; gives a C{bool}, or a C{Deferred} of one."""


def makeEmbeddedServer(
    reactor: Any, hostKeysFile: str, *, authorizedKeysFile: str = "", passwordsFile: str = "", users: Iterable[str] = (),
    externalCheck: KeyCheck | None = None,
) -> EmbeddedSSH:
    """
    A server that works as the user of this process.

    @param hostKeysFile: made if it is not there.
    @param users: names by which keys open it; without any, the user's own.
    @param externalCheck: who else is asked about a key.
    @raise ConfigurationError: nobody could log in, or a file cannot be used.
    """
    if not (authorizedKeysFile or passwordsFile or externalCheck):
        raise ConfigurationError("nobody could log in to the embedded SSH server: name authorized keys, or passwords")
    for path in filter(None, (authorizedKeysFile, passwordsFile)):
        if not Path(path).is_file():
            raise ConfigurationError(f"there is no file {path} of who may log in by SSH")
    own = AuthorizedKeys(Path(authorizedKeysFile)) if authorizedKeysFile else None

    def good(user: str, key: Key) -> Deferred[bool]:
        if own is not None and own.check(user, key):
            return succeed(True)
        return succeed(False) if externalCheck is None else maybeDeferred(externalCheck, user, key)

    user = ownUser("", "")
    logins = LoginPolicy(
        passwords=PasswordFile(Path(passwordsFile)) if passwordsFile else None,
        keys=good if own is not None or externalCheck is not None else None, users=frozenset(users) or frozenset((user.name,)),
    )
    return EmbeddedSSH(reactor, hostKeys(Path(hostKeysFile)), logins, user=user)
