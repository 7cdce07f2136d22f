"""
A trusted proxy that writes C{Forwarded} is believed as one that writes the X- fields: by rules, by redirection, and in the
fields for the server.

C{forwarded_by} chooses the family; the other one is the visitor's own and replaced.  With C{both}, a contradiction is 400.
"""

from __future__ import annotations

import re
import sys

from tests.cases.tunnel import VISITOR_RULES, Tunnel, echoHead, serve, status

TOML = """
[edge]
trusted_proxies = ["127.0.0.1/32"]
{setting}
{rules}
[[route]]
host = "secure.example.net"
to = "site"
redirect = true
"""

HOSTS = ("deny", "allow", "secure")
BELIEVED, NOT_BELIEVED, CONTRADICTION = ["403", "200", "200"], ["200", "403", "308"], ["400"] * 3

X = b"X-Forwarded-For: 203.0.113.66\r\nX-Forwarded-Proto: https\r\n"
FORWARDED = b"Forwarded: for=203.0.113.66;proto=https\r\n"
QUOTED = b'Forwarded: for=192.0.2.9\r\nforwarded: FOR="203.0.113.66:80" ; Proto="\\HTTPS"\r\n'
ELSEWHERE = b"Forwarded: for=192.0.2.9;proto=http\r\n"

EXPECTED = {
    "": {X: BELIEVED, FORWARDED: BELIEVED, QUOTED: BELIEVED, X + ELSEWHERE: BELIEVED},
    "x-forwarded": {X: BELIEVED, FORWARDED: NOT_BELIEVED, X + ELSEWHERE: BELIEVED},
    "forwarded": {X: NOT_BELIEVED, FORWARDED: BELIEVED, X + ELSEWHERE: NOT_BELIEVED},
    "both": {X: BELIEVED, FORWARDED: BELIEVED, X + FORWARDED: BELIEVED, X + ELSEWHERE: CONTRADICTION},
}


def told(answer: bytes, name: bytes) -> list[bytes]:
    """
    The values of a field that reached the server.
    """
    return [value.strip() for value in re.findall(rb"(?im)^" + name + rb":([^\r\n]*)", answer.partition(b"\r\n\r\n")[2])]


def main() -> int:
    wrong = 0
    for by, expected in EXPECTED.items():
        with Tunnel(TOML.format(setting=f'forwarded_by = "{by}"' if by else "", rules=VISITOR_RULES)) as tunnel:
            tunnel.startAgent("http", serve(echoHead), name="site")
            for fields, codes in expected.items():
                seen = [status(tunnel.get(f"{host}.example.net", fields=fields)).split(" ")[1] for host in HOSTS]
                print(f"{by or 'either'}: {fields!r}: {seen}")
                wrong += seen != codes
                if codes == BELIEVED:
                    answer = tunnel.get("allow.example.net", fields=fields)
                    read = told(answer, b"x-forwarded-for"), told(answer, b"x-forwarded-proto"), told(answer, b"forwarded")
                    print("   the server reads", read)
                    wrong += read[:2] != ([b"203.0.113.66, 127.0.0.1"], [b"https"])
                    wrong += len(read[2]) != 1 or not read[2][0].startswith(b"for=203.0.113.66;proto=https, for=127.0.0.1;")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
