"""From data to a run: which module is made, which part of it is trained, what is measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import torch
from torch import Tensor, nn

from edgeport.runtimes.errors import SourceError
from edgeport.training.data import DataSet, Labelled, one_size
from edgeport.training.fitting import (
    CLASSIFICATION,
    History,
    Settings,
    fit,
    largest_stable_step,
    losses,
)
from edgeport.training.fitting.loop import OnBatch, OnEpoch
from edgeport.training.fitting.objective import r2
from edgeport.training.models import (
    MODELS,
    Affine,
    Columns,
    Features,
    Pixels,
    SmallCnn,
    Staged,
    core_data,
)
from edgeport.training.models.staged import predict
from edgeport.training.vision import check_size, freeze_all_but, load_weights

from .run import Run

_KEPT_IMAGES: Final = 64
"""Held-out images of several sizes, or out of many, that a run keeps: they prove the export."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """A module that is ready to be trained.

    Attributes:
        model: A key of ``MODELS``.
        hyperparameters: What it was made with.
        module: Whole, with fitted pre-processing.
        core: The part that is trained.
        seen: The data as the core sees them.
        data: The data as the module sees them.
    """

    model: str
    hyperparameters: Mapping[str, Any]
    module: nn.Module
    core: nn.Module
    seen: DataSet
    data: DataSet


def linear(data: DataSet) -> Recipe:
    """Linear or logistic regression on a table; trained in float64, as its closed form.

    Raises:
        SourceError: The data are no table.
    """
    columns = _columns(data)
    hyperparameters = {
        "columns": columns.names,
        "categories": columns.categories,
        "classes": len(data.origin.classes),
    }
    module = _made("linear", hyperparameters)
    module.prepare = columns
    recipe = _staged("linear", hyperparameters, module, data, torch.float64)
    module.core.double()
    return recipe


def mlp(
    data: DataSet,
    *,
    hidden: Sequence[int] = (128,),
    activation: str = "relu",
    norm: str = "none",
    dropout: float = 0.0,
) -> Recipe:
    """An MLP on a table or on arrays of one shape; the arguments are those of ``models.Mlp``.

    Raises:
        SourceError: Inputs have several shapes.
    """
    one_size(data)
    table = _is_table(data)
    columns = _columns(data) if table else None
    shapes = {} if table else {n: list(np.shape(a[0])) for n, a in data.train.inputs.items()}
    hyperparameters = {
        "columns": columns.names if columns else [],
        "categories": columns.categories if columns else {},
        "shapes": shapes,
        "classes": len(data.origin.classes),
        "hidden": list(hidden),
        "activation": activation,
        "norm": norm,
        "dropout": float(dropout),
    }
    module = _made("mlp", hyperparameters)
    if columns is not None:
        module.prepare = columns
    elif isinstance(module.prepare, Features):
        module.prepare.fit(data.train)
    return _staged("mlp", hyperparameters, module, data)


def cnn(data: DataSet, *, channels: int = 32, hidden: int = 128) -> Recipe:
    """A small CNN on images of one size; the arguments are those of ``models.SmallCnn``.

    Raises:
        SourceError: The data are no images of one size.
    """
    one_size(data)
    (name, images), *others = data.train.inputs.items()
    one = np.asarray(images[0])
    if others or one.ndim not in (2, 3):
        raise SourceError(
            f"{data.origin.name} is no set of images: "
            + ", ".join(f"{n} {t}" for n, t in data.origin.schema.items()),
            remedy="give one array (n, height, width, 3) of uint8 or (n, planes, height, width) of "
            "float32, or a folder of images; for tables: edgeport train mlp",
        )
    hyperparameters = {
        "image": name,
        "shape": list(one.shape),
        "floats": one.dtype.kind == "f",
        "classes": len(data.origin.classes),
        "channels": channels,
        "hidden": hidden,
    }
    if min(Pixels(name, one.shape, one.dtype.kind == "f").size[1:]) < 2:
        raise SourceError(f"images of shape {one.shape}", remedy="give larger ones")
    return _staged("cnn", hyperparameters, _made("cnn", hyperparameters), data)


def vision(
    data: DataSet,
    network: str,
    *,
    resize: int = 256,
    crop: int = 224,
    weights: Path | None = None,
    train_all: bool = False,
) -> Recipe:
    """A model of torchvision on raw images of any size.

    Args:
        data: With images (height, width, 3) of uint8.
        network: Name of the model.
        resize: As for ``Preprocess``.
        crop: As for ``Preprocess``.
        weights: A local file to start from. Then only the layers that do not fit it, the last, are
            trained: transfer learning.
        train_all: Train all layers, though there are weights.

    Raises:
        SourceError: The data are no colour images; the network takes none of that size; the
            weights are of another model.
        BackendMissingError: torchvision is not installed.
        UsageError: There is no such model.
    """
    (name, images), *others = data.train.inputs.items()
    one = np.asarray(images[0])
    if others or one.ndim != 3 or one.shape[-1] != 3 or one.dtype != np.uint8:
        raise SourceError(
            f"{data.origin.name} is no set of colour images",
            remedy="give a folder of images, or an array (n, height, width, 3) of uint8; grey ones "
            "of one size: edgeport train cnn",
        )
    hyperparameters = {
        "image": name,
        "network": network,
        "classes": len(data.origin.classes),
        "resize": resize,
        "crop": crop,
    }
    module = _made("vision", hyperparameters)
    check_size(module.core, crop)
    if weights is not None:
        new = load_weights(module.core, weights)
        if not train_all:
            freeze_all_but(module.core, new)
    return _staged("vision", hyperparameters, module, data)


def small_cnn(data: DataSet) -> Recipe:
    """``models.SmallCnn`` alone on the digits, which need no pre-processing."""
    hyperparameters = {"channels": 32, "hidden": 128}
    module = SmallCnn(**hyperparameters)
    return Recipe("small_cnn", hyperparameters, module, module, data, data)


def stable_step(recipe: Recipe, decay: float = 0.0) -> float:
    """The largest stable step of full-batch gradient descent for a linear recipe.

    Args:
        recipe: Made by ``linear``.
        decay: Weight decay of the descent, at least 0.
    """
    (features,) = map(torch.from_numpy, recipe.seen.train.inputs.values())
    with_bias = torch.cat([features, torch.ones_like(features[:, :1])], 1)
    classes = len(recipe.data.origin.classes) or None
    return largest_stable_step(with_bias, classes=classes, decay=decay)


def usual_decay(recipe: Recipe) -> float | None:
    """The ``weight_decay`` whose minimum is that of scikit-learn's ``LogisticRegression()``.

    That minimises C * (sum of losses) + |w|^2 / 2 with C = 1, and a step of descent with a decay d
    the mean of n losses + d |w|^2 / 2: d = 1 / (C n). Without any, classes that a plane parts have
    no best weights: they grow as long as they are trained. Of two classes scikit-learn has one row
    of weights, w = w1 - w0, and the least |w0|^2 + |w1|^2 is |w|^2 / 2: d = 2 / (C n).

    Returns:
        ``None`` for values: their closed form has no penalty.
    """
    classes = len(recipe.data.origin.classes)
    return (2 if classes == 2 else 1) / len(recipe.data.train) if classes else None


def train(
    recipe: Recipe,
    settings: Settings,
    *,
    on_batch: OnBatch | None = None,
    on_epoch: OnEpoch | None = None,
    checkpoint: Path | None = None,
) -> Run:
    """Train the core, and measure the whole module on held-out examples.

    Raises:
        EdgeportError: As ``fit``.
        KeyboardInterrupt: As ``fit``.
    """
    history = fit(
        recipe.core,
        recipe.seen,
        settings,
        on_batch=on_batch,
        on_epoch=on_epoch,
        checkpoint=checkpoint,
        made_with=recipe.hyperparameters,
    )
    return measured(recipe, history)


def measured(recipe: Recipe, history: History) -> Run:
    """The run of a recipe whose core was trained, with its scores on held-out examples.

    Args:
        recipe: Its module is moved to the CPU, where it is exported, and rounded to float32.
        history: What ``fit`` returned.
    """
    recipe.module.cpu()
    closed = _closed_form_scores(recipe)  # before the core is rounded to float32
    module = recipe.module.float().eval()
    held_out = recipe.data.held_out
    run = Run(recipe.model, recipe.hyperparameters, module, recipe.data.origin, held_out, history)
    run = replace(run, scores={**scores(module, held_out), **closed})
    if any(array.dtype == object for array in held_out.inputs.values()):
        kept = np.arange(min(len(held_out), _KEPT_IMAGES))
        run = replace(run, held_out=held_out.rows(kept).decoded())
    return run


def scores(module: nn.Module, held_out: Labelled) -> dict[str, float]:
    """What is measured on held-out examples, with the whole module on raw inputs.

    ``accuracy`` and ``cross_entropy`` (nats) of classes; ``r2``, ``mse`` and ``mae`` of values, in
    the unit of the labels (squared for ``mse``).
    """
    outputs, labels = predict(module, held_out), torch.tensor(held_out.labels)
    if held_out.classification:
        cost = losses(CLASSIFICATION, outputs.double(), labels).mean()
        return {
            "accuracy": CLASSIFICATION.score(outputs, labels),
            "cross_entropy": float(cost),
        }
    error = (outputs - labels).double()
    return {
        "r2": r2(outputs, labels),
        "mse": float(error.square().mean()),
        "mae": float(error.abs().mean()),
    }


def closed_form(features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Least squares by the singular value decomposition: the solution of least norm.

    Args:
        features: (n, features) float64.
        labels: (n,) float64.

    Returns:
        Weights: (features,), and the bias: ().
    """
    with_bias = torch.cat([features, torch.ones_like(features[:, :1])], 1)
    found = torch.linalg.lstsq(with_bias, labels[:, None], driver="gelsd").solution[:, 0]
    return found[:-1], found[-1]


