"""
The host keys of an SSH server, generated once and stored in a file that only its owner can read.
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
"""Size of the RSA key, for clients that do not support Ed25519."""

LARGEST_FILE = 64 * 1024
"""Octets of a file that are read."""

BLOCK = re.compile(rb"-----BEGIN ([A-Z ]+)-----.+?-----END \1-----\n?", re.DOTALL)


def hostKeys(path: Path) -> list[Key]:
    """
    Read the host keys.  If the file does not exist, it is created with an Ed25519 key and an RSA key, and its folder with mode
    0700 if that does not exist.

    @raise ConfigurationError: the file cannot be read or written, other users may read it, or it contains no usable key.
    """
    try:
        return _read(path)
    except FileNotFoundError:
        pass
    try:
        _write(path, [_generated(ed25519.Ed25519PrivateKey.generate()), newRSA()])
        return _read(path)
    except OSError as unwritable:
        raise ConfigurationError(f"the SSH host keys cannot be written to {path}: {unwritable.strerror}") from None


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
                raise ConfigurationError(f"other users can read the SSH host keys in {path}: use chmod 600 {path}")
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
        raise ConfigurationError(f"{path} contains no SSH host key; remove the file to have new keys generated")
    return keys


def _write(path: Path, keys: Iterable[Key]) -> None:
    """
    Write the file atomically.  If another process has created it meanwhile, that file is kept.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)   # its mode is 0600
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
