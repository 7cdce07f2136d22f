"""
RSA keys: that with which an edge signs the tokens of devices, and those of devices.
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
    @return: a new key.
    """
    return generate_private_key(public_exponent=65537, key_size=BITS)


def parseSigningKey(pem: str, name: str) -> RSAPrivateKey:
    """
    @param name: the name of the file, for messages.
    @raise ConfigurationError: the text is not an RSA key of at least L{BITS} bits.
    """
    try:
        key = load_pem_private_key(pem.encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ConfigurationError(f"{name} does not contain a private key that can be read without a password") from None
    if not isinstance(key, RSAPrivateKey) or key.key_size < BITS:
        raise ConfigurationError(f"{name} must contain an RSA key of at least {BITS} bits")
    return key


def signingKey(state: StateDirectory | None) -> RSAPrivateKey:
    """
    @param state: where the key is kept; C{None} makes a key for this process only.
    @return: the key of the edge, which is made at the first start.
    @raise ConfigurationError: the file cannot be read or written, or does not contain a suitable key.
    """
    if state is None:
        return newKey()
    kept = state.read(FILE)
    if kept is not None:
        return parseSigningKey(kept, str(state.path(FILE)))
    key = newKey()
    state.write(FILE, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode("ascii"))
    return key