def coefficients(run: Run) -> dict[str, tuple[float, float]]:
    """Feature -> weight per deviation, and weight per unit, of a linear regression.

    ``(intercept)`` is the prediction at the means, and at 0. Empty for any other run.
    """
    module = run.module
    if run.model != "linear" or run.held_out.classification or not isinstance(module, Staged):
        return {}
    columns: Any = module.prepare
    weight, bias = (p.detach().double() for p in module.core.parameters())
    weight, numbers = weight[0], len(columns.numbers)
    per_unit = weight.clone()
    per_unit[:numbers] /= columns.scale.double()
    at_zero = bias - (per_unit[:numbers] * columns.mean.double()).sum()
    found = {
        name: (float(a), float(b))
        for name, a, b in zip(columns.features, weight, per_unit, strict=True)
    }
    return {**found, "(intercept)": (float(bias), float(at_zero))}


def _closed_form_scores(recipe: Recipe) -> dict[str, float]:
    """How far gradient descent is from the closed form, and what the closed form reaches."""
    if recipe.model != "linear" or recipe.data.train.classification:
        return {}
    train, held_out = recipe.seen.train, recipe.seen.held_out
    features, labels = torch.from_numpy(train.inputs["features"]), torch.from_numpy(train.labels)
    weight, bias = closed_form(features, labels)
    own_weight, own_bias = (p.detach() for p in recipe.core.parameters())
    predicted = torch.from_numpy(held_out.inputs["features"]) @ weight + bias
    wanted = torch.from_numpy(held_out.labels)
    apart = max((own_weight[0] - weight).abs().max(), (own_bias[0] - bias).abs())
    return {
        "closed_form_r2": r2(predicted, wanted),
        "closed_form_mse": float((predicted - wanted).square().mean()),
        "coefficients_apart": float(apart),
    }


def _is_table(data: DataSet) -> bool:
    return all(kind in ("text", "float32") for kind in data.origin.schema.values())


def _columns(data: DataSet) -> Columns:
    if not _is_table(data):
        raise SourceError(
            f"{data.origin.name} is no table: "
            + ", ".join(f"{name} {kind}" for name, kind in data.origin.schema.items()),
            remedy="give a .csv file, or train an mlp or a cnn on it",
        )
    return Columns.of(data.train)


def _made(model: str, hyperparameters: Mapping[str, Any]) -> Staged:
    module = MODELS[model](**hyperparameters)
    return cast("Staged", module)  # what the table holds under these names


def _staged(
    model: str,
    hyperparameters: Mapping[str, Any],
    module: Staged,
    data: DataSet,
    dtype: torch.dtype = torch.float32,
) -> Recipe:
    if isinstance(module.finish, Affine):
        module.finish.fit(torch.tensor(data.train.labels))
    seen = core_data(module, data, dtype)
    return Recipe(model, hyperparameters, module, module.core, seen, data)
