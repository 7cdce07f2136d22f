"""
ShellHub's digest, tokens and signatures.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

from attrs import evolve
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.wire.vectors_shellhub import MAC, NOW, PEM, TENANT, UID
from tunnelstack.errors import PeerError
from tunnelstack.wire.records.shellhub_identity import (
    BadToken,
    Claims,
    device_uid,
    fingerprint,
    is_uid,
    same,
    sign_login,
    sign_token,
    verify_login_untrusted,
    verify_token_untrusted,
)

KEY = rsa.generate_private_key(65537, 2048)
OTHER = rsa.generate_private_key(65537, 2048)
CLAIMS = Claims(uid=UID, tenant=TENANT, token="9b4d", issued=NOW)


def part(value: Any) -> str:
    """
    A part of a token.
    """
    octets = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def forged(payload: Any, header: Any = None, key: rsa.RSAPrivateKey = KEY) -> str:
    """
    A token of any contents, well signed.
    """
    signed = f"{part(header or {'alg': 'RS256', 'typ': 'JWT'})}.{part(payload)}"
    signature = base64.b64decode(sign_login(signed, key))
    return f"{signed}.{part(signature)}"


class DigestTests(SynchronousTestCase):
    """
    The vector of the page, and two more of cnf/structhash at e1b16c1.
    """

    def test_digestsMatchTheirVectors(self) -> None:
        self.assertEqual(device_uid(MAC, PEM, TENANT), UID)
        self.assertEqual(device_uid('m"<é', "K\n", "T"), "659db45957deb96348b8b9e3dc705276e200b17f72ab9e2ca39af792a532c6f8")

    def test_aDeviceMayHaveNoIdentity(self) -> None:
        self.assertEqual(device_uid(None, "K", "T"), "15c773bd925c32953c016429b1c6af8856d92c72248b8b94ed614121eb204b9f")

    def test_onlyDigestsInLowerCaseAreUIDs(self) -> None:
        self.assertTrue(is_uid(UID))
        for text in ("", UID[1:], UID.upper(), UID + "\n", "g" * 64):
            self.assertFalse(is_uid(text))

    def test_comparisonNeedsTheSameText(self) -> None:
        self.assertTrue(same(UID, UID))
        self.assertFalse(same(UID, UID[:-1] + "0"))
        self.assertFalse(same("é", "e"))


class TokenTests(SynchronousTestCase):
    """
    Tokens, and what is done to them.
    """

    def verify(self, token: str, now: float = NOW) -> Claims:
        return verify_token_untrusted(token, KEY.public_key(), now)

    def test_tokensSurviveSigningAndVerifying(self) -> None:
        self.assertEqual(self.verify(sign_token(CLAIMS, KEY)), CLAIMS)

    def test_tokensHaveTheMembersOfTheGenuineServer(self) -> None:
        """
        Members and their order as the genuine server has them; no end.
        """
        header, payload, _ = sign_token(CLAIMS, KEY).split(".")
        self.assertEqual(base64.urlsafe_b64decode(header + "=" * (-len(header) % 4)), b'{"alg":"RS256","typ":"JWT"}')
        said = base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)).decode()
        self.assertEqual(
            said,
            f'{{"claims":"device","uid":"{UID}","tenant":"{TENANT}","nbf":1767225600,"iat":1767225600,"jti":"9b4d"}}',
        )

    def test_aGenuineTokenIsTaken(self) -> None:
        self.assertEqual(self.verify(forged({"claims": "device", "uid": UID, "tenant": TENANT})).uid, UID)

    def test_foreignTokensAreRefused(self) -> None:
        self.assertRaises(BadToken, self.verify, sign_token(CLAIMS, OTHER))

    def test_theAlgorithmIsOurs(self) -> None:
        """
        Neither none, nor a digest made with our public key as if it were a secret, nor another name on a good signature.
        """
        payload = {"claims": "device", "uid": UID, "tenant": TENANT}
        public = KEY.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        for algorithm in ("none", "None", "HS256", "PS256", "RS512", "", None, 1):
            signed = f"{part({'alg': algorithm, 'typ': 'JWT'})}.{part(payload)}"
            digest = part(hmac.digest(public, signed.encode(), hashlib.sha256))
            for token in (f"{signed}.", f"{signed}.{digest}", forged(payload, {"alg": algorithm})):
                self.assertRaises(BadToken, self.verify, token)
        self.assertRaises(BadToken, self.verify, forged(payload, {"alg": "RS256", "crit": ["x"]}))

    def test_whatIsNotADevicesIsRefused(self) -> None:
        good = {"claims": "device", "uid": UID, "tenant": TENANT}
        changes: list[dict[str, Any]] = [
            {"claims": "user"}, {"claims": None}, {"uid": UID[1:]}, {"uid": 5}, {"uid": None}, {"tenant": None},
            {"tenant": {}}, {"jti": 5}, {"nbf": "x"}, {"nbf": True}, {"exp": None}, {"exp": 1e300}, {"iat": [NOW]},
        ]  # fmt: skip
        for change in changes:
            self.assertRaises(BadToken, self.verify, forged({**good, **change}))
        payloads: list[Any] = [[], "x", b"\xff", b"", b"{}"]
        for payload in payloads:
            self.assertRaises(PeerError, self.verify, forged(payload))

    def test_timesAreHeeded(self) -> None:
        good = {"claims": "device", "uid": UID, "tenant": TENANT}
        self.verify(forged({**good, "nbf": NOW + 59, "iat": NOW + 59, "exp": NOW + 1}))
        for change in ({"nbf": NOW + 61}, {"iat": NOW + 61}, {"exp": NOW}, {"exp": 0}):
            self.assertRaises(BadToken, self.verify, forged({**good, **change}))

    def test_everyChangedCharacterIsSeen(self) -> None:
        token = sign_token(CLAIMS, KEY)
        for at in range(0, len(token), 7):
            for other in "A.-=é":
                if token[at] != other:
                    self.assertRaises(PeerError, self.verify, token[:at] + other + token[at + 1 :])

    def test_aSecondSpellingIsNone(self) -> None:
        """
        The last character of a signature has bits that mean nothing: a token is only taken as it was given.
        """
        token = sign_token(CLAIMS, KEY)
        alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
        others = [token[:-1] + letter for letter in alphabet if letter != token[-1]]
        for other in [*others, token + "=", token + "\n", " " + token]:
            self.assertRaises(BadToken, self.verify, other)

    @given(st.text(max_size=200) | st.text("abc.-_=", max_size=50))
    def test_anyTextIsAPeersError(self, token: str) -> None:
        self.assertRaises(PeerError, self.verify, token)

    def test_longTextIsNotLookedAt(self) -> None:
        self.assertRaises(BadToken, self.verify, "." * 9000)

    def test_claimsAreRecords(self) -> None:
        self.assertNotEqual(evolve(CLAIMS, tenant="x"), CLAIMS)


class LoginTests(SynchronousTestCase):
    """
    The signature that lets a user's key in.
    """

    def test_theFingerprintIsThatOfSSHKeygen(self) -> None:
        """
        As C{ssh-keygen -l -E md5} writes it.
        """
        self.assertEqual(fingerprint(b""), "d4:1d:8c:d9:8f:00:b2:04:e9:80:09:98:ec:f8:42:7e")

    def test_onlyTheSignatureOfTheDataIsAccepted(self) -> None:
        signature = sign_login('{"Username":"root","Namespace":"é"}', KEY)
        self.assertTrue(verify_login_untrusted('{"Username":"root","Namespace":"é"}', signature, KEY.public_key()))
        for data, text, key in (
            ("{}", signature, KEY), ('{"Username":"root","Namespace":"é"}', signature, OTHER),
            ('{"Username":"root","Namespace":"é"}', "no base64!", KEY), ('{"Username":"root","Namespace":"é"}', "é", KEY),
            ('{"Username":"root","Namespace":"é"}', "", KEY),
        ):  # fmt: skip
            self.assertFalse(verify_login_untrusted(data, text, key.public_key()))
