"""Word2Vec: vectors of words that tell which words are around them.

Mikolov, Chen, Corrado, Dean, "Efficient estimation of word representations in vector space", and
Mikolov et al., "Distributed representations of words and phrases and their compositionality",
2013. The gradients are written down instead of recorded, and the words of a step share the words
that are drawn against them (Ji et al., "Parallelizing word2vec in shared and distributed memory",
2016): their scores are one product of matrices, and made once for a word, whatever is around it.
A step takes some passages of words that follow one another: these share what is around them, so
that each vector is read and moved once, and the rest are small products of matrices.

Skip-gram guesses each word around a word; CBOW a word from the mean of those around it. The
gradient of that mean is divided by how many they are, which word2vec.c forgot (Irsoy et al.,
"Corrected CBOW performs as well as skip-gram", 2021).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import torch
from torch import Tensor

from edgeport.runtimes.errors import EngineError, UsageError
from edgeport.runtimes.libtorch.threads import thread_count

from .corpus import Corpus, Passages, passages
from .lookup import Array

Kind = Literal["skip-gram", "cbow"]

RATES: Final = {"skip-gram": 0.025, "cbow": 0.075}
"""First learning rates: those of word2vec.c, and of the corrected CBOW."""

BATCHES: Final = {"skip-gram": 256, "cbow": 512}
"""Words in a step. More are quicker; skip-gram at 512 can diverge on texts that repeat a word many
times."""

_SHARED: Final = {"skip-gram": 64, "cbow": 32}
"""Words drawn against a step, together as heavy as ``negatives`` drawn for every pair alone. Their
scores are half of CBOW's arithmetic: with 64 it takes a fifth more time and gains nothing."""

_PASSAGE: Final = 32
"""Words that follow one another: more share more, but are more alike in one step."""

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
        batch: Words in one step, in passages of ``width``; with what is around them some six times
            as many pairs. ``None`` for ``BATCHES``.
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
    batch: int | None = None
    epochs: int = 5
    rate: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("dimensions", "window", "negatives", "batch", "epochs"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name} is {value}, expected 1 or more", remedy="correct it")
        known = self.kind in RATES and 0 <= self.sample <= 1 and 0 <= self.seed < 2**63
        if not known or not 0 < self.first_rate < math.inf:
            raise UsageError(
                f"kind, sample, rate and seed are {self.kind!r}, {self.sample}, {self.rate}, "
                f"{self.seed}, expected skip-gram or cbow, 0 to 1, above 0, 0 or more and below "
                "2**63",
                remedy="correct them",
            )

    @property
    def first_rate(self) -> float:
        """Of the first step."""
        return RATES[self.kind] if self.rate is None else self.rate

    @property
    def words(self) -> int:
        """In a step."""
        return BATCHES[self.kind] if self.batch is None else self.batch

    @property
    def width(self) -> int:
        """Words of a passage: about 32, and as many in each of a step."""
        return self.words // max(1, self.words // _PASSAGE)


