"""
The sources of an edge's URL and token, in order: arguments, the environment, the configuration file, and the file that an edge
with C{--dev} has left in the state folder.

A token is sent only to the edge that it was given for: a token beside one URL in a file is never sent to another URL.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import nullcontext
from string import Template
from urllib.parse import urlsplit

from attrs import evolve, frozen

from tunnelstack.control.config.dev_edge import DEV_TOKEN, readDevEdge, readDevToken
from tunnelstack.control.config.proxy_env import isThisMachine, proxyFor
from tunnelstack.control.config.records import AgentConfig, EdgeAddress
from tunnelstack.control.config.shorthand import edgeURL
from tunnelstack.control.options import checkValue, fromCommandLine
from tunnelstack.errors import ConfigurationError
from tunnelstack.settings.files import readFile
from tunnelstack.settings.record import Record
from tunnelstack.settings.state_dir import StateDirectory, stateDirectoryPath
from tunnelstack.settings.validators import isHTTPURL

EDGE, TOKEN, TOKEN_FILE, CA_FILE, CONFIG = (
    f"TUNNELSTACK_{name}" for name in ("EDGE", "TOKEN", "TOKEN_FILE", "CA_FILE", "CONFIG")
)

CREDENTIAL = "tunnelstack-token"
"""The name of systemd's credential with the token."""

NO_EDGE = (
    "no edge is configured: use --edge URL or set TUNNELSTACK_EDGE; on one machine, start tunnel-edge --dev first "
    "(its address is then found in {state})"
)
PLAIN = (
    "the token for {url} would cross the network unencrypted, where others can read it: use an https: URL, or allow it with "
    "--insecure or with insecure = true in [[edge]]"
)
NO_TOKEN = "no token for {url} is configured: set TUNNELSTACK_TOKEN, or name a file with --token-file"


class Unencrypted(ConfigurationError):
    """
    A credential would be sent over the network unencrypted.
    """


class NotConfigured(ConfigurationError):
    """
    No edge or no token is configured in this environment.
    """


