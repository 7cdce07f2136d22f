"""
The file by which agents of the same user find an edge that was started with C{--dev}.
"""

from __future__ import annotations

from twisted.application.service import Service
from twisted.logger import Logger

from tunnelstack.control.config.dev_edge import DEV_FILE, readDevEdge, writeDevEdge
from tunnelstack.control.config.records import EdgeAddress
from tunnelstack.edge.service import EdgeService
from tunnelstack.errors import ConfigurationError
from tunnelstack.settings.state_dir import StateDirectory


class DevEdgeFile(Service):
    """
    Keeps C{dev.toml} while the edge is ready and holds the administration socket of the state folder.  So of several edges with
    one folder the first owns the file, and the next one takes it over when the first has ended.
    """

    log = Logger()

    def __init__(self, edge: EdgeService, state: StateDirectory, token: str) -> None:
        """
        @param edge: not yet started.
        """
        self._edge = edge
        self._state = state
        self._token = token
        self._url = ""
        self._owned = False
        self._written = False
        edge.whenReady().addCallback(self._ready)
        edge.admin.whenOwned().addCallback(self._own)

    def startService(self) -> None:
        """
        Write the file, if the edge is ready already.
        """
        super().startService()
        self._write()

    def _ready(self, url: str) -> None:
        self._url = url
        self._write()
        if not self._owned:
            self._reportOther()

    def _own(self, ignored: object) -> None:
        self._owned = True
        self._write()

    def _write(self) -> None:
        if not (self._url and self._owned and self.running):
            return
        try:
            writeDevEdge(self._state, EdgeAddress(url=self._url, token=self._token))
            self._written = True
        except ConfigurationError as unwritable:
            self.log.warn("agents need --edge and a token to find this edge: {reason}", reason=str(unwritable))

    def _reportOther(self) -> None:
        try:
            other = readDevEdge(self._state)
        except ConfigurationError:
            other = None
        first = f"find {other.url}" if other is not None else "do not find this edge"
        self.log.warn("agents with --dev {first}; for this edge they need --edge {url} as well", first=first, url=self._url)

    def stopService(self) -> None:
        """
        Remove the file: the edge accepts no more agents.
        """
        super().stopService()
        if self._written:
            self._state.remove(DEV_FILE)
