"""Fit Word2Vec on texts, with a classifier on top if they have labels, and compile it."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from edgeport.training.data import Labelled, Origin, Split
from edgeport.training.fitting import Epoch, History, Settings

from .corpus import Corpus, read_corpus
from .fit import classes_of, kept_texts, part, refuse_difference
from .from_text import hyperparameters
from .lookup import Array
from .options import read_token
from .word2vec import OnChunk, Trainer, Word2Vec
from .word_vectors import WordVectors, compile_vectors

METRIC: Final = "AUC of pairs"
"""How often a word that is there beats a drawn one: the score of an epoch."""

_MOST_GROWTH: Final = 10
"""Of the cost: in a small vocabulary a step has the same few words often, and moves them far."""

OnEpoch = Callable[[Epoch], None]


@dataclass(frozen=True, slots=True)
class Texts:
    """What is trained on.

    Attributes:
        name: Of the data.
        texts: Two or more.
        labels: One for each text, or none at all.
        sha256: Of what was read.
    """

    name: str
    texts: list[str]
    labels: Sequence[str]
    sha256: str


@dataclass(frozen=True, slots=True)
class FittedVectors:
    """Vectors of words and how they came about.

    Attributes:
        module: Raw text to a vector, or to logits.
        words: The vocabulary, the most frequent first.
        hyperparameters: What the module is made of again.
        origin: The data.
        held_out: Held-out texts, with their classes; without labels, how many of their words are
            known.
        history: The training: its score is how often a word that is there beats a drawn one.
        scores: ``pair_auc``, ``known_words`` and with labels ``accuracy``, of held-out texts.
    """

    module: WordVectors
    words: tuple[str, ...]
    hyperparameters: dict[str, Any]
    origin: Origin
    held_out: Labelled
    history: History
    scores: dict[str, float]


def fit_vectors(
    texts: Texts,
    asked: Word2Vec,
    vectorizer: Any,
    least: int,
    penalty: float = 1.0,
    on_epoch: OnEpoch | None = None,
    on_chunk: OnChunk | None = None,
) -> FittedVectors:
    """Train vectors of words, and compile them.

    A fifth of labelled texts is held out, a twentieth of others.

    Args:
        texts: What to train on.
        asked: How.
        vectorizer: A ``CountVectorizer`` that says what a word is; its vocabulary is set here.
        least: A word that occurs less often in the texts that are trained on is left out.
        penalty: ``C`` of the logistic regression on top.
        on_epoch: Called after each epoch.
        on_chunk: Called now and then.

    Raises:
        SourceError: There are too few texts or words, or the vectorizer can't be compiled.
        EngineError: The training diverged.
        ParityError: The compiled module and numpy disagree on a held-out text.
        KeyboardInterrupt: Ctrl-C before the end of the first epoch; later ones end it early.
    """
    read_token(vectorizer)
    split = Split(0.2 if texts.labels else 0.05, 42, stratified=False)
    rows, held = part(len(texts.texts), split)
    names, numbers = (
        classes_of(texts.labels, rows) if texts.labels else (np.zeros(0, object), np.zeros(0))
    )
    kept_out = [texts.texts[row] for row in held]
    words_of = vectorizer.build_analyzer()
    others = [words_of(text) for text in kept_out]
    corpus = read_corpus([words_of(texts.texts[row]) for row in rows], least)
    unseen = read_corpus(others, 1, corpus.words)
    vectors, epochs = _train(corpus, unseen, asked, on_epoch, on_chunk)
    vectorizer.set_params(vocabulary={word: index for index, word in enumerate(corpus.words)})
    means = _means(unseen, len(others), vectors)
    scores = {
        "pair_auc": epochs[-1].held_out_score,
        "known_words": len(unseen.ids) / max(1, sum(map(len, others))),
    }
    if texts.labels:
        weight, bias = _classifier(_means(corpus, len(rows), vectors), numbers[rows], penalty)
        module = compile_vectors(vectorizer, vectors, [str(name) for name in names], weight, bias)
        expected = means @ weight.T + bias
        scores["accuracy"] = float((expected.argmax(1) == numbers[held]).mean())
        labels = numbers[held].astype(np.int64)
    else:
        module, expected = compile_vectors(vectorizer, vectors), means
        labels = np.bincount(unseen.texts, minlength=len(others)).astype(np.float32)
    refuse_difference(module, kept_out, expected, "numpy")
    return FittedVectors(
        module,
        corpus.words,
        {**hyperparameters(module), "words": list(corpus.words)},
        _origin(texts, split, names),
        kept_texts(kept_out, labels),
        _history(asked, least, epochs),
        scores,
    )


def _origin(texts: Texts, split: Split, names: Array) -> Origin:
    return Origin(
        texts.name,
        len(texts.texts),
        texts.sha256,
        split,
        {"text": "text"},
        "label" if texts.labels else "known words",
        tuple(map(str, names)),
    )


def _train(
    corpus: Corpus,
    unseen: Corpus,
    asked: Word2Vec,
    on_epoch: OnEpoch | None,
    on_chunk: OnChunk | None,
) -> tuple[Array, tuple[Epoch, ...]]:
    """Ctrl-C ends it early: the vectors are those of the last epoch that was done."""
    trainer, epochs = Trainer(corpus, asked), tuple[Epoch, ...]()
    vectors = trainer.vectors
    worst = _MOST_GROWTH * (1 + asked.negatives) * np.log(2)  # of scores of 0, before any step
    try:
        for number in range(1, asked.epochs + 1):
            cost = trainer.epoch(on_chunk)
            held_cost, auc = trainer.judge(unseen, asked.seed)
            if not held_cost < worst:  # NaN, too; the last step of an epoch has no cost after it
                raise trainer.diverged(number, held_cost)
            rate = asked.first_rate * (1 - number / asked.epochs)
            epoch = Epoch(number, cost, held_cost, auc, rate)
            vectors, epochs = trainer.vectors, (*epochs, epoch)
            if on_epoch is not None:
                on_epoch(epoch)
    except KeyboardInterrupt:
        if not epochs:
            raise
    return vectors, epochs


def _history(asked: Word2Vec, least: int, epochs: tuple[Epoch, ...]) -> History:
    warnings = _too_frequent(epochs, asked)
    return History(_settings(asked, least), "negative sampling", METRIC, epochs, warnings=warnings)


def _too_frequent(epochs: Sequence[Epoch], asked: Word2Vec) -> tuple[str, ...]:
    """A cost of 0 is that of no pair: in a small vocabulary every word is frequent."""
    without = sum(epoch.cost == 0 for epoch in epochs)
    if not without:
        return ()
    return (
        f"too-frequent-words: in {without} of {len(epochs)} epochs nothing was learned, as sample "
        f"{asked.sample:g} left no two words beside one another; --sample 0 leaves none out",
    )


def _means(corpus: Corpus, count: int, vectors: Array) -> Array:
    """(texts, dimensions) float64, the mean of the vectors of each text; zeros for none."""
    sums = np.zeros((count, vectors.shape[1]))
    np.add.at(sums, corpus.texts, vectors[corpus.ids].astype(np.float64))
    return sums / np.maximum(1, np.bincount(corpus.texts, minlength=count))[:, None]


def _classifier(means: Array, numbers: Array, penalty: float) -> tuple[Array, Array]:
    """Logistic regression on standardised means, as weight and bias for plain ones."""
    from sklearn.linear_model import LogisticRegression

    centre, scale = means.mean(0), means.std(0)
    scale = np.where(scale > 0, scale, 1.0)
    fitted: Any = LogisticRegression(C=penalty, max_iter=1000)
    fitted.fit((means - centre) / scale, numbers)
    weight, bias = fitted.coef_ / scale, fitted.intercept_ - fitted.coef_ @ (centre / scale)
    if len(weight) == 1:  # two classes: half of the decision against the other half
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    return weight, bias


def _settings(asked: Word2Vec, least: int) -> Settings:
    options = asdict(asked)
    for name in ("epochs", "batch", "seed", "rate"):
        del options[name]
    return Settings(
        epochs=asked.epochs,
        batch_size=asked.words,
        seed=asked.seed,
        learning_rate=asked.first_rate,
        optimizer="gradient descent, closed form",
        options={**options, "min_count": least},
        schedule="linear",
    )
