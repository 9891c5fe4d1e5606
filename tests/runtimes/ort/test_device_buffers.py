"""Bound memory, on the one device that every build of ONNX Runtime has."""

import threading
import time
from dataclasses import astuple
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from edgeport.runtimes import Signature, TensorSpec
from edgeport.runtimes.ort.device_buffers import _MOST_SHAPES, DeviceBuffers
from edgeport.runtimes.ort.loading import signature_of


def session(tmp_path: Path, *, where: bool = False) -> onnxruntime.InferenceSession:
    """Doubles its input; and where it is not zero."""
    nodes = [helper.make_node("Add", ["x", "x"], ["y"])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])]
    if where:
        nodes.append(helper.make_node("NonZero", ["x"], ["at"]))
        outputs.append(helper.make_tensor_value_info("at", TensorProto.INT64, [2, "found"]))
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])]
    graph = helper.make_graph(nodes, "g", inputs, outputs)
    opset = helper.make_opsetid("", 20)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=10), tmp_path / "m.onnx")
    return onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])


def buffers(opened: onnxruntime.InferenceSession) -> DeviceBuffers:
    return DeviceBuffers(opened, signature_of("m", opened), "cpu", 0)


def test_inputs_of_a_second_call_are_its_own(tmp_path: Path) -> None:
    lender = buffers(session(tmp_path))
    first = np.arange(6, dtype=np.float32).reshape(2, 3)
    answers = []
    for array in (first, first + 1, first[:1]):
        with lender.lent([array]) as lent:
            (answer,) = lent.run([array])
        answers.append((array * 2, answer))
    for expected, answer in answers:  # the first is still what it was
        np.testing.assert_array_equal(answer, expected)
        assert answer.flags.writeable


def test_outputs_whose_size_the_values_decide(tmp_path: Path) -> None:
    lender = buffers(session(tmp_path, where=True))
    for zeros in (0, 1, 2, 0):
        array = np.ones((1, 3), np.float32)
        array[0, :zeros] = 0
        with lender.lent([array]) as lent:
            _, found = lent.run([array])
        assert found.shape == (2, 3 - zeros)


def test_the_steps_of_a_call_are_timed(tmp_path: Path) -> None:
    lender, array = buffers(session(tmp_path)), np.ones((1, 3), np.float32)
    with lender.lent([array]) as lent:
        start = time.perf_counter_ns()
        parts = lent.times([array])
        wall_ns = time.perf_counter_ns() - start
    assert min(parts.copy_in_ns, parts.compute_ns, parts.copy_out_ns) > 0
    assert sum(astuple(parts)) <= wall_ns


def test_a_call_that_failed_leaves_nothing_behind(tmp_path: Path) -> None:
    lender, array = buffers(session(tmp_path)), np.ones((1, 3), np.float32)
    with pytest.raises(ZeroDivisionError), lender.lent([array]):
        raise ZeroDivisionError
    assert lender._spare == {((1, 3),): []}


def test_many_shapes_do_not_pile_up(tmp_path: Path) -> None:
    lender = buffers(session(tmp_path))
    for rows in range(1, 3 * _MOST_SHAPES):
        array = np.ones((rows, 3), np.float32)
        with lender.lent([array]) as lent:
            lent.run([array])
    assert len(lender._spare) <= _MOST_SHAPES


def test_threads_do_not_share_memory(tmp_path: Path) -> None:
    lender, wrong = buffers(session(tmp_path)), []

    def work(number: int) -> None:
        array = np.full((4, 3), number, np.float32)
        for _ in range(200):
            with lender.lent([array]) as lent:
                (answer,) = lent.run([array])
            if not (answer == 2 * number).all():
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_sizes_that_no_input_has_are_bound_anew(tmp_path: Path) -> None:
    opened = session(tmp_path)
    one = TensorSpec("x", "float32", ("n", 3)), TensorSpec("y", "float32", ("m", 3))
    assert not DeviceBuffers(opened, Signature(one[:1], one[1:]), "cpu", 0)._same_sizes
    assert buffers(opened)._same_sizes
