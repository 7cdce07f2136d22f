"""
Twisted's suites for reactors, on ours.
"""

from __future__ import annotations

import select

OURS = ["tunnelstack.reactor.busypoll.BusyPollReactor"] if hasattr(select, "epoll") else []


def onOurs(module: str, *suites: type) -> dict[str, type]:
    """
    Twisted's suites, as classes of tests of our reactor.

    @param module: the name of the module of tests.
    """
    made: dict[str, type] = {}
    for suite in suites:
        ours = type(suite.__name__.removesuffix("TestsBuilder"), (suite,), {"_reactors": OURS, "__module__": module})
        made.update(ours.makeTestCaseClasses())  # type: ignore[attr-defined]
    return made
