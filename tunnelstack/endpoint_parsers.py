"""
C{tunnel:} in endpoint strings.  Every C{serverFromString} on the machine loads this, so what it leads to is imported when a
string is read.
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

    def parseStreamServer(self, reactor: Any, *arguments: Any, **options: Any) -> IStreamServerEndpoint:
        """
        @raise ConfigurationError: what the string says cannot be used.
        """
        from tunnelstack.endpoints import serverFromOptions

        return serverFromOptions(reactor, *arguments, **options)


@implementer(IPlugin, IStreamClientEndpointStringParserWithReactor)
class TunnelClientParser:
    """
    C{tunnel:NAME[:edge=URL][:tokenFile=PATH][:insecure=yes][:purpose=PURPOSE]}
    """

    prefix = PREFIX

    def parseStreamClient(self, reactor: Any, *arguments: Any, **options: Any) -> IStreamClientEndpoint:
        """
        @raise ConfigurationError: what the string says cannot be used.
        """
        from tunnelstack.endpoints import clientFromOptions

        return clientFromOptions(reactor, *arguments, **options)
