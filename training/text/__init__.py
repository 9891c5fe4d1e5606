"""Text: scikit-learn's vectorizers, linear classifiers and Word2Vec as modules of tensors."""

from .classifier import TextClassifier, compile_classifier
from .fit import Fitted, fit_classifier
from .fit_vectors import METRIC, FittedVectors, Texts, fit_vectors
from .from_text import hyperparameters
from .lines import Lines, read_lines, read_texts, read_words
from .options import read_token_pattern
from .vectorizer import TextVectorizer, compile_vectorizer
from .word2vec import Word2Vec
from .word_vectors import WordVectors, compile_vectors, nearest

__all__ = [
    "METRIC",
    "Fitted",
    "FittedVectors",
    "Lines",
    "TextClassifier",
    "TextVectorizer",
    "Texts",
    "Word2Vec",
    "WordVectors",
    "compile_classifier",
    "compile_vectorizer",
    "compile_vectors",
    "fit_classifier",
    "fit_vectors",
    "hyperparameters",
    "nearest",
    "read_lines",
    "read_texts",
    "read_token_pattern",
    "read_words",
]
