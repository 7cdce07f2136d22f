"""
Interfaces are true: each class has the methods, with the parameters, of the interfaces that it declares.

This looks at classes.  Promise suites and other tests verify objects, with their attributes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from inspect import getmembers, getsource, isclass

from twisted.trial.unittest import SynchronousTestCase
from zope.interface import Interface, implementedBy, implementer
from zope.interface.exceptions import Invalid, MultipleInvalid
from zope.interface.interface import InterfaceClass, Method
from zope.interface.verify import verifyClass

from tests.test_imports import OPTIONAL, modules
from tunnelstack import interfaces


def implementers() -> Iterator[tuple[type, InterfaceClass]]:
    """
    Each class of the package with each of our interfaces that it declares.
    """
    for name, path in modules():
        if path.name == "__init__.py" or name in OPTIONAL:
            continue
        module = import_module(f"tunnelstack.{name}")
        for _, cls in getmembers(module, isclass):
            if cls.__module__ == module.__name__ and not isinstance(cls, InterfaceClass):
                yield from ((cls, interface) for interface in implementedBy(cls) if interface.__module__ == interfaces.__name__)


def mistakes(interface: InterfaceClass, cls: type) -> Iterator[str]:
    """
    What a class lacks.  Methods that are bound at construction, for speed or because they are another object's, are no mistake:
    the class sets them, or has them as attributes with a type.
    """
    try:
        verifyClass(interface, cls)
    except MultipleInvalid as several:
        found = several.exceptions
    except Invalid as one:
        found = (one,)
    else:
        return
    source = getsource(cls)
    for error in found:
        name = next(part.__name__ for part in error.args if isinstance(part, Method))
        if not re.search(rf"\bself\.{name}(: [^=]+)? = |\n    {name}: Callable\[", source):
            yield str(error)


class InterfaceTests(SynchronousTestCase):
    """
    Every interface of L{tunnelstack.interfaces}, and every class that declares one.
    """

    def test_classesHaveTheMethodsThatTheyDeclare(self) -> None:
        wrong = [mistake for cls, interface in implementers() for mistake in mistakes(interface, cls)]
        self.assertEqual(wrong, [])

    def test_aMissingMethodAndAMissingParameterAreFound(self) -> None:
        class IFerry(Interface):
            def cross(passengers: int) -> None:
                pass

        @implementer(IFerry)
        class Raft:
            pass

        @implementer(IFerry)
        class Bridge:
            def cross(self) -> None:
                pass

        @implementer(IFerry)
        class Ford:
            def __init__(self, other: Raft) -> None:
                self.cross = print

        for cls, count in ((Raft, 1), (Bridge, 1), (Ford, 0)):
            self.assertEqual(len(list(mistakes(IFerry, cls))), count)

    def test_everyInterfaceHasAUser(self) -> None:
        """
        An interface without one is a guess.  Those of extensions, which others implement, are used by being looked for.
        """
        used = {interface for _, declared in implementers() for interface in (declared, *declared.__bases__)}
        ours = {
            value for value in vars(interfaces).values()
            if isinstance(value, InterfaceClass) and value.__module__ == interfaces.__name__
        }
        extensions = {
            interfaces.IReactor, interfaces.IStreamHandler, interfaces.IAgentCommand, interfaces.IOutboundAgents,
        }
        self.assertEqual(ours - used - extensions, set())
