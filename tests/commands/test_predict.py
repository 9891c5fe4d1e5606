"""Raw data through a run, and through its bundle on a device without torch."""

import csv
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from edgeport import deploy, training
from edgeport.__main__ import main
from edgeport.commands import sources
from edgeport.commands.predict import Model, told
from edgeport.runtimes import Range, Signature, TensorSpec, UsageError
from edgeport.training.vision import Preprocess

ROWS = [
    f"{30 + 7 * n % 91},{['north', 'south', 'east'][n % 3]},{n % 4},{n * 3 % 17 + n}"
    for n in range(40)
]


class Mean(torch.nn.Module):
    """Of the bytes of an image."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image.float().mean((1, 2, 3))


@pytest.fixture(scope="module")
def houses(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a table, a run trained on it, and its bundle."""
    folder = tmp_path_factory.mktemp("houses")
    (folder / "houses.csv").write_text("\n".join(["area,place,rooms,price", *ROWS]))
    data = ["--data", str(folder / "houses.csv"), "--target", "price"]
    run = folder / "run"
    assert main(["train", "linear", *data, "-o", str(run), "--epochs", "50"]) == 0
    arguments = sources.SourceArgs(str(run), None, (), (), (), None, False)
    deploy.export_source(
        sources.make(arguments, folder / "run.edge"), folder / "run.edge", deploy.Request(("onnx",))
    )
    return folder


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(text.splitlines()))


def test_a_bundle_says_what_its_run_says_and_needs_no_torch(
    houses: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["predict", str(houses / "run"), "--input", str(houses / "houses.csv")]) == 0
    of_run = table(capsys.readouterr().out)
    code = (
        "import sys; sys.modules['torch'] = None; sys.modules['sklearn'] = None\n"
        "from edgeport.__main__ import main; sys.exit(main())"
    )
    asked = ["predict", str(houses / "run.edge"), "--input", str(houses / "houses.csv")]
    done = subprocess.run(
        [sys.executable, "-c", code, *asked], capture_output=True, text=True, check=True
    )
    of_bundle = table(done.stdout)
    assert [row["row"] for row in of_run] == [str(n) for n in range(1, 41)]
    np.testing.assert_allclose(
        [float(row["prediction"]) for row in of_bundle],
        [float(row["prediction"]) for row in of_run],
        rtol=1e-5,
    )
    module = training.load(houses / "run").module
    first = {
        "area": torch.tensor([30.0]), "place": torch.tensor([[ord(c) for c in "north"]]).int(),
        "rooms": torch.tensor([0.0]),
    }  # fmt: skip
    assert float(of_run[0]["prediction"]) == pytest.approx(module(**first).item(), rel=1e-5)


def test_columns_are_found_by_name_and_others_are_ignored(
    houses: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    (tmp_path / "a.csv").write_text("id,rooms,place,area\n7,0,north,30\n8,0,north,30\n")
    output = tmp_path / "out.csv"
    asked = ["predict", str(houses / "run"), "--input", str(tmp_path / "a.csv")]
    assert main([*asked, "-o", str(output)]) == 0
    assert capsys.readouterr().out == ""
    first, second = table(output.read_text())
    assert first["prediction"] == second["prediction"]


@pytest.mark.parametrize("model", ["run", "run.edge"])
def test_a_category_that_was_not_in_the_training_is_told(
    houses: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], model: str
) -> None:
    asked = ["predict", str(houses / model), "--input", str(tmp_path / "a.csv")]
    answers = []
    for places in ((" north ", "south"), ("North", "")):
        (tmp_path / "a.csv").write_text(
            "rooms,place,area\n\n" + "".join(f"0,{place},30\n" for place in places)
        )
        capsys.readouterr()
        assert main(asked) == 0
        out, err = capsys.readouterr()
        answers.append(([row["prediction"] for row in table(out)], err))
    (known, nothing), (unknown, told) = answers
    assert nothing == ""
    assert told == (
        f"{tmp_path / 'a.csv'} line 3: 'place' is 'North', which was not among the 3 categories "
        "that the model was trained on; so in 2 of 2 rows: it is answered as none of them\n"
    )
    assert len({*known, *unknown}) == 3


def test_a_bundle_lists_the_categories_that_it_knows(
    houses: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["inspect", str(houses / "run.edge")]) == 0
    assert "\ncategories of place: 3: east, north, south\n" in capsys.readouterr().out


