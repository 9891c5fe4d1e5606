"""What only a GPU can show: that engines compute what the model computes, from many threads."""

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeport.runtimes import (
    BackendMissingError,
    ContractError,
    EngineError,
    InputError,
    Options,
    Range,
    Signature,
    TensorSpec,
    ValuesError,
)
from edgeport.runtimes.bundles.golden import Golden
from edgeport.runtimes.cuda.device import Context
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.session import open_artefact
from edgeport.runtimes.tensorrt.building import build
from edgeport.runtimes.tensorrt.library import Library, Name, load
from edgeport.runtimes.tensorrt.order import Bounds, Built, EngineOptions, Order
from edgeport.runtimes.tensorrt.session import TensorRTSession
from edgeport.runtimes.tensorrt.tensors import ANSWERED

pytestmark = pytest.mark.gpu

Builder = Callable[..., Path]


@pytest.fixture(scope="module")
def gpu() -> Context:
    try:
        return Context(0)
    except BackendMissingError as e:
        pytest.skip(e.problem)


@pytest.fixture(scope="module", params=["tensorrt", "tensorrt-rtx"])
def library(request: pytest.FixtureRequest, gpu: Context) -> Library:
    name: Name = request.param
    try:
        found = load(name)
    except BackendMissingError as e:
        pytest.skip(e.problem)
    major, minor = gpu.device.compute_capability
    known = getattr(found.module, "ComputeCapability", None)
    if known is not None and not hasattr(known, f"SM{major}{minor}"):
        pytest.skip(f"{found} has nothing for compute capability {major}.{minor}")
    return found


def rows_of(spec: TensorSpec) -> Bounds:
    """1 to 64 of them; the other sizes are fixed."""
    rest = tuple(size for size in spec.shape[1:] if isinstance(size, int))
    return Bounds((1, *rest), (4, *rest), (64, *rest))


@pytest.fixture(scope="module")
def engine_of(library: Library, tmp_path_factory: pytest.TempPathFactory) -> Builder:
    """Builds an engine for 1 to 64 rows."""

    def make(model: bytes, signature: Signature, precision: str = "") -> Path:
        folder = tmp_path_factory.mktemp("engine")
        (folder / "m.onnx").write_bytes(model)
        shapes = {spec.name: rows_of(spec) for spec in signature.inputs}
        paths = (str(folder / "m.onnx"), str(folder / "m.engine"))
        order = Order(library.name, *paths, signature, shapes, precision=precision)
        answer = build(order, 600)
        assert isinstance(answer, Built), answer
        return Path(paths[1])

    return make


@pytest.fixture(scope="module")
def mlp(engine_of: Builder, mlp_onnx: bytes, signature: Signature) -> Path:
    return engine_of(mlp_onnx, signature)


@pytest.fixture
def session(library: Library, mlp: Path) -> Iterator[TensorRTSession]:
    with open_artefact(mlp, library.name) as session:
        assert isinstance(session, TensorRTSession)
        yield session


def test_it_computes_what_the_model_computes(
    session: TensorRTSession, samples: tuple[Golden, ...], signature: Signature
) -> None:
    assert session.signature == signature  # carried by the engine
    for sample in samples:
        answer = session.run(sample.inputs)
        assert list(answer) == ["logits", "label"]
        np.testing.assert_allclose(answer["logits"], sample.oracle["logits"], rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(answer["label"], sample.eager["label"], strict=True)


def test_what_is_in_use_is_read_back(
    session: TensorRTSession, library: Library, gpu: Context
) -> None:
    assert session.engine.backend == library.name
    assert session.engine.version == library.version
    assert session.engine.device == "cuda:0"
    assert session.engine.provider.startswith(gpu.device.name)
    assert session.engine.precision == "float32"


def expected(x: Array, weights: Mapping[str, Array]) -> Array:
    hidden = np.maximum(x @ weights["w1"] + weights["b1"], 0)
    found: Array = hidden @ weights["w2"] + weights["b2"]
    return found


def test_sizes_change_from_call_to_call(
    session: TensorRTSession, weights: Mapping[str, Array]
) -> None:
    generator = np.random.default_rng(2)
    for rows in (1, 64, 2, 63, 7, *generator.integers(1, 65, 50)):
        x = generator.normal(size=(rows, 8)).astype("f4")
        answer = session.run({"x": x})["logits"]
        np.testing.assert_allclose(answer, expected(x, weights), rtol=1e-4, atol=1e-5)


def test_a_session_is_shared_between_threads(
    session: TensorRTSession, weights: Mapping[str, Array]
) -> None:
    def ask(seed: int) -> None:
        x = np.random.default_rng(seed).normal(size=(1 + seed % 64, 8)).astype("f4")
        answer = session.run({"x": x})["logits"]
        np.testing.assert_allclose(answer, expected(x, weights), rtol=1e-4, atol=1e-5)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(2000)))
    assert 1 <= len(session._lanes) <= 8


