"""Texts as numbers of words, and what stands around each word of them."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from edgeport.runtimes.errors import SourceError

from .lookup import Array

CHUNK: Final = 100_000
"""Words whose surroundings are made at once: some 30 MB."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """Words of texts, one after another; those that are too rare are left out.

    Attributes:
        words: The vocabulary, the most frequent first.
        counts: (words,) int64, how often each occurs.
        ids: (n,) int64, the words of all texts.
        texts: (n,) int32, the text that each is of: nothing reaches into another.
    """

    words: tuple[str, ...]
    counts: Array
    ids: Array
    texts: Array


@dataclass(frozen=True, slots=True)
class Passages:
    """Words that follow one another, and which of them are around which.

    Attributes:
        words: (n, width + 2 window) int64, ids: the ``width`` words of each passage, and what is
            before and behind them.
        near: (n, width, width + 2 window) bool, which words are around each of the ``width``.
    """

    words: Array
    near: Array


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
        np.repeat(np.arange(len(rows), dtype=np.int32), [len(row) for row in rows]),
    )


def passages(
    corpus: Corpus, window: int, width: int, sample: float, generator: np.random.Generator
) -> Iterator[Passages]:
    """Draw what is around each word, chunk by chunk, in random order within a chunk.

    Frequent words are left out at random: a word that is the share f of all is kept with the chance
    (sqrt(f / sample) + 1) * sample / f, and how far to look is drawn from 1 to ``window``
    (Mikolov et al., "Distributed representations of words and phrases", 2013, as word2vec.c has
    both).

    Args:
        corpus: The texts.
        window: Words to look to either side, at most.
        width: Words of a passage.
        sample: As above; 0 to keep every word.
        generator: Where chance comes from.
    """
    kept = np.arange(len(corpus.ids))
    if sample > 0:
        share = corpus.counts / max(1, corpus.counts.sum()) / sample
        chance = np.minimum(1.0, (np.sqrt(share) + 1) / np.maximum(share, 1e-30))
        kept = np.flatnonzero(generator.random(len(kept)) < chance[corpus.ids])
    ids, texts = corpus.ids[kept], corpus.texts[kept]
    for first in range(0, len(ids), CHUNK):
        part, owner = ids[first : first + CHUNK], texts[first : first + CHUNK]
        reach = generator.integers(1, window + 1, len(part), np.int32)
        order = generator.permutation(-(-len(part) // width))
        found = _passages(part, owner, reach, window, width, order)
        if found.near.any():
            yield found


def _passages(
    ids: Array, texts: Array, reach: Array, window: int, width: int, order: Array
) -> Passages:
    """(n,) -> (passages, width + 2 window), with places of no text before and behind all words."""
    count = len(order)
    behind = count * width - len(ids)
    ends = (window, window + behind)
    across = np.arange(width + 2 * window, dtype=np.int32)  # what is compared is of half the bytes
    place = order[:, None] * width + across
    words, owner = np.pad(ids, ends)[place], np.pad(texts, ends, constant_values=-1)[place]
    reaches = np.pad(reach, (0, behind)).reshape(count, width)[order]
    apart = np.abs(across - across[window : window + width, None])
    apart[apart == 0] = width + 2 * window  # a word is not around itself
    near = apart <= reaches[:, :, None]
    near &= owner[:, None, :] == owner[:, window : window + width, None]
    return Passages(words, near)
