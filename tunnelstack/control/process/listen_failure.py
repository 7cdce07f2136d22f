"""
Why a process cannot listen, for people.
"""

from __future__ import annotations

from errno import EADDRINUSE

from twisted.internet.error import CannotListenError

from tunnelstack.control.process.exit_status import FatalError, TemporaryFailure
from tunnelstack.control.process.port_owner import portOwner
from tunnelstack.errors import ConfigurationError


def listenFailure(error: CannotListenError, remedy: str) -> FatalError | ConfigurationError:
    """
    @param remedy: what helps if the port is taken, beside stopping the process that has it.
    @return: why an address cannot be listened on, with the process that uses it if that can be found.
    """
    reason = error.socketError
    what = f"port {error.port}" if isinstance(error.port, int) else str(error.port)
    if getattr(reason, "errno", None) != EADDRINUSE:
        return ConfigurationError(f"cannot listen on {what}: {getattr(reason, 'strerror', None) or reason}")
    holder = portOwner(error.port) if isinstance(error.port, int) else ""
    return TemporaryFailure(f"{what} is taken{f' by {holder}' if holder else ''}: stop that process, or {remedy}")
