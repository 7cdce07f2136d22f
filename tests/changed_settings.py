"""
Which settings of the configuration a test changes, and sees the effect of from outside.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

Test = TypeVar("Test", bound=Callable[..., object])


def changes(*settings: str) -> Callable[[Test], Test]:
    """
    Mark a test method that changes settings and sees their effects through an edge and an agent.
    L{tests.test_documented_limits} reads the marks from the source.

    @param settings: the file, the table and the key of each, such as C{"edge [limits] visitors"}.
    """

    def mark(test: Test) -> Test:
        return test

    return mark