@frozen(eq=False, repr=False)
class Sources(Record):
    """
    The environment of a process, and the files that it names.
    """

    environ: Mapping[str, str]

    @property
    def state(self) -> StateDirectory:
        """
        The state folder of this user.

        @raise ConfigurationError: there is none.
        """
        return StateDirectory(stateDirectoryPath(self.environ))

    def readAgentFile(self, path: str = "") -> AgentConfig:
        """
        @param path: the configuration file, instead of C{$TUNNELSTACK_CONFIG}.
        @return: the configuration, its edges with their tokens; all defaults without a file.
        @raise ConfigurationError: the file, or a token file, cannot be used.
        """
        path = path or self.environ.get(CONFIG, "")
        if not path:
            return AgentConfig()
        from tunnelstack.control.config.reader import parseAgent  # for agents that have a file

        agent = parseAgent(readFile(path), path)
        return evolve(agent, edges=tuple(self._withToken(edge) for edge in agent.edges))

    def edges(
        self, url: str = "", tokenFile: str = "", *, caFile: str = "", dev: bool = False, insecure: bool = False,
        agent: AgentConfig | None = None,
    ) -> tuple[EdgeAddress, ...]:
        """
        The edges to dial, each with its token: the one from the arguments or the environment, else those of the file, else the
        edge that was started with C{--dev}.

        @param url: from the arguments.
        @param tokenFile: from the arguments.
        @param caFile: from the arguments: a PEM file with the only trusted roots.
        @param dev: use neither the environment nor the file.
        @param insecure: allow tokens over plain C{http:} to other machines.
        @param agent: the result of L{readAgentFile}; by default it is read when it is needed.
        @raise ConfigurationError: there is no edge or no token, or a token that cannot be used or would be sent unencrypted.
        """
        named = url or ("" if dev else self.environ.get(EDGE, ""))
        if named:
            named = readEdgeURL(named, "--edge" if url else EDGE)
        known = () if dev else (self.readAgentFile() if agent is None else agent).edges
        if not named and known:
            candidates = known
        elif named:
            candidates = tuple(edge for edge in known if sameEdge(edge.url, named)) or (EdgeAddress(url=named),)
        else:
            candidates = (self._devEdge(),)
        with fromCommandLine(Unencrypted) if url else nullcontext():
            return tuple(self._withCredentials(edge, tokenFile, caFile, dev, insecure) for edge in candidates)

    def _withCredentials(self, edge: EdgeAddress, tokenFile: str, caFile: str, dev: bool, insecure: bool) -> EdgeAddress:
        token, path = self._token(edge, tokenFile, dev)
        if not (token or edge.certificateFile):
            raise NotConfigured(NO_TOKEN.format(url=edge.url))
        if token and not (insecure or edge.insecure or isConfidential(edge.url, edge.proxy)):
            raise Unencrypted(PLAIN.format(url=edge.url))
        if not (caFile or dev) and edge.url.lower().startswith("https:"):
            caFile = self.environ.get(CA_FILE, "")
        return evolve(
            edge, token=token, tokenFile=path, caFile=caFile or edge.caFile,
            proxy=edge.proxy or proxyFor(edge.url, self.environ),
        )

    def _token(self, edge: EdgeAddress, tokenFile: str, dev: bool) -> tuple[str, str]:
        """
        @return: the token for an edge and the file that it was read from; C{""} for either if there is none.
        """
        if tokenFile:
            return readToken(tokenFile), tokenFile
        found = ("", "") if dev else self._environmentToken()
        if found[0]:
            return found
        if edge.token:
            return edge.token, edge.tokenFile
        left = self._left()
        if left is not None and sameEdge(left.url, edge.url):
            return left.token, left.tokenFile
        return self._devToken() if dev and isThisMachine(hostName(edge.url)) else ("", "")

    def _devToken(self) -> tuple[str, str]:
        """
        The token of all edges that this user starts with C{--dev}, for one that is not in C{dev.toml}.
        """
        try:
            return readDevToken(self.state), str(self.state.path(DEV_TOKEN))
        except ConfigurationError:
            return "", ""

    def _environmentToken(self) -> tuple[str, str]:
        given = self.environ.get(TOKEN, "").strip()
        if given:
            return checkToken(given, TOKEN), ""
        path = self.environ.get(TOKEN_FILE, "") or self._credential()
        return (readToken(path), path) if path else ("", "")

    def _credential(self) -> str:
        """
        @return: the file of systemd's C{LoadCredential=tunnelstack-token:...}; C{""} if there is none.
        """
        folder = self.environ.get("CREDENTIALS_DIRECTORY", "")
        path = os.path.join(folder, CREDENTIAL)
        return path if folder and os.path.exists(path) else ""

    def _devEdge(self) -> EdgeAddress:
        left = self._left()
        if left is None:
            raise NotConfigured(NO_EDGE.format(state=self._shownState()))
        return left

    def _left(self) -> EdgeAddress | None:
        """
        @return: the edge that was started with C{--dev}; C{None} without one, or without a state folder.
        """
        try:
            state = self.state
        except ConfigurationError:
            return None
        return readDevEdge(state)

    def _shownState(self) -> str:
        try:
            return str(self.state.folder)
        except ConfigurationError:
            return "STATE_DIRECTORY, which is not set, and there is no home folder"

    def _withToken(self, edge: EdgeAddress) -> EdgeAddress:
        if not edge.tokenFile:
            return edge
        try:
            path = Template(edge.tokenFile).substitute(self.environ)
        except (KeyError, ValueError):
            raise ConfigurationError(f'token_file "{edge.tokenFile}" names an environment variable that is not set') from None
        return evolve(edge, token=readToken(path), tokenFile=path)


def readEdgeURL(text: str, source: str) -> str:
    """
    @return: the URL of an edge, see L{edgeURL}.
    @param source: as in L{wrongValue<tunnelstack.control.options.wrongValue>}.
    @raise ConfigurationError: the text is not one.
    """
    checkValue(source, isHTTPURL, url := edgeURL(text))
    return url


def isConfidential(url: str, proxy: str = "") -> bool:
    """
    @param proxy: the URL of the proxy that was configured for the edge; C{""} or C{"direct"} for none.
    @return: whether data to a URL is encrypted or stays on this machine.
    """
    parts = urlsplit(url)
    if parts.scheme == "https":
        return True
    return proxy in ("", "direct") and isThisMachine(hostName(url))


def hostName(url: str) -> str:
    """
    @return: the host of a URL in lower case, without brackets and a final dot.
    """
    return (urlsplit(url).hostname or "").rstrip(".")


def sameEdge(one: str, other: str) -> bool:
    """
    @return: whether two URLs differ at most in case and in a slash at the end.
    """
    return one.rstrip("/").lower() == other.rstrip("/").lower()


def readToken(path: str) -> str:
    """
    @return: the content of a file, without the white space around it.
    @raise ConfigurationError: it cannot be read, or is not a token.
    """
    return checkToken(readFile(path).strip(), path)


def checkToken(token: str, source: str) -> str:
    """
    @raise ConfigurationError: C{token} cannot be sent in a header.  The message names C{source} and does not show the token.
    """
    if not re.fullmatch(r"[!-~]{1,1024}", token):
        raise ConfigurationError(f"{source} does not contain a token: one word of at most 1024 ASCII characters is expected")
    return token
