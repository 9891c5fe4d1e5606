"""What a server says of its models, in the protocol's own words."""

import json
from collections.abc import Sequence
from typing import Any

from edgeport.runtimes.signature import Signature, TensorSpec
from edgeport.runtimes.sizes import size_at

from . import counters as c
from .model import Model
from .requests import DATATYPES


def metadata(model: Model, versions: Sequence[str]) -> dict[str, Any]:
    """Describe a model; a free dimension is -1."""
    signature = model.session.signature
    return {
        "name": model.name,
        "versions": list(versions),
        "platform": platform(model),
        "inputs": [tensor(spec) for spec in signature.inputs],
        "outputs": [tensor(spec) for spec in signature.outputs],
    }


def platform(model: Model) -> str:
    """Engine and format: ``"onnxruntime_onnx"``."""
    return f"{model.session.engine.engine}_{model.format}"


def config(model: Model) -> dict[str, Any]:
    """Describe a model as Triton's ``ModelConfig``, as far as it has words for what is here.

    Where requests are batched, ``dims`` lack the leading dimension, as Triton wants it; a single
    request may have more rows than ``max_batch_size``.
    """
    signature, batched = model.session.signature, model.most_rows > 1
    found: dict[str, Any] = {
        "name": model.name,
        "platform": platform(model),
        "backend": model.session.engine.engine,
        "version_policy": {"specific": {"versions": [int(model.version)]}},
        "max_batch_size": model.most_rows if batched else 0,
        "input": [_config_tensor(spec, batched) for spec in signature.inputs],
        "output": [_config_tensor(spec, batched) for spec in signature.outputs],
        "instance_group": [{"name": model.name, "kind": "KIND_CPU", "count": 1}],
        "parameters": {
            "signature": {"string_value": str(signature)},
            "threads": {"string_value": str(model.session.engine.threads)},
            **{
                f"smallest.{spec.name}": {"string_value": json.dumps(_smallest(spec, signature))}
                for spec in signature.inputs
            },
            **{
                f"takes_bytes.{name}": {"string_value": "one text or image file per row"}
                for name in sorted(model.raw)
            },
        },
    }
    if batched:
        found["dynamic_batching"] = {}
    return found


def statistics(name: str, version: str, total: Sequence[int]) -> dict[str, Any]:
    """What was counted of a model; durations in nanoseconds."""
    good, failed = total[c.SUCCESS], total[c.FAILED]
    return {
        "name": name,
        "version": version,
        "last_inference": total[c.LAST_MS],
        "inference_count": total[c.ROWS],
        "execution_count": total[c.EXECUTIONS],
        "inference_stats": {
            "success": _duration(good, total[c.SUCCESS_NS]),
            "fail": _duration(failed, total[c.FAILED_NS]),
            "queue": _duration(good, total[c.QUEUE_NS]),
            "compute_input": _duration(good, 0),
            "compute_infer": _duration(good, total[c.INFER_NS]),
            "compute_output": _duration(good, 0),
            "cache_hit": _duration(0, 0),
            "cache_miss": _duration(0, 0),
        },
        "batch_stats": [
            {
                "batch_size": rows,
                "compute_input": _duration(total[c.BATCHES + rows], 0),
                "compute_infer": _duration(total[c.BATCHES + rows], total[c.BATCH_NS + rows]),
                "compute_output": _duration(total[c.BATCHES + rows], 0),
            }
            for rows in range(c.MOST_BATCH + 1)
            if total[c.BATCHES + rows]
        ],
    }


def _duration(count: int, duration_ns: int) -> dict[str, int]:
    return {"count": count, "ns": duration_ns}


def tensor(spec: TensorSpec) -> dict[str, Any]:
    """Describe a tensor; a free dimension is -1."""
    return {"name": spec.name, "datatype": DATATYPES[spec.dtype], "shape": _shape(spec)}


def _config_tensor(spec: TensorSpec, batched: bool) -> dict[str, Any]:
    datatype = DATATYPES[spec.dtype]
    return {"name": spec.name, "data_type": f"TYPE_{datatype}", "dims": _shape(spec)[batched:]}


def _smallest(spec: TensorSpec, signature: Signature) -> list[int]:
    """The least that each size may be, but 0: what a person may try first."""
    ranges = {name: signature.range_of(name) for name in signature.dimensions}
    least = {name: range_.min or range_.step for name, range_ in ranges.items()}
    return [size_at(size, least) for size in spec.shape]


def _shape(spec: TensorSpec) -> list[int]:
    return [size if isinstance(size, int) else -1 for size in spec.shape]
