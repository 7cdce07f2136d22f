"""
Where an answer comes from: what was given outright, then the environment, then the configuration file, then what an edge
started with C{--dev} left in the state folder.

A token is shown only to the edge it was given for: what a file says beside one URL is never sent to another.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from string import Template

from attrs import evolve, frozen

from tunnelstack.control.config.proxy_env import proxyFor
from tunnelstack.control.config.reader import parseAgent, readFile
from tunnelstack.control.config.records import AgentConfig, EdgeAddress
from tunnelstack.control.config.state_dir import StateDirectory, stateDirectoryPath
from tunnelstack.control.config.validators import checkURL
from tunnelstack.errors import ConfigurationError

EDGE, TOKEN, TOKEN_FILE, CONFIG = (f"TUNNELSTACK_{name}" for name in ("EDGE", "TOKEN", "TOKEN_FILE", "CONFIG"))

CREDENTIAL = "tunnelstack-token"
"""The credential of systemd that is a token."""

NO_EDGE = (
    "no edge is known: say --edge URL or set TUNNELSTACK_EDGE; on one machine, start tunnel-edge --dev first "
    "(its address is looked for in {state})"
)
NO_TOKEN = "no token for {url} is known: set TUNNELSTACK_TOKEN, or name a file with --token-file"


@frozen
class Sources:
    """
    One process's environment, and what it leads to.
    """

    environ: Mapping[str, str]

    @property
    def state(self) -> StateDirectory:
        """
        This user's state folder.
        """
        return StateDirectory(stateDirectoryPath(self.environ))

    def readAgentFile(self, path: str = "") -> AgentConfig:
        """
        What the configuration file says, its edges with their tokens; all defaults where there is no file.

        @param path: the file, instead of C{$TUNNELSTACK_CONFIG}.
        @raise ConfigurationError: it, or a file of a token, cannot be used.
        """
        path = path or self.environ.get(CONFIG, "")
        if not path:
            return AgentConfig()
        agent = parseAgent(readFile(path), path)
        return evolve(agent, edges=tuple(self._withToken(edge) for edge in agent.edges))

    def edges(
        self, url: str = "", tokenFile: str = "", *, dev: bool = False, agent: AgentConfig | None = None
    ) -> tuple[EdgeAddress, ...]:
        """
        The edges to dial, each with its token: one that was named, else those of the file, else the one left by C{--dev}.

        @param url: given outright.
        @param tokenFile: given outright.
        @param dev: neither the environment nor the file is asked.
        @param agent: what L{readAgentFile} gave; unless given, it is read when it is needed.
        @raise ConfigurationError: no edge, or no token, or one that cannot be used.
        """
        named = url or ("" if dev else self.environ.get(EDGE, ""))
        if named:
            checkEdgeURL(named, "--edge" if url else EDGE)
        known = () if dev else (self.readAgentFile() if agent is None else agent).edges
        if not named and known:
            candidates = known
        elif named:
            candidates = tuple(edge for edge in known if sameEdge(edge.url, named)) or (EdgeAddress(url=named),)
        else:
            candidates = (self._devEdge(),)
        return tuple(self._withCredentials(edge, tokenFile, dev) for edge in candidates)

    def _withCredentials(self, edge: EdgeAddress, tokenFile: str, dev: bool) -> EdgeAddress:
        token = readToken(tokenFile) if tokenFile else ""
        if not (token or dev):
            token = self._environmentToken()
        token = token or edge.token
        if not token:
            left = self.state.loadDevEdge()
            token = left.token if left is not None and sameEdge(left.url, edge.url) else ""
        if not (token or edge.certificateFile):
            raise ConfigurationError(NO_TOKEN.format(url=edge.url))
        return evolve(edge, token=token, proxy=edge.proxy or proxyFor(edge.url, self.environ))

    def _environmentToken(self) -> str:
        given = self.environ.get(TOKEN, "").strip()
        if given:
            return checkToken(given, TOKEN)
        path = self.environ.get(TOKEN_FILE, "") or self._credential()
        return readToken(path) if path else ""

    def _credential(self) -> str:
        """
        The file that systemd's C{LoadCredential=tunnelstack-token:...} left for this process, C{""} if there is none.
        """
        folder = self.environ.get("CREDENTIALS_DIRECTORY", "")
        path = os.path.join(folder, CREDENTIAL)
        return path if folder and os.path.exists(path) else ""

    def _devEdge(self) -> EdgeAddress:
        left = self.state.loadDevEdge()
        if left is None:
            raise ConfigurationError(NO_EDGE.format(state=self.state.folder))
        return left

    def _withToken(self, edge: EdgeAddress) -> EdgeAddress:
        if not edge.tokenFile:
            return edge
        try:
            path = Template(edge.tokenFile).substitute(self.environ)
        except (KeyError, ValueError):
            raise ConfigurationError(f"token_file {edge.tokenFile!r} names an environment variable that is not set") from None
        return evolve(edge, token=readToken(path))


def checkEdgeURL(url: str, source: str) -> None:
    """
    @raise ConfigurationError: not the URL of an edge; the sentence names where it came from.
    """
    try:
        checkURL(url)
    except ConfigurationError as mistake:
        raise ConfigurationError(f"{source} {mistake}") from None


def sameEdge(one: str, other: str) -> bool:
    """
    Whether two URLs are written differently at most in case and a slash at the end.
    """
    return one.rstrip("/").lower() == other.rstrip("/").lower()


def readToken(path: str) -> str:
    """
    @return: the token that is all a file holds, without the white space around it.
    @raise ConfigurationError: it cannot be read, or is no token.
    """
    return checkToken(readFile(path).strip(), path)


def checkToken(token: str, source: str) -> str:
    """
    @raise ConfigurationError: what C{source} gave cannot stand in a header; the sentence does not show it.
    """
    if not re.fullmatch(r"[!-~]{1,1024}", token):
        raise ConfigurationError(f"{source} does not hold a token: one word of at most 1024 ASCII characters is expected")
    return token
