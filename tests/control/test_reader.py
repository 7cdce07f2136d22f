"""
Configuration out of files: what is taken, and how exactly a mistake is told.
"""

from __future__ import annotations

import tomllib
from types import SimpleNamespace

from attrs import fields, frozen
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.control.config import reader, records
from tunnelstack.control.config.toml_lines import LineIndex
from tunnelstack.errors import ConfigurationError
from tunnelstack.settings.setting import keyOf, setting
from tunnelstack.settings.tables import DialectSettings, Table, Tables

DIGEST = "ab" * 32

EDGE = f"""\
[edge]
listen = ["tls:certs:port=443", "tcp:80"]
domain = "example.net"
drain_seconds = 5

[limits]
session_octets = 8388608
process_octets = 1073741824
head_seconds = 2.5

[[agent]]
name  = "laptop"
token_sha256 = "{DIGEST}"
allow = ["http:laptop-*", "tcp:20000-20010", "ssh"]
share = true

[[route]]
host = "myapp.example.net"
to   = "laptop/myapp"
"""

AGENT = """\
[agent]
give_up_after_seconds = 60

[[edge]]
url = "https://tunnels.example.net"
token_file = "/etc/tunnelstack/token"

[[service]]
name = "myapp"
kind = "http"
target = "3000"

[[service]]
name = "db"
kind = "tcp"
target = "unix:/run/db.sock"
remote_port = 20001

[limits]
session_octets = 4194304
process_octets = 67108864
"""


class Reads:
    """
    What several suites ask of a text with mistakes.
    """

    def mistakes(self, text: str) -> list[str]:
        with self.assertRaises(reader.Mistakes) as caught:  # type: ignore[attr-defined]
            reader.parse(text, "a.toml")
        return str(caught.exception).splitlines()


class EdgeFileTests(Reads, SynchronousTestCase):
    """
    The file of an edge.
    """

    def test_everyKeyOfTheFileIsRead(self) -> None:
        edge = reader.parse(EDGE, "edge.toml")
        assert isinstance(edge, records.EdgeConfig)
        self.assertEqual(edge.listen, ("tls:certs:port=443", "tcp:80"))
        self.assertEqual((edge.domain, edge.drainSeconds), ("example.net", 5.0))
        self.assertEqual((edge.limits.headSeconds, edge.limits.headFields), (2.5, 100))
        laptop = records.TokenRecord(
            name="laptop", tokenSha256=DIGEST, allow=("http:laptop-*", "tcp:20000-20010", "ssh"), share=True
        )
        self.assertEqual(edge.tokens, (laptop,))
        self.assertEqual(edge.routes, (records.Route(host="myapp.example.net", to="laptop/myapp"),))

    def test_anEmptyFileIsAllDefaults(self) -> None:
        self.assertEqual(reader.parse("", "a.toml"), records.EdgeConfig())

    def test_anUnknownKeyNamesTheNearest(self) -> None:
        self.assertEqual(
            self.mistakes('[edge]\ndomain = "a.net"\ndrain_second = 5\n'),
            ["a.toml:3: [edge] has no key drain_second; did you mean drain_seconds?"],
        )

    def test_anUnknownKeyFarFromAllNamesAll(self) -> None:
        told = self.mistakes("[[route]]\nhost = 'a.net'\nto = 'b'\nxyzzy = 1\n")
        keys = ", ".join(keyOf(each.name) for each in fields(records.Route))
        self.assertEqual(told, [f"a.toml:4: [[route]] has no key xyzzy; there are {keys}"])

    def test_anUnknownTableNamesTheNearest(self) -> None:
        self.assertEqual(
            self.mistakes("[edge]\n\n[limit]\nvisitors = 3\n"), ["a.toml:3: there is no [limit]; did you mean limits?"]
        )
        self.assertEqual(
            self.mistakes('domain = "a.net"\n[edge]\n'),
            ["a.toml:1: there is no key domain outside of tables; did you mean domain in [edge]?"],
        )

    def test_everyMistakeIsToldInOrder(self) -> None:
        told = self.mistakes(
            '[limits]\nvisitors = 0\nhead_seconds = "soon"\n\n[[agent]]\nname = "A"\nallow = ["fly:*"]\n[edge]\nlisten = 3\n'
        )
        self.assertEqual([line.partition(" ")[0] for line in told], [f"a.toml:{n}:" for n in (2, 3, 5, 6, 7, 9)])
        self.assertIn("visitors must be at least 1, not 0", told[0])
        self.assertIn("head_seconds must be a number, not 'soon'", told[1])
        self.assertIn("[[agent]] needs a token_sha256", told[2])
        self.assertIn("allow 'fly:*' is not a right; rights are http:NAME", told[4])
        self.assertIn("listen must be a list of text in quotes", told[5])

    def test_trueIsNoNumber(self) -> None:
        self.assertIn("must be a whole number, not true", self.mistakes("[limits]\nvisitors = true\n")[0])

    def test_nothingIsNoBound(self) -> None:
        self.assertIn("must be from 0 to 86400, not nan", self.mistakes("[edge]\ndrain_seconds = nan\n")[0])

    def test_theSameTokenTwiceNamesTheFirst(self) -> None:
        agent = f'[[agent]]\nname = "a"\ntoken_sha256 = "{DIGEST}"\n'
        self.assertEqual(
            self.mistakes(agent + agent.replace("ab", "AB")),
            ["a.toml:4: [[agent]] has the same token_sha256 as the one on line 1"],
        )

    def test_optionsOfTheCommandLineAreNoKeys(self) -> None:
        self.assertIn("has no key dev", self.mistakes("[edge]\ndev = true\n")[0])
        self.assertIn("has no key state_directory", self.mistakes('[edge]\nstate_directory = "/"\n')[0])

    def test_brokenSyntaxHasALine(self) -> None:
        for text, line in (("[edge]\ndomain = \n", 2), ("[edge\n", 1), ("[edge]\n[edge]\n", 2), ('a = "', 1)):
            with self.subTest(text):
                (told,) = self.mistakes(text)
                self.assertTrue(told.startswith(f"a.toml:{line}: not valid TOML: "), told)

    def test_aTableWhereManyAreMeant(self) -> None:
        told = self.mistakes("[edge]\n[route]\nhost='a'\n")
        self.assertEqual(told, ["a.toml:2: route must be an array of tables, [[route]]"])


