"""Word2Vec: vectors of words that tell which words are around them.

Mikolov, Chen, Corrado, Dean, "Efficient estimation of word representations in vector space", and
Mikolov et al., "Distributed representations of words and phrases and their compositionality",
2013. The gradients are written down instead of recorded, and the words of a step share the words
that are drawn against them (Ji et al., "Parallelizing word2vec in shared and distributed memory",
2016): their scores are one product of matrices, and made once for a word, whatever is around it.

Skip-gram guesses each word around a word; CBOW a word from the mean of those around it. The
gradient of that mean is divided by how many they are, which word2vec.c forgot (Irsoy et al.,
"Corrected CBOW performs as well as skip-gram", 2021).
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np
import torch
from torch import Tensor

from edgeport.runtimes.errors import EngineError, UsageError

from .corpus import Corpus, Surroundings, surroundings
from .lookup import Array

Kind = Literal["skip-gram", "cbow"]

RATES: Final = {"skip-gram": 0.025, "cbow": 0.075}
"""First learning rates: those of word2vec.c, and of the corrected CBOW."""

_SHARED: Final = 64
"""Words drawn against a step. Each weighs as much as ``negatives`` drawn for every pair alone."""

_SMOOTHING: Final = 0.75
"""Words are drawn as often as this power of their counts."""

_COST_EVERY: Final = 16
_LEAST_RATE: Final = 1e-4

OnChunk = Callable[[float, float], None]
"""Called now and then with the share that is done, and the cost of late."""


@dataclass(frozen=True, slots=True)
class Word2Vec:
    """What is asked.

    Attributes:
        kind: ``skip-gram`` or ``cbow``.
        dimensions: Of a vector.
        window: Words to look to either side, at most.
        negatives: Words drawn against each pair.
        sample: Share of the texts above which a word is left out at random; 0 for never.
        batch: Words in one step; with what is around them some six times as many pairs.
        epochs: Passes over the texts.
        rate: Of the first step, falling to 0 in a line; ``None`` for ``RATES``.
        seed: Of everything that is drawn: the same seed gives the same vectors, bit for bit.

    Raises:
        UsageError: A number makes no sense.
    """

    kind: Kind = "skip-gram"
    dimensions: int = 100
    window: int = 5
    negatives: int = 5
    sample: float = 1e-3
    batch: int = 256
    epochs: int = 5
    rate: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("dimensions", "window", "negatives", "batch", "epochs"):
            if getattr(self, name) < 1:
                raise UsageError(
                    f"{name} is {getattr(self, name)}, expected 1 or more", remedy="correct it"
                )
        if self.kind not in RATES or not 0 <= self.sample <= 1 or self.seed < 0:
            raise UsageError(
                f"kind, sample and seed are {self.kind!r}, {self.sample}, {self.seed}, expected "
                "skip-gram or cbow, 0 to 1, 0 or more",
                remedy="correct them",
            )

    @property
    def first_rate(self) -> float:
        """Of the first step."""
        return RATES[self.kind] if self.rate is None else self.rate


@dataclass(slots=True)
class _Trained:
    """Two vectors for each word: as one that is read, and as one that is guessed."""

    read: Tensor
    guessed: Tensor
    costs: list[float] = field(default_factory=list)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """The products are too small to share; and one thread gives the same bits on every machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Trainer:
    """Trains vectors epoch by epoch.

    Args:
        corpus: The texts.
        asked: How.
    """

    def __init__(self, corpus: Corpus, asked: Word2Vec) -> None:
        self._corpus, self._asked = corpus, asked
        self._generator = np.random.default_rng(asked.seed)
        size = (len(corpus.words), asked.dimensions)
        drawn = self._generator.uniform(-0.5, 0.5, size) / asked.dimensions
        self._state = _Trained(torch.tensor(drawn, dtype=torch.float32), torch.zeros(size))
        weight = corpus.counts**_SMOOTHING
        self._cumulative = np.cumsum(weight / weight.sum())
        self._done = 0

    @property
    def vectors(self) -> Array:
        """(words, dimensions) float32."""
        found: Array = self._state.read.numpy().copy()
        return found

    @_one_thread()
    @torch.no_grad()
    def epoch(self, on_chunk: OnChunk | None = None) -> float:
        """Pass over the texts once, and say what a pair costs on average, in nats.

        Raises:
            EngineError: The vectors are not finite any more.
        """
        asked, costs, words = self._asked, [], 0
        for chunk in surroundings(self._corpus, asked.window, asked.sample, self._generator):
            costs += self._chunk(chunk, words)
            words += len(chunk.centres)
            if not np.isfinite(costs[-1]):
                raise EngineError(
                    f"training diverged in epoch {self._done + 1}: the cost is {costs[-1]}",
                    remedy=f"use a smaller --lr than {asked.first_rate:g}, or a smaller --batch",
                )
            if on_chunk is not None:
                on_chunk(self._share(words), float(np.mean(costs)))
        self._done += 1
        return float(np.mean(costs)) if costs else 0.0

    @_one_thread()
    @torch.no_grad()
    def judge(self, held_out: Corpus, seed: int = 0) -> tuple[float, float]:
        """Cost of a pair of other texts, and how often the word that is there beats a drawn one.

        Args:
            held_out: Texts in the same vocabulary.
            seed: Of what is drawn: the same for every epoch.
        """
        generator, costs, beaten, sizes = np.random.default_rng(seed), [], [], []
        for chunk in surroundings(held_out, self._asked.window, 0.0, generator):
            for step in _steps(chunk, self._asked.batch):
                right, wrong, _, _ = self._scores(step, self._drawn(1, generator)[0])
                costs.append(float(self._cost(right, wrong, step)))
                beaten.append(
                    float((right[:, None] > _paired(wrong, step, self._asked)).float().mean())
                )
                sizes.append(len(right))
        if not sizes:
            return 0.0, 0.5
        return float(np.average(costs, weights=sizes)), float(np.average(beaten, weights=sizes))

    def _chunk(self, chunk: Surroundings, words: int) -> list[float]:
        steps = list(_steps(chunk, self._asked.batch))
        drawn = self._drawn(len(steps), self._generator)
        costs = []
        for number, (step, against) in enumerate(zip(steps, drawn, strict=True)):
            share = self._share(words + number * self._asked.batch)
            rate = self._asked.first_rate * max(1 - share, _LEAST_RATE)
            cost = self._step(step, against, rate, number % _COST_EVERY == 0)
            if cost is not None:
                costs.append(cost)
        return costs

    def _share(self, words: int) -> float:
        """How much is done; frequent words are left out, so that it may jump at an epoch's end."""
        return (self._done + min(1.0, words / max(1, len(self._corpus.ids)))) / self._asked.epochs

    def _drawn(self, steps: int, generator: np.random.Generator) -> Tensor:
        """(steps, ``_SHARED``) words, by their smoothed counts."""
        places = np.searchsorted(self._cumulative, generator.random((steps, _SHARED)))
        return torch.from_numpy(np.minimum(places, len(self._cumulative) - 1))

    def _scores(self, step: "_Step", against: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Scores of what is there (pairs or words,) and what was drawn (words, shared); vectors."""
        read, guessed = self._state.read, self._state.guessed
        wrong = guessed.index_select(0, against)
        if self._asked.kind == "skip-gram":
            query = read.index_select(0, step.centres)  # (words, d)
            other = guessed.index_select(0, step.around)  # (pairs, d)
            right = (query.index_select(0, step.owner) * other).sum(1)
        else:
            each = read.index_select(0, step.around)
            query = torch.zeros((len(step.centres), read.shape[1])).index_add_(0, step.owner, each)
            query /= step.sizes[:, None]
            other = guessed.index_select(0, step.centres)
            right = (query * other).sum(1)
        return right, query @ wrong.T, query, other

    def _step(self, step: "_Step", against: Tensor, rate: float, ask: bool) -> float | None:
        """Follow the gradient of -log s(right) - negatives * mean(log s(-wrong)), for all pairs."""
        read, guessed, pairs = (
            self._state.read,
            self._state.guessed,
            self._asked.kind == "skip-gram",
        )
        right, wrong, query, other = self._scores(step, against)
        cost = float(self._cost(right, wrong, step)) if ask else None
        pull = (rate * (1 - torch.sigmoid(right)))[:, None]
        push = torch.sigmoid(wrong) * (-rate * self._asked.negatives / _SHARED)
        if pairs:
            push *= step.sizes[:, None]
            moved = torch.zeros_like(query).index_add_(0, step.owner, pull * other)
            towards = pull * query.index_select(0, step.owner)
        else:
            moved, towards = pull * other, pull * query
        moved += push @ guessed.index_select(0, against)
        guessed.index_add_(0, against, push.T @ query)
        guessed.index_add_(0, step.around if pairs else step.centres, towards)
        if pairs:
            read.index_add_(0, step.centres, moved)
        else:
            moved /= step.sizes[:, None]
            read.index_add_(0, step.around, moved.index_select(0, step.owner))
        return cost

    def _cost(self, right: Tensor, wrong: Tensor, step: "_Step") -> Tensor:
        """Mean over pairs, nats."""
        soft = torch.nn.functional.softplus
        weight = step.sizes if self._asked.kind == "skip-gram" else torch.ones(len(wrong))
        against = (soft(wrong).mean(1) * weight).sum() * self._asked.negatives
        return (soft(-right).sum() + against) / len(right)


@dataclass(frozen=True, slots=True)
class _Step:
    """Words of one step: ids, what is around them, whose that is, and how many each has."""

    centres: Tensor
    around: Tensor
    owner: Tensor
    sizes: Tensor


def _steps(chunk: Surroundings, batch: int) -> "list[_Step]":
    found = []
    sizes = np.diff(chunk.starts)
    for first in range(0, len(chunk.centres), batch):
        last = min(first + batch, len(chunk.centres))
        each = sizes[first:last]
        found.append(
            _Step(
                torch.from_numpy(chunk.centres[first:last]),
                torch.from_numpy(chunk.around[chunk.starts[first] : chunk.starts[last]]),
                torch.from_numpy(np.repeat(np.arange(last - first), each)),
                torch.from_numpy(each.astype(np.float32)),
            )
        )
    return found


def _paired(wrong: Tensor, step: _Step, asked: Word2Vec) -> Tensor:
    """The scores of drawn words beside each of what is there."""
    return wrong.index_select(0, step.owner) if asked.kind == "skip-gram" else wrong
