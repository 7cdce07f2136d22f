"""
Metrics that are scraped while something else is measured.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread

SCRAPE_SECONDS = 15.0
"""Seconds from one scrape to the next, as is usual."""

METRICS = "[metrics]\nenabled = true\n"


@contextmanager
def scraped(folder: str) -> Iterator[None]:
    """
    Scrape an edge, the first time at once, as long as the block runs.

    @param folder: its state folder.
    """
    over = Event()

    def scrapeOften() -> None:
        while True:
            scrape(folder)
            if over.wait(SCRAPE_SECONDS):
                return

    thread = Thread(target=scrapeOften, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def scrape(folder: str) -> int:
    """
    Read the metrics of an edge.

    @return: how many octets they have.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(f"{folder}/admin.sock")
        connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: edge\r\nConnection: close\r\n\r\n")
        octets = 0
        while piece := connection.recv(65_536):
            octets += len(piece)
    return octets
