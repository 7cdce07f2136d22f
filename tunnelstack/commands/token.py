"""
C{tunnelstack token}: make, list and revoke the credentials of agents.  A running edge takes part at once.
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

HELP = """
Usage: tunnelstack token new NAME --allow RIGHT ... | token list | token revoke ID|NAME

The credentials of agents, kept as hashes in the state folder.  A running edge takes part at once.

  tunnelstack token new laptop --allow 'http:laptop-*' --allow tcp:20000-20010 --out laptop.token
        a token for the agent "laptop", in a file for its user alone; without --out it is printed, this once
  tunnelstack token new ci --allow http:preview-* --share --expires-in 12h
        for several processes at a time, and for half a day
  tunnelstack token revoke laptop
        all tokens of that agent, and its sessions; an identifier (token list) means one token

Rights: http:GLOB, tcp:PORTS, udp:PORTS, stream:GLOB, dial:GLOB, ssh.  Nothing else is allowed.

Options                 Environment        Default
  -a, --allow RIGHT                        nothing      may be repeated
      --share                                           several processes may hold a name together, in turns
      --expires-in TIME                    never        such as 90d, 12h, 30m
  -o, --out FILE                           printed      a new file, mode 0600, that will hold the token
      --admin PATH      TUNNELSTACK_ADMIN  admin.sock   the socket of the running edge
      --version, --help

State folder: STATE_DIRECTORY, else tunnelstack in XDG_STATE_HOME.
Exit codes: 0 done, 64 usage, 69 there is no such token, 78 the state folder or a right cannot be used.
"""

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class NoSuchToken(FatalError):
    """
    There is nothing to revoke.
    """

    code = 69


class Options(BaseOptions):
    """
    The command line.
    """

    helpText = HELP
    optFlags = [["share", None, "several processes"]]
    optParameters = [
        ["expires-in", None, None, "a time"], ["out", "o", None, "a new file"], ["admin", None, None, "the socket"],
    ]  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self["allow"] = []

    def opt_allow(self, right: str) -> None:
        """
        One more right.
        """
        self["allow"].append(right)

    opt_a = opt_allow

    def parseArgs(self, *arguments: str) -> None:
        """
        What to do.
        """
        action = arguments[0] if arguments else ""
        takes = {"new": "a name", "list": "", "revoke": "an identifier or a name"}
        if action not in takes:
            raise usage.UsageError(f"say new, list or revoke{f', not {action!r}' if action else ''}")
        if len(arguments) != (2 if takes[action] else 1):
            raise usage.UsageError(f"token {action} takes {takes[action] or 'nothing more'}")
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
    _note(f"token {new.id} of agent {record.name}, its hash kept in {store.path}; {_whereabouts(options['out'])}")
    if not record.allow:
        _note("it allows nothing: say --allow http:NAME, for example")
    _note("the running edge knows it" if running else "no edge runs here; the next one that is started knows it")


@contextmanager
def _output(path: str | None) -> Iterator[IO[str]]:
    """
    Where a new token is written: standard output, or a file of this name, which is removed again if the token is not kept.

    @raise ConfigurationError: it exists, or cannot be made or written.
    """
    if not path:
        yield sys.stdout
        return
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise ConfigurationError(f"{path} exists already, and is not overwritten: name another file with --out") from None
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
    Where the token itself is now, with a warning if other users can read it there.
    """
    if path:
        return f"it is in {path}"
    with suppress(OSError, ValueError):
        mode = os.fstat(sys.stdout.fileno()).st_mode
        if stat.S_ISREG(mode) and mode & (stat.S_IRGRP | stat.S_IROTH):
            return "the file that it was written to can be read by other users: use --out, or chmod 600"
    return "it is not shown again"


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
    gone = store.revoke(options.which)
    if not gone:
        raise NoSuchToken(
            f"no token {options.which} is kept in {store.path}; those of a configuration file are taken out there (then SIGHUP)"
        )
    running = _notifyEdge(options)
    for record in gone:
        print(f"token {record.id} of agent {record.name} revoked")  # noqa: T201
    _note("its sessions are closed" if running else "no edge runs here")


def _notifyEdge(options: Options) -> bool:
    """
    Let a running edge look at once, instead of soon.

    @return: whether there is one.
    """
    with suppress(EdgeNotReachable):
        try:
            adminRequest("POST", "/tokens/reload", adminAddress(options["admin"]), {})
        except AdminRequestFailed as no:
            _note(f"the running edge says: {no}")
        return True
    return False


def _note(sentence: str) -> None:
    """
    For people: standard output holds what programs want.
    """
    print(sentence, file=sys.stderr)  # noqa: T201


def expiry(given: str | None, now: datetime | None = None) -> datetime:
    """
    @param given: such as C{90d}; C{None} for never.
    @raise UsageError: it is no such time.
    """
    if given is None:
        return NEVER
    form = re.fullmatch(r"([0-9]{1,5})([smhd])", given)
    if form is None or not int(form[1]):
        raise usage.UsageError(f"--expires-in must be a number and s, m, h or d, such as 90d, not {given!r}")
    moment = (now or datetime.now(UTC)).replace(microsecond=0)
    return moment + timedelta(**{UNITS[form[2]]: int(form[1])})
