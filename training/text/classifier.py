"""Raw text to logits in one module: the vectorizer and a linear classifier, fused.

The rows of the vectorizer are never made: each occurrence of a term adds its share of its own
term's weight to the logits, so that the work follows the length of a text, not the vocabulary.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgeport.runtimes.errors import SourceError

from .from_text import FromText
from .layout import Layout
from .lookup import Tables
from .options import read_options
from .vectorizer import compile_tables, positive, weighed


class TextClassifier(FromText):
    """A vectorizer with a linear classifier on top. Made by ``compile_classifier``.

    Args:
        layout: Of the vectorizer.
        tables: Of the vectorizer, and ``weight`` (columns + 1, classes) and ``bias`` (classes,).
        labels: The names of the classes, in the order of the logits.
    """

    idf: Tensor

    def __init__(self, layout: Layout, tables: Tables, labels: Sequence[str]) -> None:
        super().__init__(layout, tables, labels)
        self.register_buffer("idf", tables["idf"])
        self.weight = nn.Parameter(tables["weight"])
        self.bias = nn.Parameter(tables["bias"])
        self.columns, self.norm = layout.columns, layout.norm
        self.binary, self.sublinear = layout.binary, layout.sublinear

    def forward(self, text: Tensor) -> Tensor:
        """Classify.

        Args:
            text: (batch, length) int32 code points, -1 after the end.

        Returns:
            logits: (batch, classes).
        """
        column = self.terms(text)  # (B, m)
        one = torch.ones(column.shape, dtype=torch.float32, device=text.device)
        count = (
            torch.zeros(
                (column.shape[0], self.columns + 1), dtype=torch.float32, device=text.device
            )
            .scatter_add(1, column, one)
            .gather(1, column)
        )  # of the term that stands there
        flat = column.reshape(-1)
        value = weighed(count, self.binary, self.sublinear)
        value = value * self.idf.index_select(0, flat).reshape(column.shape)
        share = value / count
        rows = self.weight.index_select(0, flat).reshape(column.shape[0], column.shape[1], -1)
        logits = (rows * share.unsqueeze(2)).sum(1)  # (B, m, classes) -> (B, classes)
        if self.norm == "l2":
            logits = logits / positive(torch.sqrt((value * share).sum(1, keepdim=True)))
        if self.norm == "l1":
            logits = logits / positive(share.sum(1, keepdim=True))
        return logits + self.bias


def compile_classifier(vectorizer: Any, classifier: Any) -> TextClassifier:
    """Compile a fitted vectorizer and a fitted linear classifier into one module.

    Args:
        vectorizer: A fitted ``CountVectorizer`` or ``TfidfVectorizer``.
        classifier: Fitted on its rows; anything linear: ``LogisticRegression``, ``LinearSVC``,
            ``SGDClassifier``, ``RidgeClassifier``. With two classes the logits are minus and plus
            half of its decision, so that a softmax gives ``LogisticRegression``'s probabilities.

    Raises:
        SourceError: One of them is not fitted, can't be compiled, or they don't fit together.
    """
    layout, tables = compile_tables(read_options(vectorizer))
    if not hasattr(classifier, "coef_") or not hasattr(classifier, "classes_"):
        raise SourceError(
            f"this {type(classifier).__name__} has no coef_ and classes_",
            remedy="fit a linear classifier of scikit-learn, such as LogisticRegression, first",
        )
    coef = np.asarray(classifier.coef_, np.float64)
    bias = np.broadcast_to(np.asarray(classifier.intercept_, np.float64), coef.shape[:1])
    if coef.shape[1] != layout.columns:
        raise SourceError(
            f"the classifier takes {coef.shape[1]} columns, the vectorizer makes {layout.columns}",
            remedy="fit it on what this vectorizer's transform returns",
        )
    if len(coef) == 1:
        coef, bias = np.concatenate([-coef, coef]) / 2, np.concatenate([-bias, bias]) / 2
    weight = np.concatenate([coef.T, np.zeros((1, len(coef)))])  # the last for no term
    tables["weight"] = torch.tensor(weight, dtype=torch.float32)
    tables["bias"] = torch.tensor(bias, dtype=torch.float32)
    return TextClassifier(layout, tables, [str(name) for name in classifier.classes_]).eval()
