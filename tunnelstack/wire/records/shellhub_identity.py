"""
Who a device is, to a ShellHub server: a digest of what it is made of, a token that says so, and the signature that lets a
user's key in.

Source: shellhub C{server/api/services/auth.go} (the digest is that of C{cnf/structhash}, C{Dump}), C{pkg/api/jwttoken}.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
from typing import Any

from attrs import frozen
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256

from tunnelstack.errors import PeerError
from tunnelstack.wire.jsonline import decode_object

TOKEN = 8192
"""Octets of the longest token."""

LEEWAY = 60.0
"""Seconds that the clock of another server of the same key may be ahead of ours."""

_UID = re.compile(r"[0-9a-f]{64}")
_ALGORITHM = "RS256"


class BadToken(PeerError):
    """
    A token that this server, or one with the same key, did not give to a device, or that is not to be used now.
    """


@frozen(kw_only=True)
class Claims:
    """
    What a device's token says.

    @ivar uid: 64 hexadecimal digits, see L{device_uid}.
    @ivar tenant: the namespace's UUID.
    @ivar token: the token's own identifier, a UUID.
    @ivar issued: seconds since 1970.
    """

    uid: str
    tenant: str
    token: str = ""
    issued: float = 0.0


def device_uid(mac: str | None, public_key: str, tenant: str) -> str:
    """
    @param mac: the device's; C{None} where it names itself by its host name alone (which is no part of it).
    @param public_key: PEM, as the device sent it.
    @return: 64 hexadecimal digits.
    """
    identity = "<invalid Value>" if mac is None else f'{{MAC:"{mac}"}}'
    text = f'{{Identity:{identity},PublicKey:"{public_key}",TenantID:"{tenant}"}}'
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def is_uid(text: str) -> bool:
    """
    @return: whether it has the form of a device's digest.
    """
    return _UID.fullmatch(text) is not None


def same(one: str, other: str) -> bool:
    """
    Compare what only its owner may know, in a time that tells nothing.
    """
    return hmac.compare_digest(one.encode("utf-8", "surrogatepass"), other.encode("utf-8", "surrogatepass"))


def sign_token(claims: Claims, key: RSAPrivateKey) -> str:
    """
    @return: the token; it has no end, as those of the genuine server.
    """
    issued = int(claims.issued)
    payload = {
        "claims": "device", "uid": claims.uid, "tenant": claims.tenant, "nbf": issued, "iat": issued, "jti": claims.token,
    }  # fmt: skip
    signed = f"{_packed({'alg': _ALGORITHM, 'typ': 'JWT'})}.{_packed(payload)}"
    return f"{signed}.{_base64url(key.sign(signed.encode(), PKCS1v15(), SHA256()))}"


def verify_token_untrusted(token: str, key: RSAPublicKey, now: float) -> Claims:
    """
    Nothing that a token says of itself is believed before its signature: the algorithm is ours, and not its own choice.

    @param now: seconds since 1970.
    @raise PeerError: L{BadToken}, or what is signed is no JSON.
    """
    if len(token) > TOKEN or token.count(".") != 2:
        raise BadToken("this is no token")
    header, payload, signature = token.split(".")
    try:
        key.verify(_octets(signature), f"{header}.{payload}".encode(), PKCS1v15(), SHA256())
    except (InvalidSignature, UnicodeEncodeError):
        raise BadToken("a token was not signed here") from None
    said = decode_object(_octets(header))
    if said.get("alg") != _ALGORITHM or "crit" in said:
        raise BadToken("a token is of another kind", algorithm=str(said.get("alg"))[:16])
    return _claims(decode_object(_octets(payload)), now)


def _claims(said: dict[str, Any], now: float) -> Claims:
    uid, tenant, token = said.get("uid"), said.get("tenant"), said.get("jti", "")
    if said.get("claims") != "device":
        raise BadToken("a token is not a device's")
    if not isinstance(uid, str) or not is_uid(uid) or not isinstance(tenant, str) or not isinstance(token, str):
        raise BadToken("a token names no device")
    if max(_instant(said, "nbf", 0.0), _instant(said, "iat", 0.0)) > now + LEEWAY:
        raise BadToken("a token is not valid yet")
    if "exp" in said and _instant(said, "exp", 0.0) <= now:
        raise BadToken("a token is not valid any more")
    return Claims(uid=uid, tenant=tenant, token=token, issued=_instant(said, "iat", 0.0))


def _instant(said: dict[str, Any], name: str, default: float) -> float:
    value = said.get(name, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or abs(value) > 1e15:
        raise BadToken("a token has a time that is none", claim=name)
    return float(value)


def _packed(value: dict[str, Any]) -> str:
    return _base64url(json.dumps(value, separators=(",", ":")).encode())


def _base64url(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def _octets(text: str) -> bytes:
    try:
        octets = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise BadToken("a part of a token is no base64url") from None
    if _base64url(octets) != text:
        raise BadToken("a part of a token is written in another way than the one there is")
    return octets


def fingerprint(public_key: bytes) -> str:
    """
    @param public_key: as SSH has it on the wire.
    @return: the old form, sixteen pairs of hexadecimal digits with colons.
    """
    return hashlib.md5(public_key, usedforsecurity=False).digest().hex(":")


def sign_login(data: str, key: RSAPrivateKey) -> str:
    """
    @param data: what the agent sent, as it is.
    @return: base64, for the answer.
    """
    return base64.b64encode(key.sign(data.encode(), PKCS1v15(), SHA256())).decode()


def verify_login_untrusted(data: str, signature: str, key: RSAPublicKey) -> bool:
    """
    @param data: what we sent.
    @param key: the one that the SSH client offered.
    """
    try:
        key.verify(base64.b64decode(signature, validate=True), data.encode(), PKCS1v15(), SHA256())
    except (InvalidSignature, ValueError):
        return False
    return True
