"""
An edge that is started with C{--dev} accepts every device.
"""

from __future__ import annotations

from tunnelstack.settings.tables import DialectDefaults, Records


def developmentTables() -> Records:
    """
    @return: the tables of such an edge.
    """
    from tunnelstack.dialect.shellhub.settings import EdgeSettings  # other programs have no use for them

    return {"shellhub": (EdgeSettings(policy="automatic"),)}


DEFAULTS = DialectDefaults(development=developmentTables)
