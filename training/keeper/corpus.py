"""Turns the facts of this folder into questions, thoughts and answers, for training and for tests.

Pure apart from reading the files: every draw takes its own random generator, so that sample n of a
seed is always the same, whatever was drawn before.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from pathlib import Path

import yaml

from .grammar import Choice, count, expand, parse
from .noise import noisy, normal_form, pseudoword, reworded, wrap

FACTS = Path(__file__).resolve().parent.parent / "facts"
WIDER = FACTS / "wider"
NATURAL_WEIGHT = 2.0
"""Of a line of `facts/wider/_offtopic_natural.txt`, which stands for itself only; a line of the grammar has up to 20."""
FRAMES = ("what", "whats", "how", "fix", "why", "ask")
OFF_TOPIC = "offtopic"
ANSWER_CHARACTERS_MAX = 420


@dataclass(frozen=True)
class Topic:
    id: str
    think: tuple[str, ...]
    answers: tuple[str, ...]
    phrases: tuple[tuple[str, Choice], ...]
    """(frame, phrase) pairs; a phrase is put into one of the frame's sentences."""
    weights: tuple[float, ...]


@dataclass(frozen=True)
class Sample:
    topic: str
    question: str
    think: str
    answer: str


class Corpus:
    def __init__(self, facts: Path = FACTS, held_out: set[str] | None = None, wider: Path | None = None) -> None:
        """held_out: normal forms of questions that training must never contain.

        wider: a folder with more phrasings, sentences and synonyms for the same topics.
        """
        words = yaml.safe_load((facts / "_words.yaml").read_text())
        frames = yaml.safe_load((facts / "_frames.yaml").read_text())
        self.held_out = held_out or set()
        more = _wider(wider)
        self.synonyms: dict[str, list[str]] = more["synonyms"]
        self.frames = {name: [parse(line, words) for line in [*frames[name], *more["frames"].get(name, [])]] for name in FRAMES}
        self.topics: list[Topic] = []
        for file in sorted(facts.glob("[0-9]*.yaml")):
            for entry in yaml.safe_load(file.read_text()):
                self.topics.append(_topic(entry, words, more["phrases"].pop(entry["id"], {})))
        if more["phrases"]:
            raise ValueError(f"more phrasings of no topic: {sorted(more['phrases'])}")
        ids = [topic.id for topic in self.topics]
        if len(set(ids)) != len(ids):
            raise ValueError(f"a topic twice: {sorted(i for i in ids if ids.count(i) > 1)}")
        off = yaml.safe_load((facts / "_offtopic.yaml").read_text())
        off["words"] |= more["off_topic"]["words"]
        questions = [parse(line, off["words"]) for line in [*off["questions"], *more["off_topic"]["questions"]]]
        weights = tuple(min(400.0, count(q)) ** 0.5 for q in questions) + (NATURAL_WEIGHT,) * len(more["natural"])
        questions += [parse(line) for line in more["natural"]]
        self.off_topic = Topic(
            OFF_TOPIC, tuple(off["think"]), tuple(off["answer"]), tuple(("ask", q) for q in questions), weights
        )
        self.by_id = {topic.id: topic for topic in (*self.topics, self.off_topic)}
        self._topic_weights = [sum(t.weights) ** 0.5 for t in self.topics]

    def draw(self, rng: random.Random, off_topic_share: float) -> Sample:
        """One question as somebody might type it, never one that is held out."""
        if rng.random() < off_topic_share:
            return self.draw_of(self.off_topic, rng)
        return self.draw_of(rng.choices(self.topics, self._topic_weights)[0], rng)

    def draw_of(self, topic: Topic, rng: random.Random) -> Sample:
        while True:
            question = self.question(topic, rng)
            if question and normal_form(question) not in self.held_out:
                return Sample(topic.id, question, rng.choice(topic.think), rng.choice(topic.answers))

    def topic_in_turn(self, n: int, seed: int) -> Topic:
        """The n-th topic of an endless round through all of them, shuffled anew each time."""
        order = list(range(len(self.topics)))
        random.Random(f"{seed}:round:{n // len(order)}").shuffle(order)
        return self.topics[order[n % len(order)]]

    def clean(self, topic: Topic, rng: random.Random) -> str:
        frame, phrase = rng.choices(topic.phrases, topic.weights)[0]
        text = expand(phrase, rng)
        if topic.id != OFF_TOPIC:
            sentence = expand(rng.choice(self.frames[frame]), rng)
            text = re.sub(r"\bX\b", lambda _: text, sentence)
        while "~" in text:
            text = text.replace("~", pseudoword(rng).lower() if "." in text else pseudoword(rng), 1)
        return text

    def question(self, topic: Topic, rng: random.Random) -> str:
        text = self.clean(topic, rng)
        if self.synonyms:
            text = reworded(text, self.synonyms, rng)
        return noisy(wrap(text, rng, topic.id != OFF_TOPIC), rng)

    def texts(self, rng: random.Random, questions: int) -> list[str]:
        """What the tokenizer learns from: answers and thoughts often, questions as they come."""
        texts = [text for t in self.by_id.values() for text in (*t.think, *t.answers) for _ in range(8)]
        return texts + [self.draw(rng, 0.3).question for _ in range(questions)]


def _wider(folder: Path | None) -> dict[str, dict]:
    """What `facts/wider` adds; nothing without a folder."""
    if folder is None:
        return {"frames": {}, "synonyms": {}, "phrases": {}, "off_topic": {"words": {}, "questions": []}, "natural": []}
    phrases: dict[str, dict[str, list[str]]] = {}
    for file in sorted(folder.glob("[0-9]*.yaml")):
        for name, frames in yaml.safe_load(file.read_text()).items():
            for frame, lines in frames.items():
                found = lines.strip().splitlines() if isinstance(lines, str) else lines
                phrases.setdefault(name, {}).setdefault(frame, []).extend(found)
    rest = {name: yaml.safe_load((folder / f"_{name}.yaml").read_text()) for name in ("frames", "synonyms")}
    off_topic = yaml.safe_load((folder / "_offtopic.yaml").read_text())
    natural = (folder / "_offtopic_natural.txt").read_text().splitlines()
    return {**rest, "phrases": phrases, "off_topic": off_topic, "natural": natural}


def _topic(entry: dict[str, object], words: dict[str, list[str]], more: dict[str, object]) -> Topic:
    unknown = set(entry) | set(more)
    unknown -= {"id", "think", "answer", *FRAMES}
    if unknown:
        raise ValueError(f"{entry.get('id')}: unknown fields {unknown}")
    phrases: list[tuple[str, Choice]] = []
    for frame in FRAMES:
        for source in (entry, more):
            lines = source.get(frame, [])
            lines = lines.strip().splitlines() if isinstance(lines, str) else lines
            phrases += [(frame, parse(str(line).strip(), words)) for line in lines]
    answers = _texts(entry["answer"])
    for answer in answers:
        if len(answer) > ANSWER_CHARACTERS_MAX or not answer.rstrip().endswith((".", "?", "!", "-.")):
            raise ValueError(f"{entry['id']}: an answer is one to four whole sentences: {answer!r}")
    weights = tuple(min(60.0, count(phrase)) ** 0.5 for _, phrase in phrases)
    return Topic(str(entry["id"]), _texts(entry["think"]), answers, tuple(phrases), weights)


def _texts(value: object) -> tuple[str, ...]:
    return tuple(str(v).strip() for v in value) if isinstance(value, list) else (str(value).strip(),)
