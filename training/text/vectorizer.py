"""A fitted vectorizer as one module of tensors: code points in, ``transform``'s row out."""

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from .char_ngrams import SPACE, Chars, build_chars, fan_of
from .characters import PAGE, Characters, Symbols, classify
from .layout import Layout
from .lookup import Array, Tables, named, part
from .options import Options, read_options
from .unicode import CODE_POINTS, FINAL_SIGMA, SIGMA, changes, matching
from .word_ngrams import BREAK, FIRST, FOREIGN, OTHER, Words, build_words, vocabulary_words


class Terms(nn.Module):
    """The columns that a text's terms have, one for each occurrence."""

    __jit_unused_properties__: ClassVar = ["alike"]

    def __init__(self, layout: Layout, tables: Tables) -> None:
        super().__init__()
        self.characters = Characters(part(tables, "characters."))
        self.analyzer: nn.Module
        if layout.analyzer == "word":
            self.analyzer = Words(
                part(tables, "analyzer."),
                longest=layout.longest,
                least=layout.least,
                drops=layout.drops,
            )
        else:
            self.analyzer = Chars(
                part(tables, "analyzer."),
                shortest=layout.shortest,
                longest=layout.longest,
                in_words=layout.analyzer == "char_wb",
                fan=layout.fan,
            )
        self.columns = layout.columns

    @property
    def alike(self) -> Array:
        """(0x110000,) int32, the same number for code points that make no difference."""
        pages, classes = self.characters.pages.numpy(), self.characters.classes.numpy()
        found: Array = classes.reshape(-1, PAGE)[pages[: CODE_POINTS // PAGE]].reshape(-1)
        return found

    def forward(self, text: Tensor) -> Tensor:
        """Find the terms.

        Args:
            text: (batch, length) int32 code points, -1 after the end.

        Returns:
            column: (batch, m) int64; ``columns`` for a place without a term.
        """
        column = self.analyzer(self.characters(text))
        return torch.where(column < 0, self.columns, column)


class TextVectorizer(nn.Module):
    """What ``CountVectorizer.transform`` or ``TfidfVectorizer.transform`` does, densely.

    Made by ``compile_vectorizer``.
    """

    __jit_unused_properties__: ClassVar = ["alike"]

    idf: Tensor

    def __init__(self, layout: Layout, tables: Tables) -> None:
        super().__init__()
        self.terms = Terms(layout, tables)
        self.register_buffer("idf", tables["idf"])
        self.columns, self.norm = layout.columns, layout.norm
        self.binary, self.sublinear = layout.binary, layout.sublinear

    @property
    def alike(self) -> dict[str, Array]:
        """By input: code points that make no difference, for ``onnx-strings``."""
        return {"text": self.terms.alike}

    def forward(self, text: Tensor) -> Tensor:
        """Count, and weigh.

        Args:
            text: (batch, length) int32 code points, -1 after the end.

        Returns:
            row: (batch, columns) float32.
        """
        column = self.terms(text)
        one = torch.ones(column.shape, dtype=torch.float32, device=text.device)
        count = torch.zeros(
            (column.shape[0], self.columns + 1), dtype=torch.float32, device=text.device
        ).scatter_add(1, column, one)[:, : self.columns]
        row = weighed(count, self.binary, self.sublinear) * self.idf[: self.columns]
        if self.norm == "l2":
            return row / positive(torch.sqrt((row * row).sum(1, keepdim=True)))
        if self.norm == "l1":
            return row / positive(row.abs().sum(1, keepdim=True))
        return row


def weighed(count: Tensor, binary: bool, sublinear: bool) -> Tensor:
    """Term frequencies of counts: scikit-learn's ``binary`` and ``sublinear_tf``."""
    if binary:
        count = (count > 0).to(count.dtype)
    if sublinear:
        count = torch.where(count > 0, torch.log(torch.clamp(count, min=1.0)) + 1.0, count)
    return count


def positive(size: Tensor) -> Tensor:
    """1 in place of 0: a row of nothing stays one."""
    return torch.where(size > 0, size, torch.ones_like(size))


def compile_vectorizer(vectorizer: Any) -> TextVectorizer:
    """Compile a fitted scikit-learn vectorizer into tensor operators.

    Counts are equal to scikit-learn's, for every text; tf-idf is, but for float32.

    Args:
        vectorizer: A fitted ``CountVectorizer`` or ``TfidfVectorizer``.

    Raises:
        SourceError: It is not fitted, or does what tensors can't: a function of Python, a token
            pattern that is more than a class of characters repeated.

    Examples:
        >>> from sklearn.feature_extraction.text import CountVectorizer
        >>> from edgeport.runtimes.text import encode
        >>> fitted = CountVectorizer().fit(["free money", "no money"])
        >>> compile_vectorizer(fitted)(torch.tensor(encode(["Money, money! Free."])))
        tensor([[1., 2., 0.]])
    """
    layout, tables = compile_tables(read_options(vectorizer))
    return TextVectorizer(layout, tables).eval()


def compile_tables(options: Options) -> tuple[Layout, dict[str, Tensor]]:
    """Layout and tables of a text module."""
    drops = False
    if options.analyzer == "word":
        letters = sorted({letter for word in vocabulary_words(options) for letter in word})
        alphabet = {letter: FIRST + index for index, letter in enumerate(letters)}
        analyzer, drops = build_words(options, alphabet)
    else:
        letters = sorted({letter for term in options.vocabulary for letter in term} - {" "})
        alphabet = {" ": SPACE, **{x: SPACE + 1 + index for index, x in enumerate(letters)}}
        analyzer = build_chars(options, alphabet)
    columns = max(options.vocabulary.values(), default=-1) + 1
    idf = np.ones(columns) if options.idf is None else options.idf
    tables = {
        **named("characters.", character_tables(options, alphabet)),
        **named("analyzer.", analyzer),
        "idf": torch.tensor(np.append(idf, 0.0), dtype=torch.float32),
    }
    layout = Layout(
        options.analyzer,
        columns,
        options.shortest,
        options.longest,
        options.token.least,
        drops,
        fan_of(alphabet) if options.analyzer != "word" else 0,
        options.binary,
        options.sublinear,
        options.norm or "none",
    )
    return layout, tables


def character_tables(options: Options, alphabet: dict[str, int]) -> dict[str, Tensor]:
    """The tables of the code points that a vectorizer tells apart."""
    plain = _plain(options, alphabet)
    made = changes(options.lowercase, options.accents)
    changed: dict[int, Symbols] = {}
    for point, text in made.texts.items():
        symbols = tuple(int(plain[ord(character)]) for character in text)
        changed[point] = _with_breaks(symbols) if options.analyzer == "word" else symbols
    dropped = np.zeros(CODE_POINTS, bool)
    if made.only_ascii:
        dropped[0x80:] = True
    sigmas = plain[[ord(made[FINAL_SIGMA]), ord(made[SIGMA])]] if not made.only_ascii else [0, 0]
    sigma = options.lowercase and sigmas[0] != sigmas[1]
    return classify(plain.copy(), changed, dropped, sigma=bool(sigma))


def _plain(options: Options, alphabet: dict[str, int]) -> Any:
    """(0x110000,) int64: the symbol of each character that is left after preprocessing."""
    points = [ord(letter) for letter in alphabet]
    if options.analyzer == "word":
        letter = matching(options.token.letter)
        plain = np.where(letter, OTHER, BREAK)
        if options.token.bounded:
            plain[~letter & matching(r"\w")] = FOREIGN
        plain[points] = list(alphabet.values())
        return plain
    plain = np.ones(CODE_POINTS, np.int64)
    plain[points] = list(alphabet.values())
    return np.where(matching(r"\s"), -plain, plain)


def _with_breaks(symbols: Symbols) -> Symbols:
    """Fewer symbols for the same words: breaks beside breaks, and one behind a letter."""
    short: list[int] = []
    for symbol in symbols:
        if symbol == BREAK and short and short[-1] <= 0:
            continue
        if symbol == BREAK and short:
            short[-1] = -short[-1]
        else:
            short.append(symbol)
    return tuple(short)
