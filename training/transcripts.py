"""Prints transcripts of held-out questions drawn at random, as they are, for the model card.

    python training/transcripts.py [--work FOLDER] [--count 10] [--seed 1]
"""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from evaluate import load_model  # noqa: E402
from keeper.answering import ask  # noqa: E402
from keeper.questions import read  # noqa: E402


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--work", type=Path, default=HERE / ".work")
    arguments.add_argument("--label", default="keeper")
    arguments.add_argument("--count", type=int, default=10)
    arguments.add_argument("--seed", type=int, default=1)
    options = arguments.parse_args()
    held = read()
    entries = random.Random(options.seed).sample([*held["on_topic"], *held["off_topic"]], options.count)
    questions = [entry["question"] for entry in entries]
    for question, reply in zip(questions, ask(*load_model(options.work, options.label), questions), strict=True):
        print(f"> {question}\n{reply}\n")


if __name__ == "__main__":
    main()
