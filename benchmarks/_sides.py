"""
Who is compared, and how much is done.
"""

from __future__ import annotations

from attrs import field, frozen

from benchmarks._parts import python

MB = 1_000_000
MIB = 1 << 20

GO = ("go", "tuned")
REACTORS = ("epoll", "uvloop", "busypoll")
DEFAULT = "busypoll"
"""The reactor of the commands."""


@frozen
class Side:
    """
    One of those that are compared.

    @ivar name: C{"go"}, or C{"tuned"} for the Go program whose writes are joined and whose buffers are large and kept; or a
        reactor: C{"epoll"}, C{"uvloop"} or C{"busypoll"}; or the name of another program for tunnels.
    @ivar go: the path of the Go program; all sides need its origin and its visitors.
    """

    name: str
    go: str = field(repr=False)

    @property
    def isGo(self) -> bool:
        """
        Whether this is a Go twin.
        """
        return self.name in GO

    @property
    def isOurs(self) -> bool:
        """
        Whether the programs are ours.
        """
        return self.name in REACTORS

    def twin(self, part: str, *words: str) -> list[str]:
        """
        The command line of a part of the Go twin.
        """
        return [self.go, part, f"--tuned={str(self.name == 'tuned').lower()}", *words]

    def command(self, part: str, **options: object) -> list[str]:
        """
        The command line of a server or a client.
        """
        words = [f"--{option}={value}" for option, value in options.items() if value]
        if self.isGo:
            return self.twin(part, *words)
        return python("benchmarks.ours", "--reactor", self.name, part, *words)


@frozen
class Scale:
    """
    How much is done.

    @ivar name: of the whole.
    @ivar rounds: how often each side has its turn.
    @ivar seconds: of everything that goes on for a while.
    @ivar bulk: octets of a bulk transfer over one session.
    @ivar big: octets of a download and an upload through a chain.
    @ivar streams: how many idle ones;
    @ivar agents: and how many idle agents.
    @ivar storm: agents of a small and of a large storm.
    @ivar counted: requests whose calls are counted.
    @ivar pairs: windows with and without something that is compared within one run;
    @ivar window: and seconds of each.
    @ivar starts: how often a program is started whose start is measured, or which is compared with another of its kind.
    @ivar questions: of all streams together, for a point of a curve.
    @ivar manyStreams: where the curves of streams have points;
    @ivar manyAgents: those of agents;
    @ivar manyVisitors: and those of visitors.
    """

    name: str
    rounds: int
    seconds: float
    bulk: int
    big: int
    streams: int
    agents: int
    storm: tuple[int, int]
    counted: int
    pairs: int
    window: float
    starts: int
    questions: int
    manyStreams: tuple[int, ...]
    manyAgents: tuple[int, ...]
    manyVisitors: tuple[int, ...]


SCALES = {
    scale.name: scale for scale in (
        Scale(
            name="full", rounds=3, seconds=2.0, bulk=1024 * MIB, big=100 * MIB, streams=10_000, agents=2_000,
            storm=(100, 2_200), counted=2_000, pairs=20, window=0.3, starts=3, questions=40_000,
            manyStreams=(10, 100, 1_000, 10_000), manyAgents=(10, 100, 1_000, 5_000), manyVisitors=(1, 10, 100, 1_000),
        ),
        Scale(
            name="quick", rounds=1, seconds=1.0, bulk=256 * MIB, big=50 * MIB, streams=2_000, agents=300, storm=(50, 400),
            counted=300, pairs=6, window=0.3, starts=1, questions=5_000,
            manyStreams=(10, 100, 1_000), manyAgents=(10, 100, 500), manyVisitors=(1, 10, 100),
        ),
        Scale(
            name="smallest", rounds=1, seconds=0.05, bulk=MIB, big=MIB, streams=20, agents=4, storm=(2, 4),
            counted=3, pairs=1, window=0.05, starts=1, questions=40,
            manyStreams=(2, 4), manyAgents=(2, 4), manyVisitors=(1, 2),
        ),
    )
}  # fmt: skip
"""What users choose from; the smallest is for the tests, which only look whether every row has its figures."""

Figures = dict[str, float]
