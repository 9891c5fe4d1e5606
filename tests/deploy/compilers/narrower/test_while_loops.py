"""Which loops wait for floats: those that a rounded value may never end."""

import pytest
from onnx import parser

from edgeport.deploy.compilers.narrower.while_loops import while_loops

LOOP = """
    <ir_version: 10, opset_import: ["" : 20]>
    main (float[n] x, int64 turns, bool first) => (float[n] y) {{
        t, y = Loop (, first, turns, x) <
            body = turn (int64 i, bool go, int64 t, float[n] v)
                => (bool on, int64 u, float[n] w) {{
                w = Mul (v, x)
                u = Sub (t, i)
                {ends}
            }}
        >
    }}
"""


@pytest.mark.parametrize(
    ("ends", "waits"),
    [
        ("m = ReduceMax <keepdims: int = 0> (w)  on = Greater (m, x)", True),
        ("n = Size (w)  on = Less (u, n)", False),
        ("on = Identity (go)", False),
    ],
)
def test_a_loop_waits_for_floats_that_it_carries(ends: str, waits: bool) -> None:
    model = parser.parse_model(LOOP.format(ends=ends))
    assert while_loops(model.graph) == ["t"] * waits
