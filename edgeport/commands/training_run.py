"""What every ``edgeport train MODEL`` does: check the place, train, save, say what came of it."""

import contextlib
import json
import re
import reprlib
import shlex
import signal
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from threading import current_thread, main_thread
from typing import TYPE_CHECKING, Final

from edgeport.commands.quantities import four_decimals
from edgeport.commands.raw_input import tell_animated, tell_left_out
from edgeport.commands.terminal import note, progress, show, size_text
from edgeport.commands.train_events import Events, events
from edgeport.commands.training_options import DataArgs, TrainArgs, needs_torch
from edgeport.runtimes import EdgeportError, ExistingFileError, SourceError, StorageError
from edgeport.runtimes.formats.csv_table import TABLES
from edgeport.runtimes.images import images_in
from edgeport.runtimes.needs import needs
from edgeport.runtimes.safety.forked import ENDING
from edgeport.runtimes.text import decode

if TYPE_CHECKING:
    from edgeport.training import DataSet, Epoch, History, Run, Settings
    from edgeport.training.recipes import Recipe


SHARED_MEMORY: Final = Path("/dev/shm")

_FEW: Final = 10


def open_data(args: DataArgs) -> "DataSet":
    """Read and split the data that were asked for.

    Raises:
        EdgeportError: They cannot be read, or nothing can be learned from them.
    """
    from edgeport.training import Split, data

    drawn = args.held_out is not None or args.stratified
    found = data.open_data(
        args.where,
        target=args.target,
        categorical=args.categorical,
        drop=args.drop,
        how=Split(args.held_out or 0.2, 42, args.stratified) if drawn else None,
    )
    where = Path(args.where)
    if where.suffix.lower() in TABLES:
        _tell_what_was_guessed(found, args.categorical)
    for told in found.notes:
        note(told)
    if where.is_dir() and images_in(where):
        tell_left_out(where)
        tell_animated(where)
    again = data.repeated(found)
    if again:
        note(
            f"{again:,} of {len(found.held_out):,} held-out examples have the inputs of one that "
            "is trained on: they measure memory"
        )
    return found


def _tell_what_was_guessed(data: "DataSet", categorical: Collection[str]) -> None:
    """Which columns are categories, and which target may be one: a file does not say so."""
    origin, inputs = data.origin, data.train.inputs
    texts = [
        f"{name!r} (as {reprlib.repr(decode(inputs[name][:1])[0])})"
        for name, kind in origin.schema.items()
        if kind == "text" and name not in categorical
    ]
    if texts:
        note(f"taken as categories, for there is text in them: {', '.join(texts)}")
    values = {*data.train.labels.tolist(), *data.held_out.labels.tolist()}
    if not origin.classes and len(values) <= _FEW and all(map(float.is_integer, values)):
        note(
            f"{origin.target!r} holds {len(values)} different whole numbers, taken as values; if "
            f"they are classes: --categorical {shlex.quote(origin.target)}"
        )


@contextlib.contextmanager
def _within_memory() -> Iterator[None]:
    """Say what helps where the memory is too small, which torch says in words alone."""
    try:
        yield
    except EdgeportError:
        raise
    except (RuntimeError, MemoryError) as e:
        said = str(e)
        if isinstance(e, RuntimeError) and not re.search("(can't allocate|out of) memory", said):
            raise
        wanted = re.search(r"allocate (\d+) bytes", said)
        what = "" if wanted is None else f": {size_text(int(wanted[1]))} more could not be had"
        raise SourceError(
            f"the memory is too small for this training{what}",
            remedy="take fewer examples in a step (--batch-size 16), a smaller model or less data",
        ) from e


