"""
The tables of the example dialect "porter" in configuration files.
"""

from attrs import frozen

from tunnelstack.settings.setting import setting
from tunnelstack.settings.tables import DialectSettings, Table
from tunnelstack.settings.validators import isHTTPURL


@frozen(kw_only=True)
class EdgeSettings:
    """
    C{[porter]}: agents of porter may connect.
    """


@frozen(kw_only=True)
class AgentSettings:
    """
    C{[[porter]]}: an edge, and the web server that is published there.
    """

    url: str = setting(says="http(s)://host[:port] of the edge", check=isHTTPURL)
    tokenFile: str = setting(says="a file that holds the token, and nothing else")
    target: str = setting(says="a port, host:port or an endpoint string")
    caFile: str = setting("", "a PEM file with the only roots that are trusted")
    proxy: str = setting("", "as in [[edge]]", secret=True)
    insecure: bool = setting(False, "true lets the token go to another machine by http:")


SETTINGS = DialectSettings(edge={"porter": Table(EdgeSettings)}, agent={"porter": Table(AgentSettings, many=True)})
