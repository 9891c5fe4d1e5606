"""The charts of a run as PNG files, for papers and slides; ``report.html`` has them too."""

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from edgeport.commands.run_page import confusion, has_curves
from edgeport.runtimes.needs import needs

if TYPE_CHECKING:
    from edgeport.training import Run

_SIZE_IN: Final = (6.4, 4.0)
_DPI: Final = 150
_MOST_NUMBERS: Final = 12
"""Classes up to which a confusion matrix has its counts written in."""
_MOST_LAYERS: Final = 8


def pngs(run: "Run") -> dict[str, bytes]:
    """Draw them.

    Args:
        run: It is run on its held-out examples.

    Returns:
        By file name: ``curves.png`` of two epochs or more; ``confusion.png`` of classes or
        ``residuals.png`` of values; ``norms.png`` if norms were recorded.

    Raises:
        BackendMissingError: matplotlib is not installed.
    """
    found = {"curves.png": _curves(run)} if has_curves(run) else {}
    if run.held_out.classification:
        found["confusion.png"] = _confusion(run)
    elif run.output == "prediction" and run.held_out.labels.ndim == 1:
        found["residuals.png"] = _residuals(run)
    if run.history.norms:
        found["norms.png"] = _norms(run)
    return found


def _figure(columns: int) -> tuple[Any, Sequence[Any]]:
    with needs("--png", "plots"):
        from matplotlib.figure import Figure  # no pyplot: no state, and no display
    figure = Figure((_SIZE_IN[0] * columns, _SIZE_IN[1]), dpi=_DPI, layout="constrained")
    return figure, [figure.add_subplot(1, columns, place + 1) for place in range(columns)]


def _drawn(figure: Any) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})  # same run, same bytes
    return file.getvalue()


def _curves(run: "Run") -> bytes:
    figure, (costs, scores) = _figure(2)
    epochs = run.history.epochs
    numbers = [epoch.number for epoch in epochs]
    mark = "o" if len(epochs) == 1 else None
    costs.plot(numbers, [epoch.cost for epoch in epochs], label="training", marker=mark)
    costs.plot(numbers, [epoch.held_out_cost for epoch in epochs], label="held out", marker=mark)
    costs.set(xlabel="epoch", ylabel=run.history.objective, title="cost")
    costs.legend()
    scores.plot(numbers, [epoch.held_out_score for epoch in epochs], marker=mark)
    scores.set(xlabel="epoch", ylabel=run.history.metric, title=f"held-out {run.history.metric}")
    return _drawn(figure)


def _confusion(run: "Run") -> bytes:
    figure, (axes,) = _figure(1)
    names, grid = run.origin.classes, confusion(run)
    axes.imshow(grid, cmap="Blues")
    axes.set(xlabel="predicted", ylabel="right", title="held-out examples")
    if len(names) <= _MOST_NUMBERS:
        axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
        axes.set_yticks(range(len(names)), names)
        half = max(map(max, grid)) / 2
        for row, counts in enumerate(grid):
            for column, count in enumerate(counts):
                colour = "white" if count > half else "black"
                axes.text(column, row, count, ha="center", va="center", color=colour)
    return _drawn(figure)


def _residuals(run: "Run") -> bytes:
    from edgeport.training.models.staged import predict

    figure, (both, residuals) = _figure(2)
    predicted, measured = predict(run.module, run.held_out).numpy(), run.held_out.labels
    both.scatter(measured, predicted, s=8)
    both.axline((float(measured.mean()),) * 2, slope=1, color="grey", linewidth=1)
    both.set(xlabel=f"measured {run.origin.target}", ylabel="predicted")
    residuals.scatter(predicted, measured - predicted, s=8)
    residuals.axhline(0, color="grey", linewidth=1)
    residuals.set(xlabel=f"predicted {run.origin.target}", ylabel="residual")
    return _drawn(figure)


def _norms(run: "Run") -> bytes:
    figure, axes = _figure(2)
    norms = run.history.norms
    epochs = [each.epoch for each in norms]
    kinds: Mapping[str, str] = {"gradient": "norm of the gradient", "activation": "rms returned"}
    for axis, (kind, title) in zip(axes, kinds.items(), strict=True):
        for layer in list(getattr(norms[0], kind))[:_MOST_LAYERS]:
            values = [getattr(each, kind).get(layer, 0.0) for each in norms]
            axis.plot(epochs, values, label=layer, marker="o" if len(epochs) == 1 else None)
        axis.set(xlabel="epoch", title=title, yscale="log")
        axis.legend(fontsize="small")
    return _drawn(figure)
