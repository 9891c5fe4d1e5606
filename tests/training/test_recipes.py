"""From data to a run whose module takes raw input, with the figures that the field reaches."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgeport import training
from edgeport.runtimes import EdgeportError
from edgeport.training import DataSet, Labelled, Settings, recipes
from edgeport.training.data import bundled_table, dataset, ragged, read_csv, split
from edgeport.training.models import MODELS, Staged
from edgeport.training.models.staged import predict
from edgeport.training.vision import Preprocess

DESCENT = {"momentum": 0.95, "nesterov": True}


def diabetes() -> DataSet:
    return dataset(bundled_table("diabetes"), "target")


def descend(recipe: recipes.Recipe, epochs: int, options: dict[str, float | bool]) -> training.Run:
    rate = recipes.stable_step(recipe, options.get("weight_decay", 0)) / 2
    settings = Settings(epochs, None, rate, optimizer="SGD", options=options, schedule="constant")
    return recipes.train(recipe, settings)


def test_diabetes_by_gradient_descent_is_the_closed_form() -> None:
    from sklearn.linear_model import LinearRegression

    run = descend(recipes.linear(diabetes()), 700, DESCENT)
    assert run.scores["coefficients_apart"] < 1e-6
    assert run.scores["r2"] == pytest.approx(0.452603, abs=1e-6)
    assert run.scores["mse"] == pytest.approx(2900.1936, rel=1e-6)
    data = diabetes()
    x = np.stack(list(data.train.inputs.values()), 1).astype(np.float64)
    theirs = LinearRegression().fit(x, data.train.labels)
    found = recipes.coefficients(run)
    per_unit = [value for name, (_, value) in found.items() if name != "(intercept)"]
    np.testing.assert_allclose(per_unit, theirs.coef_, rtol=1e-6)
    assert found["(intercept)"][1] == pytest.approx(theirs.intercept_, rel=1e-6)


@pytest.mark.slow
def test_columns_that_depend_on_one_another(tmp_path: Path) -> None:
    """One feature per category and an intercept: descent from 0 finds the least-norm solution."""
    path = tmp_path / "a.csv"
    generator = np.random.default_rng(0)
    rows = [
        f"{x:.3f},{kind},{3 * x + {'a': 1, 'b': 2, 'c': 5}[kind]:.3f}"
        for x, kind in zip(generator.normal(size=60), "abc" * 20, strict=True)
    ]
    path.write_text("\n".join(["x,kind,y", *rows]))
    run = descend(recipes.linear(dataset(read_csv(path), "y")), 2000, DESCENT)
    assert run.scores["coefficients_apart"] < 1e-6
    assert run.scores["r2"] > 0.9999


@pytest.mark.parametrize(
    ("name", "accuracy"), [("iris", 0.9333), ("wine", 0.9722), ("breast_cancer", 0.9737)]
)
def test_logistic_regression_reaches_the_anchors(name: str, accuracy: float) -> None:
    run = descend(recipes.linear(dataset(bundled_table(name), "target")), 200, {"momentum": 0.9})
    assert run.scores["accuracy"] >= accuracy - 1e-4


@pytest.mark.parametrize(
    ("name", "c"), [("breast_cancer", 1), ("breast_cancer", 0.1), ("iris", 1)]
)  # two classes, and three
def test_penalised_descent_ends_where_scikit_learn_does(name: str, c: float) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    data = dataset(bundled_table(name), "target")
    recipe = recipes.linear(data)
    decay = recipes.usual_decay(recipe)
    assert decay is not None
    assert decay == (2 if name == "breast_cancer" else 1) / len(data.train)
    descend(recipe, 1000, {**DESCENT, "weight_decay": decay / c})
    x = np.stack(list(data.train.inputs.values()), 1).astype(np.float64)
    theirs = LogisticRegression(C=c, tol=1e-10, max_iter=10_000)
    theirs.fit(StandardScaler().fit_transform(x), data.train.labels)
    linear: Any = recipe.core
    weight, bias = (each.detach().double().numpy() for each in (linear.weight, linear.bias))
    if len(weight) == 2:
        weight, bias = weight[1:] - weight[:1], bias[1:] - bias[:1]
    np.testing.assert_allclose(weight, theirs.coef_, atol=1e-5)
    np.testing.assert_allclose(bias - bias.mean() * (len(bias) > 1), theirs.intercept_, atol=1e-5)


def test_no_decay_for_values() -> None:
    assert recipes.usual_decay(recipes.linear(diabetes())) is None


def test_digits_by_the_cnn() -> None:
    torch.manual_seed(0)
    run = recipes.train(recipes.cnn(training.digits()), Settings(12, 64, 3e-3))
    assert run.scores["accuracy"] >= 0.989


def test_digits_by_the_mlp() -> None:
    torch.manual_seed(0)
    run = recipes.train(recipes.mlp(training.digits()), Settings(40, 32, 1e-3))
    assert run.scores["accuracy"] >= 0.975


def test_a_regression_is_told_in_the_unit_of_its_labels(tmp_path: Path) -> None:
    torch.manual_seed(0)
    run = recipes.train(
        recipes.mlp(diabetes(), hidden=(16,), activation="tanh", norm="layer"),
        Settings(30, 32, 1e-2),
    )
    outputs = predict(run.module, run.held_out).numpy()
    assert run.scores["mse"] == pytest.approx(((outputs - run.held_out.labels) ** 2).mean())
    assert 0.35 < run.scores["r2"] < 0.6
    assert run.output == "prediction"
    training.save(run, tmp_path / "run")
    back = training.load(tmp_path / "run")
    assert torch.equal(predict(back.module, back.held_out), predict(run.module, run.held_out))


@pytest.mark.parametrize(
    ("shape", "dtype"), [((6, 6), np.uint8), ((6, 5, 3), np.uint8), ((2, 6, 5), np.float32)]
)
def test_images_of_every_layout(tmp_path: Path, shape: tuple[int, ...], dtype: type) -> None:
    generator = np.random.default_rng(0)
    pixels: np.ndarray = generator.integers(0, 256, (20, *shape)).astype(dtype)
    data = split("noise", Labelled({"image": pixels}, np.arange(20) % 2))
    torch.manual_seed(0)
    run = recipes.train(recipes.cnn(data, channels=2, hidden=4), Settings(1, 8, 1e-3))
    training.save(run, tmp_path / "run")
    back = training.load(tmp_path / "run")
    assert back.shapes == {"image": ("batch", *shape)}
    assert torch.equal(predict(back.module, back.held_out), predict(run.module, run.held_out))


def test_a_table_comes_back_with_its_columns_in_order(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    rows = [f"{n % 7},{'xy'[n % 2]},{n % 5},{'a longer' * (n % 3)}_,{n}" for n in range(30)]
    path.write_text("\n".join(["zeta,kind,alpha,place,y", *rows]))
    run = descend(recipes.linear(dataset(read_csv(path), "y")), 3, {})
    training.save(run, tmp_path / "run")
    back = training.load(tmp_path / "run")
    assert list(back.shapes.items()) == [
        ("zeta", ("batch",)), ("kind", ("batch", "characters")), ("alpha", ("batch",)),
        ("place", ("batch", "characters")),
    ]  # fmt: skip
    (sample,) = back.samples  # the axis of the characters is one of all
    assert [sample[name].shape[1] for name in ("kind", "place")] == [17, 17]
    assert back.scores == run.scores
    assert torch.equal(predict(back.module, back.held_out), predict(run.module, run.held_out))


def test_images_of_several_sizes_come_back(tmp_path: Path) -> None:
    """A run of ours with a stand-in for torchvision's network."""
    generator = np.random.default_rng(0)
    images = [generator.integers(0, 256, (n + 4, 9 - n, 3), np.uint8) for n in range(5)]
    held_out = Labelled({"image": ragged(images)}, np.arange(5) % 2)
    module = Staged(Preprocess("image", 8, 6), nn.Sequential(nn.Flatten(), nn.Linear(108, 2)))
    history = training.History(
        Settings(1, 1, 1.0), "cross-entropy", "accuracy", (training.Epoch(1, 1.0, 1.0, 0.5, 1.0),)
    )
    origin = training.Origin("a", 5, "", training.Split(0.5, 0, stratified=False))
    run = training.Run("stand_in", {}, module, origin, held_out, history)
    training.save(run, tmp_path / "run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(MODELS, "stand_in", lambda: copy.deepcopy(module))
        back = training.load(tmp_path / "run")
    assert back.shapes == {"image": ("batch", "height", "width", 3)}
    assert [sample["image"].shape for sample in back.samples] == [(1, *i.shape) for i in images]
    assert torch.equal(predict(back.module, back.held_out), predict(module, held_out))


def test_data_of_another_kind_are_refused() -> None:
    several = Labelled(
        {"image": ragged([np.zeros((n, 4, 3), np.uint8) for n in (2, 3, 4, 5)])}, np.arange(4) % 2
    )
    table = diabetes()
    dots = Labelled({"image": np.zeros((8, 1, 1, 3), np.uint8)}, np.arange(8) % 2)
    for make, data, problem in (
        (recipes.linear, training.digits(), "digits is no table"),
        (recipes.cnn, table, "diabetes is no set of images"),
        (recipes.cnn, split("a", dots), "images of shape"),
        (recipes.cnn, split("a", several), "has images of several sizes"),
        (recipes.mlp, split("a", several), "has images of several sizes"),
        (lambda d: recipes.vision(d, "resnet18"), training.digits(), "no set of colour images"),
    ):
        with pytest.raises(EdgeportError, match=problem):
            make(data)
