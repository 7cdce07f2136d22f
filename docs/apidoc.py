"""
Lets pydoctor link to Twisted and to the standard library without asking the network: a name that can be imported has a page.
"""

from __future__ import annotations

from types import ModuleType

from pydoctor import model
from pydoctor.sphinx import SphinxInventory
from twisted.python.reflect import namedAny
from zope.interface.interface import InterfaceClass

TWISTED = "https://docs.twisted.org/en/stable/api/{page}.html{anchor}"
PYTHON = "https://docs.python.org/3/library/{module}.html#{name}"
STANDARD = {"asyncio", "collections", "contextlib", "enum", "ipaddress", "os", "ssl", "struct", "typing"}


class Elsewhere(SphinxInventory):
    """
    The pages of names that are not ours.
    """

    def getLink(self, name: str) -> str | None:
        """
        @return: the address of the page, or C{None} (which pydoctor reports) if there is no such name.
        """
        root = name.partition(".")[0]
        if root not in STANDARD | {"twisted", "zope"}:
            return None
        try:
            found = namedAny(name)
        except (AttributeError, ValueError, ImportError):
            return None
        if root == "zope":
            return "https://zopeinterface.readthedocs.io/"
        if root in STANDARD:
            return PYTHON.format(module=getattr(found, "__module__", name), name=name)
        if isinstance(found, (type, InterfaceClass, ModuleType)):
            return TWISTED.format(page=name, anchor="")
        page, _, anchor = name.rpartition(".")
        return TWISTED.format(page=page, anchor=f"#{anchor}")


class System(model.System):
    """
    Pydoctor as it is, knowing those pages.
    """

    def __init__(self, options: model.Options | None = None) -> None:
        super().__init__(options)
        self.intersphinx = Elsewhere(logger=self.msg)