class AgentFileTests(Reads, SynchronousTestCase):
    """
    The file of an agent.
    """

    def test_everyKeyOfTheFileIsRead(self) -> None:
        agent = reader.parse(AGENT, "agent.toml")
        assert isinstance(agent, records.AgentConfig)
        self.assertEqual(agent.giveUpAfterSeconds, 60.0)
        self.assertEqual((agent.limits.sessionOctets, agent.limits.processOctets), (4 << 20, 64 << 20))
        edge = records.EdgeAddress(url="https://tunnels.example.net", tokenFile="/etc/tunnelstack/token")
        self.assertEqual(agent.edges, (edge,))
        self.assertEqual([service.name for service in agent.services], ["myapp", "db"])
        self.assertEqual(agent.services[1].remotePort, 20001)

    def test_aTokenInAFileIsRefused(self) -> None:
        told = self.mistakes('[[edge]]\nurl = "https://a.net"\ntoken = "ts_a_b"\n')
        self.assertEqual(told, ["a.toml:3: [[edge]] has no key token; did you mean token_file?"])

    def test_aServiceNeedsATarget(self) -> None:
        told = self.mistakes('[[service]]\nname = "a"\n\n[[service]]\nname = "b"\ntarget = "1"\nkind = "htpt"\n')
        self.assertIn("a.toml:1: [[service]] needs a target", told[0])
        self.assertEqual(told[1], "a.toml:7: kind must be one of http, tcp, udp, serve, stream, ssh, not 'htpt'")

    def test_aNameOccursOnlyOnce(self) -> None:
        service = '[[service]]\nname = "a"\ntarget = "3000"\n'
        self.assertEqual(self.mistakes(service * 2), ["a.toml:4: [[service]] has the same name as the one on line 1"])


@frozen
class Harbour:
    """
    C{[harbour]}: a table that has others inside.
    """

    depth: int = setting(7, "metres")


@frozen
class Berth:
    """
    C{[[harbour.berth]]}: a table inside another.
    """

    name: str = setting(says="of the berth")


def checkHarbour(tables: Tables) -> None:
    if len(tables.many("harbour.berth", Berth)) > 2:
        tables.wrong(("harbour.berth", 2), "there are too many")


HARBOUR = DialectSettings(
    edge={
        "harbour": Table(Harbour),
        "harbour.berth": Table(Berth, many=True, unique={"name": lambda berth: berth.name}),
    },
    checkEdge=checkHarbour,
)


class InnerTableTests(SynchronousTestCase):
    """
    Tables of a dialect that are inside another table.
    """

    def setUp(self) -> None:
        self.patch(reader, "dialectPackages", lambda: (SimpleNamespace(name="harbour", settings=HARBOUR),))

    def read(self, text: str) -> object:
        return reader.parseEdge(text, "edge.toml").dialects.get("harbour")

    def mistakes(self, text: str) -> list[str]:
        return str(self.assertRaises(reader.Mistakes, reader.parseEdge, text, "edge.toml")).splitlines()

    def test_bothTablesArrive(self) -> None:
        self.assertEqual(
            self.read('[harbour]\ndepth = 9\n[[harbour.berth]]\nname = "a"\n[[harbour.berth]]\nname = "b"\n'),
            {"harbour": (Harbour(9),), "harbour.berth": (Berth("a"), Berth("b"))},
        )

    def test_anInnerTableAloneBringsTheOuterOne(self) -> None:
        self.assertEqual(
            self.read('[[harbour.berth]]\nname = "a"\n'), {"harbour": (Harbour(),), "harbour.berth": (Berth("a"),)}
        )

    def test_withoutTheTablesThereIsNoDialect(self) -> None:
        self.assertIsNone(self.read(""))

    def test_mistakesHaveTheirLines(self) -> None:
        self.assertEqual(
            self.mistakes('[harbour]\nquay = 1\n[[harbour.berth]]\nnam = "a"\n'),
            [
                "edge.toml:2: [harbour] has no key quay; there are depth",
                "edge.toml:3: [[harbour.berth]] needs a name: of the berth",
                "edge.toml:4: [[harbour.berth]] has no key nam; did you mean name?",
            ],
        )

    def test_theSameNameTwiceNamesTheFirst(self) -> None:
        self.assertEqual(
            self.mistakes('[[harbour.berth]]\nname = "a"\n\n[[harbour.berth]]\nname = "a"\n'),
            ["edge.toml:4: [[harbour.berth]] has the same name as the one on line 1"],
        )

    def test_checksOfTheDialectNameTheLine(self) -> None:
        three = "".join(f'[[harbour.berth]]\nname = "{name}"\n' for name in "abc")
        self.assertEqual(self.mistakes(three), ["edge.toml:5: there are too many"])

    def test_aTableWhereManyAreMeant(self) -> None:
        self.assertEqual(
            self.mistakes('[harbour.berth]\nname = "a"\n'),
            ["edge.toml:1: harbour.berth must be an array of tables, [[harbour.berth]]"],
        )