@_within_memory()
def run(args: TrainArgs, make: Callable[[], "Recipe"]) -> int:
    """Train, save what was trained, and say where it is.

    Args:
        args: What was asked.
        make: Reads the data and makes the module, once the random seed is set.
    """
    needs_torch()
    needs_plots(args.png)
    import torch

    from edgeport import training
    from edgeport.runtimes import files
    from edgeport.training.device import computing_on, require_device, require_tf32
    from edgeport.training.fitting import join_group, leave_group
    from edgeport.training.recipes import measured, usual_decay

    device = require_device(args.device)
    if args.settings["tf32"]:
        require_tf32(device)
    training.check_place(args.output)
    if args.checkpoint is not None:
        files.refuse_unfit(args.checkpoint)
    rank = join_group()
    try:
        torch.manual_seed(args.settings["seed"])
        recipe = make()
        usual = usual_decay(recipe)
        settings = args.make(_rate(args, recipe, usual), usual)
        with computing_on(device, tf32=settings.tf32):
            recipe.core.to(device)
        if args.find_rate:
            return _find_rate(recipe, settings)
        with events(args.tensorboard if rank.number == 0 else None) as told:
            history = _fit(args, recipe, settings, told, quiet=rank.number > 0)
            with uninterrupted():
                made = measured(recipe, history)
                if rank.number > 0:
                    return 0
                save(made, args.output, png=args.png)
                told.end(made)  # which may find the disk full, once nothing is lost by it
                return _report(made, args)
    finally:
        leave_group()


def needs_plots(asked: bool) -> None:
    """Say before a training, not after it, if what ``--png`` draws with is missing.

    Raises:
        BackendMissingError: It is.
    """
    if asked:
        with needs("--png", "plots"):
            import matplotlib  # noqa: F401  # the import is the question


def _rate(args: TrainArgs, recipe: "Recipe", usual_decay: float | None) -> float | None:
    """Half of the largest stable step, where no rate was given: for convex models."""
    if args.settings["learning_rate"] is not None:
        return None
    from edgeport.training.recipes import stable_step

    asked = args.settings["options"].get("weight_decay", 0)
    decay = usual_decay if asked is None else asked
    if (
        not isinstance(decay, int | float) or not decay > 0
    ):  # the optimizer refuses what is no decay
        decay = 0.0
    largest = stable_step(recipe, decay)
    note(f"largest stable step of gradient descent {largest:.4f}; half of it is the learning rate")
    return largest / 2


