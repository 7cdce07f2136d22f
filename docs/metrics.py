"""
Writes reference/metrics.md from the table of metrics that the programs use::

    python docs/metrics.py

A test fails when the page and the table differ.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tunnelstack.control.metrics.families import (
    FAMILIES,
    LAG_BOUNDS,
    PER_SERVICE,
    PROCESS,
    SECONDS_BOUNDS,
    Family,
)

HERE = Path(__file__).resolve().parent
PAGE = HERE / "reference" / "metrics.md"

PREFACE = """\
# Metrics

Edges and agents have metrics for [Prometheus](https://prometheus.io/). They need the extra `metrics`:

    pip install 'tunnelstack[metrics]'

An edge answers `GET /metrics` where its administration listens, beside `/health` and `/status`:

```toml
[admin]
listen = "9000"                 # a port of 127.0.0.1

[metrics]
enabled = true
```

An agent listens on a port of its own, with `tunnel-agent --metrics 9001 ...` or in its file:

```toml
[metrics]
listen = "9001"                 # a port of 127.0.0.1
```

```yaml
scrape_configs:
  - job_name: tunnelstack
    static_configs:
      - targets: ["127.0.0.1:9000", "127.0.0.1:9001"]
```

`/metrics` is not authenticated, as nothing on these listeners is. A port alone is one of 127.0.0.1. Before you listen on
another address, see to it that only the scraper reaches it. The socket in the state folder of an edge answers `/metrics`, too.

[tunnelstack.json](../dashboards/tunnelstack.json) is a dashboard for Grafana: *Dashboards*, *New*, *Import*.

## What a scrape costs

While requests are served, metrics cost a few additions to integers at the end of each. The text is made when it is scraped, in
pieces, each when the previous one has been sent. A scraper that does not read therefore costs no memory. It is disconnected
after 30 seconds. An edge serves at most 64 connections of this kind at the same time, an agent 16.

The number of samples does not depend on the number of agents, services and visitors: no label has the name of one. With
`per_service = true` in `[metrics]` there are more metrics, whose labels have these names, and a scrape grows with them. At most
10 000 services are counted separately; further ones are together in the service `_others`. A name that a visitor made up is
never a label.

Counters begin at 0 when the program starts. A session that is lost stays in the counters of octets and streams.

This page is generated from the table that the programs use (`docs/metrics.py`).
"""

BUCKETS = """
The buckets of `tunnelstack_reactor_lag_seconds` are {lag} s, those of the other histograms {seconds} s.
"""


def rows(families: Iterable[Family]) -> str:
    """
    The table of some metrics.
    """
    lines = ["| metric | type | labels | |", "|---|---|---|---|"]
    for family in families:
        name = family.sampleNames[0] if family.kind == "counter" else family.name
        labels = ", ".join(f"`{label}`" for label in family.labels)
        only = "" if len(family.roles) > 1 else f" (only {' and '.join(family.roles)})"
        lines.append(f"| `{name}` | {family.kind} | {labels} | {family.says}{only} |")
    return "\n".join(lines) + "\n"


def process() -> str:
    """
    The table of the process's metrics.
    """
    lines = ["| metric | |", "|---|---|", *(f"| `{name}` | {says} |" for name, says in PROCESS.items())]
    return "\n".join(lines) + "\n"


def page() -> str:
    """
    The whole page.
    """
    buckets = BUCKETS.format(
        lag=", ".join(f"{bound:g}" for bound in LAG_BOUNDS), seconds=", ".join(f"{bound:g}" for bound in SECONDS_BOUNDS)
    )
    return "\n".join((
        PREFACE, "## Metrics\n", rows(FAMILIES), buckets.lstrip(), "## With `per_service`\n", rows(PER_SERVICE),
        "## The process\n", process(),
    ))  # fmt: skip


if __name__ == "__main__":
    PAGE.write_text(page())
