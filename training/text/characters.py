"""Code points to symbols: lower-casing, accents and classes of characters, as gathers of tables.

Code points that a vectorizer can't tell apart are one class. The table of classes has two levels
(a page of 128 code points is kept once), so that all of Unicode takes some 100 KiB.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from .lookup import Array, Tables
from .unicode import CODE_POINTS, FINAL_SIGMA, SIGMA, cases

PAGE: Final = 128

_ALONE: Final = 2 * CODE_POINTS  # + symbol: above every number of an expansion

Symbols = tuple[int, ...]
"""What is left of one code point."""


class Characters(nn.Module):
    """From code points to symbols.

    It has a second stage only if some code point becomes none, or several, and a look at the
    neighbours only if a final sigma makes a difference.
    """

    pages: Tensor
    classes: Tensor
    symbols: Tensor
    starts: Tensor
    sizes: Tensor
    cases: Tensor
    sigmas: Tensor

    def __init__(self, tables: Tables) -> None:
        super().__init__()
        for name in ("pages", "classes", "symbols", "starts", "sizes", "cases", "sigmas"):
            self.register_buffer(name, tables.get(name, torch.zeros(0, dtype=torch.int32)))
        self.expands = "starts" in tables
        self.final_sigma = "cases" in tables

    def forward(self, text: Tensor) -> Tensor:
        """Look code points up.

        Args:
            text: (batch, length) int32; negative for no character.

        Returns:
            symbol: (batch, n) int64; 0 after the end of a text. n is the length, unless some code
            point expands.
        """
        point = torch.where(text < 0, 0x110000, torch.clamp(text, max=0x10FFFF)).to(torch.int64)
        flat = point.reshape(-1)
        page = self.pages.index_select(0, flat >> 7).to(torch.int64)
        kind = self.classes.index_select(0, page * 128 + (flat & 127))
        kind = kind.reshape(text.shape).to(torch.int64)
        if self.final_sigma:
            kind = self._with_final_sigma(kind)
        if self.expands:
            return self._expanded(kind)
        return self.symbols.index_select(0, kind.reshape(-1)).reshape(kind.shape).to(torch.int64)

    def _with_final_sigma(self, kind: Tensor) -> Tensor:
        """Unicode 3.13, Final_Sigma: after a letter with case, and not before one."""
        case = self.cases.index_select(0, kind.reshape(-1)).reshape(kind.shape)
        seen = case != 2
        rank = torch.cumsum(seen.to(torch.int64), 1)
        # of the characters that are not looked past: whether each has case; nothing at both ends
        cased = torch.zeros(
            (kind.shape[0], kind.shape[1] + 2), dtype=torch.int64, device=kind.device
        ).scatter(1, torch.where(seen, rank, 0), (case == 1).to(torch.int64))
        before = cased.gather(1, torch.where(seen, rank - 1, rank))
        after = cased.gather(1, rank + 1)
        final = (kind == self.sigmas[0]) & (before == 1) & (after == 0)
        return torch.where(final, self.sigmas[1].to(torch.int64), kind)

    def _expanded(self, kind: Tensor) -> Tensor:
        """Put as many symbols as each code point has one after another."""
        rows, flat = kind.shape[0], kind.reshape(-1)
        size = self.sizes.index_select(0, flat).reshape(kind.shape).to(torch.int64)
        end = torch.cumsum(size, 1)
        begin = end - size
        width = int(end.max())
        # for torch.export; TorchScript takes any other end of the line for a type
        torch._check(width >= 0)  # type: ignore[no-untyped-call]
        width = width + 1
        kept = size > 0
        rank = torch.cumsum(kept.to(torch.int64), 1)
        source = self.starts.index_select(0, flat).reshape(kind.shape).to(torch.int64) - begin
        sources = torch.zeros(
            (rows, kind.shape[1] + 1), dtype=torch.int64, device=kind.device
        ).scatter(1, torch.where(kept, rank, 0), torch.where(kept, source, 0))
        begins = torch.zeros((rows, width + 1), dtype=torch.int64, device=kind.device)
        begins = begins.scatter(1, torch.where(kept, begin, width), 1)
        place = torch.arange(width, dtype=torch.int64, device=kind.device).unsqueeze(0)
        source = sources.gather(1, torch.cumsum(begins[:, :width], 1)) + place
        last = self.symbols.shape[0] - 1
        symbol = self.symbols.index_select(0, torch.clamp(source, 0, last).reshape(-1))
        symbol = symbol.reshape(source.shape).to(torch.int64)
        return torch.where(place < end[:, -1:], symbol, 0)


def classify(
    plain: Array, changed: Mapping[int, Symbols], dropped: Array, *, sigma: bool
) -> dict[str, Tensor]:
    """Find the classes of code points, and make the tables of ``Characters``.

    Args:
        plain: (0x110000,) int64, the symbol of each code point that is one symbol.
        changed: What the others are.
        dropped: (0x110000,) bool, code points that become nothing and are not in ``changed``.
        sigma: Whether a final sigma is another symbol.
    """
    pool: dict[Symbols, int] = {}
    codes = plain + _ALONE
    if dropped.any():
        codes[dropped] = pool.setdefault((), 0)
    for point, symbols in changed.items():
        codes[point] = (
            symbols[0] + _ALONE if len(symbols) == 1 else pool.setdefault(symbols, len(pool))
        )
    keys = codes * 8
    if sigma:
        keys += cases().astype(np.int64) * 2
        keys[SIGMA] += 1
    keys, members = np.unique(keys, return_inverse=True)
    nothing = len(keys)
    texts = {number: symbols for symbols, number in pool.items()}
    expansions = [
        texts[code] if code in texts else (code - _ALONE,) for code in (keys // 8).tolist()
    ]
    tables = {**_pages(members, nothing), **_symbols(expansions, alone=not pool)}
    if sigma:
        tables["cases"] = _int32([*(keys % 8 // 2), 2])
        tables["sigmas"] = _int32([members[SIGMA], members[FINAL_SIGMA]])
    return tables


def _symbols(expansions: list[Symbols], *, alone: bool) -> dict[str, Tensor]:
    if alone:
        return {"symbols": _int32([*(symbol for (symbol,) in expansions), 0])}
    sizes = [*map(len, expansions), 0]
    return {
        "symbols": _int32([*(symbol for symbols in expansions for symbol in symbols), 0]),
        "starts": _int32(np.cumsum([0, *sizes[:-1]])),
        "sizes": _int32(sizes),
    }


def _pages(members: Array, nothing: int) -> dict[str, Tensor]:
    whole = np.append(members, np.full(PAGE, nothing)).reshape(-1, PAGE)
    distinct: dict[bytes, int] = {}
    pages = [distinct.setdefault(page.tobytes(), len(distinct)) for page in whole]
    classes = np.frombuffer(b"".join(distinct), whole.dtype)
    return {"pages": _int32(pages), "classes": _int32(classes)}


def _int32(values: object) -> Tensor:
    return torch.tensor(np.asarray(values), dtype=torch.int32).reshape(-1)
