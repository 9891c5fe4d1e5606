"""A small real problem that every optimizer can be tried on."""

import numpy as np
import pytest

from edgeport.training import DataSet, Labelled, Origin, Split


@pytest.fixture(scope="session")
def line() -> DataSet:
    """40 points in the plane and a value that is linear in them, with noise."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(40, 2))
    y = x @ np.array([1.5, -2.0]) + 0.5 + 0.1 * generator.normal(size=40)
    part = Labelled({"input": x.astype(np.float32)}, y.astype(np.float32)[:, None])
    return DataSet(Origin("line", 40, "", Split(0.5, 0, stratified=False)), part, part)
