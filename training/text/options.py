"""What a fitted scikit-learn vectorizer does, as plain values; the rest is refused."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, NoReturn

import numpy as np

from edgeport.runtimes.errors import SourceError

from .lookup import Array
from .unicode import Accents, matching

Analyzer = Literal["word", "char", "char_wb"]

_TOKEN: Final = re.compile(
    r"(?:\(\?u\))?(?P<open>\\b)?"
    r"(?P<letter>\\[wWdDsS]|\[\^?\]?(?:\\.|[^\]\\])*\])(?P<more>(?:(?P=letter))*)"
    r"(?P<times>\+|\*|\{\d+,\})(?P<close>\\b)?"
)
_LONGEST_REPEAT: Final = 1000


@dataclass(frozen=True, slots=True)
class TokenPattern:
    """Runs of characters of one class.

    Attributes:
        letter: A regular expression for one character.
        least: Characters of the shortest token.
        bounded: No word character may stand beside a token.
    """

    letter: str
    least: int
    bounded: bool


@dataclass(frozen=True, slots=True)
class Options:
    """What a vectorizer does.

    Attributes:
        vocabulary: Term to column.
        shortest, longest: n of the n-grams.
        stop_words: Left out before n-grams are made.
        idf: (columns,) float64, or ``None`` for counts alone.
        norm: Of a row; ``None`` to leave it as it is.
    """

    analyzer: Analyzer
    lowercase: bool
    accents: Accents | None
    token: TokenPattern
    shortest: int
    longest: int
    stop_words: frozenset[str]
    vocabulary: Mapping[str, int]
    idf: Array | None
    binary: bool
    sublinear: bool
    norm: Literal["l1", "l2"] | None


def read_options(vectorizer: Any) -> Options:
    """Read a fitted ``CountVectorizer`` or ``TfidfVectorizer``.

    Raises:
        SourceError: It is not fitted, is something else, or does what tensors can't.
    """
    from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer

    if not isinstance(vectorizer, CountVectorizer):
        _refuse(
            f"a {type(vectorizer).__name__} cannot be compiled",
            "use scikit-learn's CountVectorizer or TfidfVectorizer",
        )
    token = read_token(vectorizer)
    fitted: Any = vectorizer  # its own annotations are of every release
    weighted = isinstance(vectorizer, TfidfVectorizer)
    vocabulary = _vocabulary(fitted)
    shortest, longest = map(int, fitted.ngram_range)
    return Options(
        analyzer=fitted.analyzer,
        lowercase=bool(fitted.lowercase),
        accents=fitted.strip_accents,
        token=token,
        shortest=shortest,
        longest=longest,
        stop_words=frozenset(fitted.get_stop_words() or ())
        if fitted.analyzer == "word"
        else frozenset(),
        vocabulary=vocabulary,
        idf=np.asarray(fitted.idf_) if weighted and fitted.use_idf else None,
        binary=bool(fitted.binary),
        sublinear=bool(weighted and fitted.sublinear_tf),
        norm=fitted.norm if weighted else None,
    )


def read_token(vectorizer: Any) -> TokenPattern:
    """What a vectorizer takes for a token: before it is fitted, as that may take long.

    Raises:
        SourceError: It does what tensors can't.
    """
    _refuse_code(vectorizer)
    if vectorizer.analyzer != "word":
        return TokenPattern(r"\w", 1, bounded=False)
    return read_token_pattern(vectorizer.token_pattern)


def read_token_pattern(pattern: str) -> TokenPattern:
    r"""Read a ``token_pattern``: one class of characters, repeated, with or without ``\b``.

    Raises:
        SourceError: It is anything else.

    Examples:
        >>> read_token_pattern(r"(?u)\b\w\w+\b")
        TokenPattern(letter='\\w', least=2, bounded=False)
        >>> read_token_pattern("[a-z']{3,}")
        TokenPattern(letter="[a-z']", least=3, bounded=False)
    """
    try:
        found = re.compile(pattern) and _TOKEN.fullmatch(pattern)
    except (re.error, TypeError) as e:
        _refuse_pattern(pattern, f"it is no regular expression: {e}")
    if found is None or (found["open"] is None) != (found["close"] is None):
        _refuse_pattern(pattern, "it is not one class of characters, repeated")
    letter, times = found["letter"], found["times"]
    least = 1 + len(found["more"]) // len(letter)
    if times[0] == "*":
        least -= 1
    elif times[0] == "{":
        least += int(times[1:-2]) - 1
    if not 1 <= least <= _LONGEST_REPEAT:
        _refuse_pattern(pattern, f"its shortest token has {least} characters")
    bounded = found["open"] is not None
    if bounded and letter != r"\w" and _matches_beyond_words(letter):
        _refuse_pattern(pattern, rf"{letter} matches characters that are no \w, beside \b")
    return TokenPattern(letter, least, bounded and letter != r"\w")


def _matches_beyond_words(letter: str) -> bool:
    return bool((matching(letter) & ~matching(r"\w")).any())


def _refuse_code(vectorizer: Any) -> None:
    for name in ("preprocessor", "tokenizer", "analyzer", "strip_accents"):
        if callable(getattr(vectorizer, name)):
            _refuse(
                f"the vectorizer's {name} is a function of Python, which no engine can run",
                "use analyzer='word', 'char' or 'char_wb', token_pattern, lowercase and "
                "strip_accents='ascii' or 'unicode' in its place",
            )


def _vocabulary(vectorizer: Any) -> dict[str, int]:
    from sklearn.exceptions import NotFittedError

    try:
        vectorizer._check_vocabulary()  # takes a fixed vocabulary over, as transform does
        if getattr(vectorizer, "use_idf", False):
            _ = vectorizer.idf_
    except (NotFittedError, AttributeError) as e:
        raise SourceError(
            f"this {type(vectorizer).__name__} is not fitted", remedy="call its fit(texts) first"
        ) from e
    return {term: int(column) for term, column in vectorizer.vocabulary_.items()}


def _refuse_pattern(pattern: object, reason: str) -> NoReturn:
    _refuse(
        f"token_pattern {pattern!r} cannot be compiled: {reason}",
        r"use one class and its shortest length: r'\b\w\w+\b', r'\w+', r'\S+', '[a-z0-9]{3,}'",
    )


def _refuse(problem: str, remedy: str) -> NoReturn:
    raise SourceError(problem, remedy=remedy)
