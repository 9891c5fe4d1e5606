"""Text: scikit-learn's vectorizers and linear classifiers as modules of tensor operators."""

from .classifier import TextClassifier, compile_classifier, hyperparameters
from .fit import Fitted, fit_classifier
from .lines import Lines, read_lines
from .vectorizer import TextVectorizer, compile_vectorizer

__all__ = [
    "Fitted",
    "Lines",
    "TextClassifier",
    "TextVectorizer",
    "compile_classifier",
    "compile_vectorizer",
    "fit_classifier",
    "hyperparameters",
    "read_lines",
]
