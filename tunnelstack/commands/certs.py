"""
C{tunnelstack certs}: an authority of one's own, and the certificates that it issues.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from zipfile import ZIP_STORED, ZipFile

from twisted.python import usage

from tunnelstack.control.certificate_authority import PURPOSES, IssuedCertificate, issue, makeAuthority
from tunnelstack.control.options import BaseOptions
from tunnelstack.control.process.exit_status import STOPPED
from tunnelstack.errors import ConfigurationError
from tunnelstack.settings.files import readFile
from tunnelstack.settings.suggestion import didYouMean
from tunnelstack.wire.printable_text import quoted

HELP = """
Usage: tunnelstack certs ca|server|client [NAME ...] [options]

Makes a certificate authority, and certificates that it issues, for connections whose two ends are yours.

  tunnelstack certs ca
        makes certs/ca.pem and certs/ca.key
  tunnelstack certs server agent.example.net 203.0.113.7
        makes certs/server-agent.example.net.pem and .key, for a server that is reached by these names
  tunnelstack certs client edge --archive edge.zip
        makes certs/client-edge.pem and .key, and an archive of ca.pem, cert.pem and key.pem for the other machine

Options                                                  Default
      --dir DIR        the folder of the files           certs
      --days N         how long a certificate is valid   825; 3650 for ca
      --archive FILE   client: also write a zip archive
      --help

Existing files are not overwritten.  Keys can be read by their owner only; keep ca.key off the machines that use the others.
Exit codes: 0 made, 64 usage, 78 a file exists or cannot be read or written.
"""

AUTHORITY_DAYS, CERTIFICATE_DAYS = 3650, 825
AUTHORITY_NAME = "tunnelstack"

LONGEST_DAYS = 36_500


class Options(BaseOptions):
    """
    The command line.

    @ivar kind: C{"ca"}, C{"server"} or C{"client"}.
    @ivar names: what the certificate is for.
    @ivar days: how long it is valid.
    """

    helpText = HELP
    optParameters = [
        ["dir", None, "certs", "the folder of the files"],
        ["days", None, None, "how long a certificate is valid"],
        ["archive", None, None, "also write a zip archive"],
    ]

    def parseArgs(self, *arguments: str) -> None:
        kinds = ("ca", *PURPOSES)
        kind = arguments[0] if arguments else ""
        if kind not in kinds:
            given = f"not {quoted(kind)}{didYouMean(kind, kinds)}" if kind else "but it is missing"
            raise usage.UsageError(f"the first argument must be ca, server or client, {given}")
        self.kind, self.names = kind, arguments[1:]
        if kind == "ca" and len(self.names) > 1:
            raise usage.UsageError("certs ca takes at most one name")
        if kind != "ca" and not self.names:
            raise usage.UsageError(f"certs {kind} takes at least one name")

    def postOptions(self) -> None:
        default = AUTHORITY_DAYS if self.kind == "ca" else CERTIFICATE_DAYS
        given = self["days"] or str(default)
        if not (given.isascii() and given.isdigit() and 0 < int(given) <= LONGEST_DAYS):
            raise usage.UsageError(f"--days must be a whole number from 1 to {LONGEST_DAYS}, not {quoted(given)}")
        self.days = int(given)
        if self["archive"] and self.kind != "client":
            raise usage.UsageError(f"--archive is for certs client, not for certs {self.kind}")


def main(options: Options) -> int:
    """
    @return: the exit code.
    @raise ConfigurationError: a file exists, or cannot be read or written.
    """
    folder = Path(options["dir"])
    if options.kind == "ca":
        made = makeAuthority(options.names[0] if options.names else AUTHORITY_NAME, options.days)
        _writePair(folder, "ca", made)
        return STOPPED
    authority = _readAuthority(folder)
    if options.kind == "server":
        _warnOfWildcards(options.names)
    made = issue(authority, options.kind, options.names, options.days)
    archive = options["archive"]
    if archive and os.path.lexists(archive):
        raise _exists(archive)
    _writePair(folder, f"{options.kind}-{_fileName(options.names[0])}", made)
    if archive:
        _writeArchive(archive, authority, made)
    return STOPPED


def _warnOfWildcards(names: Iterable[str]) -> None:
    """
    Warn of wildcards for all names below a top-level domain.
    """
    for name in names:
        star, _, domain = name.partition(".")
        if star == "*" and "." not in domain.removesuffix("."):
            _note(
                f"warning: many clients, such as curl and gRPC, reject {quoted(name)}, because {domain} is a top-level domain; "
                f"list the names instead, or use names below another one, such as *.tunnels.{domain}"
            )


def _readAuthority(folder: Path) -> IssuedCertificate:
    certificate, key = folder / "ca.pem", folder / "ca.key"
    if not certificate.exists():
        raise ConfigurationError(f"there is no {certificate}: make the authority first, with tunnelstack certs ca")
    return IssuedCertificate(readFile(str(certificate)).encode(), readFile(str(key)).encode())


def _fileName(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "_", name)[:100]


def _writePair(folder: Path, name: str, made: IssuedCertificate) -> None:
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    for path in (certificate, key):
        if os.path.lexists(path):
            raise _exists(str(path))
    try:
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    except OSError as unwritable:
        raise ConfigurationError(f"{folder} cannot be created: {unwritable.strerror}") from None
    _write(str(key), made.key, 0o600)
    _write(str(certificate), made.certificate, 0o644)
    _note(f"wrote {certificate} and {key}")


def _writeArchive(path: str, authority: IssuedCertificate, made: IssuedCertificate) -> None:
    """
    Write the archive that the other end reads: members are stored and not compressed.
    """
    _write(path, b"", 0o600)
    with ZipFile(path, "w", ZIP_STORED) as archive:
        archive.writestr("ca.pem", authority.certificate)
        archive.writestr("cert.pem", made.certificate)
        archive.writestr("key.pem", made.key)
    _note(f"wrote {path}, which contains a private key")


def _write(path: str, octets: bytes, mode: int) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(octets)
    except FileExistsError:
        raise _exists(path) from None
    except OSError as unwritable:
        raise ConfigurationError(f"{path} cannot be written: {unwritable.strerror}") from None


def _exists(path: str) -> ConfigurationError:
    return ConfigurationError(f"{path} already exists and is not overwritten")


def _note(sentence: str) -> None:
    print(sentence, file=sys.stderr)  # noqa: T201
