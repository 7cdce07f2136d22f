"""
The embedded SSH server of an agent, made from its configuration.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from twisted.conch.ssh.keys import Key
from twisted.internet.defer import Deferred, succeed

from tunnelstack.errors import ConfigurationError
from tunnelstack.handler.ssh.credentials import AuthorizedKeys, LoginPolicy, PasswordFile
from tunnelstack.handler.ssh.host_keys import hostKeys
from tunnelstack.handler.ssh.local_user import ownUser
from tunnelstack.handler.ssh.server import EmbeddedSSH
from tunnelstack.interfaces import IReactor

KeyCheck = Callable[[str, Key], Deferred[bool]]
"""Called with a user name and a public key; returns a C{Deferred} of whether the key is accepted."""


def checkEmbeddedServer(hostKeysFile: str, *, authorizedKeysFile: str = "", passwordsFile: str = "") -> None:
    """
    Find out whether L{makeEmbeddedServer} can make the server, without creating a file.

    @raise ConfigurationError: no login would be possible, or a file cannot be used.
    """
    _checkLogins(authorizedKeysFile, passwordsFile, False)
    if Path(hostKeysFile).exists():
        hostKeys(Path(hostKeysFile))


def _checkLogins(authorizedKeysFile: str, passwordsFile: str, external: bool) -> None:
    """
    @param external: whether keys are also checked elsewhere.
    """
    if not (authorizedKeysFile or passwordsFile or external):
        raise ConfigurationError("the embedded SSH server would accept no login: set authorized_keys_file or passwords_file")
    for path in filter(None, (authorizedKeysFile, passwordsFile)):
        if not Path(path).is_file():
            raise ConfigurationError(f"the file {path}, which lists SSH logins, does not exist")


def makeEmbeddedServer(
    reactor: IReactor, hostKeysFile: str, *, authorizedKeysFile: str = "", passwordsFile: str = "", users: Iterable[str] = (),
    externalCheck: KeyCheck | None = None,
) -> EmbeddedSSH:
    """
    Make an SSH server that runs shells and commands as the user of this process.

    @param hostKeysFile: the file of the host keys; it is created if it does not exist.
    @param users: the user names that may log in; only the name of this process's user if empty.
    @param externalCheck: checks keys that are not in C{authorizedKeysFile}.
    @raise ConfigurationError: no login would be possible, or a file cannot be used.
    """
    _checkLogins(authorizedKeysFile, passwordsFile, externalCheck is not None)
    own = AuthorizedKeys(Path(authorizedKeysFile)) if authorizedKeysFile else None

    def good(user: str, key: Key) -> Deferred[bool]:
        if own is not None and own.check(user, key):
            return succeed(True)
        return succeed(False) if externalCheck is None else externalCheck(user, key)

    user = ownUser("", "")
    logins = LoginPolicy(
        passwords=PasswordFile(Path(passwordsFile)) if passwordsFile else None,
        keys=good if own is not None or externalCheck is not None else None, users=frozenset(users) or frozenset((user.name,)),
    )
    return EmbeddedSSH(reactor, hostKeys(Path(hostKeysFile)), logins, user=user)
