"""
A device and its server before there is a tunnel: the identity of the device, its registration, and its token.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from attrs import field, frozen
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from tunnelstack.dialect.shellhub.http_client import APIClient
from tunnelstack.errors import PeerError, Refused, Unavailable
from tunnelstack.exchange.fetch import FetchedResponse
from tunnelstack.interfaces import ISession
from tunnelstack.stream.errors import SessionLost
from tunnelstack.transport.error_text import errorText
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
"""The version of ShellHub's agent that servers are sent."""

DEVICE_INFO = DeviceInfo(version=VERSION, platform="native")


class DeviceRefused(Refused):
    """
    The server rejects this device, or its tenant.
    """


class ServerBusy(Unavailable):
    """
    The server cannot register or accept the device at the moment.
    """


class NotAShellHubServer(PeerError):
    """
    The server is not a ShellHub server.
    """


@frozen(kw_only=True)
class DeviceIdentity:
    """
    The identity of a device.

    @ivar key: the device's own key, a part of its identity.
    @ivar tenant: the UUID of its tenant.
    @ivar hostname: the requested name.
    @ivar mac: the address of its network card, a part of its identity; or C{None}.
    @ivar installKey: with a key of its tenant the device is accepted at once; C{""} for none.
    @ivar info: the software of the device.
    """

    key: RSAPrivateKey = field(repr=False)
    tenant: str
    hostname: str = ""
    mac: str | None = None
    installKey: str = field(default="", repr=False)
    info: DeviceInfo = DEVICE_INFO

    def request(self) -> DeviceAuth:
        """
        @return: the request to register the device.
        """
        pem = self.key.public_key().public_bytes(Encoding.PEM, PublicFormat.PKCS1).decode("ascii")
        return DeviceAuth(
            public_key=pem, tenant=self.tenant, hostname=self.hostname, mac=self.mac, info=self.info,
            install_key=self.installKey,
        )


class Registration:
    """
    A device at one server.

    @ivar identity: the identity of the device.
    @ivar token: the last token that the server has issued; C{""} before the first.
    @ivar answer: the last answer of the server; C{None} before the first.
    """

    log = Logger()

    def __init__(
        self, server: APIClient, url: str, identity: DeviceIdentity, clock: IReactorTime, random: Callable[[], float],
    ) -> None:
        """
        @param url: of the server, for messages.
        @param random: returns a number from 0 to 1, for the time between authentications.
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
        The name that the server gave the device, C{namespace.name}; C{""} before that.
        """
        return "" if self.answer is None else printable(f"{self.answer.namespace}.{self.answer.name}", 128)

    @inlineCallbacks
    def authorize(self) -> Generator[Deferred[FetchedResponse], FetchedResponse, DeviceAuthAnswer]:
        """
        Register the device, or authenticate it again, and get a token.

        @return: fires with the answer; fails with L{ServerBusy}, L{NotAShellHubServer}, L{DeviceRefused}, or as connecting
            does.
        """
        try:
            response = yield self._server.post(DEVICE_AUTH, encode_device_auth(self.identity.request()))
            answer = decode_device_answer_untrusted(_successBody(response, self._url))
        except PeerError as invalid:
            raise NotAShellHubServer(f"the server at {self._url} is not a ShellHub server: {invalid}") from None
        self.answer, self.token = answer, answer.token
        return answer

    @inlineCallbacks
    def register(self) -> Generator[Deferred[Any], Any, None]:
        """
        Check that the server is one of ShellHub, as an agent does first; then as L{authorize}.
        """
        try:
            response = yield self._server.get(f"{INFO}?agent_version={VERSION}")
            decode_info_untrusted(_successBody(response, self._url))
        except PeerError as invalid:
            raise NotAShellHubServer(f"the server at {self._url} is not a ShellHub server: {invalid}") from None
        yield self.authorize()

    @inlineCallbacks
    def isKeyAuthorized(
        self, username: str, key: RSAPublicKey, blob: bytes,
    ) -> Generator[Deferred[FetchedResponse], FetchedResponse, bool]:
        """
        Ask the server whether a key is authorized to log in at this device.

        @param blob: the key in the format of SSH.
        @return: fires with whether it is.
        """
        if self.answer is None:
            return False
        data = encode_login(username, self.answer.name)
        auth = SSHAuth(fingerprint=fingerprint(blob), data=data)
        response = yield self._server.post(SSH_AUTH, encode_ssh_auth(auth), self.token)
        if response.status != 200:
            return False
        try:
            return verify_login_untrusted(data, decode_signature_untrusted(response.body), key)
        except PeerError:
            return False

    def startRenewal(self, session: ISession) -> None:
        """
        Authenticate again every L{REPEAT} seconds and a random time, until the session is lost.
        """
        _Renewal(self, session)

    def scheduleRenewal(self, renew: Callable[[], None]) -> IDelayedCall:
        """
        @return: the timer of the next authentication.
        """
        low, high = REPEAT_SPREAD
        timer: IDelayedCall = self._clock.callLater(REPEAT + low + (high - low) * self._random(), renew)
        return timer


class _Renewal:
    """
    Authenticates again until a session is lost.  Token, name and settings are those of the last answer.
    """

    def __init__(self, registration: Registration, session: ISession) -> None:
        self._registration = registration
        self._timer: IDelayedCall | None = None
        self._authorization: Deferred[None] | None = None
        self._stopped = False
        session.whenLost().addCallback(self._stop)
        self._schedule()

    def _schedule(self) -> None:
        if not self._stopped:
            self._timer = self._registration.scheduleRenewal(self._authorize)

    def _authorize(self) -> None:
        authorized = self._registration.authorize().addErrback(self._failed)
        self._authorization = authorized.addCallback(lambda _: self._schedule())

    def _failed(self, failure: Failure) -> None:
        if not self._stopped:
            self._registration.log.warn(
                "renewal of the device's token failed: {reason}", reason=errorText(failure),
            )

    def _stop(self, reason: SessionLost) -> SessionLost:
        self._stopped = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if self._authorization is not None:
            self._authorization.cancel()
        return reason


def _successBody(response: FetchedResponse, url: str) -> bytes:
    """
    @return: the body of a response with status 200.
    @raise ServerBusy: the server may accept the device later.
    @raise DeviceRefused: the server rejects the device.
    @raise NotAShellHubServer: no ShellHub server answers with such a status.
    """
    if response.status == 200:
        return response.body
    if response.status in (408, 429) or response.status >= 500:
        raise ServerBusy(f"the server at {url} cannot register the device at the moment", status=response.status)
    if response.status in (400, 401, 403):
        reason = printable(response.body.decode("utf-8", "replace"), 200)
        raise DeviceRefused(f"the server at {url} rejects this device", status=response.status, response=reason)
    raise NotAShellHubServer("its response has another status", status=response.status)
