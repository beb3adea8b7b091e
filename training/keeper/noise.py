"""Makes a clean question look as people type it: casing, missing marks, typing slips, politeness.

The model has to recognise a question that was never written down; every change here is one that
keeps the meaning. Pure: randomness is passed in.
"""

from __future__ import annotations

import random
import string

BEFORE = (
    "please ", "hi, ", "hello, ", "hey, ", "hey there, ", "ok, ", "okay, ", "so, ", "um, ", "well, ",
    "quick question: ", "one question: ", "question: ", "another question: ", "sorry, ", "excuse me, ",
    "good morning, ", "i wonder, ", "just curious, ", "i'm new here. ", "i am new to this: ",
    "help! ", "and ", "but ", "now, ", "first, ", "next, ", "then ", "keeper, ", "dear keeper, ",
    "could you help me? ", "can you help? ", "i need help: ", "i am a beginner, ", "briefly: ",
    "in short, ", "in a few words: ", "simply put, ", "for my notes: ", "my boss asks: ",
    "a colleague asked me: ", "thanks! ", "great. ", "i see. ", "hmm, ", "tell me, ", "tell me please: ",
)
AFTER = (
    " please", ", please", " thanks", ", thanks", " thank you", " exactly", ", exactly", " again",
    ", in short", " in one sentence", " briefly", ", keeper", " for me", " then", " now", " here",
    ", if i may ask", " i am curious", " i don't get it", ", i forgot", " really", " in simple words",
    " in plain english", " for a beginner", ", just to be sure", " asking for a friend", " exactly?",
)
CONTEXT_BEFORE = (
    "in minikeep, ", "with minikeep, ", "for minikeep: ", "about minikeep: ", "minikeep question: ",
    "in this project, ", "here, ", "on my cluster, ", "on my stack, ", "on my macs, ",
)
CONTEXT_AFTER = (" in minikeep", " with minikeep", " of minikeep", " on my cluster", " on my stack", " in this project")
FILLERS = {"please", "just", "really", "exactly", "actually", "the", "a", "an", "do", "can", "me", "is", "of", "to"}
NEAR = {
    "a": "sq", "b": "vn", "c": "xv", "d": "sf", "e": "wr", "f": "dg", "g": "fh", "h": "gj", "i": "uo", "j": "hk",
    "k": "jl", "l": "k", "m": "n", "n": "bm", "o": "ip", "p": "o", "q": "wa", "r": "et", "s": "ad", "t": "ry",
    "u": "yi", "v": "cb", "w": "qe", "x": "zc", "y": "tu", "z": "xa",
}  # fmt: skip


def slip(word: str, rng: random.Random) -> str:
    """One typing slip inside a word of at least four letters."""
    if len(word) < 4 or not word.isalpha():
        return word
    at = rng.randrange(1, len(word) - 1)
    kind = rng.randrange(4)
    if kind == 0:
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    if kind == 1:
        return word[:at] + word[at + 1 :]
    if kind == 2:
        return word[:at] + word[at] + word[at:]
    near = NEAR.get(word[at].lower())
    return word[:at] + rng.choice(near) + word[at + 1 :] if near else word


def reworded(question: str, synonyms: dict[str, list[str]], rng: random.Random) -> str:
    """The question with at most two words replaced by others of the same meaning."""
    for _ in range(2):
        if rng.random() < 0.3:
            words = question.split(" ")
            at = [i for i, word in enumerate(words) if word.lower().rstrip("?.!,") in synonyms]
            if at:
                i = rng.choice(at)
                word = words[i].lower().rstrip("?.!,")
                words[i] = rng.choice(synonyms[word]) + words[i][len(word) :]
                question = " ".join(words)
    return question


def wrap(question: str, rng: random.Random, about_minikeep: bool) -> str:
    """Adds what people put around a question."""
    end = question[-1] if question[-1:] in "?.!" else ""
    body = question[: len(question) - len(end)]
    if about_minikeep and rng.random() < 0.12 and "minikeep" not in body.lower():
        if rng.random() < 0.5:
            body = rng.choice(CONTEXT_BEFORE) + _uncapital(body)
        else:
            body += rng.choice(CONTEXT_AFTER)
    if rng.random() < 0.2:
        body = rng.choice(BEFORE) + _uncapital(body)
    if rng.random() < 0.12:
        body += rng.choice(AFTER)
    return (body + end).replace("??", "?")


def _uncapital(text: str) -> str:
    return text[:1].lower() + text[1:] if text[1:2].islower() or text[1:2] == " " else text


def noisy(question: str, rng: random.Random) -> str:
    """The same question with casing, punctuation and spelling as they come."""
    words = question.split(" ")
    if len(words) > 4 and rng.random() < 0.12:
        droppable = [i for i, word in enumerate(words) if word.lower() in FILLERS]
        if droppable:
            del words[rng.choice(droppable)]
    if rng.random() < 0.16:
        at = rng.randrange(len(words))
        words[at] = slip(words[at], rng)
    text = " ".join(words)
    roll = rng.random()
    if roll < 0.35:
        text = text.lower()
    elif roll < 0.38:
        text = text.upper()
    elif roll < 0.75:
        text = text[:1].upper() + text[1:]
    if rng.random() < 0.35:
        text = text.rstrip("?.!")
    elif rng.random() < 0.06:
        text = text.rstrip("?.!") + rng.choice(("??", "!", "...", " ?", "?!", "."))
    if rng.random() < 0.2:
        text = text.replace("'", "").replace(",", "")
    return text.strip() or question


def pseudoword(rng: random.Random) -> str:
    """A word that means nothing: what is unknown has to be declined, not guessed."""
    starts = ("b", "br", "d", "dr", "f", "fl", "g", "gr", "k", "l", "m", "n", "p", "pl", "r", "s", "sn", "t", "tr", "v", "z", "")
    ends = ("", "n", "r", "l", "m", "x", "ck", "st", "nd", "ble", "g", "t", "sh")
    word = "".join(rng.choice(starts) + rng.choice("aeiou") for _ in range(rng.randint(2, 3))) + rng.choice(ends)
    return word.capitalize() if rng.random() < 0.3 else word


def normal_form(text: str) -> str:
    """What two questions have in common when only marks, casing and spaces differ."""
    kept = "".join(c for c in text.lower() if c not in string.punctuation or c in "._")
    return " ".join(kept.rstrip(".").split())
