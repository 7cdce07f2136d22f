"""
What a ShellHub agent requests before it has a tunnel, at the edge: the addresses of the server, its registration, and whether
the key of a user is authorized.
"""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID, uuid4

from attrs import evolve, frozen
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from tunnelstack.dialect.http_entry import bearerToken
from tunnelstack.dialect.shellhub.device_book import Device, DeviceStore
from tunnelstack.dialect.shellhub.http_server import RequestRefused, Route, jsonResponse, messageResponse
from tunnelstack.errors import Denied, PeerError
from tunnelstack.exchange.whole_message import WholeRequest, WholeResponse
from tunnelstack.interfaces import IServerExchange
from tunnelstack.transport.peers import addressText
from tunnelstack.wire.records.shellhub_bootstrap import (
    ACCEPTED,
    DEVICE_AUTH,
    INFO,
    SSH_AUTH,
    DeviceAuth,
    DeviceAuthAnswer,
    Info,
    decode_device_auth_untrusted,
    decode_ssh_auth_untrusted,
    encode_device_answer,
    encode_info,
    encode_signature,
)
from tunnelstack.wire.records.shellhub_identity import (
    Claims,
    device_uid,
    sign_login,
    sign_token,
    verify_token_untrusted,
)
from tunnelstack.wire.records.shellhub_settings import DEFAULTS, Settings, encode_settings

VOUCH_SECONDS = 60.0
"""Seconds that the edge vouches for a key, from when the gateway offers it to a device."""

MAX_VOUCHED_KEYS = 10_000
"""Keys that the edge vouches for at the same time."""

STATUSES = {"unknown": 403, "limit": 429, "malformed": 400}


@frozen
class _VouchedKey:
    key: RSAPrivateKey
    uid: str
    until: float


