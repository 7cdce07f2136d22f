"""
Kinds of certificates that a server may have, and what a client makes of each.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from attrs import field, frozen
from cryptography import x509

from tests.transport.certificates import CLIENT, Authority, authority, general
from tunnelstack.transport.tls import TLSIdentity

HOST = "edge.tunnels.localhost"
V4, V6 = "127.0.0.1", "::1"
DAY = r"\d{4}-\d\d-\d\d \d\d:\d\d UTC"


@frozen
class Kind:
    """
    One kind of certificate.

    @ivar issue: makes it.
    @ivar cause: a pattern for the whole cause that a client gives; C{""} where it accepts the certificate.
    @ivar remedy: words of the remedy.
    @ivar host: the host that is dialled.
    """

    issue: Callable[[], TLSIdentity] = field(converter=cache)
    cause: str = ""
    remedy: str = ""
    host: str = HOST


def names(*them: str) -> Callable[[], TLSIdentity]:
    """
    Signed by the root that is trusted, for DNS names and addresses.
    """
    return lambda: authority().issue([general(name) for name in them])


def dns(*them: str) -> Callable[[], TLSIdentity]:
    """
    The same, with addresses as DNS names.
    """
    return lambda: authority().issue([x509.DNSName(name) for name in them])


SAN = rf"subjectAltName DNS:{HOST}"
NONE = "its certificate contains no host names"
MALFORMED = "its certificate contains only malformed host names: "
UNTRUSTED = ", an authority that is not trusted here"

KINDS = {
    "good": Kind(names(HOST)),
    "good in capitals": Kind(names("EDGE.Tunnels.localhost")),
    "good for a host with a dot at its end": Kind(names(HOST), host=HOST + "."),
    "no names": Kind(lambda: authority().issue(None), NONE, SAN),
    "no names and no subject": Kind(lambda: authority().issue(None, subject=""), NONE, SAN),
    "an empty list of names": Kind(lambda: authority().issue([]), NONE, SAN),
    "an e-mail address only": Kind(lambda: authority().issue([x509.RFC822Name(f"root@{HOST}")]), NONE, SAN),
    "a URI only": Kind(lambda: authority().issue([x509.UniformResourceIdentifier(f"https://{HOST}")]), NONE, SAN),
    "the name only in the subject": Kind(
        lambda: authority().issue(None, subject=HOST),
        f"its certificate has the name {HOST} only in its subject, where names are not used", SAN,
    ),
    "the address only in the subject": Kind(
        lambda: authority().issue(None, subject=V4),
        f"its certificate has the name {V4} only in its subject, where names are not used", f"IP:{V4}", V4,
    ),
    "a malformed name": Kind(dns("*.localhost"), MALFORMED + r"\*\.localhost", SAN),
    "several malformed names": Kind(
        dns("*", "*.*.tunnels.localhost", "edge.*.localhost", "", "*e*.tunnels.localhost"),
        MALFORMED + r"\*, \*\.\*\.tunnels\.localhost, edge\.\*\.localhost and 2 more", SAN,
    ),
    "a malformed name with control characters": Kind(
        dns(f"{HOST}\0.other.example", "\x1b[2J*"), MALFORMED + rf"{HOST}\?\.other\.example, \?\[2J\*", SAN,
    ),
    "a malformed name beside a good one": Kind(dns("*.localhost", "*", HOST)),
    "a malformed name after a good one": Kind(dns(HOST, "*.localhost")),
    "a malformed name beside another": Kind(
        dns("*.localhost", "other.example"), rf"its certificate is for \*\.localhost, other\.example, not for {HOST}", SAN
    ),
    "a malformed name beside a good address": Kind(
        lambda: authority().issue([x509.DNSName("*.localhost"), general(V4)]), host=V4
    ),
    "names that cannot be read": Kind(
        lambda: authority().issue(b"\x30\x05\x82\x7fabc"), "its certificate cannot be read: .+", "replace it"
    ),
    "an address of three octets": Kind(
        lambda: authority().issue(b"\x30\x05\x87\x03\x7f\x00\x01"), "its certificate cannot be read: .+", "replace it"
    ),
    "another name": Kind(names("other.example"), rf"its certificate is for other\.example, not for {HOST}", SAN),
    "many other names": Kind(
        names(*(f"{letter}.example" for letter in "abcdef")),
        rf"its certificate is for a\.example, b\.example, c\.example and 3 more, not for {HOST}", SAN,
    ),
    "a name that begins like it": Kind(
        names(HOST + ".example", "x" + HOST), rf"its certificate is for {HOST}\.example, x{HOST}, not for {HOST}", SAN
    ),
    "its address": Kind(names(V4), host=V4),
    "its address of version 6": Kind(names(V6), host=V6),
    "another address": Kind(
        names("192.0.2.1"), r"its certificate is for 192\.0\.2\.1, not for 127\.0\.0\.1", f"IP:{V4}", V4
    ),
    "another address of version 6": Kind(
        names("2001:db8::1"), "its certificate is for 2001:db8::1, not for ::1", f"IP:{V6}", V6
    ),
    "a name for an address": Kind(names(HOST), rf"its certificate is for {HOST}, not for 127\.0\.0\.1", f"IP:{V4}", V4),
    "an address for a name": Kind(names(V4), rf"its certificate is for 127\.0\.0\.1, not for {HOST}", SAN),
    "the address as a DNS name": Kind(
        dns(V4), r"its certificate has 127\.0\.0\.1 as a DNS name, not as an IP address", f"IP:{V4}", V4
    ),
    "a wildcard": Kind(names("*.tunnels.localhost")),
    "a wildcard beside a host of one label": Kind(names("*.tunnels.localhost", "localhost"), host="localhost"),
    "a wildcard for a host of one label": Kind(
        names("*.tunnels.localhost"), r"its certificate is for \*\.tunnels\.localhost, not for localhost", "DNS:localhost",
        "localhost",
    ),
    "a wildcard for an address": Kind(dns("*.0.0.1"), MALFORMED + r"\*\.0\.0\.1", f"IP:{V4}", V4),
    "a wildcard of another domain": Kind(
        names("*.tunnels.example"), rf"its certificate is for \*\.tunnels\.example, not for {HOST}", SAN
    ),
    "a wildcard of the domain below": Kind(names(f"*.{HOST}"), rf"its certificate is for \*\.{HOST}, not for {HOST}", SAN),
    "a wildcard for the domain above": Kind(
        names("*.tunnels.localhost"), r"its certificate is for \*\.tunnels\.localhost, not for a\.edge\.tunnels\.localhost",
        r"DNS:a\.edge", f"a.{HOST}",
    ),
    "a wildcard in a word": Kind(
        names("e*.tunnels.localhost"), rf"its certificate is for e\*\.tunnels\.localhost, not for {HOST}", SAN
    ),
    "expired": Kind(
        lambda: authority().issue([general(HOST)], days=(-9, -2)), f"its certificate has expired, on {DAY}", "renew it.*clock"
    ),
    "expired and for another name": Kind(
        lambda: authority().issue([general("other.example")], days=(-9, -2)), f"its certificate has expired, on {DAY}",
        "renew it",
    ),
    "not yet valid": Kind(
        lambda: authority().issue([general(HOST)], days=(2, 9)), f"its certificate is not valid before {DAY}", "clock"
    ),
    "self-signed": Kind(
        lambda: authority().issue([general(HOST)], ownRoot=True), "its certificate is self-signed", "to trust it"
    ),
    "another authority": Kind(
        lambda: Authority("other root").identity(HOST), f'its certificate is issued by "other root"{UNTRUSTED}', "to trust it"
    ),
    "another authority in the chain": Kind(
        lambda: _withRoot(Authority("other root")), f'its certificate is issued by "other root"{UNTRUSTED}', "to trust it"
    ),
    "another authority of the same name": Kind(
        lambda: Authority().identity(HOST),
        'its certificate is (issued by "test root", an authority that is not trusted here|not signed by the trusted authority '
        '"test root", but by another one of the same name)', "to trust",
    ),
    "an intermediate authority": Kind(lambda: authority().intermediate("between").identity(HOST)),
    "an intermediate authority that is not sent": Kind(
        lambda: _alone(authority().intermediate("between").identity(HOST)),
        f'its certificate is issued by "between"{UNTRUSTED}', "intermediate certificates",
    ),
    "an intermediate authority that has expired": Kind(
        lambda: authority().intermediate("between", (-9, -2)).identity(HOST),
        f'the certificate of its authority "between" has expired, on {DAY}', "renew it",
    ),
    "signed by a server's certificate": Kind(
        lambda: _signedByServer(), "(its certificate|the certificate of its authority .*) is not acceptable: .+", "replace it"
    ),
    "for clients only": Kind(
        lambda: authority().issue([general(HOST)], purposes=[CLIENT]), "its certificate is not issued for this purpose",
        "serverAuth",
    ),
}


def _withRoot(root: Authority) -> TLSIdentity:
    identity = root.identity(HOST)
    return TLSIdentity(identity.certificate, identity.key, (root.certificate,))


def _alone(identity: TLSIdentity) -> TLSIdentity:
    return TLSIdentity(identity.certificate, identity.key)


def _signedByServer() -> TLSIdentity:
    """
    A server that passes its own certificate off as an authority's.
    """
    impostor = Authority("impostor")
    server = authority().issue([general("other.example")], subject="impostor")
    impostor._key = server.key.to_cryptography_key()  # type: ignore[assignment]
    impostor.chain = (server.certificate,)
    return impostor.identity(HOST)
