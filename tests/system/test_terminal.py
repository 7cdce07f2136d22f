"""
Programs on a terminal: what becomes of them when it is closed.

The kind of H1: a program that was started on a terminal serves the public as long as the person who started it can see it.
"""

from __future__ import annotations

import re
import signal
import socket
from collections.abc import Sequence

from tests.ports import freePort
from tests.system.stage import PATIENCE, Stage, until
from tests.terminal import TerminalWindow


class TerminalStage(Stage):
    """
    A test with programs in windows.
    """

    def window(
        self, name: str, *arguments: str, ignore: Sequence[int] = (), rows: int = 24, columns: int = 80
    ) -> TerminalWindow:
        command = [*self.command(name), *arguments]
        window = TerminalWindow(command, self.environ, str(self.home), rows, columns, ignore)
        self.addCleanup(window.drop)
        return window

    def ends(self, window: TerminalWindow) -> int:
        until(lambda: window.process.poll() is not None, window.text)
        return window.process.returncode


class ClosedTerminalTests(TerminalStage):
    """
    A window is closed.
    """

    def test_anAgentEndsWithItsTerminal(self) -> None:
        self.startEdge()
        agent = self.window("tunnel-agent", "--dev", "http", str(self.origin()), "--name", "myapp")
        self.sees("myapp")
        agent.process.send_signal(signal.SIGHUP)
        until(lambda: "no configuration file" in agent.text(), agent.text)
        self.sees("myapp")
        agent.close()
        self.assertEqual(self.ends(agent), 0)
        self.sees("myapp", 503)

    def test_anEdgeEndsWithItsTerminal(self) -> None:
        edge = self.window("tunnel-edge", "--dev", "--port", "0")
        until(lambda: "ready" in edge.text(), edge.text)
        edge.close()
        self.assertEqual(self.ends(edge), 0)

    def test_afterNohupAnEdgeGoesOn(self) -> None:
        edge = self.window("tunnel-edge", "--dev", "--port", "0", ignore=(signal.SIGHUP,))
        until(lambda: "ready" in edge.text(), edge.text)
        edge.close()
        edge.process.send_signal(signal.SIGHUP)
        self.assertEqual(self.program("tunnelstack", "status").ends(), 0)
        self.assertIsNone(edge.process.poll())

    def test_aDemoEndsWithItsTerminal(self) -> None:
        demo = self.window("tunnelstack", "demo", "--port", str(freePort()), rows=40)
        until(lambda: "Ctrl-C stops" in demo.text(), demo.text)
        demo.close()
        self.ends(demo)


