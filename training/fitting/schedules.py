"""How the learning rate changes: pure functions, so that a resumed training needs no state of them.

The formulas are those of ``torch.optim.lr_scheduler`` in closed form.
"""

import math
from collections.abc import Sequence

_STEP_FACTOR = 0.1  # StepLR's default
_FINAL_EXPONENTIAL = 0.01  # of the learning rate, after the last step
_ONE_CYCLE = (0.3, 25.0, 1e4)  # OneCycleLR: share of rising, first divisor, last divisor
_PLATEAU = (0.1, 10)  # ReduceLROnPlateau: factor, patience in epochs


def factor(schedule: str, step: int, planned: int, held_out_costs: Sequence[float]) -> float:
    """What the learning rate is multiplied with.

    Args:
        schedule: A name in ``history.SCHEDULES``.
        step: Steps done, 0 at first.
        planned: Steps in all.
        held_out_costs: One per epoch done: for ``plateau``.

    Returns:
        ``cosine``: (1 + cos(pi t)) / 2 with t = step / planned; ``linear``: 1 - t;
        ``exponential``: 0.01^t; ``step``: a tenth of it after each third; ``one-cycle``: up from
        1/25 along a cosine for 30 % of the steps, then down to 1/250,000 (Smith & Topin 2017);
        ``plateau``: a tenth of it each time the cost has not fallen for 10 epochs.
    """
    t = step / planned
    match schedule:
        case "cosine":
            return (1 + math.cos(math.pi * t)) / 2
        case "linear":
            return 1 - t
        case "exponential":
            return float(_FINAL_EXPONENTIAL**t)
        case "step":
            return float(_STEP_FACTOR ** int(3 * t))
        case "one-cycle":
            return _one_cycle(t)
        case "plateau":
            return _plateau(held_out_costs)
    return 1.0


def _one_cycle(t: float) -> float:
    rising, first, last = _ONE_CYCLE
    if t < rising:
        return _along_cosine(1 / first, 1.0, t / rising)
    return _along_cosine(1.0, 1 / (first * last), (t - rising) / (1 - rising))


def _along_cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


def _plateau(held_out_costs: Sequence[float]) -> float:
    shrink, patience = _PLATEAU
    best, bad, result = math.inf, 0, 1.0
    for cost in held_out_costs:
        if cost < best * (1 - 1e-4):  # ReduceLROnPlateau's relative threshold
            best, bad = cost, 0
        else:
            bad += 1
        if bad > patience:
            result, bad = result * shrink, 0
    return result
