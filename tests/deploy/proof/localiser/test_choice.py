import numpy as np

from edgeport.deploy.proof.localiser import choose_sample
from edgeport.runtimes.bundles.golden import Golden
from edgeport.runtimes.bundles.manifest import Kind
from edgeport.runtimes.parity.rule import Figures, Verdict
from edgeport.runtimes.parity.verdict import Status


def sample(name: str, kind: Kind, *shape: int) -> Golden:
    return Golden(name, kind, {"x": np.zeros(shape, np.float32)}, {}, {})


def verdict(name: str, status: Status = "fail") -> Verdict:
    return Verdict("y", name, status, "", Figures("oracle"))


SAMPLES = (
    sample("one row", "real", 1, 4),
    sample("many", "real", 32, 4),
    sample("few", "real", 2, 4),
    sample("zeros", "edge", 2, 2),
)


def test_the_smallest_that_tells_its_axes_apart() -> None:
    names = [s.name for s in SAMPLES]
    for left in (["few", "many", "one row", "zeros"], ["many", "one row"], ["one row", "zeros"]):
        found = choose_sample(SAMPLES, [verdict(n) for n in names if n in left])
        assert found is not None
        assert found.name == left[0]


def test_none_where_none_failed() -> None:
    assert choose_sample(SAMPLES, [verdict("few", "pass")]) is None