class PanelTests(TerminalStage):
    """
    The panel of an agent.

    The kind of B2: a drawing is never larger than the window, so that the next one replaces it.
    """

    def test_moreServicesThanRowsAreCounted(self) -> None:
        self.startEdge()
        path = self.home / "agent.toml"
        path.write_text("".join(f'[[service]]\nname = "site-{n}"\ntarget = "{self.origin()}"\n' for n in range(14)))
        token = (self.home / ".local/state/tunnelstack/dev.token").read_text().strip()
        self.environ |= {"TUNNELSTACK_EDGE": f"http://localhost:{self.port}", "TUNNELSTACK_TOKEN": token}
        agent = self.window("tunnel-agent", "--config", str(path), "start", rows=15, columns=60)
        until(lambda: "more services" in agent.text(), agent.text)
        for number in range(3):
            self.sees("site-0", path="/" + "x" * 100 + str(number))
            until(lambda: "xx\N{HORIZONTAL ELLIPSIS} " in agent.text(), agent.text)
        self.assertEqual(agent.screen.scrollback, [])
        agent.resize(80, 100)
        until(lambda: "site-13 " in agent.text(), agent.text)
        self.assertEqual(agent.text().count("session "), 1)
        agent.resize(80, 30)
        until(lambda: agent.text().count("\N{HORIZONTAL ELLIPSIS}\n") > 14, agent.text)
        self.assertEqual((agent.text().count("session "), agent.screen.scrollback), (1, []))


    def test_thePanelFollowsItsSessionAndItsServer(self) -> None:
        edge = self.startEdge()
        agent = self.window("tunnel-agent", "--dev", "http", str(self.origin()), "--name", "myapp", columns=110)
        until(lambda: re.search(r"^session +up   edge=localhost", agent.text(), re.MULTILINE), agent.text)
        until(lambda: re.search(r"^myapp +http://myapp", agent.text(), re.MULTILINE), agent.text)
        self.sees("myapp", path="/seen")
        until(lambda: re.search(r"^\d\d:\d\d:\d\d myapp +GET +/seen +200 ", agent.text(), re.MULTILINE), agent.text)
        until(lambda: re.search(r"^requests +1 .* p50 .* p90 .*in .*out ", agent.text(), re.MULTILINE), agent.text)
        self.stopOrigin()
        self.sees("myapp", 503)
        until(lambda: re.search(r"^myapp +down +\d\d:\d\d:\d\d ", agent.text(), re.MULTILINE), agent.text)
        self.assertEqual(edge.end(), 0)
        until(lambda: re.search(r"^session +retry in \d+ s ", agent.text(), re.MULTILINE), agent.text)
        until(lambda: re.search(r"^myapp +waiting ", agent.text(), re.MULTILINE), agent.text)
        self.startEdge(port=self.port)
        until(lambda: re.search(r"^session +up   edge=localhost", agent.text(), re.MULTILINE), agent.text, 60)
        until(lambda: re.search(r"^myapp +down .* http://myapp", agent.text(), re.MULTILINE), agent.text)
        self.assertEqual(agent.text().count("session "), 1)

    def test_aServerThatIsNotThereAtTheStartIsDown(self) -> None:
        self.startEdge()
        agent = self.window("tunnel-agent", "--dev", "http", str(freePort()), "--name", "myapp", columns=110)
        down = r"^myapp +down +\d\d:\d\d:\d\d nothing listens .*http://myapp"
        until(lambda: re.search(down, agent.text(), re.MULTILINE), agent.text)
        until(lambda: re.search(r"^\d\d:\d\d:\d\d warning +nothing listens on ", agent.text(), re.MULTILINE), agent.text)

    def test_aServiceOfConnectionsIsDownUntilItsServerAnswers(self) -> None:
        self.startEdge()
        port = freePort()
        agent = self.window("tunnel-agent", "--dev", "tcp", str(port), "--name", "db", columns=110)
        shown = r"^db +down +\d\d:\d\d:\d\d nothing listens .*:(\d+) -> "
        public = int(until(lambda: re.search(shown, agent.text(), re.MULTILINE), agent.text)[1])
        self.origin(port=port)

        def answers() -> object:
            with socket.create_connection(("127.0.0.1", public), timeout=PATIENCE):
                return re.search(r"^db +(?!down)\S.* -> ", agent.text(), re.MULTILINE)

        until(answers, agent.text)
        until(lambda: re.search(r"^\d\d:\d\d:\d\d db +\S+ answers again$", agent.text(), re.MULTILINE), agent.text)

    def test_aPanelOfTwentyColumnsWithoutUTF8IsReadable(self) -> None:
        self.startEdge()
        self.environ |= {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
        agent = self.window("tunnel-agent", "--dev", "http", str(self.origin()), "--name", "myapp", columns=20, rows=10)
        until(lambda: re.search(r"^myapp +http:/\.\.\.$", agent.text(), re.MULTILINE), agent.text)
        self.sees("myapp", path="/long/path")
        # Of the target nothing is left once the request has taken 10 ms, "GET ... 200 12.3 ms".
        until(lambda: re.search(r"^G.*\.\.\. 200 \d", agent.text(), re.MULTILINE), agent.text)
        self.assertTrue(agent.output.isascii())
        self.assertLess(max(map(len, agent.text().split("\n"))), 20)
        self.assertEqual(agent.screen.scrollback, [])


class ReloadCommandTests(Stage):
    """
    C{tunnelstack reload}.
    """

    def test_anEdgeReadsItsFileAgain(self) -> None:
        path = self.home / "edge.toml"
        path.write_text("")
        self.startEdge("--config", str(path))
        path.write_text("[limits]\nvisitors = 777\n")
        done = self.program("tunnelstack", "reload")
        self.assertEqual((done.ends(), done.out), (0, ["[limits] visitors: 10000 becomes 777"]))
        done = self.program("tunnelstack", "reload", "--json")
        self.assertEqual((done.ends(), "".join(done.out)), (0, '{  "changed": [    "nothing has changed"  ]}'))

    def test_mistakesAreReportedAndChangeNothing(self) -> None:
        path = self.home / "edge.toml"
        path.write_text("")
        self.startEdge("--config", str(path))
        path.write_text("[limits]\nvisitors = -1\nstrange = 1\n")
        done = self.program("tunnelstack", "reload")
        self.assertEqual((done.ends(), len(done.err)), (69, 1), done.said())
        self.assertIn("visitors", done.err[0])
        self.assertIn("strange", done.err[0])

    def test_reloadFailsWithoutAnEdge(self) -> None:
        done = self.program("tunnelstack", "reload")
        self.assertEqual(done.ends(), 69)
        self.assertIn("no edge answers", done.err[0])
