"""
The metrics of edges and agents: the name, type, meaning and labels of each.  C{docs/reference/metrics.md} is made from this
table.

No label has the name of an agent or of a service, except in the families of L{PER_SERVICE}, which exist only with
C{per_service} in C{[metrics]}.  All other labels have few values, which do not depend on what visitors and peers send.
"""

from __future__ import annotations

from attrs import frozen

from tunnelstack.settings.record import Record

COUNTER, GAUGE, HISTOGRAM = "counter", "gauge", "histogram"

EDGE, AGENT = "edge", "agent"

SECONDS_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
"""The upper bounds of the buckets of histograms of requests."""

LAG_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
"""The upper bounds of the buckets of the lag of the reactor."""


@frozen(kw_only=True, eq=False, repr=False)
class Family(Record):
    """
    Samples with one name.

    @ivar name: as in Prometheus, without C{_total}.
    @ivar kind: L{COUNTER}, L{GAUGE} or L{HISTOGRAM}.
    @ivar says: the meaning.
    @ivar labels: the names of the labels.
    @ivar roles: the programs that have it.
    """

    name: str
    kind: str
    says: str
    labels: tuple[str, ...] = ()
    roles: tuple[str, ...] = (EDGE, AGENT)

    @property
    def sampleNames(self) -> tuple[str, ...]:
        """
        The names of its samples.
        """
        suffixes = {COUNTER: ("_total",), GAUGE: ("",), HISTOGRAM: ("_bucket", "_count", "_sum")}[self.kind]
        return tuple(self.name + suffix for suffix in suffixes)


def _family(name: str, kind: str, says: str, *labels: str, roles: tuple[str, ...] = (EDGE, AGENT)) -> Family:
    return Family(name=f"tunnelstack_{name}", kind=kind, says=says, labels=labels, roles=roles)


BUILD = _family("build_info", GAUGE, "Always 1; the version is a label.", "version")
READY = _family(
    "ready", GAUGE, "1 if the edge accepts visitors and agents, 0 while it starts or drains.", roles=(EDGE,)
)

SESSIONS = _family("sessions", GAUGE, "Sessions that are connected.")
SESSIONS_OPENED = _family("sessions_opened", COUNTER, "Sessions that have been connected.")
SESSIONS_LOST = _family("sessions_lost", COUNTER, "Sessions that were closed or lost.")
STREAMS = _family("streams", GAUGE, "Streams that are open on all sessions.")
STREAMS_OPENED = _family("streams_opened", COUNTER, "Streams that have been opened by either side.")
RECEIVED = _family("received_bytes", COUNTER, "Payload that was received on streams.")
SENT = _family("sent_bytes", COUNTER, "Payload that was sent on streams.")
QUEUED = _family("queued_bytes", GAUGE, "Payload that waits to be sent on streams.")
HELD = _family("held_bytes", GAUGE, "Payload that was received on streams and that its readers have not read.")
CREDIT = _family(
    "credit_growth_bytes", GAUGE, "Credit that peers have above the first window of each stream, for long or fast ways."
)
BUDGET_HELD = _family(
    "budget_held_bytes", GAUGE, "Memory that counts against process_octets: payload that is held, and what waits to be sent."
)
BUDGET_LIMIT = _family("budget_limit_bytes", GAUGE, "The limit process_octets.")
BUDGET_RESETS = _family("budget_stream_resets", COUNTER, "Streams that were reset because process_octets was exceeded.")

EXCHANGES = _family(
    "exchanges", COUNTER, "Requests that have ended, by the class of their status: 1xx (connections that changed their "
    "protocol), 2xx, 3xx, 4xx, 5xx, other, and closed: the visitor closed the connection before the response began.",
    "status_class",
)
RESPONSE_BYTES = _family("response_bytes", COUNTER, "Octets of the bodies of responses.")
FIRST_OCTET = _family(
    "first_octet_seconds", HISTOGRAM, "From the head of a request to the head of its response; responses that the program "
    "makes itself are not counted."
)
DURATION = _family("exchange_seconds", HISTOGRAM, "From the head of a request to the end of its response.")
REFUSALS = _family(
    "exchange_failures", COUNTER, "Requests without a complete response, by the reason: unknown, absent, busy, unreachable, "
    "rate_limited and so on.", "code",
)

