"""
Which reactor turns a process of ours.
"""

from __future__ import annotations


def install(name: str) -> None:
    """
    Install the reactor, before anything imports it.
    """
    if name == "uvloop":
        import asyncio

        import uvloop
        from twisted.internet import asyncioreactor

        loop = uvloop.new_event_loop()
        asyncio.set_event_loop(loop)
        asyncioreactor.install(loop)
    else:
        from twisted.internet import epollreactor

        epollreactor.install()