@dataclass(slots=True)
class _Trained:
    """Two vectors for each word: as one that is read, and as one that is guessed."""

    read: Tensor
    guessed: Tensor


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

    @thread_count(1)  # the products are too small to share
    @torch.no_grad()
    def epoch(self, on_chunk: OnChunk | None = None) -> float:
        """Pass over the texts once, and say what a pair costs on average, in nats.

        Raises:
            EngineError: The vectors are not finite any more.
        """
        asked, costs, words = self._asked, [], 0
        drawn = passages(self._corpus, asked.window, asked.width, asked.sample, self._generator)
        for chunk in drawn:
            costs += self._chunk(chunk, words)
            words += chunk.near[:, :, 0].size
            if not np.isfinite(costs[-1]):
                raise self.diverged(self._done + 1, costs[-1])
            if on_chunk is not None:
                on_chunk(self._share(words), float(np.mean(costs)))
        self._done += 1
        return float(np.mean(costs)) if costs else 0.0

    @thread_count(1)  # the products are too small to share
    @torch.no_grad()
    def judge(self, held_out: Corpus, seed: int = 0) -> tuple[float, float]:
        """Cost of a pair of other texts, and how often the word that is there beats a drawn one.

        Args:
            held_out: Texts in the same vocabulary.
            seed: Of what is drawn: the same for every epoch.
        """
        asked, generator = self._asked, np.random.default_rng(seed)
        cost, beaten, pairs = 0.0, 0.0, 0
        for chunk in passages(held_out, asked.window, asked.width, 0.0, generator):
            for step in _steps(chunk, asked):
                drawn = self._state.guessed[self._drawn(1, generator)[0]]
                right, wrong, _, _ = self._scores(step, drawn)
                won, count = _beaten(right, wrong, step)
                cost += float(self._cost(right, wrong, step)) * count
                beaten, pairs = beaten + won, pairs + count
        if not pairs:
            return 0.0, 0.5
        return cost / pairs, beaten / (pairs * _SHARED[asked.kind])

    def _chunk(self, chunk: Passages, words: int) -> list[float]:
        steps = _steps(chunk, self._asked)
        drawn = self._drawn(len(steps), self._generator)
        costs = []
        for number, (step, against) in enumerate(zip(steps, drawn, strict=True)):
            share = self._share(words + number * self._asked.words)
            rate = self._asked.first_rate * max(1 - share, _LEAST_RATE)
            cost = self._step(step, against, rate, number % _COST_EVERY == 0)
            if cost is not None:
                costs.append(cost)
        return costs

    def diverged(self, epoch: int, cost: float) -> EngineError:
        """The error that vectors are worse by far than none, or not finite any more."""
        return EngineError(
            f"training diverged in epoch {epoch}: the cost is {cost:.6g}",
            remedy=f"use a smaller --lr than {self._asked.first_rate:g}, or a smaller --batch",
        )

    def _share(self, words: int) -> float:
        """How much is done; frequent words are left out, so that it may jump at an epoch's end."""
        return (self._done + min(1.0, words / max(1, len(self._corpus.ids)))) / self._asked.epochs

    def _drawn(self, steps: int, generator: np.random.Generator) -> Tensor:
        """(steps, ``_SHARED``) words, by their smoothed counts."""
        chances = generator.random((steps, _SHARED[self._asked.kind]))
        places = np.searchsorted(self._cumulative, chances)
        return torch.from_numpy(np.minimum(places, len(self._cumulative) - 1))

    def _scores(self, step: "_Step", drawn: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Scores of what is there and of what was drawn, the vectors that ask, those asked for.

        What is there: (passages, width, length) of skip-gram, (words,) of CBOW. What was drawn:
        (words, shared), with the vectors ``drawn``: (shared, d).
        """
        read, guessed = self._state.read, self._state.guessed
        count, width, length = step.near.shape
        if self._asked.kind == "skip-gram":
            query = read.index_select(0, step.centres)  # (words, d)
            other = guessed.index_select(0, step.words).view(count, length, -1)
            right = query.view(count, width, -1) @ other.transpose(1, 2)
        else:
            each = read.index_select(0, step.words).view(count, length, -1)
            query = (step.near @ each).view(count * width, -1)  # near has 1 / how many
            other = guessed.index_select(0, step.centres)
            right = (query * other).sum(1)
        return right, query @ drawn.T, query, other

    def _step(self, step: "_Step", against: Tensor, rate: float, ask: bool) -> float | None:
        """Follow the gradient of -log s(right) - negatives * mean(log s(-wrong)), for all pairs."""
        read, guessed = self._state.read, self._state.guessed
        count, width, _ = step.near.shape
        drawn = guessed.index_select(0, against)
        right, wrong, query, other = self._scores(step, drawn)
        cost = float(self._cost(right, wrong, step)) if ask else None
        push = wrong.sigmoid_().mul_(step.pairs * (-rate * self._asked.negatives / len(against)))
        moved = push @ drawn
        if self._asked.kind == "skip-gram":
            pull = right.neg_().sigmoid_().mul_(step.near * rate)
            moved += (pull @ other).view_as(moved)
            towards = pull.transpose(1, 2) @ query.view(count, width, -1)
            guessed.index_add_(0, step.words, towards.flatten(0, 1))
            read.index_add_(0, step.centres, moved)
        else:
            pull = right.neg_().sigmoid_()[:, None] * (step.pairs * rate)
            moved.addcmul_(pull, other)
            guessed.index_add_(0, step.centres, pull * query)
            back = step.near.transpose(1, 2) @ moved.view(count, width, -1)
            read.index_add_(0, step.words, back.flatten(0, 1))
        guessed.index_add_(0, against, push.T @ query)
        return cost

    def _cost(self, right: Tensor, wrong: Tensor, step: "_Step") -> Tensor:
        """Mean over pairs, nats."""
        soft = torch.nn.functional.softplus
        there = step.near if self._asked.kind == "skip-gram" else step.pairs[:, 0]
        against = (soft(wrong).mean(1) * step.pairs[:, 0]).sum() * self._asked.negatives
        return ((soft(-right) * there).sum() + against) / step.pairs.sum().clamp(min=1)


@dataclass(frozen=True, slots=True)
class _Step:
    """Passages of one step.

    Attributes:
        words: (passages * length,) int64 ids of all words.
        centres: (passages * width,) int64 ids of those that are guessed from, or guessed.
        near: (passages, width, length) float32, 1 for a word around another; of CBOW divided by
            how many those are.
        pairs: (passages * width, 1) float32, how many pairs each has: of CBOW 1 if any word is
            around it.
    """

    words: Tensor
    centres: Tensor
    near: Tensor
    pairs: Tensor


def _steps(chunk: Passages, asked: Word2Vec) -> "list[_Step]":
    width = chunk.near.shape[1]
    window = (chunk.words.shape[1] - width) // 2
    near = torch.from_numpy(chunk.near.astype(np.float32))
    pairs = near.sum(2)
    if asked.kind == "cbow":
        near /= pairs.clamp(min=1)[:, :, None]
        pairs = pairs.clamp(max=1)
    words = torch.from_numpy(chunk.words)
    every = (words, words[:, window : window + width], near, pairs)
    parts = (torch.split(each, max(1, asked.words // width)) for each in every)
    return [
        _Step(w.flatten(), c.flatten(), n, p.reshape(-1, 1))
        for w, c, n, p in zip(*parts, strict=True)
    ]


def _beaten(right: Tensor, wrong: Tensor, step: _Step) -> tuple[float, int]:
    """How often what is there scores above what was drawn, and of how many pairs."""
    if right.ndim == 1:  # CBOW
        rows = step.pairs[:, 0].nonzero()[:, 0]
        there = right[rows]
    else:
        at = step.near.flatten(0, 1) > 0
        rows, there = at.nonzero()[:, 0], right.flatten(0, 1)[at]
    return float((there[:, None] > wrong.index_select(0, rows)).float().sum()), len(rows)
