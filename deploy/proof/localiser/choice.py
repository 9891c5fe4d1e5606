"""Which of the samples that failed is looked into."""

from collections.abc import Iterable, Sequence

from edgeport.runtimes.golden import Golden
from edgeport.runtimes.parity import Verdict


def choose_sample(samples: Sequence[Golden], verdicts: Iterable[Verdict]) -> Golden | None:
    """The smallest that failed, rather not an edge case: zeros and ones hide much.

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
            _lone(sample),
            sum(array.size for array in sample.inputs.values()),
        ),
        default=None,
    )


def _lone(sample: Golden) -> bool:
    """Whether its outputs are so few numbers that two values may agree by chance."""
    return all(array.size < 2 for array in sample.eager.values())
