"""Train any module by a plain loop over slices of tensors: fastest on data that fit in memory.

``scripts/bench_trainer.py`` measures what the loop costs beside a bare one.
"""

import contextlib
import copy
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from edgeport.runtimes.errors import SourceError, StorageError, UsageError
from edgeport.training.data import DataSet
from edgeport.training.device import computing_on, device_name, device_of, forked_random

from . import checkpoint as checkpoints
from .checkpoint import Moment, Progress
from .evaluation import Tensors, evaluate, tensors
from .history import Epoch, History, Norms, Settings
from .initialise import initialise
from .joined_norm import joined_statistics
from .objective import Objective, objective_for
from .optimizers import make_optimizer, make_step, needs_closure
from .ranks import Rank
from .schedules import factor
from .watch import first_bad, gradient_norms, judge, root_mean_square, watching

OnBatch = Callable[[int, int, float], None]
OnEpoch = Callable[[Epoch], None]

DIVERGED: Final = 1e6
"""A cost that is this many times that of the first epoch will not come back."""

_SHUFFLED_BYTES: Final = 2**30  # data up to this size are copied in the order of each epoch
_WATCHED_EPOCHS: Final = 100
_CHECKPOINT_EVERY_S: Final = 5.0


def fit(
    module: nn.Module,
    data: DataSet,
    settings: Settings,
    *,
    objective: Objective | None = None,
    on_batch: OnBatch | None = None,
    on_epoch: OnEpoch | None = None,
    checkpoint: Path | None = None,
    made_with: Mapping[str, Any] | None = None,
) -> History:
    """Train a module in place and leave it in eval mode.

    The same module, data, settings and number of threads give the same weights, bit for bit, on
    one machine; of operators that a GPU does not repeat, torch warns. The caller's random state is
    left alone. Ctrl-C ends the training early: the module gets the weights of the last epoch that
    was done, and the history is shorter than asked.
    In a process group of ``torch.distributed`` each rank trains on its share of every batch.

    Args:
        module: Takes the inputs by name. Returns logits (batch, classes) for labels that are
            classes, or values in the shape of the labels. It is trained where its parameters are;
            the data stay on the CPU, and batches are moved as they are needed.
        data: What to train on, and what to measure on after each epoch.
        settings: How.
        objective: What to minimise; ``None`` for cross-entropy of classes, squared error of values.
        on_batch: Called after each step with steps done, steps planned and the cost of the batch.
        on_epoch: Called after each epoch.
        checkpoint: A file that is written after epochs, at most every 5 s, and at the end, also
            one by Ctrl-C; if it is there already, the training goes on from it.
        made_with: Hyperparameters of the module and of what prepares its data: plain JSON. A
            checkpoint of others is refused.

    Raises:
        UsageError: The optimizer does not exist or refuses its options; the checkpoint is of
            another training, of other data, or of another device; TF32 without a GPU; a batch is
            too small to be normalised.
        SourceError: The loss became NaN or infinite, or the cost grew without bound: it says at
            which epoch, step and layer.
        FormatError: The checkpoint is damaged.
        StorageError: It cannot be read or written.
        ContractError: The environment makes float32 TF32.
        OutOfMemoryError: The GPU's memory is too small.
        EngineError: The GPU failed.
        KeyboardInterrupt: Ctrl-C before the end of the first epoch.
    """
    device = device_of(module)
    with computing_on(device, tf32=settings.tf32), forked_random(device):
        torch.manual_seed(settings.seed)
        if settings.initialisation is not None:
            initialise(module, settings.initialisation)
        training = _Training(module, data, settings, objective, on_batch, made_with or {})
        if checkpoint is not None and checkpoint.exists():
            training.resume(checkpoint)
        try:
            with training.joined(), normalising():
                training.run(on_epoch, checkpoint)
        except KeyboardInterrupt:
            if not training.progress.epochs:
                raise
            training.restore_last()
            # a second Ctrl-C or a full disk leaves the older file, and the run is yet to be saved
            with contextlib.suppress(KeyboardInterrupt, StorageError):
                training.keep(checkpoint)
        progress, stopped = training.progress, training.out_of_patience
        if progress.best is not None:
            module.load_state_dict(progress.best)
    module.eval()
    found = training.objective
    return History(
        settings,
        found.name,
        found.metric,
        progress.epochs,
        progress.norms,
        progress.warnings,
        stopped and len(progress.epochs) < settings.epochs,
        device_name(device),
    )


