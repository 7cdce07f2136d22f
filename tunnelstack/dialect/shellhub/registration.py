"""
A device and its server before there is a tunnel: who the device is, what it is told, and the token it gets.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import field, frozen
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.logger import Logger
from twisted.python.failure import Failure

from tunnelstack.dialect.shellhub.http_client import APIClient
from tunnelstack.errors import PeerError, Refused, Unavailable
from tunnelstack.exchange.fetch import FetchedResponse
from tunnelstack.wire.printable_text import printable
from tunnelstack.wire.records.shellhub_bootstrap import (
    DEVICE_AUTH,
    INFO,
    REPEAT,
    REPEAT_SPREAD,
    SSH_AUTH,
    DeviceAuth,
    DeviceAuthAnswer,
    DeviceInfo,
    SSHAuth,
    decode_device_answer_untrusted,
    decode_info_untrusted,
    decode_signature_untrusted,
    encode_device_auth,
    encode_login,
    encode_ssh_auth,
)
from tunnelstack.wire.records.shellhub_identity import fingerprint, verify_login_untrusted

VERSION = "v0.26.0"
"""The agent that we are like, to a server."""


DEVICE_INFO = DeviceInfo(version=VERSION, platform="native")


class DeviceRefused(Refused):
    """
    The server does not take this device, or not with this tenant.
    """


class ServerBusy(Unavailable):
    """
    The server cannot take us now.
    """


class NotAShellHubServer(PeerError):
    """
    What answers is no ShellHub server.
    """


@frozen(kw_only=True)
class DeviceIdentity:
    """
    What a device is made of.

    @ivar key: its own; the server knows the device by it.
    @ivar tenant: whose it is, a UUID.
    @ivar mac: of its network, or C{None}.
    @ivar installKey: lets it in at once where it is a good one.
    """

    key: RSAPrivateKey = field(repr=False)
    tenant: str
    hostname: str = ""
    mac: str | None = None
    installKey: str = field(default="", repr=False)
    info: DeviceInfo = DEVICE_INFO

    def request(self) -> DeviceAuth:
        """
        How it is said.
        """
        pem = self.key.public_key().public_bytes(Encoding.PEM, PublicFormat.PKCS1).decode("ascii")
        return DeviceAuth(
            public_key=pem, tenant=self.tenant, hostname=self.hostname, mac=self.mac, info=self.info,
            install_key=self.installKey,
        )


class Registration:
    """
    What one server knows of a device, and gave it.

    @ivar identity: the L{DeviceIdentity}.
    @ivar token: what the server gave us last, C{""} before.
    @ivar answer: all that it said then, or C{None}.
    """

    log = Logger()

    def __init__(self, server: APIClient, url: str, identity: DeviceIdentity, clock: Any, random: Callable[[], float]) -> None:
        """
        @param url: of the server, for sentences.
        @param random: a number from 0 to 1, for the time between authentications.
        """
        self.identity = identity
        self.token = ""
        self.answer: DeviceAuthAnswer | None = None
        self._server = server
        self._url = url
        self._clock = clock
        self._random = random

    @property
    def name(self) -> str:
        """
        C{namespace.name}, as the server calls the device; C{""} before it has.
        """
        return "" if self.answer is None else printable(f"{self.answer.namespace}.{self.answer.name}", 128)

    @inlineCallbacks
    def authorize(self) -> Any:
        """
        Say who the device is, and get a token.

        @return: fires with the L{DeviceAuthAnswer}; fails with L{ServerBusy}, L{NotAShellHubServer}, L{DeviceRefused}, or as
            connecting does.
        """
        try:
            said = yield self._server.post(DEVICE_AUTH, encode_device_auth(self.identity.request()))
            answer = decode_device_answer_untrusted(_successBody(said, self._url))
        except PeerError as strange:
            raise NotAShellHubServer(f"what answers at {self._url} is no ShellHub server: {strange}") from None
        self.answer, self.token = answer, answer.token
        return answer

    @inlineCallbacks
    def register(self) -> Any:
        """
        What an agent asks first; then as L{authorize}.
        """
        try:
            said = yield self._server.get(f"{INFO}?agent_version={VERSION}")
            decode_info_untrusted(_successBody(said, self._url))
        except PeerError as strange:
            raise NotAShellHubServer(f"what answers at {self._url} is no ShellHub server: {strange}") from None
        yield self.authorize()

    @inlineCallbacks
    def isKeyAuthorized(self, username: str, key: RSAPublicKey, blob: bytes) -> Any:
        """
        Ask the server whether a key may log in to this device.

        @param blob: the key as SSH has it on the wire.
        @return: fires with whether it may.
        """
        if self.answer is None:
            return False
        data = encode_login(username, self.answer.name)
        said = yield self._server.post(SSH_AUTH, encode_ssh_auth(SSHAuth(fingerprint=fingerprint(blob), data=data)), self.token)
        if said.status != 200:
            return False
        try:
            return verify_login_untrusted(data, decode_signature_untrusted(said.body), key)
        except PeerError:
            return False

    def startRenewal(self, session: Any) -> None:
        """
        Authenticate again from time to time, as long as a session lasts.
        """
        _Renewal(self, session)

    def scheduleRenewal(self, ask: Callable[[], None]) -> Any:
        """
        @return: the timer of the next time.
        """
        low, high = REPEAT_SPREAD
        return self._clock.callLater(REPEAT + low + (high - low) * self._random(), ask)


class _Renewal:
    """
    Authenticates again from time to time, as long as a session lasts: the token, the name and the settings are those of the
    last answer.
    """

    def __init__(self, registration: Registration, session: Any) -> None:
        self._registration = registration
        self._timer: Any = None
        self._authorization: Deferred[Any] | None = None
        self._stopped = False
        session.whenLost().addCallback(self._stop)
        self._schedule()

    def _schedule(self) -> None:
        if not self._stopped:
            self._timer = self._registration.scheduleRenewal(self._authorize)

    def _authorize(self) -> None:
        self._authorization = asking = self._registration.authorize()
        asking.addErrback(self._failed)
        asking.addCallback(lambda _: self._schedule())

    def _failed(self, failure: Failure) -> None:
        if not self._stopped:
            self._registration.log.warn(
                "the device could not be authenticated again: {reason}", reason=failure.getErrorMessage(),
            )

    def _stop(self, reason: Any) -> Any:
        self._stopped = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if self._authorization is not None:
            self._authorization.cancel()
        return reason


def _successBody(said: FetchedResponse, url: str) -> bytes:
    """
    @return: the body of a yes.
    @raise ServerBusy: another time, perhaps.
    @raise DeviceRefused: no.
    @raise NotAShellHubServer: this is none.
    """
    if said.status == 200:
        return said.body
    if said.status in (408, 429) or said.status >= 500:
        raise ServerBusy(f"the server at {url} cannot say who we are now", status=said.status)
    if said.status in (400, 401, 403):
        raise DeviceRefused(f"the server at {url} does not take this device", status=said.status, said=said.body[:200])
    raise NotAShellHubServer("it answers otherwise", status=said.status)
