"""Several processes train one module: what this one does of each batch.

``torchrun --nproc-per-node 2 -m edgeport train ...`` starts them. Each takes its share of every
batch, so that the step is that of one process on the joined batch, but for rounding: batch
normalisation takes the statistics of the joined batch too. Dropout draws in each process alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from edgeport.runtimes.errors import UsageError
from edgeport.training.device import device_of, process_count


@dataclass(frozen=True, slots=True)
class Rank:
    """One process of several; of one, where there is no process group.

    Attributes:
        number: From 0.
        count: Of processes.
    """

    number: int = 0
    count: int = 1

    @classmethod
    def of_process(cls) -> Self:
        """What ``torch.distributed`` says of this process."""
        from torch import distributed

        if not (distributed.is_available() and distributed.is_initialized()):
            return cls()
        return cls(distributed.get_rank(), distributed.get_world_size())

    def parallel(self, module: nn.Module) -> Callable[..., Any]:
        """The module as this process calls it; gradients are averaged over processes."""
        if self.count == 1:
            return module
        from torch.nn.parallel import DistributedDataParallel

        device = device_of(module)
        devices = None if device.type == "cpu" else [device]
        return DistributedDataParallel(module, device_ids=devices)

    def agreed(self, order: Tensor) -> Tensor:
        """What the first process drew: after other shares, dropout has drawn more in some."""
        if self.count > 1:
            from torch import distributed

            distributed.broadcast(order, 0)
        return order

    def share(self, start: int, end: int) -> slice:
        """This process's rows of a batch.

        Raises:
            UsageError: There are fewer rows than processes.
        """
        if self.count == 1:
            return slice(start, end)
        rows = end - start
        if rows < self.count:
            raise UsageError(
                f"a batch of {rows} rows cannot be shared by {self.count} processes",
                remedy="use larger batches (--batch), or another number of processes",
            )
        first, last = (start + rows * n // self.count for n in (self.number, self.number + 1))
        return slice(first, last)

    def weighted(self, cost: Tensor, rows: int, joined: float) -> Tensor:
        """The cost, so that its average over processes is the mean over the joined batch.

        Args:
            cost: The mean over this process's share.
            rows: Of the share.
            joined: Rows of the batch.
        """
        return cost if self.count == 1 else cost * (rows * self.count / joined)

    def totals(self, *values: float) -> list[float]:
        """The sums of some numbers over processes."""
        if self.count == 1:
            return [*values]
        from torch import distributed

        summed = torch.tensor(values, dtype=torch.float64)
        distributed.all_reduce(summed)
        return summed.tolist()


def join_group() -> Rank:
    """Join the processes that ``torchrun`` started, if it did."""
    if process_count() > 1:
        from torch import distributed

        if not distributed.is_initialized():
            # DistributedDataParallel imports it; one imported beside a group keeps that group, and
            # its threads end the process at its exit with an abort, now and then
            import torch._dynamo

            # numbers are summed on the CPU, and a module may be there though there is a GPU
            with_gpus = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
            distributed.init_process_group(with_gpus)
    return Rank.of_process()


def leave_group() -> None:
    """End the process group, if there is one."""
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()
