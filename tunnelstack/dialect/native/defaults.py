"""
The native dialect is always used.
"""

from __future__ import annotations

from tunnelstack.settings.tables import DialectDefaults

AGENT_PATH = "/_tunnel/1"
"""Where agents connect."""

DEFAULTS = DialectDefaults(always=True, agentPath=AGENT_PATH)
