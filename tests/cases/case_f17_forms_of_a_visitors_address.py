"""
Rules and the limit of passwords read an address in every form that trusted proxies write: with a port, as an IPv6 address that
carries it, quoted, in brackets.  A visitor whose address cannot be read is let in by no rule, and shares its limit with all
others like it.
"""

from __future__ import annotations

import subprocess
import sys
from base64 import b64encode

from tests.cases.tunnel import BIN, VISITOR_RULES, Tunnel, echoHead, serve, status

TOML = """
[edge]
trusted_proxies = ["127.0.0.1/32"]
{rules}
[[route]]
host = "password.example.net"
to = "site"
users = ["{user}"]
"""

ADDRESS = (
    "203.0.113.66", "203.0.113.66:5555", "::ffff:203.0.113.66", "::FFFF:cb00:7142", "[::ffff:203.0.113.66]:5555",
    "[203.0.113.66]", '"203.0.113.66"', '"203.0.113.66:5555"', "192.0.2.1, 203.0.113.66:_port",
)  # fmt: skip
NONE = ("unknown", "_hidden", "203.0.113.66.", "0203.0.113.66", "203.0.113", "somewhere.example.net", "[203.0.113.66")


def main() -> int:
    wrong = 0
    command = [BIN / "tunnelstack", "password", "alice"]
    made = subprocess.run(command, input="secret\n", capture_output=True, text=True, check=True)
    with Tunnel(TOML.format(rules=VISITOR_RULES, user=made.stdout.strip())) as tunnel:
        tunnel.startAgent("http", serve(echoHead), name="site")

        def ask(host: str, form: str, *more: bytes) -> str:
            fields = b"".join([b"X-Forwarded-For: " + form.encode() + b"\r\n", *more])
            return status(tunnel.get(f"{host}.example.net", fields=fields)).split(" ")[1]

        for form in ADDRESS + NONE:
            seen, expected = [ask("deny", form), ask("allow", form)], ["403", "200" if form in ADDRESS else "403"]
            print(f"{form}: denied {seen[0]}, allowed {seen[1]}")
            wrong += seen != expected
        for forms in (ADDRESS[:1] + tuple(f"203.0.113.66:{port}" for port in range(60)), [f"_{n}" for n in range(60)]):
            codes = []
            for number, form in enumerate(forms):
                pair = b64encode(b"alice:%d" % number)
                codes.append(ask("password", form, b"Authorization: Basic " + pair + b"\r\n"))
            print(f"passwords from {forms[1]} and others: {codes.count('401')} tried, {codes.count('429')} not")
            wrong += "429" not in codes
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
