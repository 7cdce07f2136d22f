"""
The native dialect has no tables of its own: C{[edge]} and C{[[edge]]} are about it.
"""

from __future__ import annotations

from tunnelstack.settings.tables import DialectSettings

SETTINGS = DialectSettings(always=True)
