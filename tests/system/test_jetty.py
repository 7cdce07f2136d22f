"""
Jetty in whole programs: an edge, agents on both carriers, a model of the public agent, and the commands of operators.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import socketserver
import ssl
import subprocess
import threading
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.system.stage import PATIENCE, Program, Stage, freePort, until

CARRIERS = ("websocket", "grpc")


class Cookies(BaseHTTPRequestHandler):
    """
    Answers with several cookies, a redirect to itself, or what it was sent.
    """

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        host = self.headers["Host"]
        body = f"{self.path} for {self.headers['X-Forwarded-Host']} at {host}\n".encode()
        self.send_response(302 if self.path == "/old" else 200)
        if self.path == "/old":
            self.send_header("Location", f"http://{host}/new")
        for cookie in ("a=1", "b=2"):
            self.send_header("Set-Cookie", cookie)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """
        Nothing is logged.
        """


class Shout(socketserver.StreamRequestHandler):
    """
    Answers lines in capitals.
    """

    def handle(self) -> None:
        for line in self.rfile:
            self.wfile.write(line.upper())


class Relay(BaseHTTPRequestHandler):
    """
    Passes an agent's requests to the API of an edge, and keeps what is answered.

    @cvar port: of the edge.
    @cvar answered: paths, bodies of requests, statuses and bodies of responses.
    """

    port = 0
    answered: list[tuple[str, bytes, int, bytes]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        edge = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        fields = {"Host": f"localhost:{self.port}", "Authorization": self.headers.get("Authorization", "")}
        edge.request(self.command, self.path, body, fields)
        response = edge.getresponse()
        answer = response.read()
        edge.close()
        self.answered.append((self.path, body, response.status, answer))
        self.send_response(response.status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST

    def log_message(self, format: str, *arguments: Any) -> None:
        """
        Nothing is logged.
        """


class Jetty(Stage):
    """
    An edge that accepts agents of Jetty by both carriers.
    """

    def setUp(self) -> None:
        super().setUp()
        self.token = self.home / "laptop.token"
        ports = [word for _ in range(8) for word in ("--allow", f"tcp:{freePort()}")]     # which no other program takes
        code, text = self.tunnelstack(
            "token", "new", "laptop", "--allow", "http:*", *ports, "--share", "--out", str(self.token)
        )
        self.assertEqual(code, 0, text)
        self.secret = self.token.read_text().strip()

    def edge(self, text: str = "", port: int = 0) -> Program:
        self.grpc = getattr(self, "grpc", 0) or freePort()
        path = self.home / "edge.toml"
        path.write_text(f'[jetty]\ntransport_mode = "grpc"\ngrpc_listen = "tcp:{self.grpc}:interface=127.0.0.1"\n{text}')
        return self.startEdge("--config", str(path), port=port)

    def agent(self, target: int, *arguments: str) -> Program:
        return self.program(
            "tunnel-agent", "jetty", str(target), "--edge", f"http://localhost:{self.port}", "--token-file", str(self.token),
            *arguments,
        )

    def tunnelstack(self, *arguments: str) -> tuple[int, str]:
        done = subprocess.run(
            [*self.command("tunnelstack"), *arguments], env=self.environ, cwd=self.home, capture_output=True, text=True,
            timeout=60, stdin=subprocess.DEVNULL,
        )
        return done.returncode, done.stdout + done.stderr

    def shouter(self) -> int:
        """
        @return: the port of a server that answers each line in capitals.
        """
        server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Shout)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        return int(server.server_address[1])

    def tunnels(self) -> dict[str, Any]:
        code, text = self.tunnelstack("jetty", "--json")
        self.assertEqual(code, 0, text)
        return {each["name"]: each for each in json.loads(text)["tunnels"]}


class OurAgentTests(Jetty):
    def test_bothCarriersServeTheWeb(self) -> None:
        web = self.origin(Cookies)
        edge = self.edge()
        agents = [self.agent(web, "--name", each, "--transport", each, "--no-resume") for each in CARRIERS]
        for agent, name in zip(agents, CARRIERS, strict=True):
            agent.hears(rf"^session +up .*dialect=jetty transport={name} url=http://{name}\.localhost:{self.port}")
            answer = self.sees(name, path="/x?y=1")
            self.assertEqual(answer.body, f"/x?y=1 for {name}.localhost:{self.port} at localhost:{web}\n".encode())
            self.assertEqual(answer.fields.get_all("Set-Cookie"), ["a=1", "b=2"])
            body = os.urandom(3_000_000)
            self.assertEqual(self.visit(name, "/echo", method="POST", body=body).body, body)
            self.assertEqual(self.visit(name, "/x", method="HEAD").status, 200)
            self.assertEqual(
                self.visit(name, "/old").fields["Location"], f"https://{name}.localhost:{self.port}/new"
            )
        found = self.tunnels()
        self.assertEqual({name: found[name]["transports"] for name in CARRIERS}, {name: [name] for name in CARRIERS})
        for agent, name in zip(agents, CARRIERS, strict=True):
            self.assertEqual(agent.end(), 0)
            self.sees(name, 503)
        self.assertEqual(edge.end(), 0)
        said = edge.said() + "".join(agent.said() for agent in agents)
        self.assertNotIn(self.secret, said)
        self.assertNotIn("Traceback", said)

    def test_samplesAreReportedIfTheyAreWanted(self) -> None:
        web = self.origin(Cookies)
        self.edge()
        for options, posts in (("--samples",), 4), ((), 0):
            relay = type("ThisRelay", (Relay,), {"port": self.port, "answered": []})
            url = f"http://localhost:{self.origin(relay)}"
            agent = self.program(
                "tunnel-agent", "jetty", str(web), "--edge", url, "--token-file", str(self.token), "--name", "demo", *options
            )
            agent.hears(r"^session +up ")
            self.assertEqual(self.visit("demo", "/x?y=1&token=s3cret").status, 200)
            self.assertEqual(self.visit("demo", "/echo", method="POST", body=b"not reported").status, 200)

            def reported(relay: Any = relay) -> list[Any]:
                return [each for each in relay.answered if "/request-" in each[0]]

            until(lambda reported=reported, posts=posts: len(reported()) == posts)
            for path, body, status, _ in reported():
                self.assertEqual(status, 201, path)
                self.assertNotRegex(body, b"s3cret|not reported")
            if posts:
                self.assertSampleIs(reported()[1][3], "/x")
            self.assertEqual(agent.end(), 0)
            self.assertEqual(len(reported()), posts)

    def assertSampleIs(self, answer: bytes, path: str) -> None:
        """
        The edge shows a sample to its owner.

        @param answer: to the report of it.
        """
        connection = http.client.HTTPConnection("localhost", self.port, timeout=PATIENCE)
        fields = {"Host": f"localhost:{self.port}", "Authorization": f"Bearer {self.secret}"}
        connection.request("GET", f"/api/tunnel-request-samples/{json.loads(answer)['data']['id']}", headers=fields)
        found = json.loads(connection.getresponse().read())["data"]
        connection.close()
        self.assertEqual((found["method"], found["path"], found["status"]), ("GET", path, 200))
        self.assertTrue(found["query"].startswith("y=1&token="), found)
        self.assertIn("x-forwarded-for", [name.lower() for name in found["headers"]])

    def test_gRPCIsUsedIfItIsOffered(self) -> None:
        web = self.origin()
        self.edge()
        self.agent(web, "--name", "demo").hears(r"^session +up .*transport=grpc")
        self.assertEqual(self.sees("demo").body, b"GET /\n")

    def test_anEdgeThatIsRestartedGetsItsAgentsBack(self) -> None:
        web = self.origin()
        edge = self.edge()
        agents = [self.agent(web, "--name", each, "--transport", each, "--no-resume") for each in CARRIERS]
        for agent in agents:
            agent.hears(r"^session +up ")
        before = {name: each["id"] for name, each in self.tunnels().items()}
        self.assertEqual(edge.end(), 0)
        self.edge(port=self.port)
        for agent, name in zip(agents, CARRIERS, strict=True):
            agent.hears(r"^session +up ", times=2)
            self.assertEqual(self.sees(name, path="/again").body, b"GET /again\n")
        self.assertEqual({name: each["id"] for name, each in self.tunnels().items()}, before)

    def test_anAgentFallsBackToWebSocket(self) -> None:
        web = self.origin()
        self.edge(f'grpc_url = "grpc://localhost:{freePort()}"\n')
        agent = self.agent(web, "--name", "demo")
        agent.hears(r"^session +up .*transport=websocket")
        self.assertEqual(self.sees("demo").body, b"GET /\n")
        self.assertIn("gRPC is not available", agent.said())

    def test_rulesNameOtherServers(self) -> None:
        """
        The edge applies the rules of a tunnel as soon as they change, and the agent allows some of the targets.
        """
        web, api, beta = (self.origin(Cookies) for _ in range(3))
        self.edge()
        for name in CARRIERS:
            path = self.home / f"{name}.toml"
            path.write_text(
                f'[[jetty]]\nurl = "http://localhost:{self.port}"\ntoken_file = "{self.token}"\ntarget = "{web}"\n'
                f'subdomain = "{name}"\ntransport = "{name}"\nresume = false\nallow_hosts = ["127.0.0.1"]\n'
            )
            self.program("tunnel-agent", "start", "--config", str(path)).hears(r"^session +up ")
            self.assertServed(name, "/api/x", f"at localhost:{web}")
            prefix = {"match_type": "path_prefix", "path_prefix": "/api", "local_host": "127.0.0.1", "local_port": api}
            header = {"match_type": "header", "header_name": "x-channel", "header_value": "beta", "local_host": "127.0.0.1"}
            other = {"path_prefix": "/other", "local_host": "127.0.0.2", "local_port": api}
            rules = [{**header, "local_port": beta}, prefix, other]
            self.assertEqual(self.attach(self.tunnels()[name]["id"], web, rules), 200)
            self.assertServed(name, "/api/x", f"at 127.0.0.1:{api}")
            self.assertServed(name, "/api/x", f"at 127.0.0.1:{beta}", {"X-Channel": "beta"})
            self.assertServed(name, "/api/x", f"at 127.0.0.1:{api}", {"X-Channel": "Beta"})
            self.assertServed(name, "/x", f"at localhost:{web}")
            self.assertEqual(self.visit(name, "/other").status, 502)
            self.assertEqual(self.attach(self.tunnels()[name]["id"], web, []), 200)
            self.assertServed(name, "/api/x", f"at localhost:{web}")
            self.assertEqual(self.attach(self.tunnels()[name]["id"], web, [{**prefix, "match_type": "regex"}]), 422)

    def assertServed(self, name: str, path: str, by: str, headers: dict[str, str] | None = None) -> None:
        answer = self.visit(name, path, headers=headers)
        self.assertEqual((answer.status, answer.body.decode().partition(" at ")[2]), (200, by.removeprefix("at ") + "\n"))

    def attach(self, identifier: str, port: int, rules: list[dict[str, Any]]) -> int:
        """
        Change the rules of a tunnel.

        @return: the status.
        """
        connection = http.client.HTTPConnection("localhost", self.port, timeout=PATIENCE)
        body = json.dumps({"local_host": "localhost", "local_port": port, "routing_rules": rules})
        connection.request(
            "POST", f"/api/tunnels/{identifier}/attach", body, {"Authorization": f"Bearer {self.secret}"}
        )
        status = connection.getresponse().status
        connection.close()
        return status

    def test_portsAreServedOnBothCarriers(self) -> None:
        port = self.shouter()
        self.edge()
        for name in CARRIERS:
            agent = self.agent(port, "--name", f"db-{name}", "--protocol", "tcp", "--transport", name)
            found = agent.hears(r"^session +up .*url=tcp://db-\w+\.localhost:(\d+)")
            address = "127.0.0.1", int(found[1])
            with socket.create_connection(address, PATIENCE) as visitor, visitor.makefile("rb") as lines:
                visitor.sendall(b"to the far side\n")
                self.assertEqual(lines.readline(), b"TO THE FAR SIDE\n")
            agent.drop()

    def test_bothCarriersUseTLS(self) -> None:
        web = self.origin()
        for arguments in (("ca",), ("server", "localhost", "demo.localhost")):
            code, text = self.tunnelstack("certs", *arguments)
            self.assertEqual(code, 0, text)
        folder = self.home / "served"
        folder.mkdir()
        for end in ("pem", "key"):
            (self.home / "certs" / f"server-localhost.{end}").rename(folder / f"default.{end}")
        port, grpc = freePort(), freePort()
        (self.home / "edge.toml").write_text(
            f'[jetty]\ntransport_mode = "grpc"\ngrpc_listen = "tcp:{grpc}"\ngrpc_certificates = "{folder}"\n'
        )
        edge = self.program(
            "tunnel-edge", "--listen", f"tls:{folder}:port={port}", "--domain", "localhost", "--config", "edge.toml"
        )
        edge.hears(rf"^door +ready +gRPC by TLS at tcp:{grpc}")
        edge.hears(r"^edge +ready ")
        for name in CARRIERS:
            agent = self.program(
                "tunnel-agent", "jetty", str(web), "--edge", f"https://localhost:{port}", "--token-file", str(self.token),
                "--ca-file", "certs/ca.pem", "--name", "demo", "--transport", name,
            )
            agent.hears(rf"^session +up .*transport={name} url=https://demo\.localhost:{port}")
            context = ssl.create_default_context(cafile=str(self.home / "certs" / "ca.pem"))
            connection = http.client.HTTPSConnection("localhost", port, timeout=PATIENCE, context=context)
            connection.request("GET", "/x", headers={"Host": f"demo.localhost:{port}"})
            self.assertEqual(connection.getresponse().read(), b"GET /x\n")
            connection.close()
            self.assertEqual(agent.end(), 0)

    def test_operatorsReserveAndRemoveTunnels(self) -> None:
        web = self.origin()
        self.edge()
        code, text = self.tunnelstack("jetty", "add", "shop", "--owner", "laptop")
        self.assertEqual((code, text), (0, f"shop is reserved for laptop: http://shop.localhost:{self.port}\n"))
        agent = self.agent(web, "--name", "shop")
        agent.hears(r"^session +up ")
        code, text = self.tunnelstack("jetty")
        self.assertRegex(text, rf"shop +laptop +localhost:{web} +1 by grpc +http://shop\.localhost:{self.port} +[0-9A-Z]{{26}}")
        code, text = self.tunnelstack("jetty", "remove", "shop")
        self.assertRegex(text, r"^shop \([0-9A-Z]{26}\) is removed\n$")
        agent.hears(r"^session +up ", times=2)          # it creates another one
        self.assertEqual(self.tunnelstack("jetty", "remove", "none")[0], os.EX_UNAVAILABLE)
        for wrong in (("ad",), ("add",), ("remove", "a", "b"), ("list", "--owner", "x"), ("add", "x", "--protocol", "y")):
            self.assertEqual(self.tunnelstack("jetty", *wrong)[0], os.EX_USAGE, wrong)

    def test_mistakesEndTheAgent(self) -> None:
        web = self.origin()
        self.edge()
        self.token.write_text("wrong\n")
        agent = self.agent(web)
        self.assertEqual(agent.ends(), 77)
        self.assertIn("does not accept the token", agent.said())
        for wrong in (("--transport", "carrier-pigeon"), ("--protocol", "x"), ("--route", "api=80"), ("more",)):
            self.assertEqual(self.agent(web, *wrong).ends(), os.EX_USAGE, wrong)


class StockAgentTests(Jetty):
    """
    The model of the public agent at our edge.
    """

    def stock(self, port: int, *arguments: str) -> Program:
        program = self.program(
            "python", "-m", "tests.dialect.jetty.stock_agent", f"http://localhost:{self.port}", str(self.token), str(port),
            *arguments, STOCK_AGENT_WAIT_SCALE="0.1",
        )
        program.hears("^registered ")
        return program

    def test_itIsServedAsByItsOwnService(self) -> None:
        web = self.origin(Cookies)
        edge = self.edge()
        agent = self.stock(web, "demo")
        self.assertEqual(agent.out[:4], [
            "GET /api/tunnels 200", "POST /api/tunnels 201", agent.out[2], f"registered http://demo.localhost:{self.port}",
        ])
        self.assertRegex(agent.out[2], r"^POST /api/tunnels/[0-9A-Z]{26}/heartbeat 200$")
        answer = self.sees("demo", path="/x?y=1")
        self.assertEqual(answer.body, f"/x?y=1 for demo.localhost:{self.port} at 127.0.0.1:{web}\n".encode())
        self.assertEqual(answer.fields.get_all("Set-Cookie"), ["b=2"], "this agent keeps the last one")
        head = self.visit("demo", "/x", method="HEAD")
        self.assertEqual((head.status, head.body), (200, b""))
        agent.hears("^served GET /x 200")
        body = os.urandom(3_000_000)
        self.assertEqual(self.visit("demo", "/echo", method="POST", body=body).body, body)
        self.assertEqual(self.visit("demo", "/echo", method="POST", body=b"x" * (8 << 20)).status, 413)
        self.assertEqual(self.sees("demo").status, 200)
        agent.drop()
        self.sees("demo", 503)
        self.assertEqual(edge.end(), 0)
        self.assertNotIn("Traceback", edge.said())

    def test_itComesBackAfterARestartOfTheEdge(self) -> None:
        web = self.origin(Cookies)
        edge = self.edge()
        agent = self.stock(web, "demo")
        self.assertEqual(edge.end(), 0)
        agent.hears("^lost ")
        self.edge(port=self.port)
        agent.hears("^registered ", times=2)
        self.assertEqual(self.sees("demo").status, 200)
        self.assertEqual(len([line for line in agent.out if line.startswith("POST /api/tunnels 201")]), 1)

    def test_itResumesItsTunnelAndFetchesAToken(self) -> None:
        web = self.origin(Cookies)
        edge = self.edge()
        first = self.stock(web, "demo")
        second = self.stock(web)                        # which rotates the token
        self.assertRegex(second.out[1], r"^POST /api/tunnels/[0-9A-Z]{26}/attach 200$")
        self.assertEqual(self.tunnels()["demo"]["agents"], 2)
        second.end()                # two that fetch tokens at once make each other's invalid, and may go on so for a while
        self.assertEqual(edge.end(), 0)
        self.edge(port=self.port)
        first.hears("^registered ", times=2)
        self.assertIn('refused verify rejected: {"valid":false}', first.said())
        self.assertEqual([self.sees("demo").status for _ in range(4)], [200] * 4)

    def test_itDoesNotAnswerWhileItServes(self) -> None:
        """
        Requests wait for one another, and a visitor who leaves does not stop the agent.
        """
        web = self.origin(Cookies)
        self.edge()
        self.stock(web, "demo")
        self.sees("demo")
        connections = [http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE) for _ in range(8)]
        for number, connection in enumerate(connections):
            connection.request("GET", f"/{number}", headers={"Host": f"demo.localhost:{self.port}"})
        bodies = [connection.getresponse().read() for connection in connections]
        for number, body in enumerate(bodies):
            self.assertTrue(body.startswith(b"/%d for " % number), body)
        for connection in connections:
            connection.close()
        until(lambda: self.tunnels()["demo"]["agents"] == 1)
        self.assertTrue(re.fullmatch("[0-9A-Z]{26}", self.tunnels()["demo"]["id"]))
