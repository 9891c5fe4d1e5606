"""Symbols to columns, for words and their n-grams.

A word's letters, each times a random number for its place, add up to a hash that finds the word
of the vocabulary that this one could be; then every letter is compared with that word's spelling.
So a word is known if, and only if, it is spelled so. n-grams walk a trie of exact keys.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeport.runtimes.errors import SourceError

from .lookup import Lookup, Tables, build, named, part
from .options import Options
from .trie import Step, build_steps
from .unicode import matching

BREAK, OTHER, FOREIGN, FIRST = 0, 1, 2, 3
"""No letter; a letter of no word; a letter beside which no token ends; the first of the alphabet.

A negative symbol is a letter with a break behind it.
"""

_WRONG: Final = 2**21
_FOREIGN: Final = 2**42
"""What a word scores for each letter: 1, and more for one that is not where it should be."""

_KEY_BITS: Final = 24
_TRIES: Final = 20


class Words(nn.Module):
    """From symbols to columns of words and n-grams."""

    factors: Tensor
    spelling: Tensor
    starts: Tensor
    lengths: Tensor
    stops: Tensor
    columns: Tensor

    def __init__(self, tables: Tables, *, longest: int, least: int, drops: bool) -> None:
        super().__init__()
        for name in ("factors", "spelling", "starts", "lengths", "stops", "columns"):
            self.register_buffer(name, tables[name])
        self.longest, self.least, self.drops = longest, least, drops
        self.wrong, self.foreign = _WRONG, _FOREIGN  # TorchScript reads 2**21 as float
        self.known = len(tables["lengths"]) - 1
        self.last = len(tables["factors"]) - 1
        self.vocabulary = Lookup(part(tables, "vocabulary."))
        self.steps = nn.ModuleList(
            Step(part(tables, f"steps.{number}.")) for number in range(longest - 1)
        )

    def forward(self, symbol: Tensor) -> Tensor:
        """Find words.

        Args:
            symbol: (batch, n) int64.

        Returns:
            column: (batch, m) int64, -1 for none.
        """
        letter = symbol != 0
        after = functional.pad(symbol[:, :-1], (1, 0)) > 0  # behind a letter without a break
        if self.least > 1:  # a letter on its own is no token: it needs no slot
            goes_on = (symbol > 0) & (functional.pad(symbol[:, 1:], (0, 1)) != 0)
            letter = letter & (after | goes_on)
        begins = letter & ~after
        rank = torch.cumsum(begins.to(torch.int64), 1)
        word, score = self._words(symbol, letter, begins, rank)
        state = torch.where(word < self.known, word, -1)
        if self.longest == 1:
            return self.columns.index_select(0, word.reshape(-1)).reshape(word.shape)
        state = self._sequence(word, score, rank[:, -1:])
        following = functional.pad(state, (0, self.longest - 1), value=-1.0)
        slots = state.shape[1]
        known = torch.where(state < 0, self.known, state)
        found = [self.columns.index_select(0, known.reshape(-1)).reshape(known.shape)]
        for number, step in enumerate(self.steps):
            state, column = step(state, following.narrow(1, number + 1, slots), self.known)
            found.append(column)
        return torch.cat(found, 1)

    def _words(
        self, symbol: Tensor, letter: Tensor, begins: Tensor, rank: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(batch, n) -> (batch, m): the word that each run of letters is.

        m is n // 2 + 1 where runs have at least two letters. Else it is n: a run may be one letter
        with its break, as U+0130 is in lower case.
        """
        rows, length = symbol.shape[0], symbol.shape[1]
        slots = length // 2 + 1 if self.least > 1 else length
        blank = torch.zeros((rows, slots + 1), dtype=torch.int64, device=symbol.device)
        place = torch.arange(length, dtype=torch.int64, device=symbol.device).unsqueeze(0)
        run = torch.where(letter, rank, 0)  # run 0 takes what is in no word
        first = blank.scatter(1, torch.where(begins, rank, 0), torch.where(begins, place, 0))
        offset = torch.clamp(place - first.gather(1, run), 0, self.last)
        spelled = torch.abs(symbol)
        factor = self.factors.index_select(0, offset.reshape(-1)).reshape(offset.shape)
        hashes = blank.scatter_add(1, run, torch.where(letter, spelled * factor, 0))
        guess = self.vocabulary(hashes)
        guess = torch.where(guess < 0, self.known, guess)
        start = self.starts.index_select(0, guess.reshape(-1)).reshape(guess.shape)
        at = start.gather(1, run) + offset
        right = self.spelling.index_select(0, at.reshape(-1)).reshape(at.shape) == spelled
        points = torch.where(right, 1, self.wrong + 1)
        points = torch.where(spelled == 2, self.foreign, points)
        score = blank.scatter_add(1, run, torch.where(letter, points, 0))
        length_of = self.lengths.index_select(0, guess.reshape(-1)).reshape(guess.shape)
        word = torch.where(score == length_of, guess, self.known)
        return word[:, 1:], score[:, 1:]

    def _sequence(self, word: Tensor, score: Tensor, total: Tensor) -> Tensor:
        """The words that n-grams are made of, one after another; -1 for one that is not known."""
        state = torch.where(word < self.known, word, -1)
        if not self.drops:
            return state
        number = torch.arange(
            1, word.shape[1] + 1, dtype=torch.int64, device=word.device
        ).unsqueeze(0)
        stop = self.stops.index_select(0, word.reshape(-1)).reshape(word.shape) == 1
        short = (score & (self.wrong - 1)) < self.least
        kept = (number <= total) & ~stop & ~short & (score < self.foreign)
        rank = torch.cumsum(kept.to(torch.int64), 1)
        gaps = torch.full(
            (word.shape[0], word.shape[1] + 1), -1, dtype=torch.int64, device=word.device
        )
        return gaps.scatter(1, torch.where(kept, rank, 0), torch.where(kept, state, -1))[:, 1:]


