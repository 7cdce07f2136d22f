"""
Throws bent octets at every decoder for a while: C{python -m tests.fuzz.run}.

A target is a module of this folder with a function C{target(data)} and a list C{SEEDS} of good inputs.  A
L{PeerError<tunnelstack.errors.PeerError>} is a fair answer to a bad input; any other exception, a run that takes longer than
C{PATIENCE} seconds, and memory beyond C{MEMORY} are findings.  What a target returns (anything hashable, such as the kinds
of events it saw) tells inputs apart: one that brings a new answer is kept and bent further.

A finding is printed in hexadecimal, as small as it could be made.  It becomes a line of the target's C{FOUND}, which the
tests replay for ever (L{tests.fuzz.test_targets}).
"""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from random import Random
from types import FrameType, ModuleType

from attrs import define, field

import tests.fuzz
from tests.fuzz.mutate import mutate
from tunnelstack.errors import PeerError

Target = Callable[[bytes], Hashable]

PATIENCE = 10  # seconds for one input
MEMORY = 4 * 1024**3  # octets of address space for one target
CORPUS = 2000  # inputs that are kept


class TooSlow(Exception):
    """
    One input took longer than C{PATIENCE}.
    """


@define
class Finding:
    """
    @ivar data: the input that did it.
    @ivar error: the traceback.
    @ivar kind: what kind of error it was; smaller inputs must show the same.
    """

    data: bytes
    error: str
    kind: str


@define
class Report:
    """
    What became of one target.

    @ivar runs: inputs tried.  @ivar kept: inputs that brought new answers.
    """

    name: str
    runs: int = 0
    kept: int = 0
    findings: list[Finding] = field(factory=list)


def targets() -> dict[str, ModuleType]:
    """
    @return: the modules of this folder that have a C{target}, by name.
    """
    names = sorted(found.name for found in pkgutil.iter_modules(tests.fuzz.__path__))
    modules = {name: importlib.import_module(f"tests.fuzz.{name}") for name in names if name != "run"}
    return {name: module for name, module in modules.items() if hasattr(module, "target")}


def attempt(target: Target, data: bytes) -> Hashable | Finding:
    """
    One input, once.

    @return: what told this input apart, or what was found.
    """
    try:
        with patience():
            return target(data)
    except PeerError as refused:
        return refused.__class__.__name__
    except Exception as error:
        return Finding(data, traceback.format_exc(), error.__class__.__name__)


@contextmanager
def patience() -> Iterator[None]:
    """
    Interrupt what takes longer than C{PATIENCE}.
    """

    def tooSlow(number: int, frame: FrameType | None) -> None:
        raise TooSlow(f"more than {PATIENCE} seconds")

    before = signal.signal(signal.SIGALRM, tooSlow)
    signal.alarm(PATIENCE)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def shrink(target: Target, finding: Finding) -> Finding:
    """
    Leave out pieces for as long as the error stays of its kind.
    """
    size = len(finding.data) // 2
    while size and finding.kind != TooSlow.__name__:
        for start in range(0, len(finding.data), size):
            smaller = attempt(target, finding.data[:start] + finding.data[start + size :])
            if isinstance(smaller, Finding) and smaller.kind == finding.kind:
                finding = smaller
                break
        else:
            size //= 2
    return finding


def fuzz(name: str, target: Target, seeds: list[bytes], seconds: float, seed: int) -> Report:
    """
    Bend the seeds until the time is over or something is found.
    """
    random, report, corpus = Random(seed), Report(name), list(seeds) or [b""]
    answers: set[Hashable] = set()
    fresh = iter(corpus[:])
    end = time.monotonic() + seconds
    while time.monotonic() < end or not report.runs:
        data = next(fresh, None)
        bent = data is None
        if data is None:
            data = mutate(corpus, random)
        answer = attempt(target, data)
        report.runs += 1
        if isinstance(answer, Finding):
            report.findings.append(shrink(target, answer))
            break
        if answer not in answers and bent and len(corpus) < CORPUS:
            corpus.append(data)
            report.kept += 1
        answers.add(answer)
    return report


def alone(name: str, seconds: float, seed: int) -> Report:
    """
    L{fuzz} in a process of its own, within C{MEMORY}.
    """
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    module = targets()[name]
    return fuzz(name, module.target, [*module.SEEDS, *getattr(module, "FOUND", [])], seconds, seed)


def main(arguments: list[str] | None = None) -> int:
    """
    @return: how many targets failed, at most 1: the exit status.
    """
    known = targets()
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.run", description="Bent octets for every decoder.")
    parser.add_argument("names", nargs="*", metavar="TARGET", help=f"default: all ({', '.join(known)})")
    parser.add_argument("--seconds", type=float, default=60.0, help="for each target (default: 60)")
    parser.add_argument("--seed", type=int, default=None, help="the same seed bends the same way")
    options = parser.parse_args(arguments)
    if not known:
        parser.error("there is no target in tests/fuzz/")
    if unknown := set(options.names) - known.keys():
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    seed = Random().randrange(2**32) if options.seed is None else options.seed
    print(f"seed {seed}")
    with ProcessPoolExecutor(os.cpu_count(), max_tasks_per_child=1) as pool:
        names = options.names or list(known)
        reports = list(pool.map(alone, names, [options.seconds] * len(names), [seed] * len(names)))
    for report in reports:
        print(f"{report.name:<20} {report.runs:>10} inputs {report.kept:>6} kept {len(report.findings):>3} found")
        for finding in report.findings:
            print(f"{finding.error}\nbytes.fromhex({finding.data.hex()!r})")
    failed = sum(bool(report.findings) for report in reports)
    print(f"{len(reports) - failed} passed, {failed} failed")
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
