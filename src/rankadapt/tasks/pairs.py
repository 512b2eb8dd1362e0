"""Generated pairs of English sentences: a premise, and a hypothesis that follows from it or not.

A pair is made from its hypothesis, which is drawn before its label is: the hypothesis alone says
nothing of the label. In each kind of pair both labels have the same number of shared words and the
same forms of sentence, so counting words says nothing either; what is left is to read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from typing import NamedTuple

# Each category with what belongs to it; a member that is a category itself has members of its own.
LEXICON: dict[str, tuple[str, ...]] = {
    "animal": ("dog", "cat", "bird", "horse", "cow", "rabbit"),
    "dog": ("poodle", "terrier", "hound"),
    "bird": ("sparrow", "eagle", "crow"),
    "person": ("doctor", "teacher", "farmer", "child", "soldier", "artist"),
    "child": ("boy", "girl", "baby"),
    "vehicle": ("car", "truck", "bus", "tractor", "van"),
    "building": ("house", "church", "school", "castle", "hotel"),
}
AGENTS = ("doctor", "teacher", "farmer", "soldier", "artist", "boy", "girl", "poodle", "horse", "crow")
VERBS = ("chased", "followed", "helped", "found", "watched", "passed", "touched", "painted")
COLOURS = ("red", "blue", "green", "black", "white", "yellow", "brown", "grey")
PLACES = ("in the park", "near the river", "at night", "last week", "after lunch", "in the snow")
COUNTED = ("apples", "books", "cups", "letters", "coins", "chairs", "bottles", "roses")
GOT = ("bought", "sold", "counted", "lost", "carried", "received")
NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


class Pair(NamedTuple):
    """``entails``: whether the hypothesis follows from the premise."""

    premise: str
    hypothesis: str
    entails: bool


def pairs(seed: int) -> Iterator[Pair]:
    """Pairs without end or repetition, the labels in turn and the kinds in turn."""
    rng = Random(seed)
    seen: set[tuple[str, str]] = set()
    while True:
        for make in KINDS:
            for entails in (True, False):
                premise, hypothesis = make(rng, entails)
                while (premise, hypothesis) in seen:
                    premise, hypothesis = make(rng, entails)
                seen.add((premise, hypothesis))
                yield Pair(_sentence(premise), _sentence(hypothesis), entails)


def members(category: str) -> list[str]:
    """Everything below a category of the lexicon, at any depth."""
    direct = LEXICON.get(category, ())
    return [*direct, *(name for member in direct for name in members(member))]


def _hypernym(rng: Random, entails: bool) -> tuple[str, str]:
    """A poodle is a dog and an animal; an animal need not be a dog, and a truck is none."""
    noun = rng.choice(list(LEXICON))
    related = members(noun)
    others = [name for name in ALL_NOUNS if name != noun and name not in related]
    agent, verb = rng.choice(AGENTS), rng.choice(VERBS)
    given = rng.choice(related if entails else others)
    form = _voice(rng)
    return form(agent, verb, given) + _place(rng), _voice(rng)(agent, verb, noun)


def _roles(rng: Random, entails: bool) -> tuple[str, str]:
    """Who did it to whom, in the active and in the passive voice."""
    agent, patient = rng.sample(AGENTS, 2)
    verb = rng.choice(VERBS)
    given = (agent, verb, patient) if entails else (patient, verb, agent)
    return _voice(rng)(*given) + _place(rng), _voice(rng)(agent, verb, patient)


def _colours(rng: Random, entails: bool) -> tuple[str, str]:
    """Two things and their colours: which has which?"""
    (first, second), (one, other) = rng.sample(ALL_NOUNS, 2), rng.sample(COLOURS, 2)
    agent, verb = rng.choice(AGENTS), rng.choice(VERBS)
    hypothesis = _voice(rng)(agent, verb, f"{one} {first}")
    phrases = [f"{one} {first}", f"{other} {second}"]
    if not entails:
        phrases = [f"{other} {first}", f"{one} {second}"]
    rng.shuffle(phrases)
    return _active(agent, verb, " and the ".join(phrases)), hypothesis


def _negation(rng: Random, entails: bool) -> tuple[str, str]:
    """What was not done, and what was done instead."""
    agent, noun = rng.choice(AGENTS), rng.choice(ALL_NOUNS)
    done, not_done = rng.sample(VERBS, 2)
    hypothesis = _voice(rng)(agent, done, noun)
    if not entails:
        done, not_done = not_done, done
    clauses = [f"was not {not_done}", f"was {done}"]
    rng.shuffle(clauses)
    return f"the {noun} {' but '.join(clauses)} by the {agent}", hypothesis


def _numbers(rng: Random, entails: bool) -> tuple[str, str]:
    """Seven are more than five."""
    limit = rng.randrange(2, len(NUMBERS) - 2)
    more = rng.random() < 0.5
    above = entails == more
    found = rng.randrange(limit + 1, len(NUMBERS)) if above else rng.randrange(limit)
    agent, verb, things = rng.choice(AGENTS), rng.choice(GOT), rng.choice(COUNTED)
    compared = f"{'more' if more else 'fewer'} than {NUMBERS[limit]}"
    things_found = things[:-1] if found == 0 else things
    premise = f"the {agent} {verb} {NUMBERS[found]} {rng.choice(COLOURS)} {things_found}"
    return premise + _place(rng), f"the {agent} {verb} {compared} {things}"


def _active(agent: str, verb: str, patient: str) -> str:
    return f"the {agent} {verb} the {patient}"


def _passive(agent: str, verb: str, patient: str) -> str:
    return f"the {patient} was {verb} by the {agent}"


def _voice(rng: Random) -> Callable[[str, str, str], str]:
    return _passive if rng.random() < 0.5 else _active


def _place(rng: Random) -> str:
    return f" {rng.choice(PLACES)}" if rng.random() < 0.5 else ""


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}."


ALL_NOUNS = sorted({*LEXICON, *(name for category in LEXICON for name in members(category))})
KINDS = (_hypernym, _roles, _colours, _negation, _numbers)
