"""A batch is computed: every request of it gets its own rows, or its own error, and is counted."""

import time
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from edgeport.runtimes.errors import EdgeportError, EngineError, InputError, LostGpuError
from edgeport.runtimes.inputs import Array

from . import counters as c
from .batch_queue import Batch
from .classes import classify
from .counters import Counters
from .model import Model
from .requests import InferResponse
from .work import Result, Work

Outputs: TypeAlias = dict[str, Array] | EdgeportError


def compute(
    model: Model,
    works: Sequence[Work],
    defect: Callable[[Exception], None],
    lost: Callable[[LostGpuError], None],
) -> list[Outputs]:
    """Run requests together, or one by one if an error would hit those who are not at fault.

    Args:
        model: For which they are.
        works: What is asked.
        defect: Told of what an engine must not raise.
        lost: Told that nothing can be computed here any more.
    """
    try:
        if len(works) == 1:
            return [model.run(works[0].arrays)]
        columns = zip(*[work.arrays for work in works], strict=True)
        outputs = model.run([np.concatenate(column) for column in columns])
        return _split(outputs, [work.rows for work in works])
    except LostGpuError as e:
        lost(e)
        return [e] * len(works)
    except EdgeportError as e:
        if len(works) == 1:
            return [e]
        return [compute(model, [work], defect, lost)[0] for work in works]  # whose fault was it?
    except Exception as e:  # whatever an engine raises must not end the loop
        defect(e)
        text = f"the engine failed: {type(e).__name__}: {e}"
        return [EngineError(text, remedy="read the server's log")] * len(works)


def result_of(
    model: Model, work: Work, outputs: Outputs, defect: Callable[[Exception], None]
) -> Result:
    """What is answered: the outputs that were asked for, as classes where that was asked for.

    Args:
        model: For which it is.
        work: What is asked.
        outputs: All of them, or what failed.
        defect: Told of what no output should bring about.
    """
    if isinstance(outputs, EdgeportError):
        return outputs
    request = work.request
    if request.outputs:
        try:
            outputs = {
                name: classify(name, outputs[name], classes, model.labels.get(name, ()))
                if classes
                else outputs[name]
                for name, classes in request.outputs
            }
        except EdgeportError as e:
            return e
        except Exception as e:  # else nobody would ever be answered again: nothing comes back
            defect(e)
            return EngineError("the answer cannot be made", remedy="read the server's log")
    return InferResponse(model.name, model.version, outputs, request.id)


def count(
    counters: Counters, batch: Batch, results: Sequence[Result], start_ns: int, end_ns: int
) -> None:
    """Count what came of a batch that ran from then till then."""
    counters.batch(batch.rows, end_ns - start_ns)
    good = lost = rejected = queued_ns = total_ns = failed_ns = 0
    for work, result in zip(batch.works, results, strict=True):
        latency_ns = end_ns - work.arrived_ns
        if work.is_lost:
            lost += 1
        elif isinstance(result, InputError):
            rejected += 1
        elif isinstance(result, EdgeportError):
            failed_ns += latency_ns
        else:
            good += 1
            total_ns += latency_ns
            queued_ns += start_ns - work.arrived_ns
            counters.observe(latency_ns)
    counters.add(c.SUCCESS, good)
    counters.add(c.SUCCESS_NS, total_ns)
    counters.add(c.QUEUE_NS, queued_ns)
    counters.set(c.LAST_MS, time.time_ns() // 1_000_000)
    if good < len(results):
        counters.add(c.REJECTED, rejected)
        counters.add(c.FAILED, len(results) - good - lost - rejected)
        counters.add(c.FAILED_NS, failed_ns)


def _split(outputs: dict[str, Array], rows: Sequence[int]) -> list[Outputs]:
    found: list[Outputs] = []
    items, start = list(outputs.items()), 0
    for count in rows:
        stop = start + count
        found.append({name: array[start:stop] for name, array in items})
        start = stop
    return found
