"""Parity in your own tests: does this file still compute what my module computes?

Examples:
    >>> from edgeport.testing import assert_parity
    >>> def test_the_shipped_model():                               # doctest: +SKIP
    ...     assert_parity(make_model(), "model.onnx", [{"image": image} for image in images])
"""

from .assertion import assert_parity

__all__ = ["assert_parity"]
