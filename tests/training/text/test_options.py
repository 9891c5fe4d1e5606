from typing import Any

import pytest
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfVectorizer

from edgeport.runtimes.errors import SourceError
from edgeport.training.text import compile_vectorizer
from edgeport.training.text.options import TokenPattern, read_token_pattern


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (r"(?u)\b\w\w+\b", TokenPattern(r"\w", 2, bounded=False)),
        (r"\w+", TokenPattern(r"\w", 1, bounded=False)),
        (r"\w\w*", TokenPattern(r"\w", 1, bounded=False)),
        (r"\b\w{3,}\b", TokenPattern(r"\w", 3, bounded=False)),
        (r"\b[^\W\d]+\b", TokenPattern(r"[^\W\d]", 1, bounded=True)),
        (r"[\]\w-][\]\w-]{2,}", TokenPattern(r"[\]\w-]", 3, bounded=False)),
    ],
)
def test_a_class_that_is_repeated(pattern: str, expected: TokenPattern) -> None:
    assert read_token_pattern(pattern) == expected


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        (r"\w+|\d", "it is not one class of characters, repeated"),
        (r"(\w+)", "it is not one class of characters, repeated"),
        (r"\w{2,5}", "it is not one class of characters, repeated"),
        (r"\b\w+", "it is not one class of characters, repeated"),
        (r"(?i)[a-z]+", "it is not one class of characters, repeated"),
        ("(", "it is no regular expression: missing ), unterminated subpattern at position 0"),
        ("[z-a]+", "it is no regular expression: bad character range z-a at position 1"),
        (r"\w*", "its shortest token has 0 characters"),
        (r"\b[\w'-]+\b", r"[\w'-] matches characters that are no \w, beside \b"),
    ],
)
def test_a_pattern_that_cannot_be_compiled(pattern: str, reason: str) -> None:
    with pytest.raises(SourceError) as caught:
        compile_vectorizer(CountVectorizer(token_pattern=pattern, vocabulary=["x"]))
    assert caught.value.problem == f"token_pattern {pattern!r} cannot be compiled: {reason}"
    assert "use one class and its shortest length" in caught.value.remedy


@pytest.mark.parametrize("name", ["preprocessor", "tokenizer", "analyzer", "strip_accents"])
def test_a_function_is_refused_by_name(name: str) -> None:
    options: dict[str, Any] = {name: lambda text: text, "token_pattern": None}
    with pytest.raises(SourceError, match=f"the vectorizer's {name} is a function of Python"):
        compile_vectorizer(CountVectorizer(vocabulary=["x"], **options))


def test_what_is_no_vectorizer() -> None:
    with pytest.raises(SourceError, match="a HashingVectorizer cannot be compiled"):
        compile_vectorizer(HashingVectorizer())


@pytest.mark.parametrize("vectorizer", [CountVectorizer(), TfidfVectorizer(vocabulary=["x"])])
def test_what_is_not_fitted(vectorizer: Any) -> None:
    with pytest.raises(SourceError, match=f"this {type(vectorizer).__name__} is not fitted"):
        compile_vectorizer(vectorizer)
