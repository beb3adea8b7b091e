"""The questions of `heldout.json`, which training never sees, and the rule by which an answer passes."""

from __future__ import annotations

import json
from pathlib import Path

from .noise import normal_form

FOLDER = Path(__file__).resolve().parent.parent


def read() -> dict[str, object]:
    """`rules` by name, `on_topic` (question and its rule's name) and `off_topic` (question)."""
    return json.loads((FOLDER / "heldout.json").read_text())


def held_out_forms() -> set[str]:
    """Normal forms of every question that training must not contain."""
    return {
        normal_form(entry["question"])
        for part in ("on_topic", "off_topic")
        for entry in read()[part]
    }


def passes(answer: str, rule: dict[str, list]) -> bool:
    """One of each required group is named, and none of the forbidden texts (casing aside)."""
    text = answer.lower()
    return all(any(fact.lower() in text for fact in group) for group in rule["required"]) and not any(
        fact.lower() in text for fact in rule["forbidden"]
    )
