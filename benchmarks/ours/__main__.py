"""
One process of ours: C{python -m benchmarks.ours --reactor REACTOR server|client ...}, with the options of the Go twin.
"""

from __future__ import annotations

import argparse

from benchmarks.ours.counting import CallCounter
from tunnelstack.reactor.choice import VARIABLE, install

LIFE = 600.0  # seconds; no process outlives this


def options() -> argparse.Namespace:
    """
    The command line.
    """
    parser = argparse.ArgumentParser(prog="benchmarks.ours", description=__doc__)
    parser.add_argument("--reactor", default="epoll", help="as twistd knows it")
    parts = parser.add_subparsers(dest="part", required=True)
    server, client = parts.add_parser("server"), parts.add_parser("client")
    for part in server, client:
        part.add_argument("--carrier", choices=["tcp", "ws", "wss"], default="tcp")
        part.add_argument("--certificate", help="PEM, for wss")
    server.add_argument("--key", help="PEM, for wss")
    client.add_argument("--address", required=True, help="host:port of the server")
    client.add_argument("--work", choices=["bulk", "rpc", "beside", "churn", "many"], required=True)
    client.add_argument("--octets", type=int, default=0, help="of bulk")
    client.add_argument("--parallel", type=int, default=1, help="streams at a time, of churn; streams that ask, of many")
    client.add_argument("--count", type=int, default=0, help="streams, of many")
    client.add_argument("--questions", type=int, default=0, help="of all streams together, of many")
    client.add_argument("--duration", default="1s", help="seconds and an s, of rpc, beside and churn")
    client.add_argument("--counted", help="if given, the calls of Python functions are counted")
    return parser.parse_args()


def main() -> None:
    """
    Run one part until it is done.
    """
    chosen = options()
    CallCounter().install()
    install({VARIABLE: chosen.reactor})
    from twisted.internet import reactor
    from twisted.internet.defer import Deferred
    from twisted.internet.task import react

    if chosen.part == "server":
        from benchmarks.ours.server import main as part
    else:
        from benchmarks.ours.client import main as part
    react(lambda _: Deferred.fromCoroutine(part(reactor, chosen)).addTimeout(LIFE, reactor), _reactor=reactor)


if __name__ == "__main__":
    main()
