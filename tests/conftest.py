"""
What pytest needs in order to run these tests as trial does.

Trial runs in a folder of its own, so that C{mktemp()} and logs litter nothing; so does this.  Trial's C{TestCase} spins the
reactor by itself, under pytest too: no plugin is needed for tests that return a Deferred.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def _elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """
    Run every test in a temporary folder.
    """
    before = os.getcwd()
    os.chdir(tmp_path_factory.mktemp("trial"))
    yield
    os.chdir(before)