def test_what_is_read_is_not_overwritten(
    houses: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.csv"
    path.write_text("rooms,place,area\n0,north,30\n")
    (tmp_path / "b.csv").hardlink_to(path)
    for output in ("a.csv", "b.csv"):
        asked = ["predict", str(houses / "run"), "--input", str(path)]
        assert main([*asked, "-o", str(tmp_path / output)]) == 2
        assert f"{output} is what is read, and -o would overwrite it" in capsys.readouterr().err
    assert path.read_text() == "rooms,place,area\n0,north,30\n"


@pytest.mark.parametrize("name", ["run.json", "weights.safetensors", "new.csv"])
def test_nothing_is_written_into_a_run(
    houses: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = houses / "run"
    before = {path: path.read_bytes() for path in run.iterdir()}
    asked = ["predict", str(run), "--input", str(houses / "houses.csv"), "-o", str(run / name)]
    assert main(asked) == 2
    assert f"in {run}, " in capsys.readouterr().err
    for report in ("run.json", "report.html"):
        asked = ["export", str(run), "-o", str(houses / "new.edge"), "--report", str(run / report)]
        assert main(asked) == 2
        assert f"in {run}, which is read, and --report would" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in run.iterdir()} == before


def test_a_report_is_not_in_the_bundle_that_is_made(
    houses: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = houses / "new.edge"
    asked = ["export", str(houses / "run"), "-o", str(output)]
    assert main([*asked, "--report", str(output / "manifest.json")]) == 2
    assert f"would be in {output}, and --report adds nothing" in capsys.readouterr().err
    assert not output.exists()


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        ("area,place\n1,north\n", 2, "has no column 'rooms'"),
        ("area,place,rooms\n1,north,\n", 2, "line 2: 'rooms' is '', expected a number"),
        ("area,place,rooms\n1,north,inf\n", 2, "line 2: 'rooms' is 'inf', expected a number"),
        ("area,place,rooms\n1,north\n", 2, "line 2 has 2 values, the first line has 3"),
        ("area,place,rooms\n", 2, "holds nothing to predict from"),
        ("", 2, "is empty"),
        ("area;place;rooms\n1;north;2\n", 2, "has no commas between its columns"),
        ("area,place,rooms,area\n1,north,2,3\n", 2, "has two columns 'area'"),
        ('area,place,rooms\n1,"no\nrth",2\n\n1,north,x\n', 2, "line 5: 'rooms' is 'x'"),
    ],
)
def test_tables_that_do_not_fit(
    houses: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    text: str,
    code: int,
    message: str,
) -> None:
    (tmp_path / "a.csv").write_text(text)
    for model in ("run", "run.edge"):
        capsys.readouterr()
        assert main(["predict", str(houses / model), "--input", str(tmp_path / "a.csv")]) == code
        assert message in capsys.readouterr().err


def test_a_run_is_told_no_inputs(
    houses: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["export", str(houses / "run"), "--input", "area=float32[batch]"]
    assert main([*asked, "-o", str(tmp_path / "m.edge")]) == 2
    assert "a run knows its inputs, outputs and samples" in capsys.readouterr().err


def test_more_numbers_than_a_table_has_columns() -> None:
    of_nothing = Model(Signature((), ()), {}, dict, "float32")
    with pytest.raises(
        UsageError, match=r"4,097 numbers per row, too many for a table\n  fix: write arrays"
    ):
        told({"y": np.zeros((2, 4097), np.float32)}, of_nothing, 2)


def test_an_answer_without_a_row_for_each() -> None:
    of_nothing = Model(Signature((), ()), {}, dict, "float32")
    with pytest.raises(
        UsageError, match=r"'y' is \[3\] for 2 rows\n  fix: write arrays: -o NAME.npz"
    ):
        told({"y": np.zeros(3, np.float32)}, of_nothing, 2)


def test_rows_of_a_state_are_along_its_second_axis() -> None:
    x, h = TensorSpec("x", "int64", ("batch",)), TensorSpec("h", "int64", (2, "batch"))
    columns = told(
        {"h": np.array([[1, 2], [3, 4]])}, Model(Signature((x,), (h,)), {}, dict, "float32"), 2
    )
    assert columns == {"h_0": ["1", "2"], "h_1": ["3", "4"]}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.float32(12345678), "1.2345678e+07"),
        (np.float32(0.1), "0.1"),
        (np.float32(np.pi), "3.1415927"),
        (np.float16(0.1), "0.1"),
        (np.float64(1e9 / 3), "333333333.3333333"),
        (np.float32(-np.inf), "-inf"),
    ],
)
def test_a_number_is_told_with_all_its_digits(value: np.floating[Any], text: str) -> None:
    of_nothing = Model(Signature((), ()), {}, dict, "float32")
    columns = told({"y": np.array([value])}, of_nothing, 1)
    assert columns == {"y": [text]}
    assert value.dtype.type(text) == value


