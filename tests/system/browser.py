"""
A browser that tests drive: headless Chromium, by the DevTools protocol over its WebSocket.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from base64 import b64decode
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

from tests.system.stage import until

NAMES = ("chromium", "chromium-browser", "google-chrome")
SECONDS = 30.0
"""Seconds within which the browser answers."""

ABSENT = "if (problem instanceof TypeError && / of null /.test(problem.message)) return false; throw problem"


def browserPath() -> str | None:
    """
    @return: where Chromium is; C{None} if it is not installed.
    """
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """
    One page of a browser with a profile of its own.

    @ivar problems: what the page's console reported as an error.
    """

    def __init__(self, path: str, width: int = 1200, height: int = 800) -> None:
        self._profile = tempfile.mkdtemp(prefix="browser-")
        self._errors = Path(self._profile, "stderr")
        self._numbers = count(1)
        self.problems: list[str] = []
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                [
                    path, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                    "--remote-debugging-port=0", f"--user-data-dir={self._profile}", f"--window-size={width},{height}",
                    "about:blank",
                ],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors,
                env={**os.environ, "HOME": self._profile},
            )
        found = until(lambda: re.search(r"ws://\S+(?=\s)", self._errors.read_text(errors="replace")), self._errors.read_text)
        self._open = ExitStack()
        self._socket: ClientConnection = self._open.enter_context(
            connect(found[0], max_size=None, open_timeout=SECONDS, proxy=None)
        )
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = ""
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self._call(f"{domain}.enable")

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """
        @return: the result of a command.
        """
        number = next(self._numbers)
        session = {"sessionId": self._session} if getattr(self, "_session", "") else {}
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters, **session}))
        while True:
            message = json.loads(self._socket.recv(timeout=SECONDS))
            if message.get("id") == number:
                if "error" in message:
                    raise AssertionError(f"{method}: {message['error']}")
                result: dict[str, Any] = message["result"]
                return result
            self._event(message)

    def _event(self, message: dict[str, Any]) -> None:
        parameters = message.get("params", {})
        if message.get("method") == "Runtime.exceptionThrown":
            self.problems.append(str(parameters["exceptionDetails"]))
        elif message.get("method") == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.problems.append(f"{parameters['entry']['text']} {parameters['entry'].get('url', '')}")

    def open(self, url: str) -> None:
        """
        Go to an address, and wait until the document is there.
        """
        self._call("Page.navigate", url=url)
        self.wait("document.readyState === 'complete'")

    def run(self, expression: str) -> Any:
        """
        @return: the value of an expression of JavaScript, awaited.
        """
        answer = self._call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True, userGesture=True)
        if "exceptionDetails" in answer:
            raise AssertionError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait(self, expression: str) -> Any:
        """
        @return: the value of the expression, once it is true.  It is false while an element that it uses is not there yet.
        """
        waits = f"(() => {{ try {{ return {expression} }} catch (problem) {{ {ABSENT} }} }})()"
        return until(lambda: self.run(waits), lambda: f"{expression}: {self.problems} {self.text('body')}")

    def text(self, selector: str) -> str:
        """
        @return: the text of an element as it is shown; C{""} if there is none.
        """
        return str(self.run(f"(document.querySelector({json.dumps(selector)}) || {{innerText: ''}}).innerText"))

    def click(self, selector: str) -> None:
        """
        Click on an element.
        """
        self.run(f"document.querySelector({json.dumps(selector)}).click()")

    def type(self, selector: str, text: str) -> None:
        """
        Replace the text of an input.
        """
        self.run(
            f"(() => {{ const input = document.querySelector({json.dumps(selector)}); input.value = {json.dumps(text)};"
            " input.dispatchEvent(new Event('input', {bubbles: true})); })()"
        )

    def press(self, key: str) -> None:
        """
        Press a key.
        """
        for kind in ("keyDown", "keyUp"):
            self._call("Input.dispatchKeyEvent", type=kind, key=key, text=key if len(key) == 1 and kind == "keyDown" else "")

    def resize(self, width: int, height: int) -> None:
        """
        Show the page on a screen of that size.
        """
        self._call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)

    def dark(self, dark: bool) -> None:
        """
        Let the system of the page be dark, or light.
        """
        feature = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", features=[feature])

    def screenshot(self, path: Path) -> None:
        """
        Write what is seen as a PNG.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b64decode(self._call("Page.captureScreenshot", format="png")["data"]))

    def close(self) -> None:
        """
        End the browser.
        """
        self._open.close()
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self._profile, ignore_errors=True)
