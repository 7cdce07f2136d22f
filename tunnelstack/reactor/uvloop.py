"""
Twisted's asyncio reactor on uvloop's event loop, for those who have installed that (the extra C{uvloop}).
"""

from __future__ import annotations

import asyncio

import uvloop
from twisted.internet import asyncioreactor


def install() -> None:
    """
    Make it the process's reactor.
    """
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    asyncioreactor.install(loop)
