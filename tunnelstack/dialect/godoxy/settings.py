"""
The tables of GoDoxy in configuration files.
"""

from __future__ import annotations

from tunnelstack.dialect.godoxy import agent_settings, edge_settings
from tunnelstack.settings.tables import DialectSettings

SETTINGS = DialectSettings(
    edge=edge_settings.TABLES, agent=agent_settings.TABLES, checkEdge=edge_settings.checkEdge,
    checkAgent=agent_settings.checkAgent,
)
