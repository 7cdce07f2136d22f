"""
The records of an edge's configuration by which an operator looks after services: health checks, and samples of requests.
"""

from __future__ import annotations

from attrs import frozen

from tunnelstack.errors import ConfigurationError
from tunnelstack.settings.record import Record
from tunnelstack.settings.setting import atLeast, each, matching, oneOf, setting
from tunnelstack.settings.validators import HOST, LABEL, checkAuthority, optional
from tunnelstack.wire.http1.redaction import STANDARD, TIERS

checkStatusForm = matching(r"[1-5][0-9]{2}(-[1-5][0-9]{2})?", "a status such as 204, or a range such as 200-399")


checkExamined = matching(
    rf"({LABEL}/)?{LABEL}|{LABEL}(\.{LABEL})*:[1-9][0-9]{{0,4}}|{HOST}", "a service, agent/service, device:port, or a host"
)
checkTarget = matching(
    r"/[!-\"$-~]*", "a path that begins with '/', with its query if it has one, in ASCII without spaces and '#'"
)


def statusRange(text: str) -> range:
    """
    @param text: a status, or the first and the last of several with a hyphen between them.
    @return: the statuses.
    """
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def checkStatuses(value: object) -> None:
    """
    A status, or a range of statuses that is not empty.
    """
    checkStatusForm(value)
    if not statusRange(str(value)):
        raise ConfigurationError(f"must be a range whose first status is not after its last one: {value}")


@frozen(kw_only=True, eq=False, repr=False)
class HealthCheck(Record):
    """
    C{[[health]]}: requests by which the edge examines a service through each of its agents.  An agent that fails gets no
    requests of visitors for the service until it succeeds again.
    """

    to: str = setting(
        says="the service, agent/service for the service of one agent only, or device:port for a web server that a device can "
        "reach; of agents that publish hosts, the host", check=checkExamined,
    )
    path: str = setting("/", "the path of the requests, with its query", check=checkTarget)
    host: str = setting(
        "", "the Host field of the requests; empty is the public host of the service", check=optional(checkAuthority)
    )
    intervalSeconds: float = setting(
        30.0, "seconds from one request to the next one through the same agent", check=atLeast(1, 3600),
    )
    timeoutSeconds: float = setting(5.0, "seconds within which the response must begin", check=atLeast(1, 300))
    failures: int = setting(3, "requests that fail in a row before the agent is left out", check=atLeast(1, 100))
    successes: int = setting(2, "requests that succeed in a row before it is used again", check=atLeast(1, 100))
    statuses: tuple[str, ...] = setting(
        ("200-399",), "the statuses that are a success, such as \"204\" or \"200-399\"; others are failures, as is no "
        "response", check=each(checkStatuses),
    )

    def isSuccess(self, status: int) -> bool:
        """
        @param status: of a response.
        """
        return any(status in statusRange(text) for text in self.statuses)


@frozen(kw_only=True, eq=False, repr=False)
class SamplesConfig(Record):
    """
    C{[samples]}: the last requests of each service, which C{tunnelstack samples} and C{/samples} of the administration show,
    without their bodies.
    """

    requests: int = setting(
        0, "requests that are kept of each service; 0 keeps none", check=atLeast(0, 1000), live=True
    )
    redaction: str = setting(
        STANDARD, "what is not kept: 'standard' leaves out the values of fields and of parameters of queries that contain "
        "credentials, such as Authorization, Cookie and token; 'strict' also those that tell who the visitor is, such as "
        "X-Forwarded-For and User-Agent, and all values of queries; 'none' keeps everything", check=oneOf(*TIERS), live=True,
    )


DEFAULT_SAMPLES = SamplesConfig()
