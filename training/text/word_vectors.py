"""Raw text to the mean of the vectors of its words, and to logits, in one module; nearest words."""

import difflib
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from edgeport.runtimes.errors import UsageError

from .from_text import FromText
from .layout import Layout
from .lookup import Array, Tables
from .options import read_options
from .vectorizer import compile_tables


class WordVectors(FromText):
    """Vectors of words, and a linear classifier on their mean if there are labels.

    Made by ``compile_vectors``.

    Args:
        layout: Of the vectorizer that finds the words.
        tables: Of it, and ``vectors`` (words + 1, dimensions), the last for what is no word; with
            labels ``weight`` (classes, dimensions) and ``bias`` (classes,).
        labels: The names of the classes; empty for the mean vector itself.
    """

    __jit_unused_properties__: ClassVar = [*FromText.__jit_unused_properties__, "output_name"]

    def __init__(self, layout: Layout, tables: Tables, labels: Sequence[str]) -> None:
        super().__init__(layout, tables, labels)
        self.vectors = nn.Parameter(tables["vectors"])
        self.words = layout.columns
        self.head: nn.Module = nn.Identity()
        if labels:
            linear = nn.Linear(tables["vectors"].shape[1], len(labels))
            linear.weight = nn.Parameter(tables["weight"])
            linear.bias = nn.Parameter(tables["bias"])
            self.head = linear

    @property
    def output_name(self) -> str:
        """Of what it returns."""
        return "vector" if isinstance(self.head, nn.Identity) else "logits"

    def forward(self, text: Tensor) -> Tensor:
        """Look words up, and take their mean; zeros if a text has no word that is known.

        Args:
            text: (batch, characters) int32 code points, -1 after the end.

        Returns:
            vector: (batch, dimensions) float32; or logits: (batch, classes).
        """
        column = self.terms(text)  # (B, m)
        each = self.vectors.index_select(0, column.reshape(-1))
        each = each.reshape(column.shape[0], column.shape[1], -1)  # (B, m, d)
        known = (column < self.words).sum(1, keepdim=True)
        found: Tensor = self.head(each.sum(1) / torch.clamp(known, min=1))
        return found


def compile_vectors(
    vectorizer: Any,
    vectors: Array,
    labels: Sequence[str] = (),
    weight: Array | None = None,
    bias: Array | None = None,
) -> WordVectors:
    """Compile vectors of words into a module that takes raw text.

    Args:
        vectorizer: A ``CountVectorizer`` of single words whose vocabulary are the words.
        vectors: (words, dimensions), in the order of the columns.
        labels: Names of classes; then ``weight`` (classes, dimensions) and ``bias`` (classes,).
        weight: Of the classifier.
        bias: Of the classifier.

    Raises:
        SourceError: The vectorizer can't be compiled.
        UsageError: There is not one vector for each word.

    Examples:
        >>> from sklearn.feature_extraction.text import CountVectorizer
        >>> from edgeport.runtimes.text import encode
        >>> found = CountVectorizer(vocabulary=["sun", "rain"])
        >>> module = compile_vectors(found, np.array([[2.0, 0.0], [0.0, 4.0]]))
        >>> module(torch.tensor(encode(["Sun and rain"]))).tolist()
        [[1.0, 2.0]]
    """
    layout, tables = compile_tables(read_options(vectorizer))
    if len(vectors) != layout.columns or layout.longest > 1:
        raise UsageError(
            f"there are {len(vectors)} vectors for {layout.columns} terms of 1 to "
            f"{layout.longest} words",
            remedy="give a vector for each term, and ngram_range=(1, 1)",
        )
    del tables["idf"]
    rows = np.concatenate([vectors, np.zeros((1, vectors.shape[1]))])
    tables["vectors"] = torch.tensor(rows, dtype=torch.float32)
    if weight is not None and bias is not None:
        tables["weight"] = torch.tensor(weight, dtype=torch.float32)
        tables["bias"] = torch.tensor(bias, dtype=torch.float32)
    return WordVectors(layout, tables, labels).eval()


def nearest(
    words: Sequence[str],
    vectors: Array,
    plus: Sequence[str],
    minus: Sequence[str] = (),
    count: int = 10,
) -> list[tuple[str, float]]:
    """The words whose vectors point most in the direction of some words.

    An analogy is ``plus=["king", "woman"], minus=["man"]`` (3CosAdd; Mikolov, Yih, Zweig,
    "Linguistic regularities in continuous space word representations", 2013): unit vectors are
    added and taken away, and the words that were given are left out.

    Args:
        words: The vocabulary.
        vectors: (words, dimensions).
        plus: Words to add.
        minus: Words to take away.
        count: How many to tell, at most.

    Returns:
        Words and cosines, the nearest first.

    Raises:
        UsageError: There is no word to add, one is not in the vocabulary, or nothing is left.
    """
    place = {word: index for index, word in enumerate(words)}
    for word in (*plus, *minus):
        if word not in place:
            close = difflib.get_close_matches(word, words) or difflib.get_close_matches(
                word.lower(), words
            )
            raise UsageError(
                f"{word!r} is none of the {len(words):,} words",
                remedy=f"did you mean {' or '.join(close)}?" if close else "try another word",
            )
    if not plus:
        raise UsageError("there is no word to look for", remedy="give one")
    units = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-30)
    sought = sum(units[place[word]] for word in plus) - sum(units[place[word]] for word in minus)
    length = float(np.linalg.norm(sought))
    if length < 1e-6:  # units are rounded to float32
        raise UsageError("what is added is taken away again", remedy="give other words")
    cosines = units @ (sought / length)
    given = {place[word] for word in (*plus, *minus)}
    order = [index for index in np.argsort(-cosines, kind="stable").tolist() if index not in given]
    return [(str(words[index]), float(cosines[index])) for index in order[:count]]
