"""
Whether the extra C{metrics} is installed.
"""

from __future__ import annotations

from importlib.util import find_spec

from tunnelstack.errors import ConfigurationError

MISSING = (
    "metrics need the package prometheus_client, which is not installed: pip install 'tunnelstack[metrics]', or remove "
    "[metrics] from the configuration"
)


def requireExtra() -> None:
    """
    @raise ConfigurationError: C{prometheus_client} is not installed.
    """
    if find_spec("prometheus_client") is None:
        raise ConfigurationError(MISSING)
