"""
How cost grows with the work: some points of each curve, and its slope on logarithmic axes.

A point is the cost of one: of a stream, an agent or a request.  The slope is that of the cost of all of them, so it is 1 where
one of many costs as much as one of few.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from benchmarks._agents import edgeOf
from benchmarks._chain import chain, prepared
from benchmarks._parts import Part
from benchmarks._sides import Figures, Scale, Side

STREAMS, AGENTS = 1_000, 200
"""So many come before all others and stay, so that what the process needs once is not counted, and no memory is free."""

ENOUGH = 100
"""The slope of memory begins here: the system counts pages."""


def slope(points: Mapping[int, float]) -> float:
    """
    The slope of the line through the logarithms of the cost of all, by least squares.

    @param points: the cost of one, by how many there are.
    """
    logs = [(math.log(count), math.log(max(cost, 1e-9) * count)) for count, cost in points.items()]
    middle, height = (sum(column) / len(logs) for column in zip(*logs, strict=True))
    return sum((x - middle) * (y - height) for x, y in logs) / sum((x - middle) ** 2 for x, _ in logs)


def _curve(name: str, points: Mapping[int, float], least: int = 0) -> Figures:
    counting = {count: cost for count, cost in points.items() if count >= least} if max(points) > 10 * least else points
    return {**{f"{name}-{count}": cost for count, cost in points.items()}, f"{name}-slope": slope(counting)}


@contextmanager
def _serverWithStreams(side: Side, count: int) -> Iterator[tuple[Part, str]]:
    """
    A server that has a session with so many idle streams, and its address.
    """
    with Part(side.command("server", carrier="ws")) as server:
        address = f"127.0.0.1:{server.says()['port']}"
        with Part(side.command("client", carrier="ws", address=address, work="many", count=count)) as client:
            client.says(60)
            yield server, address


def idleStreams(side: Side, scale: Scale) -> Figures:
    """
    Streams of one session that have nothing to do: processor time of both sides until each has had one answer, in microseconds;
    memory of the server; and what a question costs its sender on one more stream beside them.
    """
    opened, memory, asked = {}, {}, {}
    questions = scale.questions // 4
    for count in scale.manyStreams:
        with _serverWithStreams(side, min(STREAMS, max(scale.manyStreams))) as (server, address):
            options = {"work": "many", "count": count, "parallel": 1, "questions": questions}
            before, memoryBefore = server.processorTime(), server.memory()
            with Part(side.command("client", carrier="ws", address=address, **options)) as client:
                processor = client.says(120)["processor"]
                opened[count] = (processor + server.processorTime() - before) / count * 1e6
                memory[count] = max(1, server.memory() - memoryBefore) / count
                asked[count] = client.says(120)["processor"] / questions * 1e6
    return {
        **_curve("curve-streams-opened", opened), **_curve("curve-streams-memory", memory, ENOUGH),
        **_curve("curve-streams-beside", asked),
    }


def busyStreams(side: Side, scale: Scale) -> Figures:
    """
    Streams of one session that all ask at the same time: processor time of both sides for a question and its answer, in
    microseconds.
    """
    points = {}
    for count in scale.manyStreams:
        with Part(side.command("server", carrier="ws")) as server:
            address = f"127.0.0.1:{server.says()['port']}"
            rounds = max(1, scale.questions // count)
            options = {"work": "many", "count": count, "parallel": count, "questions": rounds * count}
            with Part(side.command("client", carrier="ws", address=address, **options)) as client:
                client.says(120)
                before = server.processorTime()
                processor = client.says(120)["processor"] + server.processorTime() - before
                points[count] = processor / (rounds * count) * 1e6
    return _curve("curve-streams-busy", points)


def agents(side: Side, scale: Scale) -> Figures:
    """
    Agents that connect to one edge and stay: its processor time until then, in milliseconds, and its memory, in octets, for
    each of them.
    """
    arrived, memory = {}, {}
    for count in scale.manyAgents:
        with edgeOf(side, min(AGENTS, max(scale.manyAgents)), count) as (edge, come), come(0):
            before, memoryBefore = edge.processorTime(), edge.memory()
            with come(1):
                arrived[count] = (edge.processorTime() - before) / count * 1e3
                memory[count] = max(1, edge.memory() - memoryBefore) / count
    return {**_curve("curve-agents", arrived), **_curve("curve-agents-memory", memory, ENOUGH)}


def visitors(side: Side, scale: Scale) -> Figures:
    """
    Visitors that send small requests on connections that they keep: processor time of edge and agent for a request, in
    microseconds, and the median of the times until the response, in milliseconds.
    """
    points, times = {}, {}
    with chain(side) as tunnel:
        for count in scale.manyVisitors:
            result = prepared(side, tunnel, scale.seconds, connections=count)
            points[count], times[count] = result["processor"] * 1e6, result["p50"] * 1e3
    return {**_curve("curve-visitors", points), **{f"curve-visitors-p50-{count}": time for count, time in times.items()}}


def points(rows: Mapping[str, Any], curve: str, side: str) -> dict[int, float]:
    """
    The points that a result has of a curve.

    @param rows: its rows by their ids.
    @param curve: the id without a number.
    """
    found = {}
    for name, row in rows.items():
        known, _, number = name.rpartition("-")
        if known == curve and number.isdigit() and row["sides"].get(side) is not None:
            found[int(number)] = row["sides"][side]
    return dict(sorted(found.items()))
