"""
Parsers of endpoint strings that begin with C{tunnel:}.  Every program that parses endpoint strings imports this module, because
it holds plugins, so the implementation is imported only when such a string is parsed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from twisted.internet.interfaces import (
    IReactorCore,
    IStreamClientEndpoint,
    IStreamClientEndpointStringParserWithReactor,
    IStreamServerEndpoint,
    IStreamServerEndpointStringParser,
)
from twisted.plugin import IPlugin
from zope.interface import implementer

from tunnelstack.interfaces import IReactor

PREFIX = "tunnel"


@implementer(IPlugin, IStreamServerEndpointStringParser)
class TunnelServerParser:
    """
    C{tunnel:NAME[:edge=URL][:tokenFile=PATH][:insecure=yes][:kind=http|stream|tcp][:port=N]}
    """

    prefix = PREFIX

    def parseStreamServer(self, reactor: IReactorCore, *arguments: object, **parameters: object) -> IStreamServerEndpoint:
        """
        @raise ConfigurationError: the string has a mistake, which the message names.
        """
        from tunnelstack.endpoints import tunnelServerFromString

        texts = cast(Sequence[str], arguments), cast(Mapping[str, str], parameters)
        return tunnelServerFromString(cast(IReactor, reactor), *texts)


@implementer(IPlugin, IStreamClientEndpointStringParserWithReactor)
class TunnelClientParser:
    """
    C{tunnel:NAME[:edge=URL][:tokenFile=PATH][:insecure=yes][:purpose=PURPOSE]}
    """

    prefix = PREFIX

    def parseStreamClient(self, reactor: IReactorCore, *arguments: object, **parameters: object) -> IStreamClientEndpoint:
        """
        @raise ConfigurationError: the string has a mistake, which the message names.
        """
        from tunnelstack.endpoints import tunnelClientFromString

        texts = cast(Sequence[str], arguments), cast(Mapping[str, str], parameters)
        return tunnelClientFromString(cast(IReactor, reactor), *texts)
