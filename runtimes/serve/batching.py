"""May rows of several requests go through a model together? Only where that is proved.

One free dimension must lead every input and output and be nowhere else, and its range must allow
it, without a step. That says what the shapes do; whether a row's answer depends on its neighbours
(a mean over the batch, a rank among it) only a trial can tell: every golden sample is repeated with
strangers' rows in front of it and behind it, and its own rows are judged as if it had been alone.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from edgeport.runtimes.bundles.golden import Golden
from edgeport.runtimes.errors import EngineError
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.parity.thresholds import Precision, Thresholds
from edgeport.runtimes.parity.verification import check_session
from edgeport.runtimes.session import Closes, Session
from edgeport.runtimes.signature import Signature
from edgeport.runtimes.sizes import names_in

from .counters import MOST_BATCH


def batch_axis(signature: Signature) -> str | None:
    """The dimension that leads every tensor and is nowhere else; ``None`` if there is none."""
    specs = (*signature.inputs, *signature.outputs)
    leading = {spec.shape[0] if spec.shape else 0 for spec in specs}
    inside = names_in(size for spec in specs for size in spec.shape[1:])
    if not signature.inputs or len(leading) != 1:
        return None
    (name,) = leading
    return str(name) if name in signature.dimensions and name not in inside else None


def most_rows(
    session: Session,
    samples: Sequence[Golden],
    thresholds: Thresholds,
    reduced: Precision | None = None,
) -> int:
    """How many rows may go through the model together.

    Args:
        session: The model, which has proved its samples one by one.
        samples: The golden samples.
        thresholds: Where a verdict turns.
        reduced: As in ``check_session``.

    Returns:
        At most ``MOST_BATCH``, and no more than the signature allows; 1 where requests must not be
        put together.

    Raises:
        EngineError: The engine failed on a sample that it took before.
    """
    axis = batch_axis(session.signature)
    if axis is None or session.signature.range_of(axis).step != 1:
        return 1  # a trial puts a single row beside others
    largest = min(session.signature.range_of(axis).max or MOST_BATCH, MOST_BATCH)
    crowded = Crowded(session, samples, largest)
    fitting = [sample for sample in samples if crowded.fits(sample.inputs)]
    if largest < 2 or not fitting:
        return 1
    try:
        verdicts = check_session(crowded, fitting, thresholds, reduced)
    except EngineError:  # it takes each alone, and not both
        return 1
    return 1 if any(verdict.status == "fail" for verdict in verdicts) else largest


class Crowded(Closes):
    """A session that runs what it is given between rows of somebody else; it is not closed here."""

    def __init__(self, session: Session, samples: Sequence[Golden], largest: int) -> None:
        self.signature = session.signature
        self.engine = session.engine
        self._session = session
        self._samples = [sample.inputs for sample in samples]
        self._largest = largest

    def fits(self, inputs: Mapping[str, Array]) -> bool:
        """Whether there is a sample that may stand beside it."""
        return self._neighbour(inputs) is not None

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Compute every output for these rows alone, though they were not.

        Args:
            inputs: They ``fit``.

        Raises:
            EngineError: The engine failed.
        """
        stranger = self._neighbour(inputs)
        assert stranger is not None
        rows = rows_of(inputs, self.signature)
        crowd = [stranger, inputs, *[stranger] * (rows + 2 <= self._largest)]
        outputs = self._session.run(join(crowd, self.signature))
        return {name: array[1 : 1 + rows] for name, array in outputs.items()}

    def _neighbour(self, inputs: Mapping[str, Array]) -> Mapping[str, Array] | None:
        """A row of a sample whose values are others: its own neighbour would hide a mean."""
        for sample in self._samples:
            same_shape = all(sample[n].shape[1:] == inputs[n].shape[1:] for n in inputs)
            row = {name: np.ascontiguousarray(array[-1:]) for name, array in sample.items()}
            alone = rows_of(inputs, self.signature) + 1 > self._largest
            if same_shape and not alone and rows_of(row, self.signature) and _differ(row, inputs):
                return row
        return None


def join(parts: Sequence[Mapping[str, Array]], signature: Signature) -> dict[str, Array]:
    """Put rows below each other."""
    return {
        spec.name: np.concatenate([part[spec.name] for part in parts]) for spec in signature.inputs
    }


def rows_of(inputs: Mapping[str, Array], signature: Signature) -> int:
    """How many rows they have, where there is a batch axis."""
    return len(inputs[signature.inputs[0].name])


def _differ(row: Mapping[str, Array], inputs: Mapping[str, Array]) -> bool:
    return any(not np.array_equal(row[name], inputs[name][:1]) for name in inputs)
