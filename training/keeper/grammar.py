"""Writes many phrasings in one line, so that a person can read and correct them.

`{a|b|}` chooses one alternative (an empty one leaves the words out), alternatives may nest, and
`$name` stands for a list of the file `facts/_words.yaml`. Pure: randomness is passed in.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

DEPTH_MAX = 8

_NAME = re.compile(r"\$([a-z_]+)")


@dataclass(frozen=True)
class Choice:
    """Alternatives, each one a sequence of literal text and further choices."""

    alternatives: tuple[tuple["str | Choice", ...], ...]


def parse(text: str, words: dict[str, list[str]] | None = None) -> Choice:
    """Parses one line of the grammar. ValueError names what is wrong with it."""
    text = _inline(text, words or {}, 0)
    alternatives, end = _alternatives(text, 0)
    if end != len(text):
        raise ValueError(f"a closing brace too many at {end}: {text!r}")
    return Choice(tuple(alternatives))


def _inline(text: str, words: dict[str, list[str]], depth: int) -> str:
    if depth > DEPTH_MAX:
        raise ValueError(f"words that contain each other: {text!r}")

    def replace(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in words:
            raise ValueError(f"no word list ${name}: {text!r}")
        return "{" + _inline("|".join(words[name]), words, depth + 1) + "}"

    return _NAME.sub(replace, text)


def _alternatives(text: str, at: int) -> tuple[list[tuple[str | Choice, ...]], int]:
    alternatives: list[tuple[str | Choice, ...]] = []
    sequence: list[str | Choice] = []
    literal = ""
    while at < len(text) and text[at] != "}":
        character = text[at]
        if character == "{":
            inner, end = _alternatives(text, at + 1)
            if end >= len(text):
                raise ValueError(f"an opening brace without its end: {text!r}")
            sequence += [literal, Choice(tuple(inner))]
            literal = ""
            at = end + 1
        elif character == "|":
            alternatives.append((*sequence, literal))
            sequence, literal = [], ""
            at += 1
        else:
            literal += character
            at += 1
    alternatives.append((*sequence, literal))
    return alternatives, at


def expand(choice: Choice, rng: random.Random) -> str:
    """One phrasing, with the spaces that empty alternatives leave behind removed."""
    return re.sub(r"\s+([?.!,])", r"\1", re.sub(r"\s+", " ", _expand(choice, rng))).strip()


def _expand(choice: Choice, rng: random.Random) -> str:
    parts = choice.alternatives[rng.randrange(len(choice.alternatives))]
    return "".join(part if isinstance(part, str) else _expand(part, rng) for part in parts)


def count(choice: Choice) -> int:
    """How many phrasings a line stands for (repetitions counted)."""
    total = 0
    for parts in choice.alternatives:
        product = 1
        for part in parts:
            product *= 1 if isinstance(part, str) else count(part)
        total += product
    return total
