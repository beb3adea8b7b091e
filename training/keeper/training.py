"""The training loop: seeded, resumable, and on the record.

Every row depends on the seed and the step only, so an interrupted run that goes on from its
checkpoint sees what it would have seen.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Callable

import torch

from .batches import Mix, Row, collate, pad_id
from .model import Keeper
from .optimiser import optimisers
from .tokens import Codec

CHECKPOINT_SECONDS = 60
LOG_STEPS = 10
GROUP_ROWS = 10


@dataclass(frozen=True)
class Part:
    """A stretch of the training, from step `start` to the next part or the end."""

    start: int = 0
    wider: bool = False
    """With the phrasings of `facts/wider`."""
    mix: Mix = Mix()
    hardest: int = 0
    """Only so many of the short rows are learned from, those with the largest loss; 0: all. Looking at a row costs a
    third of learning from it, and most rows are known by then."""


@dataclass(frozen=True)
class Recipe:
    schedule: tuple[tuple[int, float], ...] = ((-1, 0.0), (24, 3.5e-3), (450, 3.5e-3), (580, 3.136e-3), (748, 2.404e-3), (1047, 1.302e-3), (1067, 1.1e-3), (1191, 0.827e-3), (1442, 0.308e-3), (1452, 5.5e-4), (1567, 4.06e-4), (1747, 0.0), (1757, 1.8e-3), (2350, 1.371e-3), (2360, 1.6e-3), (3000, 1.3e-3), (3800, 0.0), (3806, 1.2e-3), (4010, 0.0), (4018, 1.4e-3), (4900, 0.0), (4908, 1.2e-3), (5060, 0.73e-3), (5070, 1.1e-3), (5400, 0.0), (5406, 1.1e-3), (5640, 0.0))
    """(step, learning rate) pairs with straight lines between them; the last one is the end."""
    seed: int = 1
    weight_decay: float = 0.05
    dropout: float = 0.0
    clip: float = 1.0
    parts: tuple[Part, ...] = (Part(), Part(748, True, Mix(short_rows=40, full_rows=8, context_rows=2)), Part(1047, True, Mix(short_rows=48, full_rows=6, context_rows=2)), Part(1191, True, Mix(short_rows=120, full_rows=5, context_rows=2), 36), Part(1442, True, Mix(short_rows=140, full_rows=5, context_rows=2, off_topic=0.36, off_topic_full=0.12), 40), Part(1747, True, Mix(short_rows=140, full_rows=4, context_rows=2, off_topic=0.32, off_topic_full=0.12), 40), Part(3800, True, Mix(short_rows=140, full_rows=3, context_rows=1, off_topic=0.42, off_topic_full=0.2), 40), Part(4010, True, Mix(short_rows=150, full_rows=3, context_rows=1, off_topic=0.38, off_topic_full=0.2), 44), Part(4900, True, Mix(short_rows=160, full_rows=3, context_rows=1, off_topic=0.44, off_topic_full=0.2), 44), Part(5400, True, Mix(short_rows=180, full_rows=3, context_rows=1, off_topic=0.52, off_topic_full=0.25), 44))

    kept_step: int = 5400
    """The weights before this step are kept: what is shipped lies between them and the last ones (training/train.py)."""
    last_share: float = 0.7

    @property
    def steps(self) -> int:
        return self.schedule[-1][0]

    def part(self, step: int) -> Part:
        return max((part for part in self.parts if part.start <= step), key=lambda part: part.start)

    def rate(self, step: int) -> float:
        for (start, low), (end, high) in zip(self.schedule, self.schedule[1:]):
            if start <= step < end:
                return low + (high - low) * (step - start) / (end - start)
        raise ValueError(f"no learning rate for step {step}")


RowsOfStep = Callable[[int], tuple[list[Row], list[Row], list[Row]]]
def hardest_rows(model: Keeper, rows: list[Row], count: int, pad: int) -> tuple[list[Row], float]:
    """The `count` rows with the largest loss, and the mean loss of a token of all of them."""
    by_length = sorted(rows, key=lambda row: len(row[0]))
    losses: list[float] = []
    for i in range(0, len(by_length), GROUP_ROWS):
        losses += model.row_losses(*collate(by_length[i : i + GROUP_ROWS], pad)).tolist()
    order = sorted(range(len(losses)), key=lambda i: -losses[i])
    tokens = sum(len(ids) - start for ids, start in rows)
    return [by_length[i] for i in order[:count]], sum(losses) / tokens


KINDS = ("think_loss", "answer_loss", "context_loss")


def train(model: Keeper, codec: Codec, rows: RowsOfStep, recipe: Recipe, folder: Path, label: str, teacher: Keeper | None = None) -> list[dict[str, float]]:
    """Trains in place and returns the log. A checkpoint of the same recipe in `folder` is continued.

    teacher: short and full rows are learned as this network continues them, whatever stands there.
    """
    file = folder / f"{label}.checkpoint.pt"
    optims = optimisers(model, recipe.rate(0), recipe.weight_decay)
    log: list[dict[str, float]] = []
    first = 0
    recipe_text = json.dumps(asdict(recipe), sort_keys=True)
    if file.exists():
        saved = torch.load(file, weights_only=True)
        if saved["recipe"] == recipe_text:
            model.load_state_dict(saved["model"])
            for optim, state in zip(optims, saved["optimisers"], strict=True):
                optim.load_state_dict(state)
            log, first = saved["log"], saved["step"]
            print(f"{label}: going on at step {first}", flush=True)

    def save(step: int) -> None:
        part = file.with_suffix(".part")
        states = [optim.state_dict() for optim in optims]
        torch.save({"recipe": recipe_text, "model": model.state_dict(), "optimisers": states, "log": log, "step": step}, part)
        part.replace(file)

    began = saved_at = time.monotonic()
    before = log[-1]["seconds"] if log else 0.0
    pad = pad_id(codec)
    for step in range(first, recipe.steps):
        if step == recipe.kept_step:
            torch.save(model.state_dict(), folder / f"{label}.kept.pt")
        torch.manual_seed(recipe.seed * 1_000_003 + step)
        model.train()
        for optim in optims:
            for group in optim.param_groups:
                group["lr"] = recipe.rate(step)
            optim.zero_grad(set_to_none=True)
        entry: dict[str, float] = {"step": step}
        tokens = 0
        for name, part in zip(KINDS, rows(step), strict=True):
            if not part:
                continue
            share = recipe.part(step).mix.context_weight if name == "context_loss" else 1.0
            if name == "think_loss" and recipe.part(step).hardest:
                part, seen = hardest_rows(model, part, recipe.part(step).hardest, pad)
            else:
                seen = None
            counted = sum(len(ids) - start for ids, start in part)
            summed = 0.0
            # Rows of like length together: padding costs as much as text.
            by_length = sorted(part, key=lambda row: len(row[0]))
            for group in (by_length[i : i + GROUP_ROWS] for i in range(0, len(part), GROUP_ROWS)):
                ids, weights = collate(group, pad)
                taught = teacher is not None and name != "context_loss"
                total, _ = model.loss(ids, weights, teacher.probabilities(ids, weights) if taught else None)
                (share * total / counted).backward()
                summed += total.item()
                tokens += ids.numel()
            entry[name] = summed / counted if seen is None else seen
            if seen is not None:
                entry["hardest_loss"] = summed / counted
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        for optim in optims:
            optim.step()
        now = time.monotonic()
        if step % LOG_STEPS == 0 or step == recipe.steps - 1:
            entry["seconds"] = round(before + now - began, 1)
            log.append(entry)
            losses = " ".join(f"{k} {entry[k]:.4f}" for k in (*KINDS, "hardest_loss") if k in entry)
            print(f"{label}: step {step} {losses} rows {tokens} tokens {entry['seconds']} s", flush=True)
        if now - saved_at > CHECKPOINT_SECONDS:
            save(step + 1)
            saved_at = now
    save(recipe.steps)
    model.eval()
    return log
