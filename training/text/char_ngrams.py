"""Symbols to columns, for n-grams of characters: across a text (char) or in words (char_wb).

A negative symbol is white space; 0 is no character; 1 one that no n-gram has; 2 the space.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from .lookup import Tables, part
from .options import Options
from .trie import Step, build_steps

OTHER, SPACE = 1, 2


class Chars(nn.Module):
    """From symbols to columns of character n-grams."""

    columns: Tensor

    def __init__(
        self, tables: Tables, *, shortest: int, longest: int, in_words: bool, fan: int
    ) -> None:
        super().__init__()
        self.register_buffer("columns", tables["columns"])
        self.shortest, self.longest, self.in_words, self.fan = shortest, longest, in_words, fan
        self.steps = nn.ModuleList(
            Step(part(tables, f"steps.{number}.")) for number in range(longest - 1)
        )

    def forward(self, symbol: Tensor) -> Tensor:
        """Find n-grams.

        Args:
            symbol: (batch, n) int64.

        Returns:
            column: (batch, m) int64, -1 for none.
        """
        laid = self._in_words(symbol) if self.in_words else self._folded(symbol)
        size = laid.shape[1]
        room = functional.pad(laid, (0, self.longest - 1))
        space = room == -2
        letter = torch.abs(room)
        state = torch.where(letter > 1, letter, -1).narrow(1, 0, size)
        following = torch.where(letter > 1, letter, -1)
        column = self.columns.index_select(0, (state + 1).reshape(-1)).reshape(state.shape)
        found = [column]
        if self.in_words:  # a space between two words belongs to both
            inner = space.narrow(1, 0, size) & (functional.pad(laid[:, 1:], (0, 1)) != 0)
            place = torch.arange(size, dtype=torch.int64, device=laid.device).unsqueeze(0)
            found.append(torch.where(inner & (place > 0), column, -1))
        for number, step in enumerate(self.steps):
            if self.in_words and number > 0:  # only the first and the last may be spaces
                state = torch.where(space.narrow(1, number, size), -1, state)
            state, column = step(state, following.narrow(1, number + 1, size), self.fan)
            if number + 2 < self.shortest:  # a word that is shorter than any n-gram counts whole
                whole = space.narrow(1, 0, size) & space.narrow(1, number + 1, size)
                column = torch.where(whole, column, -1)
            found.append(column)
        return torch.cat(found, 1)

    def _folded(self, symbol: Tensor) -> Tensor:
        """Two or more white spaces in a row become one space; what is no character goes."""
        there = symbol != 0
        white = symbol < 0
        before = functional.pad(white[:, :-1].to(torch.int64), (1, 0)) == 1
        after = functional.pad(white[:, 1:].to(torch.int64), (0, 1)) == 1
        folded = torch.where(white & (before | after), -2, symbol)
        return _packed(folded, there & ~(white & before), 0)

    def _in_words(self, symbol: Tensor) -> Tensor:
        """One space before, between and behind the words."""
        letter = symbol > 0
        after = functional.pad(letter[:, 1:].to(torch.int64), (0, 1)) == 1
        words = torch.cumsum(letter.to(torch.int64), 1)
        white = (symbol < 0) & after & (words > 0)
        packed = _packed(torch.where(letter, symbol, -2), letter | white, 1)
        packed = functional.pad(packed, (0, 1))
        count = (packed != 0).to(torch.int64).sum(1, keepdim=True)
        place = torch.arange(packed.shape[1], dtype=torch.int64, device=symbol.device).unsqueeze(0)
        edge = ((place == 0) | (place == count + 1)) & (count > 0)
        return torch.where(edge, -2, packed)


def _packed(symbol: Tensor, kept: Tensor, lead: int) -> Tensor:
    """(batch, n) -> (batch, lead + n): what is kept, without gaps; 0 before and behind."""
    rank = torch.cumsum(kept.to(torch.int64), 1)
    blank = torch.zeros(
        (symbol.shape[0], symbol.shape[1] + 1 + lead), dtype=torch.int64, device=symbol.device
    )
    place = torch.where(kept, rank + lead, 0)
    packed = blank.scatter(1, place, torch.where(kept, symbol, 0))
    return packed[:, 1:]


def build_chars(options: Options, alphabet: Mapping[str, int]) -> dict[str, Tensor]:
    """Make the tables of ``Chars``.

    Args:
        options: What the vectorizer does.
        alphabet: Character to symbol.
    """
    fan = fan_of(alphabet)
    grams = {
        tuple(alphabet[character] for character in term): column
        for term, column in options.vocabulary.items()
        if 1 <= len(term) <= options.longest
    }
    single = [grams.get((symbol,), -1) if options.shortest == 1 else -1 for symbol in range(fan)]
    roots: dict[tuple[int, ...], int] = {(symbol,): symbol for symbol in range(fan)}
    return {
        "columns": torch.tensor([-1, *single], dtype=torch.int64),
        **build_steps(grams, roots, options.longest, fan),
    }


def fan_of(alphabet: Mapping[str, int]) -> int:
    """Symbols that may follow an n-gram."""
    return max(alphabet.values()) + 1
