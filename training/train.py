"""Makes models/keeper.gguf from the text in this folder. See README.md.

    python training/train.py [--out models] [--work FOLDER] [--threads 2]
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from pathlib import Path

import torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from keeper import quantised  # noqa: E402
from keeper.batches import Rows, rows_of_step  # noqa: E402
from keeper.chart import loss_curve  # noqa: E402
from keeper.corpus import WIDER, Corpus  # noqa: E402
from keeper.model import Keeper, Shape  # noqa: E402
from keeper.questions import held_out_forms  # noqa: E402
from keeper.tokens import Codec, load, train as train_tokenizer  # noqa: E402
from keeper.training import Recipe, train  # noqa: E402

TOKENIZER_QUESTIONS = 20_000


def averaged(before: dict[str, torch.Tensor], last: dict[str, torch.Tensor], share: float) -> dict[str, torch.Tensor]:
    """Weights between two moments of one training: they forget less of what the last stretch did not show."""
    return {name: weights * share + before[name] * (1 - share) if weights.is_floating_point() else weights for name, weights in last.items()}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--out", type=Path, default=HERE.parent / "models")
    arguments.add_argument("--work", type=Path, default=HERE / ".work", help="checkpoints; a run goes on from them")
    arguments.add_argument("--threads", type=int, default=2)
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    torch.use_deterministic_algorithms(True)
    options.work.mkdir(parents=True, exist_ok=True)

    corpus = Corpus(held_out=held_out_forms())
    wider = Corpus(held_out=held_out_forms(), wider=WIDER)
    recipe, shape = Recipe(), Shape()
    file = options.work / "tokenizer.json"
    if not file.exists():
        texts = corpus.texts(random.Random(recipe.seed), TOKENIZER_QUESTIONS)
        train_tokenizer(texts, shape.vocabulary).save(str(file))
    codec = Codec(load(file))
    torch.manual_seed(recipe.seed)
    model = Keeper(shape, recipe.dropout)
    print(f"{sum(p.numel() for p in model.parameters())} parameters, {len(corpus.topics)} topics", flush=True)

    def rows(step: int) -> Rows:
        part = recipe.part(step)
        return rows_of_step(wider if part.wider else corpus, codec, recipe.seed, step, part.mix)

    began = time.monotonic()
    log = train(model, codec, rows, recipe, options.work, "keeper")
    model.load_state_dict(averaged(torch.load(options.work / "keeper.kept.pt", weights_only=True), model.state_dict(), recipe.last_share))
    torch.save(model.state_dict(), options.work / "keeper.pt")
    options.out.mkdir(parents=True, exist_ok=True)
    quantised.write(
        model,
        codec,
        str(options.out / "keeper.gguf"),
        name="keeper",
        description="Answers questions about minikeep. Trained from scratch on text written for it.",
        version="1",
    )
    (options.out / "keeper.loss.svg").write_text(loss_curve(log, "keeper: loss"))
    (options.out / "keeper.loss.json").write_text(json.dumps(log) + "\n")
    print(f"done in {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