def test_a_run_answers_on_the_cpu(houses: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["predict", str(houses / "run"), "--input", str(houses / "houses.csv")]
    assert main([*asked, "--device", "cuda"]) == 2
    assert "is a run, which answers on the CPU, not on cuda\n" in capsys.readouterr().err


def test_files_that_do_not_fit(
    houses: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (3, 3)).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("hello\n")
    (tmp_path / "a.bin").touch()
    (tmp_path / "a.npz").write_bytes(b"no")
    np.savez(tmp_path / "b.npz", area=np.zeros(2, np.float32))
    for name, message in (
        ("a.png", "not images as they are\n  fix: give .csv or .npz\n"),
        ("a.txt", "not lines of text"),
        ("a.bin", "is neither .csv, .tsv, .npz, .npy, .txt nor an image"),
        ("a.npz", "is not an .npz of plain arrays"),
        ("b.npz", "has no array 'place'\n  fix: it needs area, place, rooms; it has area"),
        ("c.csv", "no such file"),
    ):
        assert main(["predict", str(houses / "run.edge"), "--input", str(tmp_path / name)]) == 2
        assert message in capsys.readouterr().err


def test_an_image_of_another_size_and_what_is_no_image_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "in"
    (folder / "more").mkdir(parents=True)
    Image.new("RGB", (6, 8)).save(folder / "a.png")
    for name in ("b.heic", "c.txt", "more/d", "more/e"):
        (folder / name).touch()
    images = {"image": torch.zeros(2, 8, 6, 3, dtype=torch.uint8)}
    free = {"image": {0: "batch"}}
    deploy.export(Mean(), images, tmp_path / "mean.edge", dimensions=free, formats=["onnx"])
    asked = ["predict", str(tmp_path / "mean.edge"), "--input", str(folder)]
    capsys.readouterr()
    assert main(asked) == 0
    out, err = capsys.readouterr()
    assert out == "row,output\na.png,0\n"
    told = f"left out 4 files of {folder} whose name is that of no image which is read: "
    assert err == f"{told}b.heic, c.txt, more/d, ...\n"
    frames = [Image.new("RGB", (6, 8), shade) for shade in ("black", "white")]
    frames[0].save(folder / "b.gif", save_all=True, append_images=frames[1:])
    assert main(asked) == 0
    out, err = capsys.readouterr()
    assert out == "row,output\na.png,0\nb.gif,0\n"
    assert err.endswith("\n1 image has several frames, of which the first is taken: b.gif\n")
    assert main([*asked[:-1], str(folder / "b.gif")]) == 0
    assert capsys.readouterr().err == (
        f"1 image has several frames, of which the first is taken: {folder / 'b.gif'}\n"
    )
    Image.new("RGB", (8, 6)).save(folder / "more" / "f.png")
    assert main(asked) == 2
    assert (
        f"edgeport: {folder / 'more' / 'f.png'}: input 'image' has shape [1, 6, 8, 3]: axis 1 is "
        "6, expected 8\n"
    ) in capsys.readouterr().err


def test_images_of_any_size_are_labelled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a small network in the place of torchvision's."""
    from edgeport.commands import predict, raw_input

    generator = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    for name, size in (("a.png", (9, 12)), ("b.png", (20, 7))):
        pixels = generator.integers(0, 256, (*size, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "in" / name)
    spec = TensorSpec("image", "uint8", ("batch", "height", "width", 3))
    found = list(raw_input.read(tmp_path / "in", Signature((spec,), (), {})))
    assert [raw.rows for raw in found] == [("a.png",), ("b.png",)]
    assert [raw.inputs["image"].shape for raw in found] == [(1, 9, 12, 3), (1, 20, 7, 3)]
    for axes, shape in ((("h", "w"), (9, 12)), (("h", "w", 1), (9, 12, 1))):
        grey = Signature((TensorSpec("image", "uint8", ("batch", *axes)),), (), {})
        (one,) = raw_input.read(tmp_path / "in" / "a.png", grey)
        assert one.inputs["image"].shape == (1, *shape)
    pixels = Preprocess("image", 8, 6)(image=torch.tensor(found[0].inputs["image"]))
    logits = pixels.mean((2, 3)).numpy()
    model = predict.Model(
        Signature((spec,), (), {}), {"logits": tuple("rgb")}, lambda i: i, "float32"
    )
    told = predict.told({"logits": logits}, model, 1)
    assert told["label"] == ["rgb"[int(logits.argmax())]]
    assert 1 / 3 < float(str(told["probability"][0])) < 1


def tripled(path: Path) -> Path:
    """The bundle of a model of a sequence, whose state has its rows along the second axis."""

    class Steps(torch.nn.Module):
        def forward(
            self, x: torch.Tensor, state: torch.Tensor
        ) -> tuple[torch.Tensor, torch.Tensor]:
            return x * 3, state + x.sum(1)

    example = {"x": torch.rand(2, 5), "state": torch.rand(4, 2)}
    free = {"x": {0: "batch"}, "state": {1: "batch"}}
    deploy.export(
        Steps(), example, path, formats=("onnx",),
        dimensions=free, ranges={"batch": Range(1, 3)}, output_names=["y", "next"],
    )  # fmt: skip
    return path


def test_arrays_go_in_and_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle, given = tripled(tmp_path / "m.edge"), tmp_path / "a.npz"
    x = np.arange(40, dtype=np.float32).reshape(8, 5)  # three parts
    state = np.arange(32, dtype=np.float32).reshape(4, 8)
    np.savez(given, x=x, state=state)
    asked = ["predict", str(bundle), "--input", str(given), "-o"]
    assert main([*asked, str(tmp_path / "b.npz")]) == 0
    with np.load(tmp_path / "b.npz") as found:
        assert np.array_equal(found["y"], x * 3)
        assert np.array_equal(found["next"], state + x.sum(1))
    capsys.readouterr()
    np.savez(given, x=x[:3], state=state)
    assert main([*asked, str(tmp_path / "c.npz")]) == 2
    told = "have not as many rows each: x has 3, state has 8\n  fix: give as many rows in each\n"
    assert capsys.readouterr().err.endswith(told)
    for name in ("b.npy", "b.tsv", "b"):
        assert main([*asked, str(tmp_path / name)]) == 2
        assert "is neither .csv nor .npz\n  fix: name it so, to ch" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"m.edge", "a.npz", "b.npz"}


def test_numbers_alone_are_one_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Ratio(torch.nn.Module):
        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return x / y

    path, given = tmp_path / "m.edge", tmp_path / "a.npz"
    example = {"x": torch.tensor(3.0), "y": torch.tensor(2.0)}
    deploy.export(Ratio(), example, path, formats=("onnx",))
    np.savez(given, x=np.float32(9), y=np.float32(4))
    asked = ["predict", str(path), "--input", str(given)]
    assert main([*asked, "-o", str(tmp_path / "b.npz")]) == 0
    with np.load(tmp_path / "b.npz") as found:
        assert found["output"] == 2.25
    capsys.readouterr()
    assert main(asked) == 2
    assert "output 'output' is [] for 1 rows\n  fix: write arrays" in capsys.readouterr().err


def test_rows_of_several_sizes_are_no_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Brightness(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return image.float().mean(-1)

    example = torch.zeros(2, 4, 5, 3, dtype=torch.uint8)
    free = {"image": {0: "batch", 1: "height", 2: "width"}}
    path = tmp_path / "m.edge"
    deploy.export(Brightness(), {"image": example}, path, formats=("onnx",), dimensions=free)
    photos = tmp_path / "photos"
    photos.mkdir()
    for index, size in enumerate([(4, 5), (4, 5), (5, 4)]):
        Image.new("RGB", size).save(photos / f"{index}.png")
    capsys.readouterr()
    for output in ([], ["-o", str(tmp_path / "a.npz")]):
        assert main(["predict", str(path), "--input", str(photos), *output]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert "output 'output' of a row is [5, 4], and [4, 5] of row 2.png\n  fix: give inp" in err
    (photos / "2.png").unlink()
    assert main(["predict", str(path), "--input", str(photos), "-o", str(tmp_path / "a.npz")]) == 0
    with np.load(tmp_path / "a.npz") as found:
        assert found["output"].shape == (2, 5, 4)


def test_what_is_no_table_is_told_before_it_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = tripled(tmp_path / "m.edge")
    (tmp_path / "a.csv").write_bytes(b"\x93NUMPY")
    capsys.readouterr()
    assert main(["predict", str(bundle), "--input", str(tmp_path / "a.csv")]) == 2
    told = "x: float32[batch, 5] is no column of a table\n  fix: give .npz\n"
    assert capsys.readouterr().err == f"edgeport: {told}"
