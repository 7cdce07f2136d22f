"""
Parsers of endpoint strings that begin with C{tunnel:}.  Every program that parses endpoint strings imports this module, because
it holds plugins, so the implementation is imported only when such a string is parsed.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import (
    IStreamClientEndpoint,
    IStreamClientEndpointStringParserWithReactor,
    IStreamServerEndpoint,
    IStreamServerEndpointStringParser,
)
from twisted.plugin import IPlugin
from zope.interface import implementer

PREFIX = "tunnel"


@implementer(IPlugin, IStreamServerEndpointStringParser)
class TunnelServerParser:
    """
    C{tunnel:NAME[:edge=URL][:tokenFile=PATH][:insecure=yes][:kind=http|stream|tcp][:port=N]}
    """

    prefix = PREFIX

    def parseStreamServer(self, reactor: Any, *arguments: Any, **parameters: Any) -> IStreamServerEndpoint:
        """
        @raise ConfigurationError: the string has a mistake, which the message names.
        """
        from tunnelstack.endpoints import serverFromString

        return serverFromString(reactor, arguments, parameters)


@implementer(IPlugin, IStreamClientEndpointStringParserWithReactor)
class TunnelClientParser:
    """
    C{tunnel:NAME[:edge=URL][:tokenFile=PATH][:insecure=yes][:purpose=PURPOSE]}
    """

    prefix = PREFIX

    def parseStreamClient(self, reactor: Any, *arguments: Any, **parameters: Any) -> IStreamClientEndpoint:
        """
        @raise ConfigurationError: the string has a mistake, which the message names.
        """
        from tunnelstack.endpoints import clientFromString

        return clientFromString(reactor, arguments, parameters)
