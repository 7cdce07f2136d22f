"""
The command C{tunnelstack token}, which creates, lists and revokes the credentials of agents.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import IO

from twisted.python import usage

from tunnelstack.commands.admin_client import (
    AdminRequestFailed,
    EdgeNotReachable,
    adminAddress,
    adminRequest,
    formatTable,
)
from tunnelstack.control.auth.token_store import TokenStore
from tunnelstack.control.auth.tokens import formatTime, newToken
from tunnelstack.control.config.records import NEVER, TokenRecord
from tunnelstack.control.config.sources import Sources
from tunnelstack.control.options import BaseOptions
from tunnelstack.control.process.exit_status import STOPPED, FatalError
from tunnelstack.errors import ConfigurationError
from tunnelstack.settings.setting import formatValue
from tunnelstack.settings.suggestion import didYouMean
from tunnelstack.wire.printable_text import quoted

HELP = """
Usage: tunnelstack token new NAME --allow RIGHT ... | token list | token revoke ID|NAME

Manage the credentials of agents, kept as hashes in the state folder.  Changes apply to a running edge at once.

  tunnelstack token new laptop --allow 'http:laptop-*' --allow tcp:20000-20010 --out laptop.token
        creates a token for the agent "laptop", in a file that only its owner can read; without --out it is printed once
  tunnelstack token new ci --allow http:preview-* --share --expires-in 12h
        creates a token for several processes at a time, valid for half a day
  tunnelstack token revoke laptop
        revokes all tokens of that agent and closes its sessions; the ID from token list revokes one token

Rights: http:GLOB, tcp:PORTS, udp:PORTS, stream:GLOB, dial:GLOB, terminal:GLOB, ssh.  An agent has no other rights.

Options                 Environment        Default
  -a, --allow RIGHT                        nothing      a right; may be repeated
      --share                                           several processes may publish a name, and share its visitors
      --expires-in TIME                    never        such as 90d, 12h, 30m
  -o, --out FILE                           printed      write the token to a new file with mode 0600
      --admin PATH      TUNNELSTACK_ADMIN  admin.sock   the socket of the running edge
      --version, --help