class VouchedKeys:
    """
    The keys with which the gateway is about to log in at a device, whose agent sends the edge a request about them.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._keys: dict[str, _VouchedKey] = {}

    def add(self, fingerprint: str, key: RSAPrivateKey, uid: str) -> None:
        """
        Vouch for a key toward one device, for L{VOUCH_SECONDS}.

        @param fingerprint: of its public half, from
            L{fingerprint<tunnelstack.wire.records.shellhub_identity.fingerprint>}.
        @param uid: of the device.
        """
        now = self._clock.seconds()
        while self._keys and (len(self._keys) >= MAX_VOUCHED_KEYS or next(iter(self._keys.values())).until <= now):
            del self._keys[next(iter(self._keys))]
        self._keys[fingerprint] = _VouchedKey(key, uid, now + VOUCH_SECONDS)

    def discard(self, fingerprint: str) -> None:
        """
        No longer vouch for a key.
        """
        self._keys.pop(fingerprint, None)

    def find(self, fingerprint: str, uid: str) -> RSAPrivateKey | None:
        """
        @return: the key, if the edge vouches for it toward this device.
        """
        vouched = self._keys.get(fingerprint)
        if vouched is None or vouched.uid != uid or vouched.until <= self._clock.seconds():
            return None
        return vouched.key


class Bootstrap:
    """
    Answers the requests of agents that have no tunnel yet, and authenticates them at the other doors.

    @ivar devices: all devices of the edge.
    @ivar settings: the settings of sessions that agents are sent.
    @ivar vouchedKeys: the keys that the edge vouches for.
    """

    log = Logger()

    def __init__(
        self,
        devices: DeviceStore,
        key: RSAPrivateKey,
        clock: IReactorTime,
        *,
        version: str = "v0.26.0",
        api: str = "",
        ssh: Callable[[], str] = lambda: "",
        settings: Settings = DEFAULTS,
        now: Callable[[], float] | None = None,
    ) -> None:
        """
        @param key: signs the tokens of devices.
        @param version: the version of ShellHub's server that agents are sent.
        @param api: the HTTP address of the edge that agents are sent.
        @param ssh: returns the address for SSH clients that agents are sent, C{host:port}, or C{""}.
        @param now: returns seconds since 1970; by default the clock's seconds.
        """
        self.devices = devices
        self.settings = settings
        self.vouchedKeys = VouchedKeys(clock)
        self._key = key
        self._publicKey = key.public_key()
        self._info = Info(version=version, api=api)
        self._ssh = ssh
        self._config = encode_settings(settings)
        self._now = now or clock.seconds

    def routes(self) -> list[Route]:
        """
        @return: the routes of plain HTTP.
        """
        return [
            Route(INFO, {b"GET": self._sendInfo}),
            Route(DEVICE_AUTH, {b"POST": self._deviceAuthResponse}),
            Route(SSH_AUTH, {b"POST": self._sshAuthResponse}),
        ]

    def _sendInfo(self, request: WholeRequest) -> WholeResponse:
        return jsonResponse(encode_info(evolve(self._info, ssh=self._ssh())))

    # Registration and authentication

    def _deviceAuthResponse(self, request: WholeRequest) -> WholeResponse:
        peer = addressText(request.exchange.peer)
        try:
            auth = decode_device_auth_untrusted(request.body)
            UUID(auth.tenant)
        except (PeerError, ValueError) as invalid:
            self.log.warn("registration of a device at {peer} is invalid: {reason}", peer=peer, reason=str(invalid))
            return messageResponse(400, "the registration is invalid")
        try:
            device = self._registerDevice(auth)
        except Denied as denied:
            self.log.warn("registration of a device at {peer} denied: {reason}", peer=peer, reason=str(denied))
            later = ((b"Retry-After", b"60"),) if denied.code == "limit" else ()
            return messageResponse(STATUSES.get(denied.code, 403), denied.sentence, *later)
        claims = Claims(uid=device.uid, tenant=device.tenant, token=str(uuid4()), issued=self._now())
        answer = DeviceAuthAnswer(
            uid=device.uid, token=sign_token(claims, self._key), name=device.name, namespace=device.namespace,
            status=device.status, config=self._config,
        )
        return jsonResponse(encode_device_answer(answer))

    def _registerDevice(self, auth: DeviceAuth) -> Device:
        """
        @raise Denied: the device may not register.
        """
        info = auth.info
        about = " ".join(filter(None, (info.pretty_name, info.arch, info.version)))
        return self.devices.register(
            uid=device_uid(auth.mac, auth.public_key, auth.tenant), tenant=auth.tenant,
            hostname=auth.hostname or (auth.mac or "").replace(":", "-"), publicKey=auth.public_key, about=about[:256],
            installKey=auth.install_key,
        )

    def authenticateDevice(self, exchange: IServerExchange, accepted: bool = True) -> Device:
        """
        Authenticate the device that has sent a request.

        @param accepted: whether the device must have been accepted.
        @raise RequestRefused: there is no token, it is invalid, or the device is unknown or not accepted.
        """
        token = bearerToken(exchange.head.fields)
        if not token:
            raise RequestRefused(WholeResponse(401), "the request has no token")
        try:
            claims = verify_token_untrusted(token, self._publicKey, self._now())
        except PeerError as invalid:
            raise RequestRefused(WholeResponse(401), str(invalid)) from None
        device = self.devices.find(claims.tenant, claims.uid)
        if device is None:
            raise RequestRefused(WholeResponse(401), f"device {claims.uid[:8]} is unknown")
        if accepted and device.status != ACCEPTED:
            raise RequestRefused(messageResponse(403, "device is not accepted"), f"device {device.agent} is {device.status}")
        return device

    def _sshAuthResponse(self, request: WholeRequest) -> WholeResponse:
        try:
            device = self.authenticateDevice(request.exchange)
            auth = decode_ssh_auth_untrusted(request.body)
        except RequestRefused as refusal:
            return refusal.response
        except PeerError:
            return messageResponse(400, "the request is invalid")
        key = self.vouchedKeys.find(auth.fingerprint, device.uid)
        if key is None:
            self.log.warn("device {device} requested a signature, and the edge does not vouch for the key", device=device.agent)
            return messageResponse(404, "public key not found")
        return jsonResponse(encode_signature(sign_login(auth.data, key)))
