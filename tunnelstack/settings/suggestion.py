"""
The most similar word to a misspelt one.
"""

from __future__ import annotations

from collections.abc import Iterable

SIMILARITY = 0.5
"""From 0 to 1, see C{difflib.get_close_matches}."""


def closest(word: str, known: Iterable[str]) -> str:
    """
    @return: the known word that is most similar; C{""} if none is similar.
    """
    from difflib import get_close_matches  # hardly any program makes a mistake

    words = {each.lower(): each for each in known}
    found = get_close_matches(word.lower(), words, 1, SIMILARITY)
    return words[found[0]] if found else ""


def didYouMean(word: str, known: Iterable[str]) -> str:
    """
    @return: the end of a sentence that offers the most similar word, or C{""}.
    """
    found = closest(word, known)
    return f"; did you mean {found}?" if found else ""


def nearest(word: str, known: Iterable[str]) -> str:
    """
    @return: a sentence that offers the most similar word, or else all of them.
    """
    choices = list(known)
    found = closest(word, choices)
    return f"did you mean {found}?" if found else f"there are {', '.join(choices)}"
