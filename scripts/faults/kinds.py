"""Faults to inject into correct ONNX files: what goes wrong between a module and its file.

An injector takes a model and yields altered copies of it, each with a word on what was altered.
It yields nothing where the model has no place for its fault. Whether an altered file still opens
and runs is for the caller to see: a file that does not is no silent fault.
"""

from collections.abc import Mapping
from typing import Final

import scripts.faults.in_operators as operators
import scripts.faults.in_weights as weights
from scripts.faults.graph_edits import Injector

KINDS: Final[Mapping[str, Injector]] = {
    "one weight element": weights.one_weight,
    "tensor, relative noise": weights.whole_tensor,
    "tensor, scaled": weights.scaled_tensor,
    "transposed weight": weights.transposed_weight,
    "dropped bias": weights.dropped_bias,
    "shifted bias": weights.shifted_bias,
    "float16 weights of a layer": weights.float16_weight,
    "bfloat16 weights of a layer": weights.bfloat16_weight,
    "int8 weights of a layer": weights.int8_weight,
    "clipped constant": weights.clipped_constant,
    "swapped channels": weights.swapped_rows,
    "stale tied weight": weights.stale_tied_weight,
    "gate order": weights.gate_order,
    "attention scale": weights.scale_off,
    "erf or tanh in GELU": operators.gelu_form,
    "align corners": operators.align_corners,
    "resize rounding": operators.resize_rounding,
    "epsilon of a norm": operators.norm_epsilon,
    "padding by one": operators.padding,
    "padding in a mean": operators.pooled_padding,
    "axis off by one": operators.axis,
    "slice off by one": operators.slice_off_by_one,
    "order of a concat": operators.concat_order,
    "missing activation": operators.missing_activation,
    "other activation": operators.other_activation,
    "dropped residual": operators.dropped_residual,
    "truncated division": operators.truncated_division,
    "swapped outputs": operators.swapped_outputs,
    "saturating cast": operators.saturating_cast,
    "float16 value": operators.float16_value,
    "first row for all": operators.first_row_for_all,
    "lost NaN": operators.lost_nan,
}
"""By name; ``bench_power.py`` adds what is injected into the module, before its export."""
