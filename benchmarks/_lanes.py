"""
What is asked of the carriers of Jetty, for our programs and for those of grpcio.
"""

from __future__ import annotations

SMALL, LARGE = b"/", b"/large"

BODY = bytes(64)
"""Of the response to a small request."""

BLOCK = bytes(range(256)) * 128
"""Of a large response: as much as one message of a lane has."""

PAUSE = 0.3
"""Seconds between two phases, so that whoever measures can read what the first one used."""
