"""The generated task: balanced, disjoint, short, and without a shortcut."""

from __future__ import annotations

import re
from itertools import islice

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier
from tiny_tokenizer import tiny_tokenizer

from rankadapt.sources import Sources
from rankadapt.tasks.entailment import Entailment
from rankadapt.tasks.pairs import pairs


class TestEntailment:
    sample = list(islice(pairs(0), 4400))
    evaluation, train = sample[:400], sample[400:]

    def test_sizes_balance_and_determinism(self) -> None:
        task = Entailment(name="demo", primary="accuracy", batch_size=32, max_length=32)
        words = tiny_tokenizer("the")
        data, again = (task.load(words, Sources(), seed) for seed in (0, 1))
        assert (len(data.train), len(data.evaluation["validation"])) == (4000, 400)
        assert [split.labels.mean() for split in data.splits.values()] == [0.5, 0.5]
        assert data.fingerprint == again.fingerprint
        assert [split.truncated for split in data.splits.values()] == [0, 0]

    def test_no_pair_is_in_both_splits(self) -> None:
        texts = [(pair.premise, pair.hypothesis) for pair in self.sample]
        assert len(set(texts)) == len(texts)

    def test_it_is_short(self) -> None:
        longest = max(len(re.findall(r"\w+|[.,]", " ".join(pair[:2]))) for pair in self.sample)
        assert longest + 3 <= 32

    @pytest.mark.parametrize("seen", ["premise", "hypothesis", "both"])
    def test_bags_of_words_are_near_chance(self, seen: str) -> None:
        def texts(chosen: list) -> list[str]:
            if seen == "both":
                return [f"{pair.premise} {pair.hypothesis}" for pair in chosen]
            return [getattr(pair, seen) for pair in chosen]

        counts = CountVectorizer().fit(texts(self.train))
        model = LogisticRegression(max_iter=1000)
        model.fit(counts.transform(texts(self.train)), [pair.entails for pair in self.train])
        guess = model.predict(counts.transform(texts(self.evaluation)))
        assert np.mean(guess == [pair.entails for pair in self.evaluation]) < 0.65

    def test_overlap_and_length_are_near_chance(self) -> None:
        def features(chosen: list) -> np.ndarray:
            return np.array([overlap(pair.premise, pair.hypothesis) for pair in chosen])

        tree = DecisionTreeClassifier(max_depth=6, random_state=0)
        tree.fit(features(self.train), [pair.entails for pair in self.train])
        score = tree.score(features(self.evaluation), [pair.entails for pair in self.evaluation])
        assert score < 0.65


def overlap(premise: str, hypothesis: str) -> list[float]:
    first, second = (re.findall(r"\w+", text.lower()) for text in (premise, hypothesis))
    shared = sum(word in first for word in second)
    return [shared, len(second) - shared, len(first), len(second)]
