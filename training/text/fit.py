"""Fit a text classifier: scikit-learn fits, the compiled module is compared with it, and kept."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from edgeport.runtimes.errors import ParityError, SourceError
from edgeport.runtimes.text import encode
from edgeport.training.data import Labelled, Origin, Split
from edgeport.training.fitting import Epoch, History, Settings

from .classifier import TextClassifier, compile_classifier
from .lines import Lines
from .lookup import Array
from .options import read_token

_LARGEST_HELD_OUT = 2**24
"""Code points kept with a run, padding included: 64 MiB."""

_ROWS = 64

_TOLERANCE = 1e-4
"""Of a logit or vector, relative to the largest: float32 against float64."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """A text classifier and how it came about.

    Attributes:
        module: Raw text to logits.
        origin: The data.
        held_out: What is kept of the held-out texts; of very long ones, not all.
        history: The fit, as one epoch.
        train, tested: Number of texts.
    """

    module: TextClassifier
    origin: Origin
    held_out: Labelled
    history: History
    train: int
    tested: int


def fit_classifier(lines: Lines, name: str, vectorizer: Any, penalty: float) -> Fitted:
    """Fit a vectorizer and a logistic regression on four fifths of the texts.

    Args:
        lines: Texts and labels.
        name: Of the data.
        vectorizer: Of scikit-learn; fitted here.
        penalty: ``C`` of ``LogisticRegression``: inverse strength of the L2 penalty.

    Raises:
        SourceError: The texts hold no term, one part lacks a label, or the vectorizer can't be
            compiled.
        ParityError: The compiled module and scikit-learn disagree on a held-out text.
    """
    from sklearn.linear_model import LogisticRegression

    read_token(vectorizer)
    split = Split(test_size=0.2, random_state=42, stratified=False)
    rows, held = part(len(lines.texts), split)
    names, numbers = classes_of(lines.labels, rows)
    texts = [lines.texts[row] for row in rows]
    try:
        features = vectorizer.fit_transform(texts)
    except ValueError as e:  # scikit-learn's: an empty vocabulary, an option out of range
        raise SourceError(f"scikit-learn refuses: {e}", remedy="change the options") from e
    classifier = LogisticRegression(C=penalty, max_iter=1000).fit(features, numbers[rows])
    classifier.classes_ = names
    module = compile_classifier(vectorizer, classifier)
    held_texts = [lines.texts[row] for row in held]
    expected = classifier.decision_function(vectorizer.transform(held_texts))
    if expected.ndim == 1:
        expected = np.stack([-expected, expected], 1) / 2
    refuse_difference(module, held_texts, expected, "scikit-learn")
    losses, right = _judge(classifier, vectorizer, held_texts, numbers[held])
    loss, _ = _judge(classifier, vectorizer, texts, numbers[rows])
    schema, classes = {"text": "text"}, tuple(map(str, names))
    return Fitted(
        module,
        Origin(name, len(lines.texts), lines.sha256, split, schema, classes=classes),
        kept_texts(held_texts, numbers[held].astype(np.int64)),
        _history(penalty, Epoch(1, loss, losses, right, 1.0)),
        len(rows),
        len(held),
    )


def _history(penalty: float, fit: Epoch) -> History:
    settings = Settings(
        epochs=1,
        batch_size=None,
        learning_rate=1.0,
        optimizer="lbfgs of scikit-learn's LogisticRegression",
        options={"C": penalty},
        schedule="constant",
    )
    return History(settings, "cross-entropy", "accuracy", (fit,))


def part(count: int, split: Split) -> tuple[Array, Array]:
    """Rows to train on, and rows that are held out."""
    from sklearn.model_selection import train_test_split

    rows, held = train_test_split(
        np.arange(count), test_size=split.test_size, random_state=split.random_state
    )
    return np.asarray(rows), np.asarray(held)


def classes_of(labels: Sequence[str], rows: Array) -> tuple[Array, Array]:
    """The different labels, and for each text which it has.

    Raises:
        SourceError: One of them is in no row that is trained on.
    """
    names, numbers = np.unique(np.array(labels, dtype=object), return_inverse=True)
    unknown = np.setdiff1d(numbers, numbers[rows])
    if len(unknown):
        raise SourceError(
            f"the label {names[unknown[0]]!r} is in none of the {len(rows):,} texts that are "
            "trained on",
            remedy="give more texts with it, or remove those that have it",
        )
    return names, numbers


def _judge(classifier: Any, vectorizer: Any, texts: list[str], numbers: Any) -> tuple[float, float]:
    """Mean cross-entropy in nats, and accuracy."""
    chances = classifier.predict_proba(vectorizer.transform(texts))
    likely = np.log(np.maximum(chances[np.arange(len(texts)), numbers], 1e-300))
    return float(-likely.mean()), float((chances.argmax(1) == numbers).mean())


@torch.no_grad()
def refuse_difference(module: nn.Module, texts: list[str], expected: Array, whose: str) -> None:
    """Ask a compiled module for what it was compiled from, which answers as expected.

    Args:
        module: Raw text to logits, or to a vector.
        texts: The rows.
        expected: (texts, columns) float64.
        whose: Who says so.

    Raises:
        ParityError: They disagree on a text.
    """
    order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
    bar = _TOLERANCE * max(1.0, float(np.abs(expected).max()))
    for first in range(0, len(order), _ROWS):
        rows = order[first : first + _ROWS]
        found = module(torch.tensor(encode([texts[row] for row in rows]))).double().numpy()
        right = np.abs(found - expected[rows]).max(1) <= bar  # NaN is not
        if not right.all():
            text = texts[rows[int(np.argmin(right))]]
            raise ParityError(
                f"the compiled module and {whose} disagree on {text[:80]!r}",
                remedy="please report this text and the options as a bug",
            )


def kept_texts(texts: list[str], labels: Array) -> Labelled:
    """As many held-out texts as fit: the rows of one array are as long as the longest."""
    order = np.argsort([len(text) for text in texts], kind="stable")
    widths = np.maximum(1, [len(texts[index]) for index in order])
    count = max(1, int((np.arange(1, len(order) + 1) * widths <= _LARGEST_HELD_OUT).sum()))
    kept = np.sort(order[:count])
    table = encode([texts[index] for index in kept])
    return Labelled({"text": table}, labels[kept])
