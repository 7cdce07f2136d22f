"""
Forms in which proxies and sockets write IP addresses, as hypothesis strategies.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

from hypothesis import strategies as st

IPAddress = IPv4Address | IPv6Address

ADDRESSES = st.ip_addresses()
PORTS = st.one_of(
    st.integers(0, 99_999).map(str),
    st.text("abcXYZ019._-", min_size=1, max_size=8).map("_{}".format),
)
ZONES = st.one_of(st.just(""), st.sampled_from(["%eth0", "%25eth0", "%1", "%eth0.100", "%en-0_a~b"]))


def expected(address: IPAddress) -> IPAddress:
    """
    The address itself, or the IPv4 address that it carries.
    """
    return getattr(address, "ipv4_mapped", None) or address


@st.composite
def spelt(draw: st.DrawFn, address: IPAddress) -> str:
    """
    The digits of an address: long or short, in small letters or capitals, the last 32 bits as IPv4 or not.
    """
    if isinstance(address, IPv4Address):
        return draw(st.sampled_from([str(address), f"::ffff:{address}", f"0:0:0:0:0:FFFF:{address}"]))
    text = draw(st.sampled_from([str(address), address.exploded, address.exploded.replace(":0", ":")]))
    if draw(st.booleans()):
        head, tail = address.exploded[:-10], IPv4Address(int(address) & 0xFFFFFFFF)
        text = f"{head}:{tail}"
    try:
        IPv6Address(text)
    except ValueError:
        text = address.exploded
    return draw(st.sampled_from([text, text.upper()]))


@st.composite
def forms(draw: st.DrawFn) -> tuple[str, IPAddress]:
    """
    @return: a text, and the address that it names.
    """
    address = draw(st.one_of(ADDRESSES, st.ip_addresses(v=4).map(lambda four: IPv6Address(f"::ffff:{four}"))))
    text = draw(spelt(address))
    six = ":" in text
    text += draw(ZONES) if six else ""
    bracketed = draw(st.booleans())
    text = f"[{text}]" if bracketed else text
    if draw(st.booleans()) and (bracketed or not six):
        text += f":{draw(PORTS)}"
    if draw(st.booleans()):
        text = '"' + "".join(f"\\{letter}" if draw(st.booleans()) else letter for letter in text) + '"'
    return draw(st.sampled_from(["", " ", "\t "])) + text + draw(st.sampled_from(["", " "])), expected(address)
