"""
The keys by which a host is known, made once and kept in a file that only its owner can read.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from struct import error as StructError

from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from twisted.conch.ssh.keys import BadKeyError, EncryptedKeyError, Key

from tunnelstack.errors import ConfigurationError

RSA_BITS = 3072
"""Of the RSA key, for clients that know nothing newer."""

LARGEST_FILE = 64 * 1024
"""Octets."""

BLOCK = re.compile(rb"-----BEGIN ([A-Z ]+)-----.+?-----END \1-----\n?", re.DOTALL)


def hostKeys(path: Path) -> list[Key]:
    """
    The keys in the file, which is made with an Ed25519 and an RSA key if it is not there.

    @raise ConfigurationError: it cannot be read or written, others may read it, or there is no key in it.
    """
    try:
        return _read(path)
    except FileNotFoundError:
        pass
    try:
        _write(path, [_generated(ed25519.Ed25519PrivateKey.generate()), newRSA()])
        return _read(path)
    except OSError as unwritable:
        raise ConfigurationError(f"the SSH host keys cannot be kept in {path}: {unwritable.strerror}") from None


def newRSA(bits: int = RSA_BITS) -> Key:
    """
    A new RSA key.
    """
    return _generated(rsa.generate_private_key(public_exponent=65537, key_size=bits))


def _generated(private: ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey) -> Key:
    return Key(private)


def _read(path: Path) -> list[Key]:
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & 0o077:
                raise ConfigurationError(f"the SSH host keys in {path} can be read by others; chmod 600 it")
            text = file.read(LARGEST_FILE)
    except FileNotFoundError:
        raise
    except OSError as unreadable:
        raise ConfigurationError(f"the SSH host keys in {path} cannot be read: {unreadable.strerror}") from None
    try:
        keys = [Key.fromString(block[0]) for block in BLOCK.finditer(text)]
    except (BadKeyError, EncryptedKeyError, StructError, LookupError, ValueError):
        raise ConfigurationError(f"an SSH host key in {path} cannot be used") from None
    if not keys:
        raise ConfigurationError(f"there is no SSH host key in {path}; without the file, new ones are made")
    return keys


def _write(path: Path, keys: Iterable[Key]) -> None:
    """
    All of it or nothing; where somebody else was faster, his stands.
    """
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)   # 0600 by itself
    try:
        with os.fdopen(descriptor, "wb") as file:
            for key in keys:
                file.write(key.toString("OPENSSH", subtype="v1"))
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        os.unlink(temporary)