def test_what_takes_another_way_is_refused(engine_of: Builder, library: Library) -> None:
    model = onnx.parser.parse_model("""<ir_version: 10, opset_import: ["" : 20]>
        g (float[n,8] x) => (float[n,8] y, bool answered) <float limit={9.0}> {
            y = Add(x, x)  most = ReduceMax<keepdims=0>(x)  answered = Less(most, limit)
        }""")
    model.graph.output[1].name = model.graph.node[2].output[0] = ANSWERED
    spec = TensorSpec("x", "float32", ("n", 8))
    signature = Signature((spec,), (replace(spec, name="y"),), {"n": Range(1, 64)})
    with open_artefact(engine_of(model.SerializeToString(), signature), library.name) as session:
        for value in (1, 10, 2):
            x = np.full((3, 8), value, "f4")
            if value == 10:
                with pytest.raises(ValuesError, match="they take another way through forward"):
                    session.run({"x": x})
            else:
                assert list(session.run({"x": x})) == ["y"]


def test_an_answer_is_the_callers_own(session: TensorRTSession) -> None:
    first = session.run({"x": np.ones((2, 8), "f4")})["logits"]
    kept = first.copy()
    session.run({"x": np.zeros((2, 8), "f4")})
    np.testing.assert_array_equal(first, kept)


def test_sizes_outside_the_profile(library: Library, mlp: Path, signature: Signature) -> None:
    # an engine that declares more than it was built for
    wider = Signature(signature.inputs, signature.outputs, {"batch": Range(1, 1000)})
    order = Order(
        library.name,
        str(mlp.with_name("m.onnx")),
        str(mlp.with_name("wider.engine")),
        wider,
        {"x": Bounds((1, 8), (4, 8), (64, 8))},
    )
    assert isinstance(build(order, 600), Built)
    with open_artefact(Path(order.engine), library.name) as session:
        with pytest.raises(
            InputError,
            match=r"^input 'x' has shape \[65, 8\]: axis 0 is 65, and the engine was built for "
            r"1\.\.64 \(optimisation profile: min \[1, 8\], opt \[4, 8\], max \[64, 8\]\)\n"
            r"  fix: split .*batch:1\.\.65",
        ):
            session.run({"x": np.zeros((65, 8), "f4")})
        assert session.run({"x": np.zeros((64, 8), "f4")})["logits"].shape == (64, 3)


def test_where_the_time_of_a_call_goes(session: TensorRTSession) -> None:
    x = {"x": np.zeros((64, 8), "f4")}
    session.timed_parts(x)
    parts = session.timed_parts(x)
    assert min(parts.copy_in_ns, parts.compute_ns, parts.copy_out_ns) > 0
    assert sum(astuple(parts)) < 10**9


def test_the_engines_own_call(session: TensorRTSession) -> None:
    with session.engine_call({"x": np.zeros((64, 8), "f4")}) as call:
        call()
        call()


def test_a_closed_session(session: TensorRTSession) -> None:
    session.close()
    session.close()
    with pytest.raises(EngineError, match=r"^the session is closed\n  fix: open it again$"):
        session.run({"x": np.zeros((1, 8), "f4")})


