import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import CountVectorizer

from edgeport.runtimes.errors import UsageError
from edgeport.runtimes.text import encode
from edgeport.training.text import WordVectors, compile_vectors, hyperparameters, nearest

WORDS = ["king", "man", "queen", "woman", "apple"]
VECTORS = np.array([[3, 1, 0], [1, 1, 0], [3, -1, 0], [1, -1, 0], [0, 0, 5]], np.float32)
TEXTS = ["The KING and the queen", "", "unknown words", "apple, apple man"]


def test_the_mean_of_the_words_that_are_known() -> None:
    module = compile_vectors(CountVectorizer(vocabulary=WORDS), VECTORS)
    found = module(torch.tensor(encode(TEXTS)))
    expected = [[3, 0, 0], [0, 0, 0], [0, 0, 0], [1 / 3, 1 / 3, 10 / 3]]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float32))
    assert module.output_name == "vector"


def test_a_classifier_on_top() -> None:
    weight, bias = np.array([[1.0, 0, 0], [0, 1, 0]]), np.array([0.5, -0.5])
    module = compile_vectors(CountVectorizer(vocabulary=WORDS), VECTORS, ["a", "b"], weight, bias)
    found = module(torch.tensor(encode(TEXTS[:2])))
    torch.testing.assert_close(found, torch.tensor([[3.5, -0.5], [0.5, -0.5]]))
    assert module.output_name == "logits"
    with torch.device("meta"):
        again = WordVectors.empty(**hyperparameters(module))
    again.load_state_dict(module.state_dict(), assign=True)
    assert torch.equal(again(torch.tensor(encode(TEXTS))), module(torch.tensor(encode(TEXTS))))


def test_nearest_words_and_analogies() -> None:
    ((word, cosine),) = nearest(WORDS, VECTORS, ["king"], count=1)
    assert word == "man"
    assert cosine == pytest.approx(4 / 20**0.5)
    (best, cosine), *others = nearest(WORDS, VECTORS, ["king", "woman"], ["man"])
    assert (best, [word for word, _ in others]) == ("queen", ["apple"])
    unit = VECTORS / np.linalg.norm(VECTORS, axis=1, keepdims=True)
    sought = unit[0] + unit[3] - unit[1]
    assert cosine == pytest.approx(float(unit[2] @ sought / np.linalg.norm(sought)))


def test_words_that_are_not_there() -> None:
    with pytest.raises(UsageError, match="'kin' is none of the 5 words") as caught:
        nearest(WORDS, VECTORS, ["kin"])
    assert caught.value.remedy == "did you mean king?"
    with pytest.raises(UsageError, match="'KING' is none of the 5 words") as caught:
        nearest(WORDS, VECTORS, ["KING"])
    assert caught.value.remedy == "did you mean king?"
    with pytest.raises(UsageError, match="'xyz' is none of") as caught:
        nearest(WORDS, VECTORS, ["king"], ["xyz"])
    assert caught.value.remedy == "try another word"
    with pytest.raises(UsageError, match="there is no word to look for"):
        nearest(WORDS, VECTORS, [])


def test_vectors_that_do_not_fit() -> None:
    with pytest.raises(UsageError, match="3 vectors for 5 terms of 1 to 1 words"):
        compile_vectors(CountVectorizer(vocabulary=WORDS), VECTORS[:3])
    twos = CountVectorizer(vocabulary=["a b", "b c"], ngram_range=(1, 2))
    with pytest.raises(UsageError, match="2 vectors for 2 terms of 1 to 2 words"):
        compile_vectors(twos, VECTORS[:2])


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_it_can_be_scripted() -> None:
    module = compile_vectors(CountVectorizer(vocabulary=WORDS), VECTORS)
    table = torch.tensor(encode(TEXTS))
    assert torch.equal(torch.jit.script(module)(table), module(table))
