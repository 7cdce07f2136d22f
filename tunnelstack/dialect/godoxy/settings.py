"""
The tables of GoDoxy in configuration files.
"""

from __future__ import annotations

from tunnelstack.dialect.godoxy.edge_settings import TABLES, checkEdge
from tunnelstack.settings.tables import DialectSettings

SETTINGS = DialectSettings(edge=TABLES, checkEdge=checkEdge)
