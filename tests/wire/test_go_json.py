"""
JSON as Go writes it: the octets of C{encoding/json}, recorded with go1.26.
"""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tunnelstack.wire.go_json import encode_fields, encode_string, encode_strings

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


class StringTests(SynchronousTestCase):
    """
    Texts.
    """

    def test_textIsWrittenAsByGo(self) -> None:
        for text, written in {
            "": '""',
            "a/b'c": "\"a/b'c\"",
            '"\\': '"\\"\\\\"',
            "\n\r\t\b\f": '"\\n\\r\\t\\b\\f"',
            "\x00\x1f\x7f": '"\\u0000\\u001f\x7f"',
            "<&>": '"\\u003c\\u0026\\u003e"',
            "\u2028\u2029": '"\\u2028\\u2029"',
            "é\u0085\ufeff😀": '"é\u0085\ufeff😀"',
            "\ud83d": '"\\ufffd"',
        }.items():
            self.assertEqual(encode_string(text), written)

    @given(texts)
    def test_othersReadIt(self, text: str) -> None:
        self.assertEqual(json.loads(encode_string(text)), text)


class ObjectTests(SynchronousTestCase):
    """
    Maps and structs.
    """

    def test_keysOfAMapAreSortedByOctets(self) -> None:
        members = {"b": "1", "a": "2", "B": "3", "é": "4", "": "5", "\uffff": "6", "😀": "7"}
        self.assertEqual(encode_strings(members), '{"":"5","B":"3","a":"2","b":"1","é":"4","\uffff":"6","😀":"7"}'.encode())
        self.assertEqual(encode_strings({}), b"{}")

    def test_fieldsKeepTheirOrder(self) -> None:
        self.assertEqual(encode_fields([("b", "1"), ("a", "2")]), b'{"b":"1","a":"2"}')

    @given(st.dictionaries(texts, texts))
    def test_othersReadThem(self, members: dict[str, str]) -> None:
        octets = encode_strings(members)
        self.assertEqual(json.loads(octets), members)
        self.assertNotIn(b"\n", octets)
