"""
The native dialect has no tables of its own: C{[edge]} and C{[[edge]]} configure it.
"""

from __future__ import annotations

from tunnelstack.settings.tables import DialectSettings

SETTINGS = DialectSettings()
