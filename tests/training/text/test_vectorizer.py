import functools
import random
import unicodedata
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer

from edgeport.runtimes.text import encode
from edgeport.training.text import TextVectorizer, compile_vectorizer

TEXTS = [
    "Free entry! Win a prize, txt WIN to 80085 now... it's FREE",
    "the cat sat on the mat, and the cat's mat sat",
    "ΟΔΥΣΣΕΥΣ ΣΑΣ ΑΣ Σ ΣΣ A.Σ AΣ.B AΣ' 'AΣ'B A\u0345Σ AΣ\u0345 σας ας",
    "İSTANBUL DİYARBAKIR i̇stanbul \u0131ss\u0131z straße STRASSE ﬁne x² ½ ١٢٣",
    "e\u0301clair éclair ÉCLAIR naïve  Å \u212b K \u212a",
    "한국어 텍스트 日本語 テキスト न्यूनतम ไทย ﷺ ⑴ ㏂ ㌀",
    "🙂🙂 👨\u200d👩\u200d👧 a\u00a0b\u3000c\td\n\ne  f\x1cg\x85h",
    "__init__ snake_case don't rock'n'roll x-y a1 1a ab1 ab cd abc1 abcd",
    "",
    " ",
]

OPTIONS: list[dict[str, Any]] = [
    {},
    {"lowercase": False},
    {"binary": True},
    {"ngram_range": (1, 3)},
    {"ngram_range": (2, 2)},
    {"ngram_range": (1, 2), "stop_words": ["the", "a", "on"]},
    {"ngram_range": (1, 2), "stop_words": "english", "token_pattern": r"(?u)\b\w+\b"},
    {"strip_accents": "unicode"},
    {"strip_accents": "ascii", "ngram_range": (1, 2)},
    {"strip_accents": "unicode", "lowercase": False, "ngram_range": (1, 2)},
    {"token_pattern": r"\S+"},
    {"token_pattern": r"[a-z']{2,}", "ngram_range": (1, 2)},
    {"token_pattern": r"\b[a-z]{2,}\b", "ngram_range": (1, 2)},
    {"token_pattern": r"[^\s,.]+", "ngram_range": (1, 2)},
    {"max_features": 20, "ngram_range": (1, 2)},
    {"analyzer": "char"},
    {"analyzer": "char", "ngram_range": (1, 4)},
    {"analyzer": "char", "ngram_range": (3, 3), "lowercase": False},
    {"analyzer": "char", "ngram_range": (2, 3), "strip_accents": "unicode"},
    {"analyzer": "char_wb"},
    {"analyzer": "char_wb", "ngram_range": (1, 4)},
    {"analyzer": "char_wb", "ngram_range": (4, 5)},
    {"analyzer": "char_wb", "ngram_range": (2, 4), "strip_accents": "ascii"},
]


def compiled(vectorizer: Any, texts: list[str]) -> np.ndarray[Any, Any]:
    module = compile_vectorizer(vectorizer)
    return rows(module, texts)


def rows(module: TextVectorizer, texts: list[str]) -> np.ndarray[Any, Any]:
    found: np.ndarray[Any, Any] = module(torch.tensor(encode(texts))).numpy()
    return found


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_counts_are_those_of_scikit_learn(options: dict[str, Any]) -> None:
    vectorizer: Any = CountVectorizer(**options).fit(TEXTS)
    shuffled = list(" ".join(TEXTS))
    random.Random(0).shuffle(shuffled)
    pieces = ["".join(shuffled[first : first + 40]) for first in range(0, 400, 40)]
    texts = [*TEXTS, *pieces, "unseen words only", "\ufdfa" * 9]
    expected = vectorizer.transform(texts).toarray()
    assert expected.any()
    np.testing.assert_array_equal(compiled(vectorizer, texts), expected)


@pytest.mark.parametrize("sublinear", [False, True])
@pytest.mark.parametrize("norm", ["l1", "l2", None])
@pytest.mark.parametrize("idf", [False, True])
def test_weights_are_those_of_scikit_learn(norm: str | None, sublinear: bool, idf: bool) -> None:
    options: dict[str, Any] = {"norm": norm, "sublinear_tf": sublinear, "use_idf": idf}
    vectorizer: Any = TfidfVectorizer(**options).fit(TEXTS)
    expected = vectorizer.transform(TEXTS).toarray()
    np.testing.assert_allclose(compiled(vectorizer, TEXTS), expected, rtol=1e-6, atol=1e-7)


