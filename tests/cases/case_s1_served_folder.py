"""
S1: C{tunnel-agent serve DIR} publishes regular files below the folder and nothing else, waits for none of them, and answers
ranges and conditions as RFC 9110 says.
"""

from __future__ import annotations

import os
import re
import sys
import time

from tests.cases.tunnel import Tunnel, status, waitUntil

OLD = b"Sat, 01 Jan 2000 00:00:00 GMT"
CHECKS = (
    (b"/a.bin", b"", 200), (b"/", b"", 200), (b"/.well-known/a", b"", 200),
    (b"/a.bin", b"Range: bytes=-20\r\n", 206), (b"/a.bin", b"Range: bytes=-200\r\n", 206),
    (b"/a.bin", b"Range: bytes=100-\r\n", 416), (b"/a.bin", b"Range: bytes=9-0\r\n", 200),
    (b"/a.bin", b'If-Range: "other"\r\nRange: bytes=0-9\r\n', 200),
    (b"/a.bin", b"If-Range: " + OLD + b"\r\nRange: bytes=0-9\r\n", 200),
    (b"/a.bin", b'If-Match: "other"\r\n', 412), (b"/a.bin", b"If-None-Match: *\r\n", 304),
    (b"/a.bin%00", b"", 404), (b"/a%00b", b"", 404), (b"/%ff%fe", b"", 404), (b"/fifo", b"", 404),
    (b"/.env", b"", 404), (b"/%2eenv", b"", 404), (b"/link", b"", 404), (b"/out/secret", b"", 404), (b"/a.bin", b"", 200),
)  # fmt: skip


def main() -> int:
    wrong = 0
    with Tunnel() as tunnel:
        folder = tunnel.folder / "files"
        (folder / ".well-known").mkdir(parents=True)
        (folder / ".well-known" / "a").write_text("a")
        (folder / ".env").write_text("secret")
        (folder / "a.bin").write_bytes(b"0123456789" * 10)
        (tunnel.folder / "secret").write_text("secret")
        (folder / "link").symlink_to("../secret")
        (folder / "out").symlink_to("..")
        os.mkfifo(folder / "fifo")
        agent = tunnel.startAgent("serve", folder, name="files")
        for target, fields, right in CHECKS:
            answer = tunnel.get("files.localhost", target, fields)
            good = f" {right} " in status(answer)
            wrong += not good
            print(target, fields, status(answer), re.findall(rb"(?i)content-range: [^\r]*", answer), "" if good else "WRONG")
        if "Traceback" in tunnel.log("files"):
            wrong += 1
            print("the log of the agent has a traceback")
        began = time.monotonic()
        agent.terminate()
        ended = waitUntil(lambda: agent.poll() is not None)
        print(f"the agent {'ended' if ended else 'DID NOT END'} {time.monotonic() - began:.1f} s after SIGTERM")
    return bool(wrong or not ended)


if __name__ == "__main__":
    sys.exit(main())
