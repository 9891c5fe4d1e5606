import math
from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeport.runtimes.errors import EngineError, SourceError, UsageError
from edgeport.training.text import Word2Vec, nearest
from edgeport.training.text.corpus import Corpus, Passages, passages, read_corpus
from edgeport.training.text.lookup import Array
from edgeport.training.text.word2vec import _SHARED, Trainer, _steps

SUBJECTS = (("cat", "dog", "cow"), ("car", "bus", "train"))
VERBS = (("eats", "sleeps", "barks"), ("drives", "stops", "honks"))


def sentences(count: int = 1500) -> list[list[str]]:
    """Animals do what animals do, and vehicles what vehicles do."""
    generator = np.random.default_rng(0)
    found = []
    for kind in generator.integers(0, 2, count):
        subject, verb = generator.choice(SUBJECTS[kind]), generator.choice(VERBS[kind])
        found.append(["the", str(subject), str(verb), "now"])
    return found


def train(kind: Any, **options: Any) -> tuple[Corpus, Array, list[float]]:
    corpus = read_corpus(sentences(), 1)
    asked = Word2Vec(**{"kind": kind, "dimensions": 16, "batch": 32, "sample": 0.0, **options})
    trainer = Trainer(corpus, asked)
    costs = [trainer.epoch() for _ in range(asked.epochs)]
    return corpus, trainer.vectors, costs


@pytest.mark.parametrize("kind", ["skip-gram", "cbow"])
def test_words_in_the_same_places_are_near(kind: str) -> None:
    corpus, vectors, costs = train(kind)
    assert costs[-1] < costs[0]
    for group in SUBJECTS:
        for word in group:
            found = [near for near, _ in nearest(corpus.words, vectors, [word], count=2)]
            assert set(found) == set(group) - {word}


@pytest.mark.parametrize("kind", ["skip-gram", "cbow"])
def test_the_same_seed_gives_the_same_bits(kind: str) -> None:
    _, one, _ = train(kind, epochs=1)
    _, again, _ = train(kind, epochs=1)
    _, other, _ = train(kind, epochs=1, seed=1)
    assert one.tobytes() == again.tobytes()
    assert not np.array_equal(one, other)


def plain_cost(
    kind: str, read: torch.Tensor, guessed: torch.Tensor, words: Array, near: Array,
    against: torch.Tensor,
) -> float:  # fmt: skip
    """Pair by pair, with three words that are drawn for each."""
    soft = torch.nn.functional.softplus
    costs = []
    for passage, places in zip(words, near, strict=True):
        for centre, there in zip(passage[1:-1], places, strict=True):
            around = [passage[place] for place in np.flatnonzero(there)]
            pairs = [(read[centre], guessed[other]) for other in around]
            if kind == "cbow":
                pairs = [(read[around].mean(0), guessed[centre])] if around else []
            costs += [
                float(soft(-(query @ other)) + 3 * soft(guessed[against] @ query).mean())
                for query, other in pairs
            ]
    return float(np.mean(costs))


@pytest.mark.parametrize("kind", ["skip-gram", "cbow"])
def test_a_step_follows_the_gradient_of_its_cost(kind: Any) -> None:
    """What autograd says of the cost, times the pairs that it is a mean over."""
    corpus = read_corpus(sentences(200), 1)
    asked = Word2Vec(kind=kind, dimensions=8, negatives=3)
    trainer = Trainer(corpus, asked)
    state = trainer._state
    state.guessed.normal_(generator=torch.Generator().manual_seed(0))
    read, guessed = state.read.clone().requires_grad_(), state.guessed.clone().requires_grad_()
    words = np.array([[1, 2, 1, 4, 2], [3, 0, 5, 5, 1]])  # one more on either side of three
    near = np.zeros((2, 3, 5), bool)
    for passage, place, other in ((0, 0, 0), (0, 0, 2), (0, 1, 3), (1, 0, 0), (1, 2, 2), (1, 2, 4)):
        near[passage, place, other] = True  # nothing is around the others
    (step,) = _steps(Passages(words, near), asked)
    pairs = 6 if kind == "skip-gram" else 4
    against = torch.arange(_SHARED[kind]) % len(corpus.words)
    kept = (state.read.clone(), state.guessed.clone())
    state.read, state.guessed = read, guessed
    right, wrong, _, _ = trainer._scores(step, guessed[against])
    cost = trainer._cost(right, wrong, step) * pairs
    plain = plain_cost(kind, *kept, words, near, against)
    assert cost.item() / pairs == pytest.approx(plain, rel=1e-5)
    cost.backward()  # type: ignore[no-untyped-call]
    state.read, state.guessed = kept[0].clone(), kept[1].clone()
    told = trainer._step(step, against, 1.0, ask=True)
    assert told == pytest.approx(cost.item() / pairs)
    for before, after, gradient in (
        (kept[0], state.read, read.grad), (kept[1], state.guessed, guessed.grad)
    ):  # fmt: skip
        assert gradient is not None
        torch.testing.assert_close(before - after, gradient, rtol=1e-4, atol=1e-5)


