"""
A small model of Jetty's public agent, written from the description of its source: the requests to the control plane in its
order and with its fields, its frames, its timers, its order of work, and its quirks::

    python -m tests.dialect.jetty.stock_agent http://localhost:8080 token.file 3000 [subdomain]

It serves one request at a time, and sends no ping meanwhile.  It prints a line for each thing that it does.

Source: shaferllc/jetty-client at e3a56e59.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import random
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

PING_SECONDS, BEAT_SECONDS = 8.0, 25.0
WAIT_SCALE = float(os.environ.get("STOCK_AGENT_WAIT_SCALE", "1"))
"""Shortens the waits between attempts."""

MOST_TOKENS = 8
LIMIT = 10 * 1024 * 1024
HOP_BY_HOP = ("connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "te", "trailer")
REJECTIONS = ("verify rejected", "invalid tunnel credentials", "laravel verify")


def report(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


class Refused(Exception):
    """
    The edge has not registered the agent.
    """


class Bridge:
    """
    The client of the control plane.
    """

    def __init__(self, url: str, token: str) -> None:
        self.url = urlsplit(url)
        self.fields = {
            "Authorization": f"Bearer {token}", "Accept": "application/json", "User-Agent": "jetty-client/0.0",
        }

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, Any]:
        connection = http.client.HTTPConnection(self.url.netloc, timeout=60)
        try:
            octets = None if body is None else json.dumps(body).encode()
            kind = {} if body is None else {"Content-Type": "application/json"}
            connection.request(method, path, octets, {**self.fields, **kind})
            response = connection.getresponse()
            text = response.read()
            report(method, path, response.status)
            return response.status, json.loads(text) if text else None
        finally:
            connection.close()


class Agent:
    """
    One run of the agent.
    """

    def __init__(self, bridge: Bridge, port: int, subdomain: str) -> None:
        self.bridge = bridge
        self.port = port
        self.target = f"127.0.0.1:{port}"
        self.subdomain = subdomain
        self.tokens = 0
        self.attempt = 0
        self.beatAt = 0.0
        self.requests = 0
        self.tunnel: dict[str, Any] = {}

    def start(self) -> None:
        self.probe()
        self.resume()
        self.heartbeat()
        while True:
            self.attempt += 1
            if self.attempt > 1:
                wait = min(60, 2 ** min(self.attempt - 2, 6)) + 0.75 * random.random()
                time.sleep(wait * WAIT_SCALE)
            try:
                self.session()
            except InvalidStatus as refused:
                status = refused.response.status_code
                self.bridge.ask(
                    "POST", "/api/telemetry/edge-ws-failure",
                    {"http_status": status, "reason": str(refused)[:200], "client": "jetty-client"},
                )
            except Refused as refused:
                report("refused", refused)
                if any(each in str(refused).lower() for each in REJECTIONS) and self.tokens < MOST_TOKENS:
                    self.tokens += 1
                    self.attach()
            except (OSError, ConnectionClosed, TimeoutError) as lost:
                report("lost", type(lost).__name__)

    def probe(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=15)
        connection.request("GET", "/")
        assert connection.getresponse().status < 500

    def resume(self) -> None:
        _, answer = self.bridge.ask("GET", "/api/tunnels")
        mine = [
            each for each in answer["data"]
            if each["local_target"] == self.target and each["server"] is None and self.subdomain in ("", each["subdomain"])
        ]
        if mine:
            self.tunnel = max(mine, key=lambda each: each["id"])
            if self.attach():
                return
        body: dict[str, Any] = {"local_host": "127.0.0.1", "local_port": self.port}
        if self.subdomain:
            body["subdomain"] = self.subdomain
        status, answer = self.bridge.ask("POST", "/api/tunnels", body)
        if status != 201:
            raise SystemExit(f"{answer['message']} {answer['hint']}")
        self.tunnel = answer["data"]

    def attach(self) -> bool:
        body = {"local_host": "127.0.0.1", "local_port": self.port, "server": None}
        status, answer = self.bridge.ask("POST", f"/api/tunnels/{self.tunnel['id']}/attach", body)
        if status in (404, 405):
            return False
        self.tunnel = answer["data"]
        return True

    def heartbeat(self) -> None:
        body = {"requests": self.requests} if self.requests else None
        self.bridge.ask("POST", f"/api/tunnels/{self.tunnel['id']}/heartbeat", body)
        self.requests, self.beatAt = 0, time.monotonic() + BEAT_SECONDS

    # The session

    def session(self) -> None:
        with connect(self.tunnel["edge"]["websocket_url"], max_size=LIMIT, ping_interval=None, proxy=None) as socket:
            self.send(socket, {"type": "register", "tunnel_id": self.tunnel["id"], "agent_token": self.tunnel["agent_token"]})
            answer = json.loads(socket.recv())
            if answer.get("type") != "registered":
                raise Refused(answer.get("message", ""))
            report("registered", self.tunnel["public_url"])
            self.serve(socket)

    def send(self, socket: ClientConnection, frame: dict[str, Any]) -> None:
        octets = json.dumps(frame)
        if len(octets) <= 32 * 1024:
            socket.send(octets)
        else:                                  # its library splits long messages
            socket.send(octets[start:start + 32 * 1024] for start in range(0, len(octets), 32 * 1024))

    def serve(self, socket: ClientConnection) -> None:
        pingAt = 0.0
        while True:
            now = time.monotonic()
            if now >= pingAt:
                socket.ping()
                pingAt = now + PING_SECONDS
            if now >= self.beatAt:
                self.heartbeat()
            try:
                message = socket.recv(timeout=max(0.01, min(pingAt, self.beatAt) - time.monotonic()))
            except TimeoutError:
                continue
            self.received(socket, message)

    def received(self, socket: ClientConnection, message: str | bytes) -> None:
        try:
            frame = json.loads(message)
        except ValueError:
            return
        if not isinstance(frame, dict) or frame.get("type") != "http_request":
            report("ignored", frame.get("type") if isinstance(frame, dict) else "")
            return
        self.send(socket, {"type": "http_response", "request_id": frame["request_id"], **self.answer(frame)})

    def answer(self, frame: dict[str, Any]) -> dict[str, Any]:
        self.requests += 1
        try:
            body = base64.b64decode(frame.get("body_b64") or "", validate=True)
        except ValueError:
            return failure("invalid body_b64")
        method = frame["method"].upper()
        target = (frame["path"] or "/") + (f"?{frame['query']}" if frame.get("query") else "")
        fields = {
            name: value for name, value in frame["headers"].items()
            if name.lower() not in (*HOP_BY_HOP, "accept-encoding", "host", "content-length")
        }
        fields |= {"Host": self.target, "X-Forwarded-Host": frame["headers"].get("Host", ""), "X-Forwarded-Proto": "https"}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, target, None if method in ("GET", "HEAD") else body, fields)
            response = connection.getresponse()
            octets = response.read()
        except OSError as reason:
            return failure(f"upstream failed: {reason}")
        finally:
            connection.close()
        kept = {
            name: value for name, value in response.getheaders()          # the last one of a name remains
            if name.lower() not in (*HOP_BY_HOP, "content-encoding", "content-length")
        }
        report("served", method, target, response.status)
        return {"status": response.status, "headers": kept, "body_b64": base64.b64encode(octets).decode()}


def failure(reason: str) -> dict[str, Any]:
    return {
        "status": 502, "headers": {"Content-Type": "text/plain; charset=utf-8"},
        "body_b64": base64.b64encode(reason.encode()).decode(),
    }


if __name__ == "__main__":
    url, tokenFile, port, *rest = sys.argv[1:]
    Agent(Bridge(url, Path(tokenFile).read_text().strip()), int(port), rest[0] if rest else "").start()
