"""
The lanes of Jetty by grpcio, with asyncio: C{python -m benchmarks.grpcio_lanes edge|agent ...}.

It moves the messages that ours move, but neither makes nor reads them: what it shows is the cost of gRPC and HTTP/2 alone.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from time import perf_counter
from typing import Any

import grpc
import grpc.aio

from benchmarks._lanes import BLOCK, BODY, LARGE, PAUSE, SMALL
from tunnelstack.wire.protobuf import encode_message
from tunnelstack.wire.records.jetty_grpc import (
    DATA,
    FORWARD_HTTP_PATH,
    HEADERS,
    Header,
    HTTPChunk,
    RequestHead,
    ResponseHead,
)

PATH = FORWARD_HTTP_PATH.decode()
SERVICE, METHOD = PATH.strip("/").split("/")


def request(path: bytes) -> bytes:
    """
    A request without a body.
    """
    host = Header(name="Host", value=b"bench.example")
    head = RequestHead(method="GET", path=path.decode(), headers=(host,), content_length=0)
    return encode_message(HTTPChunk(request_id="0" * 32, type=HEADERS, request=head, end=True))


def response(octets: int) -> bytes:
    """
    The head of a response.
    """
    head = ResponseHead(status=200, headers=(Header(name="Content-Length", value=b"%d" % octets),), content_length=octets)
    return encode_message(HTTPChunk(request_id="0" * 32, type=HEADERS, response=head))


def data(octets: bytes, end: bool) -> bytes:
    """
    Some of the body of a response.
    """
    return encode_message(HTTPChunk(type=DATA, data=octets, end=end))


ASKED, ASKED_LARGE = request(SMALL), request(LARGE)
HEAD, LAST, MIDDLE, END = response(len(BODY)), data(BODY, True), data(BLOCK, False), data(BLOCK, True)


def options() -> argparse.Namespace:
    """
    The command line.
    """
    parser = argparse.ArgumentParser(prog="benchmarks.grpcio_lanes", description=__doc__)
    parts = parser.add_subparsers(dest="part", required=True)
    edge, agent = parts.add_parser("edge"), parts.add_parser("agent")
    for part in edge, agent:
        part.add_argument("--parallel", type=int, default=1, help="lanes")
        part.add_argument("--octets", type=int, default=1 << 20, help="of a large response")
    edge.add_argument("--seconds", type=float, default=1.0, help="of small requests")
    agent.add_argument("--port", type=int, required=True, help="of the edge")
    return parser.parse_args()


def say(**members: object) -> None:
    """
    A line for the one who measures.
    """
    print(json.dumps(members), flush=True)


async def untilStdinEnds() -> None:
    """
    How a process that waits is told to go.
    """
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


class Edge:
    """
    Asks on the lanes that the agent opens.
    """

    def __init__(self, chosen: argparse.Namespace) -> None:
        self._chosen = chosen
        self._lanes: list[Any] = []
        self._full = asyncio.Event()
        self._over = asyncio.Event()

    async def lane(self, requests: Any, context: Any) -> None:
        """
        One lane, for as long as the measurement takes.
        """
        await context.send_initial_metadata(())
        self._lanes.append(context)
        if len(self._lanes) == self._chosen.parallel:
            self._full.set()
        await self._over.wait()

    async def _ask(self, lane: Any, until: float) -> int:
        count = 0
        while True:
            await lane.write(ASKED)
            for _ in (HEAD, LAST):
                await lane.read()
            count += 1
            if perf_counter() >= until:
                return count

    async def measure(self) -> None:
        """
        Small requests on all lanes, then a large response on one.
        """
        await self._full.wait()
        await asyncio.sleep(PAUSE)
        began = perf_counter()
        counts = await asyncio.gather(*(self._ask(lane, began + self._chosen.seconds) for lane in self._lanes))
        say(count=sum(counts), seconds=perf_counter() - began)
        await asyncio.sleep(PAUSE)
        began, octets = perf_counter(), 0
        await self._lanes[0].write(ASKED_LARGE)
        while octets < self._chosen.octets:
            octets += len(await self._lanes[0].read()) - len(MIDDLE) + len(BLOCK)
        say(octets=octets, seconds=perf_counter() - began)


async def edge(chosen: argparse.Namespace) -> None:
    """
    Listen, say the port, ask, and say what that took.
    """
    serving, server = Edge(chosen), grpc.aio.server()
    methods = {METHOD: grpc.stream_stream_rpc_method_handler(serving.lane)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    say(port=port)
    measuring = asyncio.create_task(serving.measure())
    await untilStdinEnds()
    measuring.cancel()
    await server.stop(None)


async def answer(lane: Any, octets: int) -> None:
    """
    The agent's end of a lane.
    """
    while (asked := await lane.read()) is not grpc.aio.EOF:
        if asked == ASKED:
            await lane.write(HEAD)
            await lane.write(LAST)
            continue
        for _ in range(octets // len(BLOCK) - 1):
            await lane.write(MIDDLE)
        await lane.write(END)


async def agent(chosen: argparse.Namespace) -> None:
    """
    Open lanes, and answer until stdin ends.
    """
    async with grpc.aio.insecure_channel(f"127.0.0.1:{chosen.port}") as channel:
        lanes = [asyncio.create_task(answer(channel.stream_stream(PATH)(), chosen.octets)) for _ in range(chosen.parallel)]
        say(connected=True)
        await untilStdinEnds()
        for lane in lanes:
            lane.cancel()


if __name__ == "__main__":
    parsed = options()
    asyncio.run(edge(parsed) if parsed.part == "edge" else agent(parsed))