def test_it_computes_with_one_thread_and_leaves_no_trace_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    train("skip-gram", epochs=1)
    assert asked == [1, 7]


def test_held_out_texts_are_judged() -> None:
    corpus = read_corpus(sentences(), 1)
    trainer = Trainer(corpus, Word2Vec(dimensions=16, sample=0.0, epochs=5, batch=32))
    held_out = read_corpus(sentences(100), 1, corpus.words)
    before = trainer.judge(held_out)
    for _ in range(5):
        trainer.epoch()
    after = trainer.judge(held_out)
    assert after == trainer.judge(held_out)
    assert after[0] < before[0]
    assert after[1] > before[1] + 0.1
    assert trainer.judge(read_corpus([["cat"]], 1, corpus.words)) == (0.0, 0.5)


def test_a_rate_that_is_too_large_ends_with_an_error() -> None:
    with pytest.raises(EngineError, match=r"diverged in epoch 1: the cost is nan") as caught:
        train("skip-gram", rate=1e30)
    assert "--lr than 1e+30" in caught.value.remedy


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dimensions": 0}, "dimensions is 0, expected 1 or more"),
        ({"epochs": -1}, "epochs is -1, expected 1 or more"),
        ({"kind": "glove", "rate": 1.0}, "'glove', 0.001, 1.0, 0, expected skip-gram or cbow"),
        ({"sample": 2.0}, "'skip-gram', 2.0, None, 0, expected"),
        ({"rate": 0.0}, "'skip-gram', 0.001, 0.0, 0, expected"),
        ({"rate": math.nan}, "'skip-gram', 0.001, nan, 0, expected"),
        ({"seed": -1}, "'skip-gram', 0.001, None, -1, expected"),
        ({"seed": 2**63}, "below 2\\*\\*63"),
    ],
)
def test_what_makes_no_sense(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Word2Vec(**options)


words = st.lists(st.lists(st.sampled_from("abcdefg"), max_size=9), min_size=1, max_size=5)


@given(texts=words, window=st.integers(1, 12), width=st.integers(1, 9))
@settings(max_examples=60)
def test_what_is_around_a_word_is_near_and_in_its_text(
    texts: list[list[str]], window: int, width: int
) -> None:
    texts = [["b", "a"], *texts]
    corpus = read_corpus(texts, 1)
    pairs = {
        (text[place], text[other])
        for text in texts
        for place in range(len(text))
        for other in range(max(0, place - window), min(len(text), place + window + 1))
        if other != place
    }
    found = set()
    for seed in range(8):
        for part in passages(corpus, window, width, 0.0, np.random.default_rng(seed)):
            assert part.near.shape[1:] == (width, width + 2 * window)
            for passage, place, other in np.argwhere(part.near):
                centre = part.words[passage, window + place]
                found.add((corpus.words[centre], corpus.words[part.words[passage, other]]))
    assert found <= pairs
    assert found >= {
        (text[place], text[place + 1]) for text in texts for place in range(len(text) - 1)
    }  # the next word is always near enough


@given(texts=words, width=st.integers(1, 9))
@settings(max_examples=40)
def test_a_window_of_one_has_every_pair_of_neighbours_once(
    texts: list[list[str]], width: int
) -> None:
    texts = [["b", "a"], *texts]
    corpus = read_corpus(texts, 1)
    found: Counter[tuple[str, str]] = Counter()
    for part in passages(corpus, 1, width, 0.0, np.random.default_rng(0)):
        for passage, place, other in np.argwhere(part.near):
            one, two = part.words[passage, 1 + place], part.words[passage, other]
            found[corpus.words[one], corpus.words[two]] += 1
    neighbours = [pair for text in texts for pair in pairwise(text)]
    assert found == Counter([*neighbours, *((two, one) for one, two in neighbours)])


def test_frequent_words_are_left_out_at_random() -> None:
    corpus = read_corpus([["the"] * 900 + ["cat", "dog"] * 50], 1)
    (part,) = passages(corpus, 1, 1, 0.01, np.random.default_rng(0))
    share = float((part.words[:, 1] == 0).mean())
    assert 0.2 < share < 0.6  # (sqrt(90) + 1) / 90 of 900 are kept, of the 50 (sqrt(5) + 1) / 5


@pytest.mark.parametrize(("batch", "width"), [(1, 1), (31, 31), (40, 40), (100, 33), (512, 32)])
def test_a_step_is_made_of_passages_of_one_width(batch: int, width: int) -> None:
    assert Word2Vec(batch=batch).width == width


def test_too_few_words() -> None:
    with pytest.raises(SourceError, match="1 of 3 different words occur 2 times or more"):
        read_corpus([["a", "b", "c"], ["a"]], 2)
