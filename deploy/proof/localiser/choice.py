"""Which of the samples that failed is looked into."""

from collections.abc import Iterable, Sequence

from edgeport.runtimes.bundles.golden import Golden
from edgeport.runtimes.parity.rule import Verdict


def choose_sample(samples: Sequence[Golden], verdicts: Iterable[Verdict]) -> Golden | None:
    """The smallest that failed; rather no edge case, and none with an axis of 1, which hide much.

    Args:
        samples: All of them.
        verdicts: Of one backend.

    Returns:
        ``None`` if none failed.
    """
    failed = {verdict.sample for verdict in verdicts if verdict.status == "fail"}
    found = [sample for sample in samples if sample.name in failed]
    return min(
        found,
        key=lambda sample: (
            sample.kind == "edge",
            _degenerate(sample),
            sum(array.size for array in sample.inputs.values()),
        ),
        default=None,
    )


def _degenerate(sample: Golden) -> bool:
    """Whether an axis is 1, where much is alike that is not: a softmax, an order of axes."""
    return any(1 in array.shape for array in sample.inputs.values())
