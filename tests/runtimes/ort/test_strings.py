import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgeport import runtimes
from edgeport.runtimes import ContractError, EngineError, FormatError, InputError
from edgeport.runtimes.session import Options, open_artefact
from edgeport.runtimes.signature import METADATA_KEY, Range, Signature, TensorSpec
from edgeport.runtimes.text import encode

SIGNATURE = Signature(
    (TensorSpec("text", "int32", ("batch", "characters")), TensorSpec("by", "int64", ("batch",))),
    (TensorSpec("length", "int64", ("batch",)),),
    {"characters": Range(8)},
)


def write(
    path: Path, signature: Signature | None = SIGNATURE, text: Sequence[str] = ("batch",)
) -> Path:
    """A graph that counts the words "a" and "b" of each text, times a number."""
    nodes = [
        helper.make_node(
            "Tokenizer", ["text"], ["each"], domain="com.microsoft",
            mark=0, mincharnum=1, pad_value="", separators=[""],
        ),
        helper.make_node(
            "LabelEncoder", ["each"], ["one"], domain="ai.onnx.ml",
            keys_strings=["a", "b"], values_int64s=[1, 1], default_int64=0,
        ),
        helper.make_node("ReduceSum", ["one", "axis"], ["sum"], keepdims=0),
        helper.make_node("Mul", ["sum", "by"], ["length"]),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "g",
        [
            helper.make_tensor_value_info("text", TensorProto.STRING, text),
            helper.make_tensor_value_info("by", TensorProto.INT64, ["batch"]),
        ],
        [helper.make_tensor_value_info("length", TensorProto.INT64, ["batch"])],
        [helper.make_tensor("axis", TensorProto.INT64, [1], [1])],
    )
    domains = [("", 20), ("com.microsoft", 1), ("ai.onnx.ml", 2)]
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid(*each) for each in domains], ir_version=10
    )
    if signature is not None:
        model.metadata_props.add(key=METADATA_KEY, value=json.dumps(signature.to_json()))
    onnx.save(model, path)
    return path


def test_code_points_become_strings(tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx")
    with runtimes.open(path, "ort-strings", threads=1) as session:
        table = encode(["ab a", "", "é\0\U0001f600a"])
        answer = session.run({"text": table, "by": np.array([1, 2, 3])})
        assert answer["length"].tolist() == [3, 0, 3]
        assert session.signature == SIGNATURE
        assert (session.engine.backend, session.engine.threads) == ("ort-strings", 1)


def test_what_is_no_text(tmp_path: Path) -> None:
    by = np.array([1])
    with runtimes.open(write(tmp_path / "m.onnx"), "ort-strings") as session:
        table = encode(["abc"])
        table[0, 1] = -1
        with pytest.raises(InputError, match="input 'text' has characters after the end of a text"):
            session.run({"text": table, "by": by})
        with pytest.raises(InputError, match="input 'text' has a lone surrogate"):
            session.run({"text": encode(["\ud800"]), "by": by})
        table[0, 1] = 0x110000
        with pytest.raises(InputError, match="code points from -1 to 1114112"):
            session.run({"text": table, "by": by})
        with pytest.raises(InputError, match="axis 1 is 3, expected characters in 8"):
            session.run({"text": table[:, :3], "by": by})


def test_a_closed_session(tmp_path: Path) -> None:
    session: Any = runtimes.open(write(tmp_path / "m.onnx"), "ort-strings")
    session.close()
    session.close()
    inputs = {"text": encode(["a"]), "by": np.array([1])}
    with pytest.raises(EngineError, match="the session is closed"):
        session.run(inputs)
    with pytest.raises(EngineError, match="the session is closed"), session.engine_call(inputs):
        pass


def test_a_file_of_somebody_else(tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", signature=None)
    with pytest.raises(FormatError, match=r"m\.onnx has no signature of edgeport's"):
        runtimes.open(path, "ort-strings")
    with pytest.raises(EngineError, match=r"'text' is a tensor\(string\)") as caught:
        runtimes.open(path)
    assert caught.value.remedy == "open it with backend 'ort-strings', if edgeport made it"


def test_a_graph_that_is_not_what_it_declares(tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", text=["batch", "one"])
    with pytest.raises(ContractError, match=r"but its graph has text: tensor\(string\)"):
        runtimes.open(path, "ort-strings")
    other = Signature(SIGNATURE.inputs, SIGNATURE.outputs)
    with pytest.raises(ContractError, match="was asked for"):
        open_artefact(write(path), "ort-strings", Options(signature=other))