def build_words(options: Options, alphabet: Mapping[str, int]) -> tuple[dict[str, Tensor], bool]:
    """Make the tables of ``Words``, and say whether some tokens are dropped before n-grams.

    Args:
        options: What the vectorizer does.
        alphabet: Letter to symbol, for every letter of ``vocabulary_words``.

    Raises:
        SourceError: No hash was found.
    """
    words = vocabulary_words(options)
    number = {word: index for index, word in enumerate(words)}
    stops = [word in options.stop_words for word in words]
    grams = {
        tuple(number[part] for part in parts): column
        for parts, column in terms(options).items()
        if not any(part in options.stop_words for part in parts)
    }
    columns = [
        grams.get((index,), -1) if options.shortest == 1 else -1 for index in range(len(words))
    ]
    spelled = [[alphabet[letter] for letter in word] for word in words]
    tables = {
        **_spelling(spelled),
        "stops": torch.tensor([*stops, False]).to(torch.int32),
        "columns": torch.tensor([*columns, -1], dtype=torch.int64),
        **build_steps(
            grams, {(index,): index for index in range(len(words))}, options.longest, len(words)
        ),
    }
    drops = any(stops) or options.token.least > 1 or options.token.bounded
    return tables, drops


def vocabulary_words(options: Options) -> list[str]:
    """The words to tell apart: those that terms are made of and, before n-grams, stop words."""
    found = {part for parts in terms(options) for part in parts}
    if options.longest > 1:
        found |= {word for word in options.stop_words if _is_token(word, options)}
    return sorted(found)


def terms(options: Options) -> dict[tuple[str, ...], int]:
    """Words of each term that can occur, and its column; a fixed vocabulary may hold others."""
    split = {
        (tuple(term.split(" ")) if options.longest > 1 else (term,)): column
        for term, column in options.vocabulary.items()
    }
    return {
        parts: column
        for parts, column in split.items()
        if options.shortest <= len(parts) <= options.longest
        and all(_is_token(part, options) for part in parts)
    }


def _is_token(word: str, options: Options) -> bool:
    inside = matching(options.token.letter)
    return len(word) >= options.token.least and all(inside[ord(letter)] for letter in word)


def _spelling(words: Sequence[Sequence[int]]) -> dict[str, Tensor]:
    longest = max(map(len, words), default=0)
    generator = np.random.default_rng(0)
    for _ in range(_TRIES):
        factors = generator.integers(1, 2**_KEY_BITS, longest + 1, dtype=np.int64)
        hashes = np.array([np.dot(word, factors[: len(word)]) for word in words], np.int64)
        if len(np.unique(hashes)) == len(words):
            break
    else:
        raise SourceError(
            f"no hash tells the {len(words)} words of the vocabulary apart",
            remedy="use a smaller vocabulary: max_features, min_df",
        )
    starts = np.cumsum([0, *map(len, words)])
    room = [0] * (2 * longest + 2)  # an unknown word is read from here, and is never right
    return {
        "factors": torch.tensor(factors),
        "spelling": torch.tensor([*(s for word in words for s in word), *room], dtype=torch.int32),
        "starts": torch.tensor(starts, dtype=torch.int64),
        "lengths": torch.tensor([*map(len, words), -1], dtype=torch.int64),
        **named("vocabulary.", build(hashes, np.arange(len(words)))),
    }