def test_closing_while_others_run(library: Library, mlp: Path) -> None:
    session = open_artefact(mlp, library.name)
    wrong: list[BaseException] = []

    def work() -> None:
        try:
            while True:
                session.run({"x": np.zeros((8, 8), "f4")})
        except EngineError as e:
            if e.problem != "the session is closed":
                wrong.append(e)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    session.run({"x": np.zeros((8, 8), "f4")})
    session.close()
    for thread in threads:
        thread.join()
    assert not wrong


def test_memory_comes_back(library: Library, mlp: Path, gpu: Context) -> None:
    def use() -> None:
        with open_artefact(mlp, library.name) as session:
            session.run({"x": np.zeros((64, 8), "f4")})

    use()
    before = gpu.free_bytes()
    for _ in range(10):
        use()
    assert gpu.free_bytes() > before - 16 * 2**20


def test_another_signature_than_the_one_asked_for(
    library: Library, mlp: Path, signature: Signature
) -> None:
    asked = Signature(signature.inputs, signature.outputs, {"batch": Range(1, 8)})
    with pytest.raises(ContractError, match=r"1\.\.64\n  but .*1\.\.8 was asked for"):
        open_artefact(mlp, library.name, Options(signature=asked))


@pytest.mark.parametrize("dtype", ["float16", "float32", "int32", "int64", "bool"])
def test_dtypes_pass(library: Library, engine_of: Builder, dtype: str) -> None:
    onnx_type = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    x = helper.make_tensor_value_info("x", onnx_type, ["batch", 3])
    y = helper.make_tensor_value_info("y", onnx_type, ["batch", 6])
    node = helper.make_node("Concat", ["x", "x"], ["y"], axis=1)
    graph = helper.make_graph([node], "g", [x], [y])
    opset = helper.make_opsetid("", 20)
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[opset], ir_version=10)
    signature = Signature(
        (TensorSpec("x", dtype, ("batch", 3)),),
        (TensorSpec("y", dtype, ("batch", 6)),),
        {"batch": Range(1, 64)},
    )
    given = (np.arange(15).reshape(5, 3) % 2).astype(dtype)
    with open_artefact(engine_of(model.SerializeToString(), signature), library.name) as session:
        answer = session.run({"x": given})["y"]
    np.testing.assert_array_equal(answer, np.concatenate([given, given], 1), strict=True)


def narrow(precision: str, weights: Mapping[str, Array]) -> bytes:
    """One product between float32 and float32, that is computed in less."""
    initial = {"w": weights["w1"].astype("f2"), "s": np.float32(1 / 32), "z": np.int8(0)}
    make = helper.make_node
    nodes = [make("Cast", ["x"], ["a"], to=TensorProto.FLOAT16), make("MatMul", ["a", "w"], ["b"]),
             make("Cast", ["b"], ["y"], to=TensorProto.FLOAT)]  # fmt: skip
    if precision == "int8":
        initial["w"] = np.clip(np.round(weights["w1"] * 32), -127, 127).astype("i1")
        nodes = [make("QuantizeLinear", ["x", "s", "z"], ["q"]),
                 make("DequantizeLinear", ["q", "s", "z"], ["a"]),
                 make("DequantizeLinear", ["w", "s", "z"], ["b"]),
                 make("MatMul", ["a", "b"], ["y"])]  # fmt: skip
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 16])],
        [
            numpy_helper.from_array(np.asarray(value), name)
            for name, value in initial.items()
            if name in used
        ],
    )
    opset = helper.make_opsetid("", 20)
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[opset], ir_version=10)
    data: bytes = model.SerializeToString()
    return data


@pytest.mark.parametrize(("precision", "apart"), [("float16", 2e-2), ("int8", 0.2)])
def test_a_narrower_precision(
    library: Library,
    engine_of: Builder,
    weights: Mapping[str, Array],
    precision: str,
    apart: float,
) -> None:
    signature = Signature(
        (TensorSpec("x", "float32", ("batch", 8)),),
        (TensorSpec("y", "float32", ("batch", 16)),),
        {"batch": Range(1, 64)},
    )
    engine = engine_of(narrow(precision, weights), signature, precision)
    x = np.random.default_rng(3).uniform(-1, 1, (5, 8)).astype("f4")
    with open_artefact(engine, library.name) as session:
        assert session.engine.precision == precision
        answer = session.run({"x": x})["y"]
    exact = x.astype("f8") @ weights["w1"].astype("f8")
    error = np.abs(answer - exact).max()
    assert 1e-6 < error < apart  # not float32, and not far from it


