"""Every backend that is usable here, over modules of the zoo that differ in what is hard.

``scripts/bench_export.py`` does the same over all of it, beside the raw tools.
"""

from pathlib import Path

import numpy as np
import pytest
import zoo

from edgeport import deploy, runtimes

USUAL = (
    "convnet", "no free dimension", "lstm with state", "nested output", "branch", "lazy",
    "writes into its input", "bfloat16",
)  # fmt: skip  # one kind per line
MORE = (
    "text encoder", "tiny outputs", "keyword only", "dataclass input", "same tensor twice",
    "empty memory", "item slice", "custom autograd function", "left in train mode",
)  # fmt: skip  # one kind per line


@pytest.fixture(
    scope="module", params=[*USUAL, *(pytest.param(name, marks=pytest.mark.slow) for name in MORE)]
)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> deploy.Export:
    name: str = request.param
    return deploy.export(
        zoo.make(name),
        zoo.inputs(name),
        tmp_path_factory.mktemp("zoo") / "model.edge",
        dimensions=zoo.ZOO[name].dimensions,
        ranges=zoo.ZOO[name].ranges,
    )


def test_every_backend_is_as_near_to_the_oracle_as_eager(made: deploy.Export) -> None:
    assert [report.backend for report in made.report.backends] == ["ort-cpu", "libtorch", "torch"]
    usual = {name for name, kind in made.bundle.manifest.samples if kind != "edge"}
    for report in made.report.backends:
        assert report.outcome == "pass", report.reason
        assert len(report.verdicts) == made.report.samples * len(made.source.signature.outputs)
        ratios = [v.figures.ratio for v in report.verdicts if v.sample in usual]
        assert ratios
        assert max(ratios) <= 8


def test_every_free_dimension_was_probed(made: deploy.Export) -> None:
    if "batch" in made.source.signature.dimensions:
        names = {verdict.sample for verdict in made.report.backends[0].verdicts}
        for size in (1, 2, 7, 32):
            assert any(f"batch={size}" in name.replace(",", " ").split() for name in names)


@pytest.mark.parametrize("backend", ["ort-cpu", "libtorch", "torch"])
def test_a_session_answers_what_eager_answers(made: deploy.Export, backend: str) -> None:
    source = made.source
    expected = [tensor.detach().numpy() for tensor in source.flat(*source.example_tensors())]
    with runtimes.open(made.bundle.path, backend=backend) as session:
        answer = session.run(source.example)
    assert list(answer) == [spec.name for spec in source.signature.outputs]
    for spec, eager in zip(source.signature.outputs, expected, strict=True):
        assert answer[spec.name].dtype == eager.dtype == np.dtype(spec.dtype)
        scale = np.abs(eager).max() if eager.dtype.kind == "f" else 0
        rtol = 1e-2 if source.precision == "bfloat16" else 1e-4  # of 2^-8
        np.testing.assert_allclose(answer[spec.name], eager, rtol=rtol, atol=1e-5 * scale)


def test_no_file_names_this_machine(made: deploy.Export) -> None:
    here = [str(Path(zoo.__file__).parent).encode(), str(Path.home()).encode() + b"/"]
    for file in made.bundle.path.rglob("*"):
        if file.is_file():
            data = file.read_bytes()
            assert not [path for path in here if path in data], file.name


def test_verify_says_the_same_as_export(made: deploy.Export) -> None:
    assert runtimes.verify(made.bundle, threads=1).to_json() == made.report.to_json()
