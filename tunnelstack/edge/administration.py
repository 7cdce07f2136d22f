"""
What can be asked of the administration of an edge, and what it may change.

An edge for development loads this with the first request; see L{tunnelstack.edge.deferred}.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Protocol

from twisted.internet.defer import Deferred, maybeDeferred

from tunnelstack.edge import dashboard
from tunnelstack.edge.admin_answers import AdminError, Answer, JSONObject, ListHandler, PostHandler
from tunnelstack.edge.dashboard.feed import StatusFeed
from tunnelstack.edge.list_query import ListQuery
from tunnelstack.edge.running_edge import RunningEdge
from tunnelstack.edge.sample_report import sampleSteps
from tunnelstack.edge.slices import SlicedWork, Steps
from tunnelstack.edge.status import Record, agentSteps, routeSteps, statusSteps
from tunnelstack.edge.stream_report import snapshotSteps, streamSteps
from tunnelstack.pages.event_stream import EventStream
from tunnelstack.pages.resources import PageFiles

NO_METRICS = "this edge has no metrics: set enabled = true in [metrics], and restart it"


class ProcessControl(Protocol):
    """
    What can be done to the process of the edge: an L{AdminService<tunnelstack.edge.admin.AdminService>} has these attributes.
    """

    stop: Callable[[], object] | None
    reload: Callable[[], Iterable[str] | Deferred[Iterable[str]]] | None


class EdgeAdministration:
    """
    Answers for one edge, as L{Administration<tunnelstack.edge.admin_answers.Administration>}.

    @ivar getHandlers: functions without arguments that answer GET requests, by path.
    @ivar listHandlers: functions that answer GET requests for a part of a list, by path.
    @ivar files: the files of the dashboard.
    @ivar work: reads lists and snapshots.
    @ivar postHandlers: functions of a decoded JSON object that answer POST requests, by path.
    """

    def __init__(self, edge: RunningEdge, process: ProcessControl) -> None:
        self._edge = edge
        self._process = process
        self.work = SlicedWork(edge.clock)
        self.files = PageFiles(Path(dashboard.__file__).resolve().parent / "static")
        self._feed = StatusFeed(edge.clock, self.work, partial(snapshotSteps, edge))
        self.getHandlers: Mapping[bytes, Callable[[], Answer]] = {
            b"/health": lambda: (200, {"healthy": True}),
            b"/ready": self._ready,
            b"/metrics": self._metrics,
            **{path: _ok(read) for path, read in edge.dialects.getHandlers.items()},
        }
        self.listHandlers: Mapping[bytes, ListHandler] = {
            b"/status": lambda query: statusSteps(edge),
            b"/agents": self._agents,
            b"/routes": partial(routeSteps, edge),
            b"/streams": partial(streamSteps, edge),
            b"/samples": lambda query: sampleSteps(edge.public.site.samples, query),
        }
        self.postHandlers: Mapping[bytes, PostHandler] = {
            b"/tokens/reload": self._reloadTokens,
            b"/tokens/revoke": self._revoke,
            b"/reload": self._reload,
            b"/drain": self._drain,
            b"/agents/drain": self._drainAgent,
            b"/agents/disconnect": self._disconnectAgent,
            **edge.dialects.postHandlers,
        }

    def end(self) -> None:
        """
        End the streams of all pages.
        """
        self._feed.end()

    # Reading

    def follow(self) -> EventStream:
        """
        @return: the stream of events for one more page.
        @raise Refusal: too many pages are open.
        """
        return self._feed.follow()

    def _agents(self, query: ListQuery) -> Steps[Record]:
        """
        As L{agentSteps}; the round trips to the agents of a part of the list are measured as well.
        """
        found = yield from agentSteps(self._edge, query)
        if query.limit is not None:
            presences, shown = self._edge.agents.presences, {agent["session"] for agent in found["agents"]}
            self._edge.roundTrips.measure([each for each in presences if each.number in shown], presences)
        return found

    def _ready(self) -> Answer:
        state = self._edge.state
        return 200 if state == "ready" else 503, {"ready": state == "ready", "state": state}

    def _metrics(self) -> Answer:
        if self._edge.metrics is None:
            raise AdminError(404, NO_METRICS)
        return self._edge.metrics.response()

    # Changing

    def _reloadTokens(self, arguments: JSONObject) -> object:
        if self._edge.credentials is None:
            raise AdminError(409, "this edge authenticates agents by other means than tokens")
        self._edge.credentials.reload()
        return {"reloaded": True}

    def _revoke(self, arguments: JSONObject) -> object:
        which, keys = arguments.get("token"), self._edge.credentials
        if not (isinstance(which, str) and which):
            raise AdminError(400, 'the token is missing: send {"token": "ID or NAME"}')
        if keys is None or keys.store is None:
            raise AdminError(409, "this edge has no token store")
        revoked = keys.store.revoke(which)
        if not revoked:
            raise AdminError(
                404, f"the token store has no token {which}; remove tokens of the configuration file from the file"
            )
        keys.reload()
        return {"revoked": [{"id": record.id, "name": record.name} for record in revoked]}

    def _reload(self, arguments: JSONObject) -> object:
        reload = self._process.reload
        if reload is None:
            raise AdminError(409, "this edge has no configuration to reload")
        return maybeDeferred(reload).addCallback(lambda sentences: {"changed": list(sentences)})

    def _drain(self, arguments: JSONObject) -> object:
        stop = self._process.stop
        if stop is None:
            raise AdminError(409, "this edge cannot be stopped by a request")
        self._edge.clock.callLater(0, stop)       # after the response was written
        return {"draining": True, "seconds": self._edge.config.drainSeconds}

    def _drainAgent(self, arguments: JSONObject) -> object:
        self._edge.agents.drain(_session(arguments))
        return {"draining": True}

    def _disconnectAgent(self, arguments: JSONObject) -> object:
        self._edge.agents.disconnect(_session(arguments))
        return {"disconnected": True}


def _session(arguments: JSONObject) -> int:
    number = arguments.get("session")
    if not isinstance(number, int) or isinstance(number, bool):
        raise AdminError(400, 'the session is missing: send {"session": NUMBER}, with a number of GET /agents')
    return number


def _ok(read: Callable[[], object]) -> Callable[[], Answer]:
    return lambda: (200, read())
