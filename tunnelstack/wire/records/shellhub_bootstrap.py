"""
The JSON objects that a ShellHub agent and its server exchange over plain HTTP before there is a tunnel.

Unknown members are ignored; a known member of another type is an error.

Source: shellhub C{pkg/models/device.go}, C{info.go}, C{publickey.go}; C{pkg/api/client/client_public.go}.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from attrs import field, frozen

from tunnelstack.errors import PeerError
from tunnelstack.wire.go_json import encode_fields
from tunnelstack.wire.jsonline import decode_object

INFO, DEVICE_AUTH, SSH_AUTH = "/info", "/api/devices/auth", "/api/auth/ssh"

SESSIONS, HEALTH = "/api/sessions", "/healthcheck"

JSON = b"application/json"
"""The content type of all bodies; genuine agents read no other."""

BODY = 64 * 1024
"""Octets of the longest body."""

REPEAT, REPEAT_SPREAD = 600.0, (10.0, 60.0)
"""Seconds between two authentications of a connected agent, and the bounds of the random time that is added."""

ACCEPTED, PENDING, REJECTED = "accepted", "pending", "rejected"


class BadBody(PeerError):
    """
    A member of a body is missing, or of the wrong type.
    """


@frozen(kw_only=True)
class Info:
    """
    The addresses of a server.

    @ivar api: its HTTP address.
    @ivar ssh: its SSH address.
    """

    version: str
    api: str = ""
    ssh: str = ""


@frozen(kw_only=True)
class DeviceInfo:
    """
    The software of a device.
    """

    id: str = ""
    pretty_name: str = ""
    version: str = ""
    arch: str = ""
    platform: str = ""


@frozen(kw_only=True)
class DeviceAuth:
    """
    The identity of a device, with which it registers.

    @ivar mac: the address of its network card; C{None} if it sends none.
    @ivar public_key: PEM, PKCS#1.
    @ivar tenant: the namespace's UUID.
    @ivar sessions: identifiers of the sessions that it serves.
    @ivar install_key: with a key of its tenant the device is accepted at once; C{""} for none.
    """

    public_key: str
    tenant: str
    hostname: str = ""
    mac: str | None = None
    info: DeviceInfo = DeviceInfo()
    sessions: tuple[str, ...] = ()
    install_key: str = field(default="", repr=False)


@frozen(kw_only=True)
class DeviceAuthAnswer:
    """
    The answer to a registration.

    @ivar token: the credential of its tunnels.
    @ivar status: C{""} if the server sends none.
    @ivar config: of its sessions, see L{tunnelstack.wire.records.shellhub_settings}.
    """

    uid: str
    token: str = field(repr=False)
    name: str
    namespace: str
    status: str = ""
    config: Mapping[str, Any] = field(factory=dict)


@frozen(kw_only=True)
class SSHAuth:
    """
    A request of an agent that its server vouches for the key of a user.

    @ivar fingerprint: see L{fingerprint<tunnelstack.wire.records.shellhub_identity.fingerprint>}.
    @ivar data: what is to be signed, as it is; see L{encode_login}.
    """

    fingerprint: str
    data: str


def encode_info(info: Info) -> bytes:
    """
    @return: the body of the answer to C{GET /info}.
    """
    return _encode({"version": info.version, "endpoints": {"api": info.api, "ssh": info.ssh}})


def decode_info_untrusted(body: bytes) -> Info:
    """
    @raise PeerError: the body is invalid.
    """
    said = decode_object(body)
    endpoints = _object(said, "endpoints")
    return Info(version=_text(said, "version"), api=_text(endpoints, "api"), ssh=_text(endpoints, "ssh"))


def encode_device_auth(auth: DeviceAuth) -> bytes:
    """
    @return: the body of C{POST /api/devices/auth}.
    """
    info = auth.info
    said: dict[str, Any] = {
        "info": {
            "id": info.id, "pretty_name": info.pretty_name, "version": info.version, "arch": info.arch,
            "platform": info.platform,
        },
    }  # fmt: skip
    if auth.sessions:
        said["sessions"] = list(auth.sessions)
    if auth.hostname:
        said["hostname"] = auth.hostname
    if auth.mac is not None:
        said["identity"] = {"mac": auth.mac}
    said.update(public_key=auth.public_key, tenant_id=auth.tenant)
    if auth.install_key:
        said["install_key"] = auth.install_key
    return _encode(said)


def decode_device_auth_untrusted(body: bytes) -> DeviceAuth:
    """
    @raise PeerError: the body is invalid, or has neither a host name nor an identity.
    """
    said = decode_object(body)
    hostname, mac, info = _text(said, "hostname"), None, _object(said, "info")
    if said.get("identity") is not None:
        mac = _text(_object(said, "identity"), "mac")
    if not hostname and mac is None:
        raise BadBody("a device has neither a host name nor an identity")
    sessions = said.get("sessions") or []
    if not isinstance(sessions, list) or not all(isinstance(session, str) for session in sessions):
        raise BadBody("sessions is not a list of strings")
    return DeviceAuth(
        public_key=_text(said, "public_key", needed=True),
        tenant=_text(said, "tenant_id", needed=True),
        hostname=hostname,
        mac=mac,
        info=DeviceInfo(**{name: _text(info, name) for name in ("id", "pretty_name", "version", "arch", "platform")}),
        sessions=tuple(sessions),
        install_key=_text(said, "install_key"),
    )


def encode_device_answer(answer: DeviceAuthAnswer) -> bytes:
    """
    @return: the body of the answer to C{POST /api/devices/auth}.
    """
    said: dict[str, Any] = {
        "uid": answer.uid, "token": answer.token, "name": answer.name, "namespace": answer.namespace,
    }  # fmt: skip
    if answer.status:
        said["status"] = answer.status
    if answer.config:
        said["config"] = dict(answer.config)
    return _encode(said)


def decode_device_answer_untrusted(body: bytes) -> DeviceAuthAnswer:
    """
    @raise PeerError: the body is invalid.
    """
    said = decode_object(body)
    return DeviceAuthAnswer(
        uid=_text(said, "uid", needed=True),
        token=_text(said, "token", needed=True),
        name=_text(said, "name"),
        namespace=_text(said, "namespace"),
        status=_text(said, "status"),
        config=_object(said, "config"),
    )


def encode_ssh_auth(auth: SSHAuth) -> bytes:
    """
    @return: the body of C{POST /api/auth/ssh}.
    """
    return _encode({"fingerprint": auth.fingerprint, "data": auth.data})


def decode_ssh_auth_untrusted(body: bytes) -> SSHAuth:
    """
    @raise PeerError: the body is invalid.
    """
    said = decode_object(body)
    return SSHAuth(fingerprint=_text(said, "fingerprint", needed=True), data=_text(said, "data", needed=True))


def encode_login(username: str, device: str) -> str:
    """
    @param device: its name (the member is called otherwise).
    @return: what is signed for a login.
    """
    return encode_fields([("Username", username), ("Namespace", device)]).decode()


def encode_signature(signature: str) -> bytes:
    """
    @return: the body of the answer to C{POST /api/auth/ssh}.
    """
    return _encode({"signature": signature})


def decode_signature_untrusted(body: bytes) -> str:
    """
    @return: base64.
    @raise PeerError: the body is invalid.
    """
    return _text(decode_object(body), "signature", needed=True)


def decode_close_untrusted(body: bytes) -> str:
    """
    @param body: of a request to close a session; it may be empty.
    @return: the C{uid} of the session's device; C{""} if it is not named.
    @raise PeerError: the body is not a JSON object, or the device is not a string.
    """
    return _text(decode_object(body), "device") if body else ""


def encode_message(message: str) -> bytes:
    """
    @return: the body of a refusal.
    """
    return _encode({"message": message})


def _encode(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8")


def _text(said: Mapping[str, Any], name: str, needed: bool = False) -> str:
    """
    @return: C{""} if the member is missing and not needed.
    """
    value = said.get(name)
    if value is None and not needed:
        return ""
    if not isinstance(value, str) or (needed and not value):
        raise BadBody("a member of a body is missing or not a string", member=name)
    return value


def _object(said: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = said.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadBody("a member of a body is not an object", member=name)
    return value
