"""
Pages of operators in a real browser.  Screenshots are kept where C{TUNNELSTACK_ARTEFACTS} names a folder.
"""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SkipTest

from tests.system.browser import Browser, browserPath
from tests.system.stage import Stage

REQUIRED = os.environ.get("TUNNELSTACK_REQUIRE_PEERS") == "1"
ARTEFACTS = os.environ.get("TUNNELSTACK_ARTEFACTS", "")


class PageStage(Stage):
    """
    A test of a page.

    @cvar artefact: the name of the page, with which the names of screenshots begin.
    @ivar browser: shows the page.
    """

    artefact = ""
    browser: Browser

    def setUp(self) -> None:
        path = browserPath()
        if path is None:
            if REQUIRED:
                self.fail("chromium is not installed")
            raise SkipTest("chromium is not installed")
        self._path = path
        super().setUp()

    def openLive(self, address: str) -> None:
        """
        Open a page, and wait until it is live.
        """
        self.browser = Browser(self._path)
        self.addCleanup(self.browser.close)
        if ARTEFACTS:
            self.addCleanup(self._keepScreenshot)
        self.browser.open(address)
        self.browser.wait("document.querySelector('#connection').textContent === 'live'")

    def _keepScreenshot(self) -> None:
        self.browser.screenshot(Path(ARTEFACTS, f"{self.artefact}-{self._testMethodName}.png"))
