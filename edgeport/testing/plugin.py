"""The pytest plug-in: a fixture. pytest loads this in every run, so it imports nothing of ours."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from edgeport.runtimes.parity.verdict import Verdict


@pytest.fixture
def edgeport_parity(request: pytest.FixtureRequest) -> "Callable[..., tuple[Verdict, ...]]":
    """``edgeport.testing.assert_parity``, whose ratios also go into pytest's JUnit file."""

    def check(module: Any, artefact: Any, samples: Any, **options: Any) -> "tuple[Verdict, ...]":
        __tracebackhide__ = True  # of pytest
        from edgeport.runtimes.parity.verdict import worst
        from edgeport.testing import assert_parity

        verdicts = assert_parity(module, artefact, samples, **options)
        for output, verdict in worst(verdicts).items():
            found = (f"edgeport.ratio.{output}", verdict.figures.ratio)
            request.node.user_properties.append(found)  # record_property warns of xunit2
        return verdicts

    return check
