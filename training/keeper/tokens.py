"""The tokenizer: byte-level BPE learned from our own text, in the form that llama.cpp reads as `gpt2`.

Every one of the 256 bytes is a token, so any UTF-8 goes in and comes back. The splitting rule is
the one that llama.cpp calls `smollm`: single digits, then GPT-2's pattern.
"""

from __future__ import annotations

from pathlib import Path
from typing import Iterable

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

SYSTEM, USER, ASSISTANT, END, PAD = "<|system|>", "<|user|>", "<|keeper|>", "<|end|>", "<|pad|>"
CONTROL = (PAD, SYSTEM, USER, ASSISTANT, END)
"""Role and end marks: never produced from a user's text."""
THINK, THOUGHT = "<think>", "</think>"
PRE_TOKENIZER_NAME = "smollm"

CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- set role = message['role'] -%}"
    "{%- if role == 'system' or role == 'developer' -%}{{ '<|system|>' }}"
    "{%- elif role == 'assistant' -%}{{ '<|keeper|>' }}"
    "{%- else -%}{{ '<|user|>' }}{%- endif -%}"
    "{%- if role == 'assistant' -%}{{ (message['content'].split('</think>') | last) | trim }}"
    "{%- else -%}{{ message['content'] | trim }}{%- endif -%}"
    "{{ '<|end|>' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|keeper|>' }}{%- endif -%}"
)


def train(texts: Iterable[str], vocabulary: int) -> Tokenizer:
    """Learns the merges. Same texts in the same order give the same tokenizer."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    marks = [AddedToken(mark, special=True, normalized=False) for mark in CONTROL]
    thoughts = [AddedToken(mark, special=False, normalized=False) for mark in (THINK, THOUGHT)]
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[*marks, *thoughts],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def load(path: Path) -> Tokenizer:
    return Tokenizer.from_file(str(path))


class Codec:
    """Turns messages into token ids. Text never becomes a mark: marks are put in by id only."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.id = {mark: tokenizer.token_to_id(mark) for mark in (*CONTROL, THINK, THOUGHT)}

    def text(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def message(self, role: str, text: str) -> list[int]:
        return [self.id[role], *self.text(text.strip()), self.id[END]]

    def decode(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens=False)
