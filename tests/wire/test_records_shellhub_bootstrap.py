"""
ShellHub's bodies over plain HTTP, and the settings of sessions.
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.wire.vectors_shellhub import MAC, PEM, TENANT, UID
from tunnelstack.errors import PeerError
from tunnelstack.wire.records.shellhub_bootstrap import (
    BadBody,
    DeviceAuth,
    DeviceAuthAnswer,
    DeviceInfo,
    Info,
    SSHAuth,
    decode_device_answer_untrusted,
    decode_device_auth_untrusted,
    decode_info_untrusted,
    decode_signature_untrusted,
    decode_ssh_auth_untrusted,
    encode_device_answer,
    encode_device_auth,
    encode_info,
    encode_login,
    encode_message,
    encode_signature,
    encode_ssh_auth,
)
from tunnelstack.wire.records.shellhub_settings import (
    DEFAULTS,
    Settings,
    UnusableSettings,
    encode_settings,
    read_settings_untrusted,
)

#: As a genuine agent says it (Go's order of members, no line feed).
AUTH = (
    '{"info":{"id":"debian","pretty_name":"Debian GNU/Linux 12","version":"v0.26.0","arch":"amd64","platform":"native"},'
    f'"sessions":["s1"],"hostname":"box","identity":{{"mac":"{MAC}"}},"public_key":{json.dumps(PEM)},'
    f'"tenant_id":"{TENANT}","install_key":"k"}}'
).encode()
DEVICE = DeviceAuth(
    public_key=PEM,
    tenant=TENANT,
    hostname="box",
    mac=MAC,
    info=DeviceInfo(id="debian", pretty_name="Debian GNU/Linux 12", version="v0.26.0", arch="amd64", platform="native"),
    sessions=("s1",),
    install_key="k",
)
ANSWER = DeviceAuthAnswer(
    uid=UID, token="t", name="box", namespace="dev", status="accepted", config={"yamux_enable_keep_alive": False},
)  # fmt: skip


def without(body: bytes, *members: str, **others: Any) -> bytes:
    """
    A body with members taken away or changed.
    """
    said = json.loads(body)
    return json.dumps({name: value for name, value in {**said, **others}.items() if name not in members}).encode()


class BodyTests(SynchronousTestCase):
    """
    What is said, and what is understood.
    """

    def test_infoIsReadAndWritten(self) -> None:
        info = Info(version="v0.26.0", api="edge:80", ssh="edge:22")
        body = b'{"version":"v0.26.0","endpoints":{"api":"edge:80","ssh":"edge:22"}}'
        self.assertEqual(encode_info(info), body)
        self.assertEqual(decode_info_untrusted(body), info)
        self.assertEqual(decode_info_untrusted(b'{"setup":true,"endpoints":null}'), Info(version=""))
        for bad in (b"[]", b"", b'{"version":5}', b'{"endpoints":[]}', b'{"endpoints":{"ssh":22}}'):
            self.assertRaises(PeerError, decode_info_untrusted, bad)

    def test_deviceRequestsAreReadAndWritten(self) -> None:
        self.assertEqual(encode_device_auth(DEVICE), AUTH)
        self.assertEqual(decode_device_auth_untrusted(AUTH), DEVICE)

    def test_aDeviceMayLeaveFieldsOut(self) -> None:
        body = without(AUTH, "sessions", "hostname", "install_key", "info", other=[1])
        self.assertEqual(
            decode_device_auth_untrusted(body), DeviceAuth(public_key=PEM, tenant=TENANT, mac=MAC)
        )
        self.assertIsNone(decode_device_auth_untrusted(without(AUTH, "identity")).mac)
        self.assertIsNone(decode_device_auth_untrusted(without(AUTH, identity=None, sessions=None)).mac)
        bare = DeviceAuth(public_key="p", tenant="t", hostname="h")
        self.assertEqual(set(json.loads(encode_device_auth(bare))), {"info", "hostname", "public_key", "tenant_id"})

    def test_invalidDevicesAreRejected(self) -> None:
        for bad in (
            without(AUTH, "public_key"), without(AUTH, "tenant_id"), without(AUTH, tenant_id=""), without(AUTH, public_key=1),
            without(AUTH, "identity", "hostname"), without(AUTH, identity="x"), without(AUTH, identity={"mac": 1}),
            without(AUTH, sessions="s"), without(AUTH, sessions=[1]), without(AUTH, info=[]), without(AUTH, info={"id": 1}),
            without(AUTH, install_key={}),
        ):  # fmt: skip
            self.assertRaises(BadBody, decode_device_auth_untrusted, bad)

    def test_deviceAnswersAreReadAndWritten(self) -> None:
        body = encode_device_answer(ANSWER)
        self.assertEqual(decode_device_answer_untrusted(body), ANSWER)
        self.assertEqual(list(json.loads(body)), ["uid", "token", "name", "namespace", "status", "config"])
        cached = DeviceAuthAnswer(uid=UID, token="t", name="box", namespace="dev")
        self.assertEqual(list(json.loads(encode_device_answer(cached))), ["uid", "token", "name", "namespace"])
        self.assertEqual(decode_device_answer_untrusted(encode_device_answer(cached)), cached)
        for bad in (without(body, "uid"), without(body, "token"), without(body, config=[1]), without(body, status=1)):
            self.assertRaises(BadBody, decode_device_answer_untrusted, bad)

    def test_loginsAreReadAndWritten(self) -> None:
        data = encode_login("root", "b<x")
        self.assertEqual(data, '{"Username":"root","Namespace":"b\\u003cx"}')
        body = encode_ssh_auth(SSHAuth(fingerprint="aa:bb", data=data))
        self.assertEqual(decode_ssh_auth_untrusted(body), SSHAuth(fingerprint="aa:bb", data=data))
        self.assertRaises(BadBody, decode_ssh_auth_untrusted, b'{"data":"x"}')
        self.assertEqual(decode_signature_untrusted(encode_signature("c2ln")), "c2ln")
        self.assertRaises(BadBody, decode_signature_untrusted, b"{}")

    def test_refusalsAreWritten(self) -> None:
        self.assertEqual(encode_message("device is not accepted"), b'{"message":"device is not accepted"}')

    def test_secretsAreNotShown(self) -> None:
        self.assertNotIn("install_key", repr(DEVICE))
        self.assertNotIn("token", repr(ANSWER))

    @given(st.binary(max_size=60) | st.sampled_from([AUTH, encode_device_answer(ANSWER)]))
    def test_anyOctetsAreAPeersErrorAtWorst(self, body: bytes) -> None:
        for decode in (
            decode_info_untrusted, decode_device_auth_untrusted, decode_device_answer_untrusted, decode_ssh_auth_untrusted,
            decode_signature_untrusted,
        ):  # fmt: skip
            try:
                decode(body)
            except PeerError:
                continue


class SettingsTests(SynchronousTestCase):
    """
    What a server may set.
    """

    full: dict[str, Any] = {
        "yamux_accept_backlog": 64,
        "yamux_enable_keep_alive": False,
        "yamux_keep_alive_interval": 20_000_000_000,
        "yamux_connection_write_timeout": 10_000_000_000,
        "yamux_max_stream_window_size": 524288,
        "yamux_stream_open_timeout": 30_000_000_000,
        "yamux_stream_close_timeout": 60_500_000_000,
    }
    settings = Settings(
        backlog=64, keep_alive=False, interval=20.0, write_timeout=10.0, window=524288, open_timeout=30.0, close_timeout=60.5,
    )  # fmt: skip

    def test_numbersMayHaveAnyForm(self) -> None:
        self.assertEqual(read_settings_untrusted(self.full), self.settings)
        doubles = {name: value if isinstance(value, bool) else float(value) for name, value in self.full.items()}
        self.assertEqual(read_settings_untrusted(doubles), self.settings)
        exponent = json.loads('{"yamux_accept_backlog":6.4e1,"yamux_keep_alive_interval":2e10}')
        self.assertEqual(read_settings_untrusted(exponent), Settings(backlog=64, interval=20.0))

    def test_settingsSurviveEncodingAndDecoding(self) -> None:
        self.assertEqual(encode_settings(self.settings), self.full)
        self.assertEqual(encode_settings(DEFAULTS), {})
        self.assertEqual(read_settings_untrusted({}), DEFAULTS)

    def test_whatIsMissingOrOfAnotherTypeIsNotThere(self) -> None:
        others: list[Any] = [None, "x", [], {}, "35", 1.5, 1e300, 1 << 70]
        for name in self.full:
            for value in others:
                self.assertEqual(read_settings_untrusted({name: value, "other": 1}), DEFAULTS, (name, value))
        self.assertEqual(read_settings_untrusted({"yamux_accept_backlog": True}), DEFAULTS)
        self.assertEqual(read_settings_untrusted({"yamux_enable_keep_alive": 0}), DEFAULTS)

    def test_noSessionCanBeBuilt(self) -> None:
        for name, value in {
            "yamux_accept_backlog": 0,
            "yamux_keep_alive_interval": 0,
            "yamux_max_stream_window_size": 262143,
            "yamux_connection_write_timeout": -1,
        }.items():
            self.assertRaises(UnusableSettings, read_settings_untrusted, {name: value})
