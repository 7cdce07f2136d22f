"""
The console programs on a reactor of choice: C{python -m benchmarks.ours.console REACTOR edge|agent ...}.

They are C{tunnel-edge} and C{tunnel-agent} as they are; only who turns the reactor's handle differs.
"""

from __future__ import annotations

import sys

from benchmarks.ours.counting import CallCounter
from tunnelstack.reactor.choice import VARIABLE, install


def main() -> int:
    """
    @return: the program's exit code.
    """
    _, reactor, program, *arguments = sys.argv
    CallCounter().install()
    install({VARIABLE: reactor})
    from tunnelstack.commands import scripts

    sys.argv = [f"tunnel-{program}", *arguments]
    return {"edge": scripts.tunnelEdge, "agent": scripts.tunnelAgent}[program]()


if __name__ == "__main__":
    sys.exit(main())
