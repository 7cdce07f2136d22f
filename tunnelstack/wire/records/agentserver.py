"""
What agentserver and its agents put into the streams of their session: the heads of HTTP requests and responses as JSON, and the
documents in which an agent describes its machine.

JSON is read as Go's decoder reads it into the structs of the genuine programs: members that are missing, or C{null}, are zero
values, and unknown members are ignored.  Unlike Go's, this reader accepts no member twice, and no text that is not Unicode.

Source: agentserver C{internal/tunnel/header.go}, C{internal/sandboxproxy/tunnel.go}, C{internal/agent/client.go},
C{internal/agent/agentinfo.go}, C{pkg/agentsdk}.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from attrs import Factory, asdict, fields, frozen

from tunnelstack.errors import PeerError
from tunnelstack.wire.go_json import encode_string, encode_strings
from tunnelstack.wire.jsonline import decode_object, encode

HTTP, TERMINAL, CONTROL = 0x01, 0x02, 0x03
"""The types of streams.  The server opens those for HTTP and terminals, the agent those for control."""

HTTP_NAME, TERMINAL_NAME, CONTROL_NAME = b"http", b"terminal", b"control"
"""What these purposes are called here; the wire has no names."""

NAMES = {HTTP: HTTP_NAME, TERMINAL: TERMINAL_NAME, CONTROL: CONTROL_NAME}

TUNNEL_PATH = "/api/tunnel"
"""Below this path is the place of each sandbox, to which its agent connects."""

METADATA_LIMIT = 1024 * 1024
"""Octets of the longest metadata that either side accepts."""

PING, PONG = 20.0, 5.0
"""Seconds between the server's WebSocket pings, and within which a pong must arrive."""

HEARTBEAT = 20.0
"""Seconds between the documents in which an agent describes its machine, which keep the tunnel open."""

DOCUMENT_LIMIT = 1024 * 1024
"""Octets of the longest such document that is read (a genuine server has no limit)."""

_LARGEST = (1 << 63) - 1

V = TypeVar("V")


class BadMetadata(PeerError):
    """
    The metadata of a stream are not the head of a request or a response.
    """


class BadDocument(PeerError):
    """
    The document of a control stream does not describe a machine.
    """


@frozen
class RequestMetadata:
    """
    The head of a request.

    @ivar path: the target in origin form, with its query, as received.
    @ivar headers: one value for each name.
    @ivar body_len: octets of the body, which follows; C{0} and less are no body.
    """

    method: str
    path: str
    headers: Mapping[str, str] = Factory(dict)
    body_len: int = 0


@frozen
class ResponseMetadata:
    """
    The head of a response.  The body follows, and ends with the stream.

    @ivar status: C{0} stands for 200.
    @ivar headers: one value for each name.
    """

    status: int
    headers: Mapping[str, str] = Factory(dict)


def encode_request_metadata(request: RequestMetadata) -> bytes:
    """
    @return: the metadata, as Go's encoder writes them.
    """
    return b'{"method":%b,"path":%b,"headers":%b,"body_len":%d}' % (
        encode_string(request.method).encode(), encode_string(request.path).encode(), encode_strings(request.headers),
        request.body_len,
    )


def decode_request_metadata_untrusted(metadata: bytes) -> RequestMetadata:
    """
    @raise BadMetadata: they are no head of a request.
    """
    members = _metadata(metadata)
    return RequestMetadata(
        _member(members, "method", ""), _member(members, "path", ""), _headers(members), _member(members, "body_len", 0)
    )


def encode_response_metadata(response: ResponseMetadata) -> bytes:
    """
    @return: the metadata, as Go's encoder writes them.
    """
    return b'{"status":%d,"headers":%b}' % (response.status, encode_strings(response.headers))


def decode_response_metadata_untrusted(metadata: bytes) -> ResponseMetadata:
    """
    @raise BadMetadata: they are no head of a response.
    """
    members = _metadata(metadata)
    return ResponseMetadata(_member(members, "status", 0), _headers(members))


def _metadata(octets: bytes) -> dict[str, Any]:
    try:
        return decode_object(octets)
    except PeerError as error:
        raise BadMetadata("the metadata of a stream is not a JSON object", octets=len(octets)) from error


def _member(members: Mapping[str, Any], name: str, zero: V) -> V:
    """
    @param zero: the value of a missing member, which has the right type.
    @raise BadMetadata: the member has another type, or is out of range.
    """
    value = members.get(name)
    if value is None:
        return zero
    if type(value) is not type(zero) or (isinstance(value, int) and not -_LARGEST <= value <= _LARGEST):
        raise BadMetadata("a member of the metadata has the wrong type", member=name)
    found: V = value
    return found


def _headers(members: Mapping[str, Any]) -> dict[str, str]:
    none: dict[str, Any] = {}
    headers = _member(members, "headers", none)
    if not all(value is None or isinstance(value, str) for value in headers.values()):
        raise BadMetadata("a header of the metadata is not text")
    return {name: value or "" for name, value in headers.items()}


@frozen(kw_only=True)
class MachineDocument:
    """
    What an agent reports of itself and its machine.

    @ivar memory_total: octets, as C{disk_total} and C{disk_free}.
    @ivar details: further members, such as C{capabilities}.
    """

    hostname: str = ""
    os: str = ""
    platform: str = ""
    platform_version: str = ""
    kernel_arch: str = ""
    cpu_model_name: str = ""
    cpu_count_logical: int = 0
    memory_total: int = 0
    disk_total: int = 0
    disk_free: int = 0
    agent_version: str = ""
    opencode_version: str = ""
    workdir: str = ""
    details: Mapping[str, Any] = Factory(dict)


_MEMBERS: dict[str, Any] = {each.name: each.default for each in fields(MachineDocument) if each.name != "details"}


def encode_document(document: MachineDocument) -> bytes:
    """
    @return: the payload of a control stream.
    """
    members = asdict(document)
    return encode({**members.pop("details"), **members})[:-1]


def decode_document_untrusted(octets: bytes) -> MachineDocument:
    """
    @raise BadDocument: this is no JSON object, or one of its members has the wrong type.
    """
    try:
        members = decode_object(octets)
        known = {name: _member(members, name, zero) for name, zero in _MEMBERS.items()}
    except PeerError as error:
        raise BadDocument("the document of a control stream cannot be read", octets=len(octets)) from error
    return MachineDocument(**known, details={name: value for name, value in members.items() if name not in _MEMBERS})
