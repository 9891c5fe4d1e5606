from typing import Any

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from edgeport.runtimes.errors import SourceError
from edgeport.runtimes.text import encode
from edgeport.training.text import TextClassifier, compile_classifier, hyperparameters

TEXTS = [
    "free money now",
    "win free prizes",
    "see you at lunch",
    "lunch at noon, you",
    "the report",
]
NAMES = ["spam", "spam", "ham", "ham", "work"]
ASKED = [*TEXTS, "", "free free FREE lunch", "unknown words"]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"sublinear_tf": True, "ngram_range": (1, 2)},
        {"norm": "l1"},
        {"norm": None, "binary": True},
        {"analyzer": "char_wb", "ngram_range": (2, 3)},
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", [LogisticRegression, LinearSVC])
def test_logits_are_the_decisions_of_scikit_learn(options: dict[str, Any], kind: Any) -> None:
    vectorizer = TfidfVectorizer(**options)
    classifier = kind().fit(vectorizer.fit_transform(TEXTS), NAMES)
    module = compile_classifier(vectorizer, classifier)
    expected = classifier.decision_function(vectorizer.transform(ASKED))
    found = module(torch.tensor(encode(ASKED))).detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert hyperparameters(module)["labels"] == ["ham", "spam", "work"]


def test_two_classes_give_the_probabilities_of_logistic_regression() -> None:
    vectorizer = TfidfVectorizer()
    classifier = LogisticRegression().fit(vectorizer.fit_transform(TEXTS[:4]), NAMES[:4])
    logits = compile_classifier(vectorizer, classifier)(torch.tensor(encode(ASKED))).detach()
    expected = classifier.predict_proba(vectorizer.transform(ASKED))
    np.testing.assert_allclose(torch.softmax(logits, 1).numpy(), expected, rtol=1e-5)


def test_an_empty_module_takes_the_weights() -> None:
    vectorizer = CountVectorizer(ngram_range=(1, 2))
    classifier = LogisticRegression().fit(vectorizer.fit_transform(TEXTS), NAMES)
    module = compile_classifier(vectorizer, classifier)
    with torch.device("meta"):
        again = TextClassifier.empty(**hyperparameters(module))
    again.load_state_dict(module.state_dict(), assign=True)
    table = torch.tensor(encode(ASKED))
    assert torch.equal(again(table), module(table))


def test_parts_that_do_not_fit() -> None:
    vectorizer = CountVectorizer()
    rows: Any = vectorizer.fit_transform(TEXTS)
    with pytest.raises(SourceError, match="this LogisticRegression has no coef_ and classes_"):
        compile_classifier(vectorizer, LogisticRegression())
    classifier = LogisticRegression().fit(rows[:, :3], NAMES)
    columns = rows.shape[1]
    with pytest.raises(SourceError, match=f"takes 3 columns, the vectorizer makes {columns}"):
        compile_classifier(vectorizer, classifier)
