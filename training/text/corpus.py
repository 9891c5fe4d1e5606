"""Texts as numbers of words, and what stands around each word of them."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from edgeport.runtimes.errors import SourceError

from .lookup import Array

CHUNK: Final = 200_000
"""Words whose surroundings are made at once: some 20 MB."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """Words of texts, one after another; those that are too rare are left out.

    Attributes:
        words: The vocabulary, the most frequent first.
        counts: (words,) int64, how often each occurs.
        ids: (n,) int64, the words of all texts.
        texts: (n,) int64, the text that each is of: nothing reaches into another.
    """

    words: tuple[str, ...]
    counts: Array
    ids: Array
    texts: Array


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Some words and what is around them.

    Attributes:
        centres: (n,) int64, ids of the words.
        around: (pairs,) int64, ids of the words around them, word by word.
        starts: (n + 1,) int64, where those of each begin in ``around``; each has one or more.
    """

    centres: Array
    around: Array
    starts: Array


def read_corpus(
    texts: Sequence[Sequence[str]], least: int, vocabulary: Sequence[str] | None = None
) -> Corpus:
    """Number the words of texts.

    Args:
        texts: The words of each.
        least: A word that occurs less often is left out.
        vocabulary: The words to look for; ``None`` for all.

    Raises:
        SourceError: Fewer than two words occur often enough.
    """
    found = Counter(word for text in texts for word in text)
    if vocabulary is None:
        common = sorted(
            (word for word in found if found[word] >= least), key=lambda w: (-found[w], w)
        )
        vocabulary = common
        if len(common) < 2:
            raise SourceError(
                f"{len(common)} of {len(found):,} different words occur {least} times or more",
                remedy="give more texts, or a smaller --min-count",
            )
    number = {word: index for index, word in enumerate(vocabulary)}
    rows = [[number[word] for word in text if word in number] for text in texts]
    return Corpus(
        tuple(vocabulary),
        np.array([found[word] for word in vocabulary], np.int64),
        np.array([index for row in rows for index in row], np.int64),
        np.repeat(np.arange(len(rows)), [len(row) for row in rows]),
    )


def surroundings(
    corpus: Corpus, window: int, sample: float, generator: np.random.Generator
) -> Iterator[Surroundings]:
    """Draw what is around each word, chunk by chunk, in random order within a chunk.

    Frequent words are left out at random: a word that is the share f of all is kept with the chance
    (sqrt(f / sample) + 1) * sample / f, and how far to look is drawn from 1 to ``window``
    (Mikolov et al., "Distributed representations of words and phrases", 2013, as word2vec.c has
    both).

    Args:
        corpus: The texts.
        window: Words to look to either side, at most.
        sample: As above; 0 to keep every word.
        generator: Where chance comes from.
    """
    kept = np.arange(len(corpus.ids))
    if sample > 0:
        share = corpus.counts / max(1, corpus.counts.sum()) / sample
        chance = np.minimum(1.0, (np.sqrt(share) + 1) / np.maximum(share, 1e-30))
        kept = kept[generator.random(len(kept)) < chance[corpus.ids]]
    ids, texts = corpus.ids[kept], corpus.texts[kept]
    for first in range(0, len(ids), CHUNK):
        part, owner = ids[first : first + CHUNK], texts[first : first + CHUNK]
        reach = generator.integers(1, window + 1, len(part))
        found = _around(part, owner, reach, window, generator.permutation(len(part)))
        if len(found.centres):
            yield found


def _around(ids: Array, texts: Array, reach: Array, window: int, order: Array) -> Surroundings:
    """(n,) -> (n, 2 window), of which the places that hold no word go."""
    around = np.zeros((len(ids), 2 * window), np.int64)
    there = np.zeros(around.shape, bool)
    for step in range(1, min(window, len(ids) - 1) + 1):
        same = texts[step:] == texts[:-step]
        around[step:, step - 1], there[step:, step - 1] = ids[:-step], same & (reach[step:] >= step)
        place = window + step - 1
        around[:-step, place], there[:-step, place] = ids[step:], same & (reach[:-step] >= step)
    around, there, ids = around[order], there[order], ids[order]
    sizes = there.sum(1)
    some = sizes > 0
    starts = np.concatenate([[0], np.cumsum(sizes[some])])
    return Surroundings(ids[some], around[there], starts)
