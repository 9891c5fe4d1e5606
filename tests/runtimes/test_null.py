import json
from pathlib import Path

import numpy as np
import pytest

from edgeport.runtimes import (
    ContractError,
    EngineError,
    FormatError,
    InputError,
    Options,
    Range,
    Signature,
    TensorSpec,
)
from edgeport.runtimes.session import open_artefact, probe

SIGNATURE = Signature(
    (TensorSpec("x", "float32", ("batch", 2)),),
    (TensorSpec("y", "float16", ("batch", "classes", 3)), TensorSpec("z", "bool", ())),
    {"batch": Range(1, 8)},
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "m.null"
    file.write_text(json.dumps(SIGNATURE.to_json()))
    return file


def test_it_answers_zeros_of_the_right_shape(path: Path) -> None:
    with open_artefact(path, "null", Options(threads=3)) as session:
        answer = session.run({"x": np.ones((5, 2), np.float32)})
        assert session.signature == SIGNATURE
        assert session.engine.threads == 3
    assert list(answer) == ["y", "z"]
    np.testing.assert_array_equal(answer["y"], np.zeros((5, 1, 3), np.float16), strict=True)
    np.testing.assert_array_equal(answer["z"], np.zeros((), np.bool_), strict=True)


def test_it_checks_like_every_backend(path: Path) -> None:
    session = open_artefact(path, "null")
    with pytest.raises(InputError, match=r"expected batch in 1\.\.8"):
        session.run({"x": np.ones((9, 2), np.float32)})
    session.close()
    session.close()
    with pytest.raises(EngineError, match="the session is closed\n  fix: open it again"):
        session.run({"x": np.ones((5, 2), np.float32)})


def test_it_is_usable_everywhere() -> None:
    assert probe("null").usable


def test_another_signature_than_the_one_asked_for(path: Path) -> None:
    asked = Signature(SIGNATURE.inputs, SIGNATURE.outputs)
    with pytest.raises(ContractError, match=r"m\.null declares .*1\.\.8\n  but .* was asked for\n"):
        open_artefact(path, "null", Options(signature=asked))


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"\xff", "'utf-8' codec"), (b"{", "Expecting"), (b"[]", r"a value is \[\], expected an obj")],
)
def test_a_file_that_is_none(path: Path, data: bytes, message: str) -> None:
    path.write_bytes(data)
    with pytest.raises(FormatError, match=rf"m\.null: not a signature: .*{message}") as caught:
        open_artefact(path, "null")
    assert str(caught.value).count("fix: ") == 1


def test_sizes_that_follow_others_are_right_too(tmp_path: Path) -> None:
    x, y = (TensorSpec("x", "float32", ("n",)), TensorSpec("y", "float32", ("2*n+1", "m+n")))
    file = tmp_path / "m.null"
    file.write_text(json.dumps(Signature((x,), (y,)).to_json()))
    with open_artefact(file, "null", Options()) as session:
        assert session.run({"x": np.ones(3, np.float32)})["y"].shape == (7, 4)
