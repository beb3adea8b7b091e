"""Puts samples into the token form that the network learns from.

Three kinds of rows: short ones end with the thought (they teach which question it is, the hard
part), full ones hold the whole answer, and context ones put a system prompt or earlier turns before
it. Each kind is a batch of its own, since padding would cost more than the rows. Loss is taken on
the keeper's last message only.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
from torch import Tensor

from .corpus import Corpus, Sample
from .noise import pseudoword
from .tokens import ASSISTANT, END, PAD, SYSTEM, THINK, THOUGHT, USER, Codec

ROW_TOKENS_MAX = 256

SYSTEM_PROMPTS = (
    "You are a helpful assistant.", "You are keeper.", "Answer briefly.", "You are in production.", "This is a test.",
    "You answer questions about minikeep.", "Be polite.", "Be concise and exact.", "You are a friendly assistant.",
    "Today is {date}.", "Current date: {date}", "The date is {date}. You are a helpful assistant.", "It is the year {year}.",
    "Date: {date}\nUser: {name}", "You talk to {name}.", "The user's name is {name}.", "You work for {name}.",
    "Knowledge cutoff: {year}. Current date: {date}.", "Host: node-{small}. Region: {word}.", "Answer in English.",
    "You are an assistant of {word} Ltd.", "Code word: {word}.", "Session {small}.", "The user speaks {word}.",
    "You are deployed at {word}.", "Never mention {word}.", "You have no tools.", "Think first, then answer.",
)  # fmt: skip
NAMES = ("Anna", "Ben", "Carla", "David", "Eva", "Felix", "Grace", "Hugo", "Ines", "Jan", "Kim", "Liu", "Mara", "Noah")
MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December")


@dataclass(frozen=True)
class Mix:
    """How many rows of each kind make one step, and what they contain."""

    short_rows: int = 32
    full_rows: int = 12
    context_rows: int = 3
    off_topic: float = 0.22
    off_topic_full: float = 0.08
    context_weight: float = 0.4


def system_prompt(rng: random.Random, year_max: int = 2045) -> str:
    year, month, day = rng.randint(2019, year_max), rng.randint(1, 12), rng.randint(1, 28)
    date = rng.choice(
        (f"{year}-{month:02}-{day:02}", f"{day} {MONTHS[month - 1]} {year}", f"{MONTHS[month - 1]} {day}, {year}", f"{day}.{month}.{year}")
    )
    return rng.choice(SYSTEM_PROMPTS).format(
        date=date, year=year, name=rng.choice(NAMES), small=rng.randint(1, 64), word=pseudoword(rng)
    )


def prompt_ids(codec: Codec, messages: list[tuple[str, str]]) -> list[int]:
    """What the chat template makes of (role, text) messages, up to where the keeper begins."""
    return [i for role, text in messages for i in codec.message(role, text)] + [codec.id[ASSISTANT]]


def reply_ids(codec: Codec, think: str, answer: str | None) -> list[int]:
    ids = [codec.id[THINK], *codec.text(think), codec.id[THOUGHT]]
    return ids if answer is None else [*ids, *codec.text(answer), codec.id[END]]


def context(corpus: Corpus, rng: random.Random, mix: Mix) -> list[tuple[str, str]]:
    """A system prompt, one or two earlier turns, or both."""
    kind = rng.randrange(3)
    messages = [(SYSTEM, system_prompt(rng))] if kind != 1 else []
    for _ in range(0 if kind == 0 else rng.choice((1, 1, 2))):
        before = corpus.draw(rng, mix.off_topic)
        messages += [(USER, before.question), (ASSISTANT, before.answer)]
    return messages


Row = tuple[list[int], int]
"""Token ids, and from which of them on the loss counts."""
Rows = tuple[list[Row], list[Row], list[Row]]
"""Short, full and context rows."""


def row(codec: Codec, messages: list[tuple[str, str]], sample: Sample, full: bool) -> Row:
    while True:
        prompt = prompt_ids(codec, [*messages, (USER, sample.question)])
        reply = reply_ids(codec, sample.think, sample.answer if full else None)
        if len(prompt) + len(reply) <= ROW_TOKENS_MAX or not messages:
            return prompt + reply, len(prompt)
        messages = messages[1:]


def rows_of_step(corpus: Corpus, codec: Codec, seed: int, step: int, mix: Mix) -> Rows:
    """Short, full and context rows of one step; the same seed and step give the same rows."""
    rng = random.Random(f"{seed}:{step}")
    short = [row(codec, [], corpus.draw(rng, mix.off_topic), False) for _ in range(mix.short_rows)]
    # Full rows go round all topics, so that every answer is learned equally well.
    first = step * mix.full_rows
    topics = [corpus.topic_in_turn(first + i, seed) for i in range(mix.full_rows)]
    full = [
        row(codec, [], corpus.draw(rng, 1.0) if rng.random() < mix.off_topic_full else corpus.draw_of(topic, rng), True)
        for topic in topics
    ]
    contexts = [row(codec, context(corpus, rng, mix), corpus.draw(rng, mix.off_topic), True) for _ in range(mix.context_rows)]
    return short, full, contexts


def collate(rows: list[Row], pad: int) -> tuple[Tensor, Tensor]:
    """ids and loss weights, both [rows, longest]."""
    longest = max(len(ids) for ids, _ in rows)
    ids = torch.full((len(rows), longest), pad, dtype=torch.long)
    weights = torch.zeros(len(rows), longest)
    for i, (tokens, start) in enumerate(rows):
        ids[i, : len(tokens)] = torch.tensor(tokens)
        weights[i, start : len(tokens)] = 1.0
    return ids, weights


def pad_id(codec: Codec) -> int:
    return codec.id[PAD]
