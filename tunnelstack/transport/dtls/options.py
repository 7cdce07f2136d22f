"""
The certificates and ciphers of DTLS: what makes OpenSSL's connections for servers and for clients.

Sources: RFC 6347; OpenSSL's manual pages C{DTLSv1_listen(3)} and C{SSL_CTX_set_options(3)}.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from OpenSSL.crypto import X509
from OpenSSL.SSL import (
    DTLS_METHOD,
    OP_NO_QUERY_MTU,
    OP_NO_RENEGOTIATION,
    OP_NO_TICKET,
    SESS_CACHE_OFF,
    VERIFY_FAIL_IF_NO_PEER_CERT,
    VERIFY_PEER,
    Connection,
    Context,
    Error,
)

from tunnelstack.errors import ConfigurationError
from tunnelstack.transport.tls import TLSIdentity
from tunnelstack.transport.verification import (
    CLIENT_TRUST,
    SYSTEM_TRUST,
    ClientVerifier,
    ServerName,
    ServerVerifier,
)
from tunnelstack.wire.printable_text import quoted

DTLS_1_2 = 0xFEFD

CIPHERS = (
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"
    "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
)
"""Forward secrecy and authenticated encryption only."""

NO_AUTO_CHAIN = 0x8
"""OpenSSL's C{SSL_MODE_NO_AUTO_CHAIN}, which pyOpenSSL does not name: send the chain that was given, without the root."""

OPENSSL_MTU = 8192
"""
What OpenSSL believes of the network, so that it divides no message of a handshake.  It would divide repeated flights in other
places, from which not every peer can make a whole message again.  C{pack_datagrams} keeps datagrams small.
"""


class Connections(Protocol):
    """
    Makes the connections of OpenSSL for one end, so that certificates can be replaced while it runs.
    """

    def connection(self) -> Connection:
        """
        A connection in the state before its handshake.
        """


class Cookies(Protocol):
    """
    Proves that a peer receives what is sent to its address.
    """

    def make(self) -> bytes:
        """
        The cookie for the peer's C{ClientHello}.
        """

    def verify(self, cookie: bytes) -> bool:
        """
        Whether the peer has sent the cookie that was made for it.
        """


class DTLSServerOptions:
    """
    The certificate of a server, and whether its clients need one.
    """

    def __init__(
        self, identity: TLSIdentity, *, clientCA: Iterable[X509] = (), clientAuth: str | None = None, ciphers: str = CIPHERS,
        trust: str = CLIENT_TRUST,
    ) -> None:
        """
        @param clientCA: the authorities that issue the certificates of clients.
        @param clientAuth: C{"require"} a certificate, or C{"request"} one and accept clients without; C{None} requests none.
        @param ciphers: in OpenSSL's form, the best first.
        @param trust: what an operator sets to trust another authority here, for the remedy in an error.
        @raise ConfigurationError: C{clientCA} or C{clientAuth} is given without the other, or a parameter cannot be used.
        """
        authorities = list(clientCA)
        if clientAuth not in (None, "request", "require"):
            raise ConfigurationError(f"client_auth is one of request, require, not {quoted(clientAuth)}")
        if (clientAuth is None) != (not authorities):
            raise ConfigurationError("client_auth and client_ca go together: give both or neither")
        self._context = _context(identity, ciphers)
        self._context.set_cookie_generate_callback(_makeCookie)
        self._context.set_cookie_verify_callback(_verifyCookie)
        if clientAuth is not None:
            _trust(self._context, authorities)
            for authority in authorities:       # the request names them, and clients choose their certificate by that
                self._context.add_client_ca(authority)
            required = VERIFY_FAIL_IF_NO_PEER_CERT if clientAuth == "require" else 0
            self._context.set_verify(VERIFY_PEER | required, ClientVerifier(trust).verify)

    def connection(self) -> Connection:
        connection = _connection(self._context)
        connection.set_accept_state()
        return connection


class DTLSClientOptions:
    """
    Which server a client trusts.  The handshake fails with L{CertificateRejected
    <tunnelstack.transport.verification.CertificateRejected>} unless the server's certificate is trusted and is for its name.
    """

    def __init__(
        self,
        name: str,
        *,
        ca: Iterable[X509] = (),
        identity: TLSIdentity | None = None,
        ciphers: str = CIPHERS,
        trust: str = SYSTEM_TRUST,
    ) -> None:
        """
        @param name: what the server's certificate must be for, and what SNI sends; a DNS name or an IP address.  It may differ
            from the host that is dialled.
        @param ca: the only authorities that are trusted; the system's unless given.
        @param identity: the certificate for servers that request one.
        @param ciphers: in OpenSSL's form, the best first.
        @param trust: what an operator sets to trust another authority here, for the remedy in an error.
        @raise ConfigurationError: a parameter cannot be used.
        """
        self._server = ServerName(name)
        self._context = _context(identity, ciphers)
        authorities = list(ca)
        if authorities:
            _trust(self._context, authorities)
        else:
            self._context.set_default_verify_paths()
        self._context.set_verify(VERIFY_PEER, ServerVerifier(self._server, trust).verify)

    def connection(self) -> Connection:
        connection = _connection(self._context)
        connection.set_connect_state()
        if self._server.indication is not None:
            connection.set_tlsext_host_name(self._server.indication)
        return connection


def _context(identity: TLSIdentity | None, ciphers: str) -> Context:
    context = Context(DTLS_METHOD)
    context.set_min_proto_version(DTLS_1_2)
    context.set_max_proto_version(DTLS_1_2)
    context.set_options(OP_NO_QUERY_MTU | OP_NO_TICKET | OP_NO_RENEGOTIATION)
    context.set_session_cache_mode(SESS_CACHE_OFF)
    context.set_mode(NO_AUTO_CHAIN)
    try:
        context.set_cipher_list(ciphers.encode("ascii"))
    except (Error, ValueError):
        raise ConfigurationError(f"OpenSSL has no cipher in {quoted(ciphers)}") from None
    if identity is not None:
        context.use_certificate(identity.certificate)
        context.use_privatekey(identity.key)
        for certificate in identity.chain:
            context.add_extra_chain_cert(certificate)
    return context


def _trust(context: Context, authorities: Iterable[X509]) -> None:
    store = context.get_cert_store()
    if store is None:
        raise ConfigurationError("OpenSSL has no store for trusted certificates")
    for authority in authorities:
        store.add_cert(authority)


def _connection(context: Context) -> Connection:
    connection = Connection(context, None)
    connection.set_ciphertext_mtu(OPENSSL_MTU)
    return connection


def _makeCookie(connection: Connection) -> bytes:
    cookies: Cookies = connection.get_app_data()
    return cookies.make()


def _verifyCookie(connection: Connection, cookie: bytes) -> bool:
    cookies: Cookies = connection.get_app_data()
    return cookies.verify(cookie)