def test_an_output_whose_size_depends_on_the_values(library: Library, tmp_path: Path) -> None:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, 5])
    y = helper.make_tensor_value_info("y", TensorProto.INT64, [2, "hits"])
    graph = helper.make_graph([helper.make_node("NonZero", ["x"], ["y"])], "g", [x], [y])
    opset = helper.make_opsetid("", 20)
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[opset], ir_version=10)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    signature = Signature(
        (TensorSpec("x", "float32", (4, 5)),), (TensorSpec("y", "int64", (2, "hits")),)
    )
    order = Order(library.name, str(tmp_path / "m.onnx"), str(tmp_path / "m.engine"), signature)
    answer = build(order, 600)
    if not isinstance(answer, Built):
        pytest.skip(f"{library} refuses it: {answer.problems[0].text}")
    with open_artefact(Path(order.engine), library.name) as session:
        for seed in range(20):
            given = (np.random.default_rng(seed).random((4, 5)) > seed / 20).astype("f4")
            np.testing.assert_array_equal(session.run({"x": given})["y"], np.stack(given.nonzero()))


def test_an_engine_of_another_gpu(
    library: Library, mlp: Path, signature: Signature, gpu: Context
) -> None:
    if not hasattr(library.module, "ComputeCapability"):
        pytest.skip(f"{library} builds for the GPU that it finds only")
    other = "8.6" if gpu.device.compute_capability != (8, 6) else "12.0"
    order = Order(
        library.name,
        str(mlp.with_name("m.onnx")),
        str(mlp.with_name("other.engine")),
        signature,
        {"x": Bounds((1, 8), (4, 8), (64, 8))},
        options=EngineOptions(compute_capabilities=(other,)),
    )
    assert isinstance(build(order, 600), Built)
    with pytest.raises(
        BackendMissingError, match=r"cannot open .*: it was (not )?built for compute"
    ):
        open_artefact(Path(order.engine), library.name)


@pytest.mark.parametrize("option", ["version_compatible", "hardware_compatible", "refit"])
def test_an_engine_with_an_option_runs(
    library: Library,
    mlp: Path,
    signature: Signature,
    weights: Mapping[str, Array],
    option: str,
) -> None:
    if library.name != "tensorrt" and option != "refit":
        pytest.skip(f"{library} has no such option")
    order = Order(
        library.name,
        str(mlp.with_name("m.onnx")),
        str(mlp.with_name(f"{option}.engine")),
        signature,
        {"x": Bounds((1, 8), (4, 8), (64, 8))},
        options=EngineOptions(**{option: True}),  # type: ignore[arg-type]  # a flag
    )
    assert isinstance(build(order, 600), Built)
    x = np.random.default_rng(4).normal(size=(3, 8)).astype("f4")
    with open_artefact(Path(order.engine), library.name) as session:
        answer = session.run({"x": x})["logits"]
    np.testing.assert_allclose(answer, expected(x, weights), rtol=1e-4, atol=1e-5)


def test_a_damaged_engine(library: Library, mlp: Path, tmp_path: Path) -> None:
    for data in (b"", b"junk" * 1000, mlp.read_bytes()[:1000]):
        (tmp_path / "m.engine").write_bytes(data)
        with pytest.raises(EngineError, match=r"cannot open .*m\.engine: it is "):
            open_artefact(tmp_path / "m.engine", library.name)


def test_an_engine_in_bfloat16_is_proved(library: Library, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="an export needs torch")
    deploy = pytest.importorskip("edgeport.deploy", reason="an export needs edgeport[export]")
    module = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Tanh(), torch.nn.Linear(16, 4))
    made = deploy.export(
        module,
        {"x": torch.randn(2, 8)},
        tmp_path / "m.edge",
        dimensions={"x": {0: "batch"}},
        formats=[library.name],
        precision="bfloat16",
    )
    assert made.bundle.artefact(library.name).proved
    with made.bundle.open(library.name) as session:
        assert session.engine.precision == "bfloat16"
