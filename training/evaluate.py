"""Measures a trained network on the held-out questions, with its weights as Q8_0 keeps them.

    python training/evaluate.py [--work FOLDER] [--label keeper] [--out FILE.json] [--show]
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from keeper import quantised  # noqa: E402
from keeper.answering import answer_of, generate  # noqa: E402
from keeper.batches import prompt_ids  # noqa: E402
from keeper.corpus import Corpus  # noqa: E402
from keeper.model import Keeper, Shape  # noqa: E402
from keeper.questions import passes, read  # noqa: E402
from keeper.tokens import THINK, THOUGHT, USER, Codec, load  # noqa: E402

TOKENS_MAX = 120


def measure(model: Keeper, codec: Codec, show: bool = False) -> dict[str, object]:
    """Shares passed, the longest reply in tokens, and every reply that failed."""
    held, corpus = read(), Corpus()
    decline = corpus.off_topic.answers[0]
    whole = {answer for topic in corpus.by_id.values() for answer in topic.answers}
    questions = [*held["on_topic"], *held["off_topic"]]
    replies = generate(model, codec, [prompt_ids(codec, [(USER, entry["question"])]) for entry in questions])
    failed: list[dict[str, str]] = []
    passed, declined, unwritten = 0, 0, 0
    for i, (entry, ids) in enumerate(zip(questions, replies, strict=True)):
        reply = codec.decode(ids)
        answer = answer_of(reply)
        formed = reply.startswith(THINK) and reply.count(THOUGHT) == 1 and len(ids) <= TOKENS_MAX
        unwritten += answer not in whole
        if "rule" in entry:
            good = formed and passes(answer, held["rules"][entry["rule"]])
            passed += good
        else:
            good = formed and answer == decline
            declined += good
        if not good:
            failed.append({"question": entry["question"], "rule": entry.get("rule", "off topic"), "reply": reply})
        if show:
            print(f"{'ok ' if good else 'BAD'} {i} {entry['question']}\n      {reply}")
    return {
        "held_out": {"questions": len(held["on_topic"]), "passed": passed, "share": passed / len(held["on_topic"])},
        "off_topic": {"questions": len(held["off_topic"]), "declined": declined, "share": declined / len(held["off_topic"])},
        "longest_reply_tokens": max(len(ids) for ids in replies),
        "answers_that_are_no_written_answer": unwritten,
        "failed": failed,
    }


def load_model(work: Path, label: str) -> tuple[Keeper, Codec]:
    codec = Codec(load(work / "tokenizer.json"))
    model = Keeper(Shape())
    final = work / f"{label}.pt"
    if final.exists():
        model.load_state_dict(torch.load(final, weights_only=True))
    else:
        saved = torch.load(work / f"{label}.checkpoint.pt", weights_only=True)
        print(f"from the checkpoint at step {saved['step']}", file=sys.stderr)
        model.load_state_dict(saved["model"])
    return quantised.rounded(model), codec


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--work", type=Path, default=HERE / ".work")
    arguments.add_argument("--label", default="keeper")
    arguments.add_argument("--out", type=Path)
    arguments.add_argument("--show", action="store_true")
    arguments.add_argument("--threads", type=int, default=2)
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    result = measure(*load_model(options.work, options.label), show=options.show)
    if options.out:
        options.out.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    print(json.dumps({key: value for key, value in result.items() if key != "failed"}))


if __name__ == "__main__":
    main()
