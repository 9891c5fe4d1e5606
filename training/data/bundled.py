"""The real data sets that come with scikit-learn: no download."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from edgeport.runtimes.errors import UsageError
from edgeport.runtimes.needs import needs

from .examples import DataSet, Labelled, Split
from .splitting import split
from .table import Table

BUNDLED: Final = ("diabetes", "digits", "iris", "wine", "breast_cancer")
"""All but digits are tables. Licences: scikit-learn distributes them as BSD-3-Clause; digits, iris,
wine and breast_cancer are UCI's (CC BY 4.0), diabetes is Efron et al. (2004)."""


def digits(how: Split | None = None) -> DataSet:
    """The 1,797 handwritten digits that come with scikit-learn: no download.

    ``image``: (n, 1, 8, 8) float32, 0 for paper to 1 for ink. A fifth is held out, with the seed
    that published figures for this data mostly use, not stratified: logistic regression reaches
    0.9722 there, an MLP 0.9833, an SVM 0.9889.

    Args:
        how: As in ``split``.

    Raises:
        BackendMissingError: scikit-learn is not installed.
    """
    found: Any = _loader("digits")()
    images = (found.images / 16).astype(np.float32)[:, None]  # (n, 8, 8) of 0..16 -> (n, 1, 8, 8)
    return split("digits", Labelled({"image": images}, found.target.astype(np.int64)), how=how)


def bundled_table(name: str) -> Table:
    """One of the others: raw columns by name, in their units; the target is ``target``.

    Raises:
        UsageError: There is no such data set.
        BackendMissingError: scikit-learn is not installed.
    """
    if name not in BUNDLED or name == "digits":
        raise UsageError(
            f"no table {name!r} comes with scikit-learn",
            remedy=f"use one of {', '.join(n for n in BUNDLED if n != 'digits')}",
        )
    found: Any = _loader(name)()
    names = [str(column) for column in found.feature_names]
    columns: dict[str, Any] = {
        column: found.data[:, index].astype(np.float64) for index, column in enumerate(names)
    }
    if name == "diabetes":
        columns["target"] = found.target.astype(np.float64)
    else:
        columns["target"] = np.asarray([str(found.target_names[label]) for label in found.target])
    return Table(name, columns)


def _loader(name: str) -> Callable[[], Any]:
    with needs(f"the data set {name}", "train"):
        import sklearn.datasets
    loader: Callable[[], Any] = getattr(sklearn.datasets, f"load_{name}")
    return loader
