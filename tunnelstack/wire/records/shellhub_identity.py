"""
The identity of a device at a ShellHub server: its digest, its token, and the signature that authorizes the key of a user.

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
    A token that this server, or one with the same key, did not issue to a device, or that is not valid at the moment.
    """


@frozen(kw_only=True)
class Claims:
    """
    The claims of a device's token.

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
    Compare secrets in constant time.
    """
    return hmac.compare_digest(one.encode("utf-8", "surrogatepass"), other.encode("utf-8", "surrogatepass"))


def sign_token(claims: Claims, key: RSAPrivateKey) -> str:
    """
    @return: the token; like those of the genuine server it does not expire.
    """
    issued = int(claims.issued)
    payload = {
        "claims": "device", "uid": claims.uid, "tenant": claims.tenant, "nbf": issued, "iat": issued, "jti": claims.token,
    }  # fmt: skip
    signed = f"{_packed({'alg': _ALGORITHM, 'typ': 'JWT'})}.{_packed(payload)}"
    return f"{signed}.{_base64url(key.sign(signed.encode(), PKCS1v15(), SHA256()))}"


def verify_token_untrusted(token: str, key: RSAPublicKey, now: float) -> Claims:
    """
    The signature is checked before anything else, by the algorithm of this module and not the one that the token names.

    @param now: seconds since 1970.
    @raise PeerError: L{BadToken}, or the token is not JSON.
    """
    if len(token) > TOKEN or token.count(".") != 2:
        raise BadToken("the token has not three parts")
    header, payload, signature = token.split(".")
    try:
        key.verify(_octets(signature), f"{header}.{payload}".encode(), PKCS1v15(), SHA256())
    except (InvalidSignature, UnicodeEncodeError):
        raise BadToken("the token was not signed by this edge") from None
    said = decode_object(_octets(header))
    if said.get("alg") != _ALGORITHM or "crit" in said:
        raise BadToken("the token has another algorithm", algorithm=str(said.get("alg"))[:16])
    return _claims(decode_object(_octets(payload)), now)


def _claims(said: dict[str, Any], now: float) -> Claims:
    uid, tenant, token = said.get("uid"), said.get("tenant"), said.get("jti", "")
    if said.get("claims") != "device":
        raise BadToken("the token is not one of a device")
    if not isinstance(uid, str) or not is_uid(uid) or not isinstance(tenant, str) or not isinstance(token, str):
        raise BadToken("the token does not name a device")
    if max(_instant(said, "nbf", 0.0), _instant(said, "iat", 0.0)) > now + LEEWAY:
        raise BadToken("the token is not valid yet")
    if "exp" in said and _instant(said, "exp", 0.0) <= now:
        raise BadToken("the token has expired")
    return Claims(uid=uid, tenant=tenant, token=token, issued=_instant(said, "iat", 0.0))


def _instant(said: dict[str, Any], name: str, default: float) -> float:
    value = said.get(name, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or abs(value) > 1e15:
        raise BadToken("a time of the token is invalid", claim=name)
    return float(value)


def _packed(value: dict[str, Any]) -> str:
    return _base64url(json.dumps(value, separators=(",", ":")).encode())


def _base64url(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def _octets(text: str) -> bytes:
    try:
        octets = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise BadToken("a part of the token is not base64url") from None
    if _base64url(octets) != text:
        raise BadToken("a part of the token is not canonical base64url")
    return octets


def fingerprint(public_key: bytes) -> str:
    """
    @param public_key: in the format of SSH.
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