FUZZED = {
    "word": CountVectorizer(ngram_range=(1, 2), token_pattern=r"\w+"),
    "accents": CountVectorizer(strip_accents="unicode", stop_words=["cat"]),
    "char": CountVectorizer(analyzer="char", ngram_range=(1, 3)),
    "char_wb": CountVectorizer(analyzer="char_wb", ngram_range=(2, 4)),
}


@functools.cache
def fuzzed(name: str) -> tuple[Any, Any]:
    vectorizer = FUZZED[name].fit(TEXTS)
    return vectorizer, compile_vectorizer(vectorizer)


known = st.sampled_from(sorted(set("".join(TEXTS))))
texts_of_anything = st.lists(
    st.lists(known | st.characters(), max_size=30).map("".join), min_size=1, max_size=4
)


@pytest.mark.parametrize("name", FUZZED)
@given(texts=texts_of_anything)
@settings(max_examples=60)
def test_any_text_counts_the_same(name: str, texts: list[str]) -> None:
    vectorizer, module = fuzzed(name)
    np.testing.assert_array_equal(rows(module, texts), vectorizer.transform(texts).toarray())


@pytest.mark.parametrize("name", ["word", "accents"])
def test_every_code_point_counts_the_same(name: str) -> None:
    vectorizer, module = fuzzed(name)
    points = [p for p in range(0x110000) if unicodedata.category(chr(p)) not in ("Cn", "Co", "Cs")]
    interesting = [p for p in points if not (0x3400 <= p < 0xD7FF or p >= 0x17000) or p % 97 == 0]
    pieces = [f"cat{chr(p)}the {chr(p)}x {chr(p)}Σ a{chr(p)}" for p in interesting]
    texts = [" ".join(pieces[first : first + 64]) for first in range(0, len(pieces), 64)]
    for first in range(0, len(texts), 64):
        part = texts[first : first + 64]
        np.testing.assert_array_equal(rows(module, part), vectorizer.transform(part).toarray())


def test_words_of_one_letter_whose_breaks_are_in_one_code_point() -> None:
    vectorizer = CountVectorizer(strip_accents="unicode", token_pattern=r"\w+").fit(["a m"])
    texts = ["\u33c2" * number for number in range(1, 6)]  # "a.m."
    expected = vectorizer.transform(texts).toarray()
    assert expected[:, 0].tolist() == [1, 2, 3, 4, 5]
    np.testing.assert_array_equal(rows(compile_vectorizer(vectorizer), texts), expected)


def test_a_word_whose_hash_collides_is_not_that_word() -> None:
    vectorizer = CountVectorizer(token_pattern=r"\w+", vocabulary=["ab", "ba", "abc"])
    module = compile_vectorizer(vectorizer)
    words: Any = module.terms.analyzer
    words.factors.fill_(1)  # the worst hash: ab, ba, bb and aa meet
    assert rows(module, ["aa", "bb"]).sum() == 0


def test_a_fixed_vocabulary_may_hold_what_never_occurs() -> None:
    vectorizer = CountVectorizer(vocabulary=["money", "free money", "x", "Money"])
    assert compiled(vectorizer, ["free money, Money x"]).tolist() == [[2, 0, 0, 0]]


def test_padding_changes_nothing() -> None:
    _, module = fuzzed("word")
    table = encode(["the cat ΑΣ"])
    wide = np.pad(table, ((0, 0), (0, 50)), constant_values=-1)
    assert torch.equal(module(torch.tensor(table)), module(torch.tensor(wide)))


def test_a_text_alone_and_among_others() -> None:
    for _, module in map(fuzzed, FUZZED):
        alone = np.concatenate([rows(module, [text]) for text in TEXTS])
        np.testing.assert_array_equal(alone, rows(module, TEXTS))


@pytest.mark.parametrize("name", FUZZED)
@given(texts=texts_of_anything)
@settings(max_examples=20)
def test_code_points_that_are_alike_make_no_difference(name: str, texts: list[str]) -> None:
    _, module = fuzzed(name)
    (alike,) = module.alike.values()
    _, firsts = np.unique(alike, return_index=True)
    table = encode(texts)
    others = np.where(table < 0, -1, firsts[alike[table]]).astype(np.int32)
    expected = module(torch.tensor(table))
    assert torch.equal(module(torch.tensor(others)), expected)


@pytest.mark.parametrize("name", FUZZED)
@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_every_module_can_be_scripted(name: str) -> None:
    _, module = fuzzed(name)
    scripted = torch.jit.script(module)
    table = torch.tensor(encode(TEXTS))
    assert torch.equal(scripted(table), module(table))
