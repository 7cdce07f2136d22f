"""
Who is compared, and how much is done.
"""

from __future__ import annotations

from attrs import field, frozen

from benchmarks._parts import python

MB = 1_000_000
MIB = 1 << 20


@frozen
class Side:
    """
    One of those that are compared.

    @ivar name: C{"go"}, or a reactor: C{"epoll"}, C{"uvloop"} or C{"busypoll"}.
    @ivar go: the path of the Go program; both sides need its origin and its visitors.
    """

    name: str
    go: str = field(repr=False)

    def command(self, part: str, **options: object) -> list[str]:
        """
        The command line of a server or a client.
        """
        words = [f"--{option}={value}" for option, value in options.items() if value]
        if self.name == "go":
            return [self.go, part, *words]
        return python("benchmarks.ours", "--reactor", self.name, part, *words)


@frozen
class Scale:
    """
    How much is done.

    @ivar bulk: octets of a bulk transfer.
    @ivar seconds: of everything that goes on for a while.
    @ivar rounds: how often each side has its turn.
    @ivar streams: how many idle ones;
    @ivar agents: and how many idle agents.
    @ivar counted: requests whose calls are counted.
    """

    bulk: int
    seconds: float
    rounds: int
    streams: int
    agents: int
    counted: int


QUICK = Scale(bulk=256 * MIB, seconds=1.0, rounds=2, streams=2_000, agents=300, counted=300)
FULL = Scale(bulk=1024 * MIB, seconds=3.0, rounds=3, streams=10_000, agents=2_000, counted=2_000)

Figures = dict[str, float]
