"""
The key with which an edge signs what it gives to devices: made at the first start, and kept.
"""

from __future__ import annotations

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from tunnelstack.errors import ConfigurationError
from tunnelstack.settings.state_dir import StateDirectory

FILE = "signing.pem"

BITS = 2048


def newKey() -> RSAPrivateKey:
    """
    A key of its own.
    """
    return generate_private_key(public_exponent=65537, key_size=BITS)


def parseSigningKey(pem: str, name: str) -> RSAPrivateKey:
    """
    @param name: where it comes from, for people.
    @raise ConfigurationError: it is no RSA key, or a weak one.
    """
    try:
        key = load_pem_private_key(pem.encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ConfigurationError(f"{name} holds no private key that can be read without a password") from None
    if not isinstance(key, RSAPrivateKey) or key.key_size < BITS:
        raise ConfigurationError(f"{name} must hold an RSA key of at least {BITS} bits")
    return key


def signingKey(state: StateDirectory | None) -> RSAPrivateKey:
    """
    The edge's key, for as long as its state folder lasts.

    @param state: C{None} makes one for this process alone.
    @raise ConfigurationError: the one that is kept cannot be used, or a new one not be kept.
    """
    kept = None if state is None else state.read(FILE)
    if kept is not None:
        assert state is not None
        return parseSigningKey(kept, str(state.path(FILE)))
    key = newKey()
    if state is not None:
        state.write(FILE, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode("ascii"))
    return key
