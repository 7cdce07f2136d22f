"""
A pseudo-terminal on which a test starts a program, as a person does in a window.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import threading
from collections.abc import Mapping, Sequence

from tests.terminal_screen import Screen


class TerminalWindow:
    """
    A window with one program, which leads the session of its terminal as a shell does.

    @ivar process: the program.
    @ivar screen: what the window shows.
    @ivar output: all octets that were written to the terminal.
    """

    def __init__(
        self, command: Sequence[str], environ: Mapping[str, str], cwd: str, rows: int = 24, columns: int = 80,
        ignore: Sequence[int] = (),
    ) -> None:
        """
        @param ignore: signals that the program ignores from its start, as after C{nohup}.
        """
        self.screen = Screen(rows, columns)
        self.output = b""
        self._lock = threading.Lock()
        self._wake, self._waker = os.pipe()
        self._master, slave = pty.openpty()
        self._setSize(slave, rows, columns)
        self.process = subprocess.Popen(
            command, env={**environ, "TERM": "xterm"}, cwd=cwd, stdin=slave, stdout=slave, stderr=slave,
            start_new_session=True, preexec_fn=lambda: self._inChild(ignore),
        )  # fmt: skip
        os.close(slave)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _inChild(self, ignore: Sequence[int]) -> None:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        for number in ignore:
            signal.signal(number, signal.SIG_IGN)

    def _setSize(self, descriptor: int, rows: int, columns: int) -> None:
        fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def _read(self) -> None:
        """
        Read what is written, until the window is closed: a blocked C{read} would keep it open.
        """
        with contextlib.suppress(OSError):
            while self._wake not in select.select((self._master, self._wake), (), ())[0]:
                octets = os.read(self._master, 65536)
                with self._lock:
                    self.output += octets
                    self.screen.write(octets.decode("utf-8", "replace"))

    def text(self) -> str:
        """
        What the window shows, line by line.
        """
        with self._lock:
            return "\n".join(self.screen.lines())

    def type(self, text: str) -> None:
        """
        Type text on the keyboard.
        """
        os.write(self._master, text.encode())

    def resize(self, rows: int, columns: int) -> None:
        """
        Give the window another size; the kernel sends SIGWINCH.
        """
        with self._lock:
            self.screen.resize(rows, columns)
        self._setSize(self._master, rows, columns)

    def close(self) -> None:
        """
        Close the window; the kernel sends SIGHUP.
        """
        master, self._master = self._master, -1
        if master >= 0:
            os.write(self._waker, b".")
            self._reader.join()
            for descriptor in (master, self._wake, self._waker):
                os.close(descriptor)

    def drop(self) -> None:
        """
        Make sure that program and window are gone.
        """
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.close()
