"""
Bent octets for the tokens of ShellHub's devices, also such as were signed with the right key, and for signatures of logins.

The first octet of an input chooses: the text of a token, or the claims of one that is signed.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, cast

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from tunnelstack.wire.records.shellhub_identity import (
    TOKEN,
    BadToken,
    _base64url,
    is_uid,
    verify_login_untrusted,
    verify_token_untrusted,
)

NOW = 1_700_000_000.0
SIGNED = b"signed"
ALGORITHM = b'{"alg":"RS256","typ":"JWT"}'
CLAIMS = b'{"claims":"device","uid":"%b","tenant":"t","nbf":1,"iat":1,"jti":"x"}' % (b"a" * 64)


class Key:
    """
    Takes L{SIGNED} for the signature of anything.
    """

    def verify(self, signature: bytes, data: bytes, *algorithm: Any) -> None:
        if signature != SIGNED:
            raise InvalidSignature


KEY = cast(RSAPublicKey, Key())


def signed(claims: bytes, header: bytes = ALGORITHM) -> str:
    """
    A token with these claims.
    """
    return ".".join(map(_base64url, (header, claims, SIGNED)))


SEEDS = [
    b"\0" + signed(CLAIMS).encode(), b"\0" + signed(CLAIMS, b'{"alg":"none"}').encode(), b"\0..", b"\0a.b.c", b"\1" + CLAIMS,
    b"\1" + CLAIMS[:-1] + b',"exp":1e99}', b"\1" + CLAIMS[:-1] + b',"nbf":true}', b"\1[]", b"\2" + ALGORITHM,
    b'\2{"alg":"RS256","crit":[]}',
]  # fmt: skip


def target(data: bytes) -> Hashable:
    """
    @return: what became of it.
    """
    kind, octets = data[:1], data[1:]
    text = octets.decode("utf-8", "surrogateescape")
    assert not verify_login_untrusted(text, text, KEY) or octets.strip() == b"c2lnbmVk"
    token = {b"\1": lambda: signed(octets), b"\2": lambda: signed(CLAIMS, octets)}.get(kind, lambda: text)()
    try:
        claims = verify_token_untrusted(token, KEY, NOW)
    except BadToken as error:
        return str(error.args[0])
    assert is_uid(claims.uid) and claims.issued <= NOW + 60 and len(token) <= TOKEN, claims
    return kind, bool(claims.token), bool(claims.tenant), claims.issued > 0
