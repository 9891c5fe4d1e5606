"""The page of a run: what it reached, how it got there, where it errs."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from edgeport.commands import charts
from edgeport.commands import html_page as html
from edgeport.commands.charts import Line
from edgeport.commands.html_page import Html, tag

if TYPE_CHECKING:
    from edgeport.training import Run, Split

_WORST: Final = 10
_LARGEST_MATRIX: Final = 40
_MOST_POINTS: Final = 2000
_LONGEST_TEXT: Final = 160
_LONGEST_LIST: Final = 40
_STYLES: Final = ("main", "second", "third", "soft")


def page(run: "Run") -> str:
    """The page, which loads nothing.

    Args:
        run: It is run on its held-out examples.
    """
    title = f"{run.model} on {run.origin.name}"
    sections = [
        _head(run, title),
        _warnings(run),
        _learned(run),
        *([] if run.output == "vector" else _errors(run)),
        _coefficients(run),
        _layers(run),
        _asked(run),
    ]
    return html.document(title, [part for part in sections if part])


def _head(run: "Run", title: str) -> Html:
    whole = run.history.completed
    lead = " · ".join(f"held-out {_name(name)} {value:.6g}" for name, value in _scores(run))
    facts = [
        ("parameters", f"{run.parameters:,}"),
        ("examples", f"{run.origin.examples:,}, {run.origin.split.test_size:.0%} held out"),
        ("epochs", f"{len(run.history.epochs):,} of {run.history.settings.epochs:,}"),
        ("weights", f"of epoch {run.history.kept.number:,}"),
        ("trained on", run.history.device),
    ]
    return tag(
        "header",
        tag("div", "✓" if whole else "…", class_="seal", aria_hidden="true"),
        tag("h1", title, *([] if whole else [" ", tag("em", "interrupted")])),
        tag("p", lead, class_="lead"),
        html.pairs(facts),
        class_="good" if whole else "bad",
    )


def _scores(run: "Run") -> list[tuple[str, float]]:
    wanted = ("accuracy", "cross_entropy", "r2", "mse", "mae", "pair_auc", "known_words")
    return [(name, run.scores[name]) for name in wanted if name in run.scores]


def _name(score: str) -> str:
    names = {"r2": "R²", "mse": "MSE", "mae": "MAE", "cross_entropy": "cross-entropy"}
    return names.get(score, score.replace("_", " "))


def _warnings(run: "Run") -> Html:
    if not run.history.warnings:
        return Html()
    return html.section("Warnings", html.items("ul", run.history.warnings), class_="failure")


def has_curves(run: "Run") -> bool:
    """Whether there is something to draw: scikit-learn fits in one go, which is one point."""
    return max(len(run.history.epochs), run.history.settings.epochs) >= 2


def _learned(run: "Run") -> Html:
    if not has_curves(run):
        return Html()
    return html.section("How it learned", tag("div", *_curves(run), class_="charts"))


def _curves(run: "Run") -> list[Html]:
    epochs = run.history.epochs
    numbers = [float(epoch.number) for epoch in epochs]
    costs = [
        Line("training", numbers, [epoch.cost for epoch in epochs]),
        Line("held out", numbers, [epoch.held_out_cost for epoch in epochs], "second"),
    ]
    spread = [c for line in costs for c in line.ys if c > 0]
    log = bool(spread) and min(spread) > 0 and max(spread) > 20 * min(spread)
    unit = "nats" if run.history.objective == "cross-entropy" else run.history.objective
    scores = [epoch.held_out_score for epoch in epochs]
    readable = _readable(scores)
    found = [
        charts.lines("Cost of an epoch: the mean loss", costs, x="epoch", y=unit, log=log),
        charts.lines(
            f"Held-out {run.history.metric}" + (", cut at -1" if readable != scores else ""),
            [Line(run.history.metric, numbers, readable)],
            x="epoch",
            y=run.history.metric,
        ),
    ]
    rates = [epoch.learning_rate for epoch in epochs]
    if len(set(rates)) > 1:
        line = Line("learning rate", numbers, rates)
        found.append(charts.lines("Learning rate", [line], x="epoch", y="rate"))
    return found


def _readable(scores: Sequence[float]) -> list[float]:
    """R2 before anything was learned can be -1e6, and flattens the rest, where any is above -1."""
    return [max(score, -1.0) for score in scores] if max(scores) > -1 else list(scores)


def _errors(run: "Run") -> list[Html]:
    import torch

    from edgeport.training.fitting import losses, objective_for
    from edgeport.training.models.staged import predict

    outputs = predict(run.module, run.held_out)
    labels = torch.tensor(run.held_out.labels)
    each: list[float] = losses(objective_for(labels), outputs.double(), labels).tolist()
    parts = [charts.histogram("Loss of each held-out example", each, x="loss", y="examples")]
    if run.held_out.classification:
        return [
            _confusion(run, outputs.argmax(-1).tolist()),
            html.section(
                "Where it errs", tag("div", *parts, class_="charts"), _worst(run, outputs, each)
            ),
        ]
    if outputs.ndim == 1:
        predicted, wanted = outputs.tolist()[:_MOST_POINTS], labels.tolist()[:_MOST_POINTS]
        residuals = [w - p for w, p in zip(wanted, predicted, strict=True)]
        target = run.origin.target
        parts = [
            charts.points(
                "Predicted and measured: on the line they are equal", wanted, predicted,
                x=f"measured {target}", y="predicted", rule="equal",
            ),
            charts.points(
                "Residuals: measured less predicted", predicted, residuals,
                x=f"predicted {target}", y="residual", rule="zero",
            ),
            charts.histogram("Residuals", residuals, x="residual", y="examples"),
            *parts,
        ]  # fmt: skip
    return [
        html.section(
            "Where it errs",
            tag("div", *parts, class_="charts"),
            _residual_facts(run, outputs, labels),
            _worst(run, outputs, each),
        )
    ]


def _residual_facts(run: "Run", outputs: Any, labels: Any) -> Html:
    residual = (labels - outputs).double()
    standard = residual.std(correction=0)
    centred = residual - residual.mean()
    skew = float((centred**3).mean() / standard**3) if standard else 0.0
    facts = [
        ("mean", f"{float(residual.mean()):.4g}"),
        ("deviation", f"{float(standard):.4g}"),
        ("largest", f"{float(residual.abs().max()):.4g}"),
        ("skewness", f"{skew:.3g}"),
    ]
    rows = [[name, value] for name, value in facts]
    return html.table(f"Residuals of {run.origin.target}", ["figure", "value"], rows)


def _confusion(run: "Run", predicted: Sequence[int]) -> Html:
    names = run.origin.classes
    if not 2 <= len(names) <= _LARGEST_MATRIX:
        return Html()
    grid = _counted(run, predicted)
    return html.section("Confusion", charts.counts("Held-out examples", names, grid))


def _counted(run: "Run", predicted: Sequence[int]) -> list[list[int]]:
    grid = [[0] * len(run.origin.classes) for _ in run.origin.classes]
    for right, found in zip(run.held_out.labels.tolist(), predicted, strict=True):
        grid[right][found] += 1
    return grid


def confusion(run: "Run") -> list[list[int]]:
    """How many held-out examples of each class were taken for each: right class down.

    Args:
        run: Of classes.
    """
    from edgeport.training.models.staged import predict

    return _counted(run, predict(run.module, run.held_out).argmax(-1).tolist())


def _worst(run: "Run", outputs: Any, each: Sequence[float]) -> Html:
    order = sorted(range(len(each)), key=lambda row: -each[row])[:_WORST]
    names, labels = run.origin.classes, run.held_out.labels

    def shown(value: float) -> str:
        return names[int(value)] if run.held_out.classification and names else f"{value:.6g}"

    if outputs.ndim > 1 and not run.held_out.classification:
        return Html()
    found = outputs.argmax(-1) if run.held_out.classification else outputs
    right = "right" if run.held_out.classification else "measured"
    texts = _texts(run, order)
    rows = [
        [f"{row}", shown(labels[row]), shown(float(found[row])), f"{each[row]:.4g}", *texts[place]]
        for place, row in enumerate(order)
    ]
    return html.table(
        "Held-out examples with the largest loss, by their number in held_out.safetensors",
        ["example", right, "predicted", "loss", *(["text"] if any(texts) else [])],
        rows,
        wide=any(texts),
    )


def _texts(run: "Run", rows: Sequence[int]) -> list[list[str]]:
    """The beginning of the text of each example; nothing where examples are no texts."""
    from edgeport.runtimes.text import decode

    if run.origin.schema != {"text": "text"}:
        return [[] for _ in rows]
    whole = decode(run.held_out.inputs["text"][list(rows)])
    return [[t if len(t) <= _LONGEST_TEXT else f"{t[:_LONGEST_TEXT]}…"] for t in whole]


def _coefficients(run: "Run") -> Html:
    from edgeport.training.recipes import coefficients

    rows = [
        [name, f"{per_deviation:.6g}", f"{per_unit:.6g}"]
        for name, (per_deviation, per_unit) in coefficients(run).items()
    ]
    if not rows:
        return Html()
    scores = run.scores
    closed = (
        f"The closed form reaches R² {scores['closed_form_r2']:.6f} and MSE "
        f"{scores['closed_form_mse']:.6g} on held-out examples; no coefficient is more than "
        f"{scores['coefficients_apart']:.1e} from its own."
    )
    header = ["feature", "per deviation", "per unit"]
    return html.section(
        "Coefficients", html.table("What a prediction changes by", header, rows), tag("p", closed)
    )


def _layers(run: "Run") -> Html:
    norms = run.history.norms
    if not norms:
        return Html()
    epochs = [float(n.epoch) for n in norms]
    found = []
    for title, kind in (
        ("Norm of the gradient of each layer", "gradient"),
        ("Root mean square of what each layer returns", "activation"),
    ):
        series = [getattr(n, kind) for n in norms]
        names = list(series[0])
        if len(names) > len(_STYLES):  # the first, the last, and two between say enough
            last = len(names) - 1
            names = [names[i] for i in sorted({0, last // 3, 2 * last // 3, last})]
        curves = [
            Line(name, epochs, [s.get(name, 0.0) for s in series], style)
            for name, style in zip(names, _STYLES, strict=False)
        ]
        if curves:
            found.append(charts.lines(title, curves, x="epoch", y="norm", log=True))
    return html.section("Inside", tag("div", *found, class_="charts")) if found else Html()


def _asked(run: "Run") -> Html:
    settings, origin = run.history.settings, run.origin
    asked = [(name, _text(getattr(settings, name))) for name in settings.__slots__]
    data = [
        ("name", origin.name), ("sha256", origin.sha256), ("target", origin.target),
        ("split", _split(origin.split)),
        ("schema", ", ".join(f"{n}: {k}" for n, k in origin.schema.items())),
    ]  # fmt: skip
    made = [(name, _text(value)) for name, value in run.hyperparameters.items()]
    return html.section(
        "What was asked",
        html.table("Hyperparameters of the training", ["name", "value"], asked, wide=True),
        html.table("Hyperparameters of the module", ["name", "value"], made, wide=True),
        html.table("Data", ["name", "value"], data, wide=True),
        html.table("Versions", ["package", "version"], list(run.versions.items())),
    )


def _split(split: "Split") -> str:
    if split.random_state is None:
        return "the part that the data come with is held out"
    return f"{split.test_size} held out, seed {split.random_state}"


def _text(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(item)}" for name, item in value.items()) or "none"
    if isinstance(value, list | tuple) and len(value) > _LONGEST_LIST:
        return f"{_text(value[:_LONGEST_LIST])}, … ({len(value):,} in all)"
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value)) or "none"
    return str(value)
