"""Models by name, made from plain JSON: what ``run.json`` names and nothing else can be opened."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from torch import nn

from .arrays import Features, Pixels
from .columns import Columns
from .layers import Linear, Mlp
from .small_cnn import SmallCnn
from .staged import Affine, Staged

Maker = Callable[..., nn.Module]


def linear(columns: Sequence[str], categories: Mapping[str, Sequence[str]], classes: int) -> Staged:
    """Linear or logistic regression on raw columns.

    Args:
        columns: Their names.
        categories: Column of text -> its categories.
        classes: 0 to predict a value.
    """
    prepare = Columns(columns, categories)
    return Staged(prepare, Linear(len(prepare.features), classes))


def mlp(
    columns: Sequence[str],
    categories: Mapping[str, Sequence[str]],
    shapes: Mapping[str, Sequence[int]],
    classes: int,
    **options: Any,
) -> Staged:
    """An MLP on raw columns or raw arrays.

    Args:
        columns: As for ``linear``; empty for arrays.
        categories: The same.
        shapes: Input -> shape of one example; empty for columns.
        classes: 0 to predict a value.
        options: Of ``Mlp``.
    """
    prepare: Columns | Features
    if shapes:
        prepare = Features(shapes)
        features = prepare.mean.numel()
    else:
        prepare = Columns(columns, categories)
        features = len(prepare.features)
    core = Mlp(features=features, classes=classes, **options)
    return Staged(prepare, core, None if classes else Affine())


def cnn(
    image: str, shape: Sequence[int], floats: bool, classes: int, channels: int, hidden: int
) -> Staged:
    """A small CNN on raw images of one size.

    Args:
        image: Name of the input.
        shape: As for ``Pixels``.
        floats: As for ``Pixels``.
        classes: 0 to predict a value.
        channels: As for ``SmallCnn``.
        hidden: As for ``SmallCnn``.
    """
    prepare = Pixels(image, shape, floats)
    core = SmallCnn(channels, hidden, *prepare.size, classes)
    return Staged(prepare, core, None if classes else Affine())


def vision(image: str, network: str, classes: int, resize: int, crop: int) -> Staged:
    """A model of torchvision on raw images of any size.

    Args:
        image: Name of the input.
        network: As ``vision.make_network`` takes it.
        classes: At least 2.
        resize: As for ``vision.Preprocess``.
        crop: As for ``vision.Preprocess``.
    """
    from edgeport.training.vision import Preprocess, make_network

    return Staged(Preprocess(image, resize, crop), make_network(network, classes))


def text_classifier(
    layout: Mapping[str, Any], tables: Mapping[str, Sequence[Any]], labels: Sequence[str]
) -> nn.Module:
    """A vectorizer and a linear classifier on raw text.

    Args:
        layout: As for ``TextClassifier.empty``.
        tables: The same.
        labels: The same.
    """
    from edgeport.training.text import TextClassifier

    return TextClassifier.empty(layout, tables, labels)


def word2vec(
    layout: Mapping[str, Any],
    tables: Mapping[str, Sequence[Any]],
    labels: Sequence[str],
    words: Sequence[str],
) -> nn.Module:
    """Vectors of words, and a linear classifier if there are labels, on raw text.

    Args:
        layout: As for ``WordVectors.empty``.
        tables: The same.
        labels: The same.
        words: In the order of the vectors, for people.
    """
    from edgeport.training.text import WordVectors

    made = WordVectors.empty(layout, tables, labels)
    if len(words) != made.words:
        raise ValueError(f"{len(words)} words for {made.words} vectors")
    return made


MODELS: Final[Mapping[str, Maker]] = {
    "small_cnn": SmallCnn,
    "linear": linear,
    "mlp": mlp,
    "cnn": cnn,
    "vision": vision,
    "text_classifier": text_classifier,
    "word2vec": word2vec,
}