AGENTS = _family("agents", GAUGE, "Agents with at least one session.", roles=(EDGE,))
SERVICES = _family("services", GAUGE, "Services that agents publish, by kind.", "kind", roles=(EDGE,))
OUT_OF_SERVICE = _family(
    "services_out_of_service", GAUGE, "Services of sessions that get no requests, because their health checks failed.",
    roles=(EDGE,),
)
HEALTH_CHECKS = _family(
    "health_checks", COUNTER, "Requests of health checks, by result: success or failure.", "result", roles=(EDGE,)
)
DENIALS = _family(
    "agent_denials", COUNTER, "Requests of agents that were denied, by code: not-allowed, taken, unknown, refused and so on.",
    "code", roles=(EDGE,),
)
VISITORS = _family("visitor_connections", GAUGE, "Connections of visitors that are open.", roles=(EDGE,))
VISITORS_LIMIT = _family("visitor_connections_limit", GAUGE, "The limit visitors.", roles=(EDGE,))
VISITORS_REFUSED = _family(
    "visitor_connections_refused", COUNTER, "Connections that were closed at once, beyond connections_per_second.",
    roles=(EDGE,),
)
LISTENERS_PAUSED = _family(
    "listeners_paused", GAUGE, "1 while no connections are accepted, because there are as many as allowed.", roles=(EDGE,)
)
UDP_FLOWS = _family("udp_flows", GAUGE, "Flows of visitors to UDP services.", roles=(EDGE,))
UDP_DROPPED = _family("udp_dropped", COUNTER, "Datagrams that were dropped.", roles=(EDGE,))

UPLINK_UP = _family("uplink_up", GAUGE, "1 while there is a session with the edge.", "edge", roles=(AGENT,))
RECONNECTS = _family(
    "uplink_reconnects", COUNTER, "Sessions with the edge after the first one.", "edge", roles=(AGENT,)
)
CONNECT_FAILURES = _family("uplink_failures", COUNTER, "Attempts to connect that failed.", "edge", roles=(AGENT,))
PUBLISHED = _family("published_services", GAUGE, "Services that an edge has granted.", roles=(AGENT,))
UNPUBLISHED = _family("unpublished_services", GAUGE, "Services that no edge has granted at the moment.", roles=(AGENT,))

CERTIFICATE = _family(
    "certificate_expiry_timestamp_seconds", GAUGE, "When a certificate of this program expires, in seconds since 1970. An "
    "edge has those of its folders, an agent those it authenticates with.", "file",
)
LAG = _family("reactor_lag_seconds", HISTOGRAM, "How late a timer of one second was called.")

SERVICE_EXCHANGES = _family(
    "service_exchanges", COUNTER, "Requests that have ended, by service and class of their status.", "service", "status_class"
)
SERVICE_RESPONSE_BYTES = _family("service_response_bytes", COUNTER, "Octets of the bodies of responses.", "service")
AGENT_SESSIONS = _family("agent_sessions", GAUGE, "Sessions of an agent.", "agent", roles=(EDGE,))
AGENT_STREAMS = _family("agent_streams", GAUGE, "Open streams of an agent.", "agent", roles=(EDGE,))
AGENT_QUEUED = _family("agent_queued_bytes", GAUGE, "Payload that waits to be sent to an agent.", "agent", roles=(EDGE,))

PER_SERVICE = (SERVICE_EXCHANGES, SERVICE_RESPONSE_BYTES, AGENT_SESSIONS, AGENT_STREAMS, AGENT_QUEUED)
"""The families that exist only with C{per_service}."""

FAMILIES = (
    BUILD, READY, SESSIONS, SESSIONS_OPENED, SESSIONS_LOST, STREAMS, STREAMS_OPENED, RECEIVED, SENT, QUEUED, HELD, CREDIT,
    BUDGET_HELD, BUDGET_LIMIT, BUDGET_RESETS, EXCHANGES, RESPONSE_BYTES, FIRST_OCTET, DURATION, REFUSALS, AGENTS, SERVICES,
    OUT_OF_SERVICE, HEALTH_CHECKS, DENIALS, VISITORS, VISITORS_LIMIT, VISITORS_REFUSED, LISTENERS_PAUSED, UDP_FLOWS,
    UDP_DROPPED, UPLINK_UP, RECONNECTS, CONNECT_FAILURES, PUBLISHED, UNPUBLISHED, CERTIFICATE, LAG,
)  # fmt: skip
"""All others."""

PROCESS = {
    "process_open_fds": "Open file descriptors.",
    "process_max_fds": "The limit of file descriptors.",
    "process_resident_memory_bytes": "Resident memory.",
    "process_virtual_memory_bytes": "Virtual memory.",
    "process_cpu_seconds_total": "CPU time, of user and system.",
    "process_start_time_seconds": "When the process was started, in seconds since 1970.",
}
"""Samples of the process itself, which C{prometheus_client} reads from C{/proc}."""
