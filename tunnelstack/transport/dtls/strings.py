"""
Strings that describe ends of DTLS, in the form of Twisted's endpoint strings::

    dtls:8890:certificate=server.pem:clientCA=ca.pem:interface=127.0.0.1
    dtls:host.example:8890:trustRoots=ca.pem:certificate=client.pem

Twisted's own functions do not parse them, because what they give is for protocols of datagrams and not of streams.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tunnelstack.interfaces import IReactor
from tunnelstack.transport.clientstring import arguments, trustRoots
from tunnelstack.transport.dtls.client import DTLSClientEndpoint
from tunnelstack.transport.dtls.limits import DTLSLimits
from tunnelstack.transport.dtls.options import CIPHERS, DTLSClientOptions, DTLSServerOptions
from tunnelstack.transport.dtls.server import DTLSServerEndpoint
from tunnelstack.transport.tls import TLSIdentity, loadIdentity
from tunnelstack.wire.printable_text import quoted

PREFIX = "dtls"

_COMMON = ("certificate", "privateKey", "ciphers", "handshakeTimeout", "idleTimeout")
SERVER_PARAMETERS = ("port", "clientCA", "clientAuth", "interface", *_COMMON)
CLIENT_PARAMETERS = ("host", "port", "trustRoots", "name", *_COMMON)

HIGHEST_PORT = 65_535


def serverFromString(reactor: IReactor, text: str) -> DTLSServerEndpoint:
    """
    An endpoint that listens.

    C{certificate} names a PEM file with the certificate and its chain, C{privateKey} one with the key if that is another file.
    C{clientCA}, a PEM file or a folder of files C{*.pem}, requires clients to have a certificate that one of these authorities
    has issued; with C{clientAuth=request} those without one are accepted too.  C{handshakeTimeout} and C{idleTimeout} are
    seconds.

    @raise ValueError: the text does not describe one.
    @raise ConfigurationError: a file that it names, or the ciphers, cannot be used.
    """
    given = _parse(text, ("port",), SERVER_PARAMETERS)
    identity = _identity(given)
    if identity is None:
        raise ValueError(f"{PREFIX}: needs a certificate to listen")
    authorities = trustRoots(given["clientCA"]) if "clientCA" in given else []
    options = DTLSServerOptions(
        identity, clientCA=authorities, clientAuth=given.get("clientAuth", "require" if authorities else None),
        ciphers=given.get("ciphers", CIPHERS),
    )
    return DTLSServerEndpoint(
        reactor, _port(given, least=0), options, interface=given.get("interface", ""), limits=_limits(given)
    )


def clientFromString(reactor: IReactor, text: str) -> DTLSClientEndpoint:
    """
    An endpoint that connects.

    C{trustRoots} is as C{clientCA} of L{serverFromString}; the system's authorities are trusted without it.  The certificate of
    the server must be for C{name}, which is the host unless it is given.  The others are as in L{serverFromString}.

    @raise ValueError: the text does not describe one.
    @raise ConfigurationError: a file that it names, or the ciphers, cannot be used.
    """
    given = _parse(text, ("host", "port"), CLIENT_PARAMETERS)
    host = given.get("host", "")
    if not host:
        raise ValueError(f"{PREFIX}: needs a host")
    options = DTLSClientOptions(
        given.get("name", host), ca=trustRoots(given["trustRoots"]) if "trustRoots" in given else (),
        identity=_identity(given), ciphers=given.get("ciphers", CIPHERS), trust="trustRoots=FILE",
    )
    return DTLSClientEndpoint(reactor, host, _port(given, least=1), options, limits=_limits(given))


def _parse(text: str, places: Sequence[str], known: Sequence[str]) -> dict[str, str]:
    """
    @param places: the parameters that may be given without their names, in order.
    @raise ValueError: another kind of string, or a parameter is unknown or given twice.
    """
    (_, kind), *parts = arguments(text)
    if kind.lower() != PREFIX:
        raise ValueError(f"{quoted(text)} does not begin with {PREFIX}:")
    given: dict[str, str] = {}
    for place, (name, value) in enumerate(parts):
        name = name or (places[place] if place < len(places) else value)
        if name not in known or name in given:
            raise ValueError(f"{PREFIX}: does not take {quoted(name)} here")
        given[name] = value
    return given


def _port(given: Mapping[str, str], least: int) -> int:
    text = given.get("port", "")
    if not (text.isascii() and text.isdigit() and least <= int(text) <= HIGHEST_PORT):
        raise ValueError(f"{PREFIX}: needs a port, not {quoted(text)}")
    return int(text)


def _identity(given: Mapping[str, str]) -> TLSIdentity | None:
    if "certificate" not in given:
        if "privateKey" in given:
            raise ValueError(f"{PREFIX}: takes privateKey only together with certificate")
        return None
    return loadIdentity(given["certificate"], given.get("privateKey"))


def _limits(given: Mapping[str, str]) -> DTLSLimits:
    """
    @raise ValueError: a time is no number, or out of range.
    """
    default = DTLSLimits()
    return DTLSLimits(
        handshakeSeconds=float(given.get("handshakeTimeout", default.handshakeSeconds)),
        idleSeconds=float(given.get("idleTimeout", default.idleSeconds)),
    )