def _fit(
    args: TrainArgs, recipe: "Recipe", settings: "Settings", told: Events, *, quiet: bool
) -> "History":
    from edgeport import training

    data, asked = recipe.data, settings.epochs
    fit = partial(
        training.fit,
        recipe.core,
        recipe.seen,
        settings,
        checkpoint=args.checkpoint,
        made_with=recipe.hyperparameters,
    )
    if quiet:
        return fit()
    note(
        f"training on {len(data.train):,} {_noun(data)} of {data.origin.name}, "
        f"{len(data.held_out):,} held out"
    )
    every = max(1, asked // 20)
    metric = "accuracy" if data.train.classification else "R2"
    score, begun = "", False
    with progress("training", 1000) as bar:

        def on_epoch(epoch: "Epoch") -> None:
            told.tell(epoch, metric)
            nonlocal score
            score = f"  held-out {metric} {four_decimals(epoch.held_out_score)}"
            if epoch.number % every == 0 or epoch.number in (1, asked):
                bar.clear()
                (note if args.as_json else show)(_line(epoch, asked, metric))

        def on_batch(done: int, planned: int, cost: float) -> None:
            nonlocal begun
            if not begun and done > 1:
                first = (done - 1) * asked // planned + 1
                note(f"going on with epoch {first} of {asked}, from {args.checkpoint}")
            begun = True
            if bar.due:
                bar.update(1000 * done // planned, f"cost {four_decimals(cost)}{score}")

        history = fit(on_batch=on_batch, on_epoch=on_epoch)
    if history.completed and not begun:
        note(f"{args.checkpoint} holds the whole training: nothing was left to do")
    return history


def _noun(data: "DataSet") -> str:
    return "images" if list(data.train.inputs) == ["image"] else "examples"


def _line(epoch: "Epoch", asked: int, metric: str) -> str:
    cost, held_out_cost, score = map(
        four_decimals, (epoch.cost, epoch.held_out_cost, epoch.held_out_score)
    )
    return (
        f"epoch {epoch.number:>{len(str(asked))}}/{asked}  cost {cost}  "
        f"held-out cost {held_out_cost}  held-out {metric} {score}"
    )


def _find_rate(recipe: "Recipe", settings: "Settings") -> int:
    from edgeport.training.fitting import range_test

    found = range_test(recipe.core, recipe.seen, settings)
    for rate, cost in list(zip(found.rates, found.costs, strict=True))[::5]:
        show(f"lr {rate:9.2e}  cost {four_decimals(cost)}")
    if found.suggested is None:
        show(
            "no learning rate found: the cost fell at none of them; try another --optimizer or "
            "--init, and look whether the targets are those of the inputs"
        )
        return 1
    show(f"suggested: --lr {found.suggested:.1e}, a tenth of where the cost was lowest")
    return 0


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Let no Ctrl-C in while what was trained is measured and saved: it would be lost by it."""
    ours = ENDING if current_thread() is main_thread() else ()  # no other may, nor has Ctrl-C
    before = {number: signal.signal(number, signal.SIG_IGN) for number in ours}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def save(made: "Run", output: Path, *, png: bool) -> None:
    """Write a run with its report.

    Args:
        made: What was trained.
        output: A new folder.
        png: Whether to keep the charts of the report as files, too.

    Raises:
        EdgeportError: It can't be written there; what was trained is elsewhere, if it can be.
    """
    from edgeport import training
    from edgeport.commands.run_page import page
    from edgeport.commands.run_pngs import pngs

    extras: dict[str, str | bytes] = {"report.html": page(made)}
    if png:
        extras |= pngs(made)
    try:
        training.save(made, output, extras)
    except (StorageError, ExistingFileError) as e:
        kept = _saved_elsewhere(made, output.name, extras)
        if kept is None:
            raise
        raise type(e)(
            e.problem,
            remedy=f"what was trained is in {kept}: move it, temporary files do not last",
        ) from e


def _saved_elsewhere(made: "Run", name: str, extras: Mapping[str, str | bytes]) -> Path | None:
    """Where temporary files have room for it; ``None`` if they have none."""
    from edgeport import training

    for place in (tempfile.gettempdir(), SHARED_MEMORY):
        with contextlib.suppress(OSError):  # of ours, too: the next place may have room
            folder = Path(tempfile.mkdtemp(prefix="edgeport-trained-", dir=place))
            try:
                training.save(made, folder / name, extras)
                return folder / name
            except StorageError:
                folder.rmdir()
    return None


def _report(made: "Run", args: TrainArgs) -> int:
    history = made.history
    for warning in history.warnings:
        note(f"warning: {warning}")
    if args.as_json:
        show(json.dumps(_metrics(made)))
    else:
        output = shlex.quote(str(args.output))
        show(f"{args.output}  {headline(made)}, {made.parameters:,} parameters")
        if history.stopped_early or history.settings.patience is not None:
            show(f"the weights are those of epoch {history.kept.number}")
        show(f"next: edgeport export {output} -o {shlex.quote(args.output.name + '.edge')}")
    return ended(history, args.output, args.checkpoint)


def ended(history: "History", output: Path, checkpoint: Path | None = None) -> int:
    """The exit code of a training that was saved; of one that Ctrl-C ended, say so."""
    if history.completed:
        return 0
    done, asked = len(history.epochs), history.settings.epochs
    note(f"interrupted after {done} of {asked} epochs; the run so far is in {output}")
    if checkpoint is not None and checkpoint.is_file():
        note(f"to go on from {checkpoint}: the same command with another -o")
    return 130


def headline(made: "Run") -> str:
    """What a run reached, in one line."""
    scores = made.scores
    if made.held_out.classification:
        count = made.origin.split.held_out(made.origin.examples)
        right = round(scores["accuracy"] * count)
        return f"held-out accuracy {scores['accuracy']:.4f} ({right} of {count})"
    text = f"held-out R2 {scores['r2']:.6f}, MSE {scores['mse']:.6g}"
    if "coefficients_apart" in scores:
        text += (
            f"; closed form R2 {scores['closed_form_r2']:.6f}, MSE {scores['closed_form_mse']:.6g},"
            f" coefficients at most {scores['coefficients_apart']:.1e} apart"
        )
    return text


def _metrics(made: "Run") -> dict[str, object]:
    return {
        "train_version": 2,
        "model": made.model,
        "parameters": made.parameters,
        "data": made.origin.name,
        "device": made.history.device,
        "completed": made.history.completed,
        "held_out_examples": len(made.held_out),
        "scores": dict(made.scores),
        "warnings": made.history.warnings,
        "epochs": [asdict(epoch) for epoch in made.history.epochs],
    }