class RecordTests(SynchronousTestCase):
    """
    Records made by a program are checked as those of a file.
    """

    def test_recordsCheckTheirBounds(self) -> None:
        for wrong in (
            lambda: records.EdgeConfig(drainSeconds=-1),
            lambda: records.EdgeConfig(domain="Example.net"),
            lambda: records.EdgeConfig(trustedProxies=("10.0.0.1/8",)),
            lambda: records.EdgeConfig(forwardedBy="rfc7239"),
            lambda: records.ServiceConfig(name="-a", target="1"),
            lambda: records.ServiceConfig(name="a" * 64, target="1"),
            lambda: records.ServiceConfig(name="a", target=""),
            lambda: records.EdgeAddress(url="ftp://localhost:8080"),
            lambda: records.EdgeAddress(url="http://a:b@c"),
            lambda: records.EdgeAddress(url="http://a:99999"),
            lambda: records.TokenRecord(name="a", tokenSha256="00"),
        ):
            self.assertRaises(ConfigurationError, wrong)

    def test_theMessageNamesTheKey(self) -> None:
        with self.assertRaises(ConfigurationError) as caught:
            records.Limits(headSeconds=0)
        self.assertEqual(str(caught.exception), "head_seconds must be from 0.1 to 3600, not 0")

    def test_aTokenIsNotShown(self) -> None:
        self.assertNotIn("hidden", repr(records.EdgeAddress(url="http://a", token="hidden")))

    def test_everySettingOfAFileSaysWhatItIs(self) -> None:
        for sections in (reader.EDGE_SECTIONS, reader.AGENT_SECTIONS):
            for record, _ in sections.values():
                for attribute in fields(record):
                    if attribute.metadata["inFile"]:
                        self.assertTrue(attribute.metadata["says"], attribute.name)
                        self.assertEqual(keyOf(attribute.name), keyOf(attribute.name).lower())


VALUES = st.recursive(
    st.sampled_from(['"a"', "'b # [c]'", "1", "true", '"""\nx = 1\n[y]\n"""', "'''\n\"\n'''", '"\\"["', "1979-05-27"]),
    lambda inner: st.lists(inner, max_size=3).map(lambda items: "[\n  " + ",\n  # it's [\n".join(items) + "\n]"),
    max_leaves=5,
)


class LinesTests(SynchronousTestCase):
    """
    The places of keys.
    """

    def test_keysAndTablesHaveLines(self) -> None:
        lines = LineIndex(AGENT)
        self.assertEqual(lines.lineOf(("agent", "give_up_after_seconds")), 2)
        self.assertEqual(lines.lineOf(("edge", 0, "token_file")), 6)
        self.assertEqual(lines.lineOf(("service", 1)), 13)
        self.assertEqual(lines.lineOf(("service", 1, "target")), 16)

    def test_whatHasNoPlaceIsAtWhatHoldsIt(self) -> None:
        self.assertEqual(LineIndex("a = 1\n[b]\nc = [\n1,\n2]\n").lineOf(("b", "c", 1)), 3)
        self.assertEqual(LineIndex("a = 1\n").lineOf(("z",)), 1)

    @given(st.lists(VALUES, min_size=1, max_size=6))
    def test_whateverAValueSpans(self, values: list[str]) -> None:
        text, places = "# a comment with = and [brackets]\n", {}
        for index, value in enumerate(values):
            places[f"key{index}"] = text.count("\n") + 1
            text += f"key{index} = {value}  # it's \"here\"\n"
        self.assertEqual(set(tomllib.loads(text)), set(places))
        lines = LineIndex(text)
        self.assertEqual({key: lines.lineOf((key,)) for key in places}, places)

    @given(st.text(alphabet="[]{}\"'=#.\n ab\\", max_size=60))
    def test_anyTextHasLines(self, text: str) -> None:
        self.assertGreaterEqual(LineIndex(text).lineOf(("a",)), 1)