State folder: STATE_DIRECTORY, else tunnelstack in XDG_STATE_HOME.
Exit codes: 0 done, 64 usage, 69 no such token, 78 the state folder or the file cannot be used.
"""

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class NoSuchToken(FatalError):
    """
    No token has the identifier or the name.
    """

    code = 69


class Options(BaseOptions):
    """
    The command line.
    """

    helpText = HELP
    optFlags = [["share", None, "several processes may publish a name, and share its visitors"]]
    optParameters = [
        ["expires-in", None, None, "the time after which the token expires, such as 90d, 12h or 30m"],
        ["out", "o", None, "write the token to a new file with mode 0600"],
        ["admin", None, None, "the socket of the running edge"],
    ]

    def __init__(self) -> None:
        super().__init__()
        self["allow"] = []

    def opt_allow(self, right: str) -> None:
        """
        A right of the agent; may be repeated.
        """
        self["allow"].append(right)

    opt_a = opt_allow

    def parseArgs(self, *arguments: str) -> None:
        """
        Read the action and its argument.
        """
        action = arguments[0] if arguments else ""
        takes = {"new": "a name", "list": "", "revoke": "an identifier or a name"}
        if action not in takes:
            given = f"not {formatValue(action)}{didYouMean(action, takes)}" if action else "but it is missing"
            raise usage.UsageError(f"the first argument must be new, list or revoke, {given}")
        if len(arguments) != (2 if takes[action] else 1):
            raise usage.UsageError(f"token {action} takes {takes[action] or 'no arguments'}")
        if action != "new" and (self["allow"] or self["share"] or self["expires-in"] or self["out"]):
            raise usage.UsageError(f"--allow, --share, --expires-in and --out are for token new, not for token {action}")
        self.action, self.which = action, arguments[-1]


def main(options: Options) -> int:
    """
    @return: the exit code.
    """
    store = TokenStore(Sources(os.environ).state)
    {"new": _new, "list": _list, "revoke": _revoke}[options.action](options, store)
    return STOPPED


def _new(options: Options, store: TokenStore) -> None:
    new = newToken()
    try:
        record = TokenRecord(
            name=options.which, tokenSha256=new.tokenSha256, allow=tuple(options["allow"]), share=bool(options["share"]),
            id=new.id, expires=expiry(options["expires-in"]),
        )
    except ConfigurationError as wrong:
        raise usage.UsageError(str(wrong)) from None
    with _output(options["out"]) as output:
        store.add(record)
        print(new.token, file=output, flush=True)
    running = _notifyEdge(options)
    _note(f"created token {new.id} of agent {record.name}, and stored its hash in {store.path}; {_whereabouts(options['out'])}")
    if not record.allow:
        _note("the token allows nothing: give rights with --allow, for example --allow http:NAME")
    _note("the running edge accepts it" if running else "no edge runs here; the next one that is started accepts it")


@contextmanager
def _output(path: str | None) -> Iterator[IO[str]]:
    """
    Open the file for a new token: standard output, or a new file, which is removed if the token cannot be stored.

    @raise ConfigurationError: the file exists, or cannot be created or written.
    """
    if not path:
        yield sys.stdout
        return
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise ConfigurationError(f"{path} already exists and is not overwritten: give another file with --out") from None
    except OSError as unwritable:
        raise ConfigurationError(f"{path} cannot be written: {unwritable.strerror}") from None
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            yield file
    except BaseException as failed:
        os.unlink(path)
        if isinstance(failed, OSError):
            raise ConfigurationError(f"{path} cannot be written: {failed.strerror}") from None
        raise


def _whereabouts(path: str | None) -> str:
    """
    Describe where the token is, with a warning if other users can read it there.
    """
    if path:
        return f"the token is in {path}"
    with suppress(OSError, ValueError):
        mode = os.fstat(sys.stdout.fileno()).st_mode
        if stat.S_ISREG(mode) and mode & (stat.S_IRGRP | stat.S_IROTH):
            return "the file that the token was written to can be read by other users: use --out, or chmod 600"
    return "the token is not shown again"


def _list(options: Options, store: TokenStore) -> None:
    now = datetime.now(UTC)
    rows = [
        (
            record.id, record.name, " ".join(record.allow) or "nothing", "yes" if record.share else "",
            _expiry(record.expires, now),
        )
        for record in store.read()
    ]
    sys.stdout.write(formatTable(("ID", "AGENT", "ALLOW", "SHARE", "EXPIRES"), rows))


def _expiry(expires: datetime, now: datetime) -> str:
    if expires == NEVER:
        return "never"
    return formatTime(expires) if expires > now else f"expired since {formatTime(expires)}"


def _revoke(options: Options, store: TokenStore) -> None:
    revoked = store.revoke(options.which)
    if not revoked:
        raise NoSuchToken(
            f"no token {options.which} in {store.path}; a token of a configuration file is removed there, followed by SIGHUP"
        )
    running = _notifyEdge(options)
    for record in revoked:
        print(f"token {record.id} of agent {record.name} revoked")  # noqa: T201
    _note("its sessions are closed" if running else "no edge runs here")


def _notifyEdge(options: Options) -> bool:
    """
    Make a running edge read the tokens now, and not only at its next regular check.

    @return: whether an edge runs.
    """
    with suppress(EdgeNotReachable):
        try:
            adminRequest("POST", "/tokens/reload", adminAddress(options["admin"]), {})
        except AdminRequestFailed as no:
            _note(f"the running edge rejected the request: {no}")
        return True
    return False


def _note(sentence: str) -> None:
    """
    Print information for people to standard error, because programs read standard output.
    """
    print(sentence, file=sys.stderr)  # noqa: T201


def expiry(given: str | None, now: datetime | None = None) -> datetime:
    """
    @param given: a time from now, such as C{90d}; C{None} for a token that does not expire.
    @raise UsageError: the text is not such a time.
    """
    if given is None:
        return NEVER
    form = re.fullmatch(r"([0-9]{1,5})([smhd])", given)
    if form is None or not int(form[1]):
        raise usage.UsageError(f"--expires-in must be a number and s, m, h or d, such as 90d, not {quoted(given)}")
    moment = (now or datetime.now(UTC)).replace(microsecond=0)
    return moment + timedelta(**{UNITS[form[2]]: int(form[1])})
