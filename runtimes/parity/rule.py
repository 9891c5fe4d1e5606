"""The parity rule: is a backend as near to the truth as eager float32 is?

Three answers to one question are compared: ``eager`` (the module in its own precision),
``oracle`` (the same module in float64: the nearest thing to the truth) and ``actual`` (a
backend). Eager's own distance from the oracle is the noise floor, the error that every PyTorch
user already accepts; the backend's distance is counted in units of it:

    ratio = rms(actual - oracle) / rms(eager - oracle)        and the same pair for the maximum

A correct float32 backend lands between 0.4 and 2 whatever the scale of the outputs, which a
fixed tolerance cannot promise. Measuring (``measure``) and judging (``judge``) are apart, so
that stored figures can be judged again under other thresholds. Between them, ``pool_floors``
lends outputs of a few elements the floor of the other samples; after them, ``judge_together``
looks at all samples of an output at once, and finds what is too small to be seen in one.
"""

from .comparison import FALLBACK_ULPS, FLOOR_ULPS, measure
from .distances import BINADES
from .figures import Figures, Histogram, NonFinite, Place
from .informative import uninformative
from .verdict import (
    FEW_ELEMENTS,
    MEDIAN_ELEMENTS,
    Verdict,
    judge,
    judge_together,
    median_bar,
    pool_floors,
    worst,
)

__all__ = [
    "BINADES",
    "FALLBACK_ULPS",
    "FEW_ELEMENTS",
    "FLOOR_ULPS",
    "MEDIAN_ELEMENTS",
    "Figures",
    "Histogram",
    "NonFinite",
    "Place",
    "Verdict",
    "judge",
    "judge_together",
    "measure",
    "median_bar",
    "pool_floors",
    "uninformative",
    "worst",
]
