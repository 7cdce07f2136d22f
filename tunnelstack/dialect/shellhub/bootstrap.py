"""
What a ShellHub agent asks before it has a tunnel, at the edge: where things are, who it is, and whether a user's key is good.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

from attrs import evolve, frozen
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from twisted.logger import Logger

from tunnelstack.dialect.http_entry import bearerToken
from tunnelstack.dialect.shellhub.http_server import messageResponse
from tunnelstack.doors import HTTPDoor
from tunnelstack.errors import Denied, PeerError
from tunnelstack.exchange.whole_message import JSON, WholeMessageServer, WholeRequest, WholeResponse
from tunnelstack.interfaces import IServerExchange
from tunnelstack.wire.records.shellhub_bootstrap import (
    ACCEPTED,
    BODY,
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
"""Seconds that a key of ours is vouched for, from when it is offered to a device."""

MAX_VOUCHED_KEYS = 10_000
"""Keys that may be vouched for at the same time."""

STATUSES = {"unknown": 403, "limit": 429, "malformed": 400}


@frozen
class _VouchedKey:
    key: RSAPrivateKey
    uid: str
    until: float


class VouchedKeys:
    """
    The keys with which somebody of this edge is about to log in to a device: its agent asks whether they are good.
    """

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self._keys: dict[str, _VouchedKey] = {}

    def add(self, fingerprint: str, key: RSAPrivateKey, uid: str) -> None:
        """
        Vouch for a key, toward one device and for L{VOUCH_SECONDS}.

        @param fingerprint: of its public half, as
            L{fingerprint<tunnelstack.wire.records.shellhub_identity.fingerprint>} has it.
        """
        now = self._clock.seconds()
        while self._keys and (len(self._keys) >= MAX_VOUCHED_KEYS or next(iter(self._keys.values())).until <= now):
            del self._keys[next(iter(self._keys))]
        self._keys[fingerprint] = _VouchedKey(key, uid, now + VOUCH_SECONDS)

    def discard(self, fingerprint: str) -> None:
        """
        The login is over.
        """
        self._keys.pop(fingerprint, None)

    def find(self, fingerprint: str, uid: str) -> RSAPrivateKey | None:
        """
        @return: the key, if it is vouched for toward this device now.
        """
        given = self._keys.get(fingerprint)
        if given is None or given.uid != uid or given.until <= self._clock.seconds():
            return None
        return given.key


class RequestRefused(Exception):
    """
    An agent is not let in.

    @ivar response: what it is sent.
    """

    def __init__(self, response: WholeResponse, reason: str) -> None:
        super().__init__(reason)
        self.response = response


class Bootstrap:
    """
    The doors of plain HTTP, and who is who at the others.

    @ivar vouchedKeys: the keys that are vouched for.
    """

    log = Logger()

    def __init__(
        self,
        devices: Any,
        key: RSAPrivateKey,
        clock: Any,
        *,
        version: str = "v0.26.0",
        api: str = "",
        ssh: Callable[[], str] = lambda: "",
        settings: Settings = DEFAULTS,
        now: Callable[[], float] | None = None,
    ) -> None:
        """
        @param devices: has C{asks(...)}, C{find(tenant, uid)} and C{heard(device)}, as
            L{DeviceStore<tunnelstack.dialect.shellhub.device_book.DeviceStore>}.
        @param key: signs the tokens.
        @param version: the server that we are like.
        @param api: our HTTP address, as agents are told.
        @param ssh: where SSH clients come in, as agents are told: C{host:port}, or C{""}.
        @param settings: of the sessions of agents.
        @param now: seconds since 1970; the clock's unless given.
        """
        self.devices = devices
        self.vouchedKeys = VouchedKeys(clock)
        self._key = key
        self._publicKey = key.public_key()
        self._clock = clock
        self._info = Info(version=version, api=api)
        self._ssh = ssh
        self._config = encode_settings(settings)
        self._now = now or clock.seconds

    def doors(self) -> list[HTTPDoor]:
        """
        Those of plain HTTP.
        """
        answers = {
            INFO: (b"GET", self._sendInfo), DEVICE_AUTH: (b"POST", self._deviceAuthResponse),
            SSH_AUTH: (b"POST", self._sshAuthResponse),
        }  # fmt: skip
        return [
            HTTPDoor(path=path.encode(), server=self._server(method, respond)) for path, (method, respond) in answers.items()
        ]

    def _server(self, method: bytes, respond: Callable[[WholeRequest], WholeResponse]) -> WholeMessageServer:
        def answer(request: WholeRequest) -> WholeResponse:
            if request.head.method != method:
                return messageResponse(405, "Method Not Allowed", (b"Allow", method))
            return respond(request)

        return WholeMessageServer(answer, clock=self._clock, bodyOctets=BODY, refuse=messageResponse)

    def _sendInfo(self, request: WholeRequest) -> WholeResponse:
        return _json(encode_info(evolve(self._info, ssh=self._ssh())))

    # Who a device is

    def _deviceAuthResponse(self, request: WholeRequest) -> WholeResponse:
        peer = str(request.exchange.peer)
        try:
            said = decode_device_auth_untrusted(request.body)
            UUID(said.tenant)
        except (PeerError, ValueError) as wrong:
            self.log.warn("a device at {peer} cannot be understood: {reason}", peer=peer, reason=str(wrong))
            return messageResponse(400, "the device cannot be understood")
        try:
            device = self._registerDevice(said)
        except Denied as denied:
            self.log.warn("a device at {peer} is not taken: {reason}", peer=peer, reason=str(denied))
            later = ((b"Retry-After", b"60"),) if denied.code == "limit" else ()
            return messageResponse(STATUSES.get(denied.code, 403), denied.sentence, *later)
        claims = Claims(uid=device.uid, tenant=device.tenant, token=str(uuid4()), issued=self._now())
        answer = DeviceAuthAnswer(
            uid=device.uid, token=sign_token(claims, self._key), name=device.name, namespace=device.namespace,
            status=device.status, config=self._config,
        )
        return _json(encode_device_answer(answer))

    def _registerDevice(self, said: DeviceAuth) -> Any:
        """
        @raise Denied: it is not listened to.
        """
        info = said.info
        about = " ".join(filter(None, (info.pretty_name, info.arch, info.version)))
        return self.devices.register(
            uid=device_uid(said.mac, said.public_key, said.tenant), tenant=said.tenant,
            hostname=said.hostname or (said.mac or "").replace(":", "-"), publicKey=said.public_key, about=about[:256],
            installKey=said.install_key,
        )

    def authenticateDevice(self, exchange: IServerExchange, accepted: bool = True) -> Any:
        """
        The device whose token a request shows.

        @param accepted: only devices that are.
        @return: the device.
        @raise RequestRefused: no token, one that is not good, or a device that is not known or not accepted.
        """
        token = bearerToken(exchange.head.fields)
        if not token:
            raise RequestRefused(WholeResponse(401), "no token was shown")
        try:
            claims = verify_token_untrusted(token, self._publicKey, self._now())
        except PeerError as bad:
            raise RequestRefused(WholeResponse(401), str(bad)) from None
        device = self.devices.find(claims.tenant, claims.uid)
        if device is None:
            raise RequestRefused(WholeResponse(401), f"device {claims.uid[:8]} is not known any more")
        if accepted and device.status != ACCEPTED:
            raise RequestRefused(messageResponse(403, "device is not accepted"), f"device {device.agent} is {device.status}")
        return device

    def _sshAuthResponse(self, request: WholeRequest) -> WholeResponse:
        try:
            device = self.authenticateDevice(request.exchange)
            said = decode_ssh_auth_untrusted(request.body)
        except RequestRefused as refusal:
            return refusal.response
        except PeerError:
            return messageResponse(400, "the key cannot be understood")
        key = self.vouchedKeys.find(said.fingerprint, device.uid)
        if key is None:
            self.log.warn("device {device} asks about a key that nobody here has", device=device.agent)
            return messageResponse(404, "public key not found")
        return _json(encode_signature(sign_login(said.data, key)))


def _json(body: bytes) -> WholeResponse:
    return WholeResponse(200, body, JSON)
