"""Greedy answers from the network in PyTorch, many questions at a time."""

from __future__ import annotations

from collections import defaultdict

import torch

from .batches import prompt_ids
from .model import Keeper
from .tokens import END, THOUGHT, USER, Codec

ANSWER_TOKENS_MAX = 160
ROWS_MAX = 64


@torch.inference_mode()
def generate(model: Keeper, codec: Codec, prompts: list[list[int]], tokens_max: int = ANSWER_TOKENS_MAX) -> list[list[int]]:
    """Token ids up to and without the end mark. Prompts of equal length share a batch."""
    by_length: dict[int, list[int]] = defaultdict(list)
    for i, prompt in enumerate(prompts):
        by_length[len(prompt)].append(i)
    answers: list[list[int]] = [[] for _ in prompts]
    for length, members in by_length.items():
        for start in range(0, len(members), ROWS_MAX):
            group = members[start : start + ROWS_MAX]
            ids = torch.tensor([prompts[i] for i in group])
            caches: list[list[torch.Tensor]] = [[] for _ in range(model.shape.layers)]
            position, open_rows = 0, set(range(len(group)))
            for _ in range(tokens_max):
                rows = model.rows(ids, caches, position)
                position += ids.shape[1]
                ids = (rows[:, -1] @ model.token_embd.weight.T).argmax(-1, keepdim=True)
                for row in list(open_rows):
                    token = int(ids[row, 0])
                    if token == codec.id[END]:
                        open_rows.discard(row)
                    else:
                        answers[group[row]].append(token)
                if not open_rows or position >= model.shape.context:
                    break
    return answers


def ask(model: Keeper, codec: Codec, questions: list[str], before: list[tuple[str, str]] | None = None) -> list[str]:
    """The whole reply to each question, thought included."""
    prompts = [prompt_ids(codec, [*(before or []), (USER, question)]) for question in questions]
    return [codec.decode(ids) for ids in generate(model, codec, prompts)]


def answer_of(reply: str) -> str:
    return reply.split(THOUGHT)[-1].strip()
