"""
The agents that an edge dials and their services: those of its configuration, and those that a command has added, which are kept
in a file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from attrs import fields, frozen
from twisted.logger import Logger

from tunnelstack.dialect.godoxy.certificates import Credentials, archiveName, readArchive, readFiles
from tunnelstack.dialect.godoxy.edge_settings import (
    DialledAgentSettings,
    EdgeSettings,
    ServiceSettings,
    checkService,
)
from tunnelstack.errors import ConfigurationError, Denied
from tunnelstack.settings.setting import keyOf
from tunnelstack.settings.state_dir import StateDirectory
from tunnelstack.settings.tables import Records
from tunnelstack.wire.printable_text import printable

FILE = "godoxy.json"

MOST_AGENTS = 1000
"""Agents of one edge."""

MOST_SERVICES = 256
"""Services of one agent, as many as one session may have."""

R = TypeVar("R", DialledAgentSettings, ServiceSettings)


@frozen(kw_only=True)
class KnownAgent:
    """
    An agent with its certificates.

    @ivar credentials: C{None} if its certificates cannot be used, so that it is not dialled.
    @ivar reason: why they cannot be used.
    @ivar configured: it is in the configuration file, so that no command can remove it.
    """

    settings: DialledAgentSettings
    credentials: Credentials | None
    configured: bool
    reason: str = ""

    @property
    def identity(self) -> object:
        """
        Equal as long as the agent is dialled at the same place with the same certificates.
        """
        return self.settings, None if self.credentials is None else self.credentials.digest


def credentialsOf(agent: DialledAgentSettings, archives: str) -> Credentials:
    """
    @param archives: a folder of archives; C{""} for none.
    @raise ConfigurationError: the agent has no certificates, or they cannot be used.
    """
    if agent.archive:
        return readArchive(agent.archive)
    if agent.caFile:
        return readFiles(agent.caFile, agent.certificateFile, agent.keyFile)
    if archives:
        return readArchive(str(Path(archives) / archiveName(agent.address)))
    raise ConfigurationError(f"the agent {agent.name} has no certificates: give an archive")


class AgentStore:
    """
    All agents and services of an edge.

    @ivar timing: the C{[godoxy]} of the configuration.
    @ivar agents: by name.
    @ivar services: by name.
    """

    log = Logger()

    def __init__(self, state: StateDirectory | None = None, tables: Records | None = None) -> None:
        """
        @param state: where added agents and services are kept; C{None} if none can be added.
        @param tables: of the configuration.
        @raise ConfigurationError: certificates or the file of added agents cannot be used.
        """
        self._state = state
        self._watcher: Callable[[], object] = lambda: None
        self.timing = EdgeSettings()
        self.agents: dict[str, KnownAgent] = {}
        self.services: dict[str, ServiceSettings] = {}
        self._addedAgents, self._addedServices = self._read()
        self.prepare(tables or {})()

    def watch(self, watcher: Callable[[], object]) -> None:
        """
        Call C{watcher} after each change.
        """
        self._watcher = watcher

    def servicesOf(self, agent: str) -> list[ServiceSettings]:
        """
        @return: the services of an agent, by name.
        """
        return [self.services[name] for name in sorted(self.services) if self.services[name].agent == agent]

    def isConfigured(self, service: str) -> bool:
        """
        @return: whether a service is in the configuration file.
        """
        return service in self.services and service not in self._addedServices

    # Another configuration

    def prepare(self, tables: Records) -> Callable[[], None]:
        """
        Check another configuration, and read the certificates of all agents anew.

        @return: a function that applies it.
        @raise ConfigurationError: certificates cannot be used, or a name was added by a command as well.
        """
        timing = tables.get("godoxy", (EdgeSettings(),))[0]
        configured, services = tables.get("godoxy.agent", ()), tables.get("godoxy.service", ())
        for kind, names, added in (
            ("agent", {each.name for each in configured}, self._addedAgents),
            ("service", {each.name for each in services}, self._addedServices),
        ):
            for name in sorted(names & added.keys()):
                raise ConfigurationError(
                    f"the {kind} {name} of the configuration was added by a command as well: remove that one"
                )
        known = {each.name: KnownAgent(settings=each, credentials=credentialsOf(each, timing.archives), configured=True)
                 for each in configured}  # fmt: skip
        for name, settings in self._addedAgents.items():
            known[name] = self._addedAgent(settings, timing)

        def apply() -> None:
            self.timing = timing
            self.agents = known
            self.services = {**{each.name: each for each in services}, **self._addedServices}
            self._watcher()

        return apply

    def _addedAgent(self, settings: DialledAgentSettings, timing: EdgeSettings) -> KnownAgent:
        """
        An agent that a command has added.  One whose certificates have vanished since does not keep the edge from starting.
        """
        try:
            return KnownAgent(settings=settings, credentials=credentialsOf(settings, timing.archives), configured=False)
        except ConfigurationError as unusable:
            self.log.error("agent {agent} is not dialled: {reason}", agent=settings.name, reason=str(unusable))
            return KnownAgent(settings=settings, credentials=None, configured=False, reason=str(unusable))

    # Commands

    def addAgent(self, given: Mapping[str, object]) -> KnownAgent:
        """
        Dial another agent.

        @param given: the values of C{[[godoxy.agent]]}, by the keys of the file.
        @raise Denied: a value is wrong, the name or the address is taken, or the certificates cannot be used.
        """
        settings = _record(DialledAgentSettings, given)
        for other in self.agents.values():
            if settings.name == other.settings.name or settings.address == other.settings.address:
                raise Denied("taken", f"there is an agent {other.settings.name} at {other.settings.address} already")
        if len(self.agents) >= MOST_AGENTS:
            raise Denied("limit", f"there are {MOST_AGENTS} agents already")
        try:
            credentials = credentialsOf(settings, self.timing.archives)
        except ConfigurationError as unusable:
            raise Denied("malformed", str(unusable)) from None
        self._write({**self._addedAgents, settings.name: settings}, self._addedServices)
        added = self.agents[settings.name] = KnownAgent(settings=settings, credentials=credentials, configured=False)
        self._changed(f"agent {settings.name} at {settings.address} is added")
        return added

    def removeAgent(self, name: str) -> KnownAgent:
        """
        Dial an agent no more, and forget its services.

        @raise Denied: there is none, or it is in the configuration file, or one of its services is.
        """
        found = self.agents.get(name)
        if found is None:
            raise Denied("unknown", f"there is no agent {printable(name)}")
        if found.configured:
            raise Denied("not-allowed", f"the agent {name} is in the configuration file: remove it there, and reload the edge")
        kept = {each.name: each for each in self._addedServices.values() if each.agent != name}
        self._write({other: each for other, each in self._addedAgents.items() if other != name}, kept)
        self.services = {other: each for other, each in self.services.items() if each.agent != name}
        del self.agents[name]
        self._changed(f"agent {name} is removed")
        return found

    def addService(self, given: Mapping[str, object]) -> ServiceSettings:
        """
        Publish another service.

        @param given: the values of C{[[godoxy.service]]}, by the keys of the file.
        @raise Denied: a value is wrong, the name is taken, or there is no such agent.
        """
        settings = _record(ServiceSettings, given)
        try:
            checkService(settings)
        except ConfigurationError as wrong:
            raise Denied("malformed", str(wrong)) from None
        if settings.agent not in self.agents:
            raise Denied("unknown", f"there is no agent {settings.agent}")
        if settings.name in self.services:
            raise Denied("taken", f"there is a service {settings.name} already")
        if len(self.servicesOf(settings.agent)) >= MOST_SERVICES:
            raise Denied("limit", f"the agent {settings.agent} has {MOST_SERVICES} services already")
        self._write(self._addedAgents, {**self._addedServices, settings.name: settings})
        self.services[settings.name] = settings
        self._changed(f"service {settings.name} of agent {settings.agent} is added")
        return settings

    def removeService(self, name: str) -> ServiceSettings:
        """
        Publish a service no more.

        @raise Denied: there is none, or it is in the configuration file.
        """
        found = self.services.get(name)
        if found is None:
            raise Denied("unknown", f"there is no service {printable(name)}")
        if self.isConfigured(name):
            raise Denied(
                "not-allowed", f"the service {name} is in the configuration file: remove it there, and reload the edge"
            )
        self._write(self._addedAgents, {other: each for other, each in self._addedServices.items() if other != name})
        del self.services[name]
        self._changed(f"service {name} is removed")
        return found

    def _changed(self, what: str) -> None:
        self.log.info("{what}", what=what, status="godoxy")
        self._watcher()

    # The file

    def _read(self) -> tuple[dict[str, DialledAgentSettings], dict[str, ServiceSettings]]:
        text = None if self._state is None else self._state.read(FILE)
        if text is None:
            return {}, {}
        try:
            kept = json.loads(text)
            agents = [_record(DialledAgentSettings, each) for each in kept["agents"]]
            services = [_record(ServiceSettings, each) for each in kept["services"]]
        except (ValueError, KeyError, TypeError, AttributeError, Denied):
            raise ConfigurationError(
                f"{self._state and self._state.path(FILE)} cannot be read; move it away to begin without its agents"
            ) from None
        return {each.name: each for each in agents}, {each.name: each for each in services}

    def _write(self, agents: dict[str, DialledAgentSettings], services: dict[str, ServiceSettings]) -> None:
        """
        Keep these, if they can be written.

        @raise Denied: there is no state folder.
        """
        if self._state is None:
            raise Denied("unsupported", "this edge has no state folder, so nothing can be added or removed")
        kept = {"agents": _values(agents.values()), "services": _values(services.values())}
        try:
            self._state.write(FILE, json.dumps(kept, indent=1) + "\n")
        except ConfigurationError as unwritable:
            raise Denied("unsupported", str(unwritable)) from None
        self._addedAgents, self._addedServices = agents, services


def _record(kind: type[R], given: Mapping[str, object]) -> R:
    """
    @raise Denied: a value is missing, unknown or wrong.
    """
    names = {keyOf(each.name): each for each in fields(kind)}
    unknown = given.keys() - names.keys()
    if unknown:
        raise Denied("malformed", f"there is no setting {printable(min(unknown))}")
    for key, value in given.items():
        default = names[key].default
        expected = str if default is None or not isinstance(default, (bool, int, float)) else type(default)
        if type(value) is not expected and not (expected is float and type(value) is int):
            raise Denied("malformed", f"{key} must be of another type")
    values: dict[str, Any] = {names[key].name: value for key, value in given.items()}
    try:
        return kind(**values)
    except TypeError:
        raise Denied("malformed", "a setting is missing") from None
    except ConfigurationError as wrong:
        raise Denied("malformed", str(wrong)) from None


def _values(records: Iterable[DialledAgentSettings | ServiceSettings]) -> list[dict[str, object]]:
    """
    Records by the keys of the file, without what has its default.
    """
    return [
        {keyOf(each.name): getattr(record, each.name) for each in fields(type(record))
         if getattr(record, each.name) != each.default}
        for record in records
    ]  # fmt: skip
