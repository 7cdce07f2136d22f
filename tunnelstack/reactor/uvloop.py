"""
Twisted's asyncio reactor on uvloop's event loop.  It needs the package uvloop (the extra C{uvloop}).
"""

from __future__ import annotations

import asyncio

import uvloop
from twisted.internet import asyncioreactor


def install() -> None:
    """
    Install it as the process's reactor.
    """
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    asyncioreactor.install(loop)
