"""Generated pairs of English sentences: a premise, and a hypothesis that follows from it or not.

A pair is made from its hypothesis, which is drawn without regard to the label: the hypothesis alone
says nothing of it. In each kind of pair both labels have the same forms of sentence and the same
number of shared words, so counting words says nothing either; what is left is to read.
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
LIVING = ("animal", "dog", "bird", "person", "child")
AGENTS = ("doctor", "teacher", "farmer", "soldier", "artist", "boy", "girl", "poodle", "horse", "crow")
VERBS = ("chased", "followed", "helped", "found", "watched", "passed", "touched", "painted")
COLOURS = ("red", "blue", "green", "black", "white", "yellow", "brown", "grey")
PLACES = ("in the park", "near the river", "at night", "last week", "after lunch", "in the snow")
ROOMS = ("room", "hall", "shop", "church", "kitchen", "school", "museum", "cellar")
# Two words for a state, and two for its opposite.
STATES = (
    (("open", "unlocked"), ("closed", "shut")),
    (("wet", "damp"), ("dry", "waterless")),
    (("hot", "boiling"), ("cold", "icy")),
    (("big", "huge"), ("small", "tiny")),
    (("full", "crowded"), ("empty", "vacant")),
    (("clean", "spotless"), ("dirty", "filthy")),
    (("loud", "noisy"), ("quiet", "silent")),
    (("bright", "sunny"), ("dark", "gloomy")),
    (("new", "modern"), ("old", "ancient")),
)
COUNTED = ("apples", "books", "cups", "letters", "coins", "chairs", "bottles", "roses")
GOT = ("bought", "sold", "counted", "lost", "carried", "received")
NUMBERS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven")


class Pair(NamedTuple):
    """``entails``: whether the hypothesis follows from the premise."""

    premise: str
    hypothesis: str
    entails: bool


def pairs(seed: int) -> Iterator[Pair]:
    """Pairs without repetition, the labels in turn, the kinds in the shares of :data:`KINDS`."""
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


def patient_is_a(rng: Random, entails: bool) -> tuple[str, str]:
    """A poodle is a dog and an animal; a truck is neither."""
    noun, given = _noun_and_premise(rng, entails, tuple(LEXICON))
    agent, verb = rng.choice(AGENTS), rng.choice(VERBS)
    premise = _voice(rng)(agent, verb, f"{_colour(rng)}{given}") + _place(rng)
    return premise, _voice(rng)(agent, verb, noun)


def agent_is_a(rng: Random, entails: bool) -> tuple[str, str]:
    """The same of the one that acts."""
    noun, given = _noun_and_premise(rng, entails, LIVING)
    patient, verb = rng.choice(NOUNS), rng.choice(VERBS)
    premise = _voice(rng)(f"{_colour(rng)}{given}", verb, patient) + _place(rng)
    return premise, _voice(rng)(noun, verb, patient)


def roles(rng: Random, entails: bool) -> tuple[str, str]:
    """Who did it to whom, in the active and in the passive voice."""
    agent, patient = rng.sample(AGENTS, 2)
    verb = rng.choice(VERBS)
    given = (agent, verb, patient) if entails else (patient, verb, agent)
    return _voice(rng)(*given) + _place(rng), _voice(rng)(agent, verb, patient)


def opposites(rng: Random, entails: bool) -> tuple[str, str]:
    """What is not closed is open; what is closed, or is not unlocked, is not."""
    here, there = rng.sample(rng.choice(STATES), 2)
    state, synonym = rng.sample(here, 2)
    negated = rng.random() < 0.5
    # A negated premise entails the state when it denies the opposite, a plain one when it means the same.
    word = rng.choice(there) if negated == entails else synonym
    room = rng.choice(ROOMS)
    return f"the {room} was {'not ' if negated else ''}{word}{_place(rng)}", f"the {room} was {state}"


def numbers(rng: Random, entails: bool) -> tuple[str, str]:
    """Seven are more than five."""
    limit = rng.randrange(2, len(NUMBERS) - 2)
    more = rng.random() < 0.5
    found = rng.randrange(limit + 1, len(NUMBERS)) if entails == more else rng.randrange(limit)
    agent, verb, things = rng.choice(AGENTS), rng.choice(GOT), rng.choice(COUNTED)
    premise = f"the {agent} {verb} {NUMBERS[found]} {_colour(rng)}{things}{_place(rng)}"
    compared = f"{'more' if more else 'fewer'} than {NUMBERS[limit]}"
    return premise, f"the {agent} {verb} {compared} {things}"


def _noun_and_premise(rng: Random, entails: bool, categories: tuple[str, ...]) -> tuple[str, str]:
    """The hypothesis's noun, and one for the premise: below it, or (for a refutation) below another.

    Both are drawn in the same way, so that the premise's noun alone says next to nothing either.
    """
    noun = rng.choice(categories)
    below = members(noun)
    if entails:
        return noun, rng.choice(below)
    elsewhere = [[name for name in members(other) if name not in (noun, *below)] for other in categories]
    return noun, rng.choice(rng.choice([names for names in elsewhere if names]))


def _active(agent: str, verb: str, patient: str) -> str:
    return f"the {agent} {verb} the {patient}"


def _passive(agent: str, verb: str, patient: str) -> str:
    return f"the {patient} was {verb} by the {agent}"


def _voice(rng: Random) -> Callable[[str, str, str], str]:
    return _passive if rng.random() < 0.2 else _active


def _colour(rng: Random) -> str:
    return f"{rng.choice(COLOURS)} " if rng.random() < 0.3 else ""


def _place(rng: Random) -> str:
    return f" {rng.choice(PLACES)}" if rng.random() < 0.5 else ""


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}."


NOUNS = sorted({*LEXICON, *(name for category in LEXICON for name in members(category))})
# Kinds of pairs, as often as they are named: mostly words' meanings, which a small model takes up in
# some hundred steps; the rest is harder and keeps the task from being solved.
KINDS = (*(patient_is_a, agent_is_a) * 8, opposites, numbers, opposites, roles)