class _Training:
    def __init__(
        self,
        module: nn.Module,
        data: DataSet,
        settings: Settings,
        objective: Objective | None,
        on_batch: OnBatch | None,
        made_with: Mapping[str, Any],
    ) -> None:
        self.settings = settings
        self._made_with = made_with
        self.module = module
        self.optimizer: Optimizer = make_optimizer(module, settings)
        self._origin = data.origin
        self._device = device_of(module)
        self._inputs, self._labels = tensors(data.train)
        self._held_out = tensors(data.held_out)
        self.objective = objective or objective_for(self._labels)
        self._on_batch = on_batch
        self._rank = Rank.of_process()
        self._forward = self._rank.parallel(module)
        self._batch_size = min(settings.batch_size or len(self._labels), len(self._labels))
        if self._batch_size == len(self._labels):  # it is moved once, and not in every step
            self._inputs, self._labels = self._moved(self._inputs, self._labels)
        self._steps = math.ceil(len(self._labels) / self._batch_size)
        self._joins_last = (
            self._batch_size > 1
            and len(self._labels) % self._batch_size == 1
            and any(_takes_statistics(layer) for layer in module.modules())
        )
        self._steps -= self._joins_last
        self._watch_every = max(1, settings.epochs // _WATCHED_EPOCHS)
        self._closure = needs_closure(self.optimizer)
        self._rate: float | None = None
        self.progress = Progress()
        self._last: Tensors | None = None
        self._unwritten: Moment | None = None
        self._written = time.monotonic()

    @property
    def out_of_patience(self) -> bool:
        patience, epochs = self.settings.patience, self.progress.epochs
        return patience is not None and bool(epochs) and _since_best(epochs) >= patience

    def joined(self) -> AbstractContextManager[None]:
        return contextlib.nullcontext() if self._rank.count == 1 else joined_statistics(self.module)

    def resume(self, checkpoint: Path) -> None:
        self.progress = checkpoints.read(
            checkpoint,
            self.module,
            self.optimizer,
            self._made_with,
            self.settings,
            self._origin,
        )
        self._last = _on_cpu(self.module.state_dict())

    def restore_last(self) -> None:
        if self._last is not None:
            self.module.load_state_dict(self._last)

    def run(self, on_epoch: OnEpoch | None, checkpoint: Path | None) -> None:
        for number in range(len(self.progress.epochs) + 1, self.settings.epochs + 1):
            if self.out_of_patience:
                return
            progress = self._epoch(number)
            last = _on_cpu(self.module.state_dict())
            if self.settings.patience is not None and _since_best(progress.epochs) == 0:
                progress = replace(progress, best=last)
            kept = checkpoint is not None and self._rank.number == 0
            unwritten = checkpoints.moment(self.module, self.optimizer) if kept else None
            self.progress, self._last, self._unwritten = progress, last, unwritten
            ends = number == self.settings.epochs or self.out_of_patience
            if ends or time.monotonic() - self._written > _CHECKPOINT_EVERY_S:
                self.keep(checkpoint)
            if on_epoch is not None:
                on_epoch(progress.epochs[-1])

    def keep(self, checkpoint: Path | None) -> None:
        """Write the last whole epoch, if it is not written yet."""
        if checkpoint is None or self._unwritten is None:
            return
        checkpoints.write(
            checkpoint,
            self._unwritten,
            self._made_with,
            self.settings,
            self._origin,
            self.progress,
        )
        self._unwritten, self._written = None, time.monotonic()

    def _epoch(self, number: int) -> Progress:
        """Train on every example once."""
        _to_training_mode(self.module)
        examples, steps = len(self._labels), self._steps
        planned = steps * self.settings.epochs
        costs = [epoch.held_out_cost for epoch in self.progress.epochs]
        whole = self._batch_size == examples
        # a full batch has nothing to shuffle
        order = None if whole else self._rank.agreed(torch.randperm(examples))
        take = self._in_order(order)
        total, rate, schedule = 0.0, self.settings.learning_rate, self.settings.schedule
        watched: list[Norms] = []
        for step in range(steps):
            done = (number - 1) * steps + step
            if schedule != "constant":
                rate = self.settings.learning_rate * factor(schedule, done, planned, costs)
            if rate != self._rate:
                self._rate = rate
                for group in self.optimizer.param_groups:
                    group["lr"] = rate
            inputs, labels = take(step * self._batch_size)
            looked_at = step == 0 and (number - 1) % self._watch_every == 0
            watch = watched if looked_at else None
            value = self._step(inputs, labels, number, step, watch)
            total += value * len(labels)
            if self._on_batch is not None:
                self._on_batch(done + 1, planned, value)
        (total,) = self._rank.totals(total)
        return self._after(number, total / examples, rate, watched)

    def _in_order(self, order: Tensor | None) -> Callable[[int], tuple[Tensors, Tensor]]:
        """How the rows of a batch are taken: slices are faster than an index for each batch."""
        size, rank, alone = self._batch_size, self._rank, self._rank.count == 1
        inputs, labels = self._inputs, self._labels
        rows = order
        bytes_ = sum(t.numel() * t.element_size() for t in inputs.values())
        if order is not None and bytes_ <= _SHUFFLED_BYTES:
            inputs = {name: tensor[order] for name, tensor in inputs.items()}
            labels, rows = labels[order], None

        def take(start: int) -> tuple[Tensors, Tensor]:
            end = start + size  # a slice ends at the last row by itself
            if self._joins_last and end == len(labels) - 1:
                end += 1  # one example alone has no deviation to normalise by
            part = slice(start, end) if alone else rank.share(start, min(end, len(labels)))
            chosen = part if rows is None else rows[part]
            return self._moved({n: tensor[chosen] for n, tensor in inputs.items()}, labels[chosen])

        return take

    def _moved(self, inputs: Tensors, labels: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        device = self._device
        return {name: tensor.to(device) for name, tensor in inputs.items()}, labels.to(device)

    def _step(
        self, inputs: Tensors, labels: Tensor, number: int, step: int, watched: list[Norms] | None
    ) -> float:
        values: list[float] = []

        def closure() -> float:
            first = None if values else watched
            values.append(self._gradients(inputs, labels, number, step, first))
            return values[-1]

        if self._closure:
            self.optimizer.step(closure)
            return values[0]
        closure()
        if self.settings.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.module.parameters(), self.settings.clip_norm)
        make_step(self.optimizer)
        return values[0]

    def _gradients(
        self, inputs: Tensors, labels: Tensor, number: int, step: int, watched: list[Norms] | None
    ) -> float:
        """Compute them and tell the cost of the joined batch; norms go to ``watched``."""
        activation: dict[str, float] = {}

        def found(name: str, output: Tensor) -> None:
            activation[name] = root_mean_square(output)

        with contextlib.nullcontext() if watched is None else watching(self.module, found):
            outputs = self._forward(**inputs)
        cost = self.objective.cost(outputs, labels)
        value, rows = cost.item(), len(labels)
        # one that stopped alone, or chose another step of LBFGS, would leave the others waiting
        # for its gradients
        lost, joined, total = self._rank.totals(not math.isfinite(value), rows, value * rows)
        if lost:
            where = f"epoch {number}, step {step + 1} of {self._steps}"
            raise self._not_finite(value, where, inputs)
        self.optimizer.zero_grad()
        backward(self._rank.weighted(cost, rows, joined))
        if watched is not None:
            watched.append(Norms(number, gradient_norms(self.module), activation))
        return value if self._rank.count == 1 else total / joined

    def _after(self, number: int, cost: float, rate: float, watched: list[Norms]) -> Progress:
        held_out_cost, score = evaluate(self.module, self._held_out, self.objective)
        if not math.isfinite(held_out_cost):
            raise self._not_finite(
                held_out_cost,
                f"the end of epoch {number}, on held-out examples",
                self._held_out[0],
            )
        epoch = Epoch(number, cost, held_out_cost, score, rate)
        before = self.progress
        first = before.epochs[0].cost if before.epochs else cost
        if cost > DIVERGED * first and first > 0:
            raise SourceError(
                f"the training diverges: the cost was {first:.3g} in epoch 1 and is {cost:.3g} in "
                f"epoch {number} (learning rate {self.settings.learning_rate:g})",
                remedy="use a smaller learning rate (--lr), or shorten gradients (--clip-norm 1)",
            )
        warnings = list(before.warnings)
        kinds = {text.partition(":")[0] for text in warnings}
        for norms in watched:
            warnings += [t for t in judge(self.module, norms) if t.partition(":")[0] not in kinds]
        norms_ = (*before.norms, *map(_finite_norms, watched))
        return Progress((*before.epochs, epoch), norms_, tuple(warnings), before.best)

    def _not_finite(self, value: float, where: str, inputs: Tensors) -> SourceError:
        at = f"at {where} (learning rate {self.settings.learning_rate:g})"
        return SourceError(
            f"the loss is not finite {at} in another process"
            if math.isfinite(value)
            else f"the loss is {value} {at}: {first_bad(self.module, inputs)}",
            remedy="use a smaller learning rate (--lr), shorten gradients (--clip-norm 1), and "
            "look for NaN and Inf in the data",
        )


@contextlib.contextmanager
def normalising() -> Iterator[None]:
    """Tell in our words that batch normalisation has nothing to take a deviation of.

    Of images a batch of one will do: they have many values for each channel.

    Raises:
        UsageError: So it is.
    """
    try:
        yield
    except ValueError as e:
        if "Expected more than 1 value per channel" not in str(e):  # torch 2.13
            raise
        raise UsageError(
            "a batch has one value for each channel, and batch normalisation needs two",
            remedy="train on two examples or more at a time (--batch 2), or use --norm layer",
        ) from e


def backward(cost: Tensor) -> None:
    """Compute gradients."""
    cost.backward()  # type: ignore[no-untyped-call]  # upstream


def _on_cpu(state: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a module's state, which may hold more than tensors."""
    return {
        name: value.to("cpu", copy=True) if isinstance(value, Tensor) else copy.deepcopy(value)
        for name, value in state.items()
    }


def _to_training_mode(module: nn.Module) -> None:
    """All layers but frozen batch normalisation, whose statistics belong to its weights."""
    module.train()
    for layer in module.modules():
        if isinstance(layer, _BatchNorm) and not _takes_statistics(layer):
            layer.eval()


def _takes_statistics(layer: nn.Module) -> bool:
    """Whether it is a batch normalisation that is not frozen."""
    own = list(layer.parameters(recurse=False))
    return isinstance(layer, _BatchNorm) and (not own or any(p.requires_grad for p in own))


def _since_best(epochs: Sequence[Epoch]) -> int:
    costs = [epoch.held_out_cost for epoch in epochs]
    return len(costs) - 1 - costs.index(min(costs))


def _finite_norms(norms: Norms) -> Norms:
    """JSON has no infinity: the largest float stands for it; the warning has said so."""

    def finite(sizes: Mapping[str, float]) -> dict[str, float]:
        return {n: s if math.isfinite(s) else sys.float_info.max for n, s in sizes.items()}

    return Norms(norms.epoch, finite(norms.gradient), finite(norms.activation))
