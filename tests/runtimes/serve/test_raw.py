"""Texts and image files as the tensors that a model takes."""

import io

import numpy as np
import pytest

from edgeport.runtimes import InputError, Signature, TensorSpec
from edgeport.runtimes.inputs import Array, InputCheck
from edgeport.runtimes.null import NullSession
from edgeport.runtimes.serve.model import Model
from edgeport.runtimes.serve.raw import from_bytes, takes_bytes
from edgeport.runtimes.serve.requests import InferRequest
from edgeport.runtimes.text import decode

COLOURS = TensorSpec("photo", "uint8", ("batch", "height", "width", 3))
GREY = TensorSpec("digit", "uint8", ("batch", 8, 6))
PLANE = TensorSpec("digit", "uint8", ("batch", 8, 6, 1))
TEXT = TensorSpec("text", "int32", ("batch", "characters"))


def rows(*values: bytes) -> Array:
    found = np.empty(len(values), object)
    found[:] = values
    return found


def png(pixels: Array, turned: bool = False) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    image = Image.fromarray(pixels)
    exif = image.getexif()
    if turned:
        exif[0x0112] = 6  # orientation: a quarter turn
    image.save(buffer, "PNG", exif=exif)
    return buffer.getvalue()


@pytest.mark.parametrize("spec", [COLOURS, GREY, PLANE, TEXT], ids=str)
def test_what_takes_bytes(spec: TensorSpec) -> None:
    assert takes_bytes(spec)


@pytest.mark.parametrize(
    "spec",
    [
        TensorSpec("x", "float32", ("batch", 8, 8, 3)),
        TensorSpec("x", "uint8", ("batch", 8, 8, 4)),
        TensorSpec("x", "uint8", ("batch", 8)),
    ],
    ids=str,
)
def test_what_does_not(spec: TensorSpec) -> None:
    assert not takes_bytes(spec)


def test_colours_of_one_size() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 6, 3), np.uint8)
    found = from_bytes(COLOURS, rows(*map(png, pixels)))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, pixels)


@pytest.mark.parametrize(("spec", "shape"), [(GREY, (2, 8, 6)), (PLANE, (2, 8, 6, 1))])
def test_grey_images(spec: TensorSpec, shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 6), np.uint8)
    found = from_bytes(spec, rows(*map(png, pixels)))
    np.testing.assert_array_equal(found, pixels.reshape(shape))


def test_an_image_that_says_how_it_was_held_is_turned() -> None:
    pixels = np.arange(48, dtype=np.uint8).reshape(6, 8)
    found = from_bytes(GREY, rows(png(pixels, turned=True)))
    np.testing.assert_array_equal(found[0], np.rot90(pixels, -1))


def test_texts() -> None:
    found = from_bytes(TEXT, rows("né".encode(), b"a"))
    assert found[:, :2].tolist() == [[110, 233], [97, -1]]
    assert (found[:, 2:] == -1).all()


def test_texts_of_several_inputs_are_as_wide_as_the_widest() -> None:
    specs = tuple(TensorSpec(name, "int32", ("batch", "characters")) for name in "ab")
    session = NullSession(Signature(specs, (TensorSpec("y", "float32", ("batch",)),)), 1)
    model = Model(
        "m", "1", "null", session, {}, 1, (), ("a", "b"), ("y",),
        InputCheck(session.signature), frozenset("ab"),
    )  # fmt: skip  # in the order of its fields
    for long, short in ("ab", "ba"):
        asked = {long: rows(b"longer than eight"), short: rows(b"no")}
        found = dict(zip("ab", model.prepare(InferRequest("m", asked)), strict=True))
        assert {name: decode(array) for name, array in found.items()} == {
            long: ["longer than eight"],
            short: ["no"],
        }
    given = {"a": rows(b"no"), "b": np.zeros((1, 9), np.int32)}
    assert [array.shape for array in model.prepare(InferRequest("m", given))] == [(1, 9)] * 2
    given |= {"a": np.zeros((1, 12), np.int32)}  # what is a tensor already stays as it is
    with pytest.raises(InputError, match="'characters' is 12 in input 'a' but 9 in input 'b'"):
        model.prepare(InferRequest("m", given))


@pytest.mark.parametrize(
    ("spec", "array", "said"),
    [
        (TEXT, rows(b"\xff"), "text 0 of input 'text' is not UTF-8"),
        (TEXT, rows(b"a", b"b").reshape(1, 2), r"is BYTES of shape \[1, 2\]"),
        (
            COLOURS,
            rows(b"no picture"),
            "bytes 0 of input 'photo' cannot be read as an image: they are of no kind that Pillow "
            "knows\n",
        ),
        (COLOURS, rows(png(np.full((8, 6), 300, np.uint16))), "more than 8 bits \\(mode I;16\\)"),
        (GREY, rows(png(np.full((8, 6), 300, np.uint16))), "more than 8 bits \\(mode I;16\\)"),
        (COLOURS, rows(b""), "bytes 0 of input 'photo' cannot be read as an image"),
        (COLOURS, rows(), r"is BYTES of shape \[0\]"),
    ],
)
def test_what_is_refused(spec: TensorSpec, array: Array, said: str) -> None:
    with pytest.raises(InputError, match=said):
        from_bytes(spec, array)


def test_sizes_that_differ_are_named() -> None:
    images = rows(png(np.zeros((8, 6), np.uint8)), png(np.zeros((4, 5), np.uint8)))
    with pytest.raises(InputError, match="have different sizes: 5 x 4, 6 x 8"):
        from_bytes(COLOURS, images)


def test_an_image_of_too_many_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeport.runtimes.serve.raw.MOST_PIXELS", 47)
    with pytest.raises(InputError, match="has 6 x 8 pixels, at most 47 are decoded"):
        from_bytes(GREY, rows(png(np.zeros((8, 6), np.uint8))))


def test_an_image_of_more_pixels_than_pillow_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 23)
    with pytest.raises(InputError, match=r"image 0 of input 'digit' is too large: "):
        from_bytes(GREY, rows(png(np.zeros((8, 6), np.uint8))))


def test_images_that_would_be_too_large_are_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeport.runtimes.serve.raw.MOST_BYTES", 500)
    images = rows(*[png(np.zeros((9, 9), np.uint8))] * 3)
    with pytest.raises(InputError, match=r"3 rows of 243 bytes, decoded, .* at most 500 are"):
        from_bytes(COLOURS, images)
    assert from_bytes(COLOURS, images[:2]).nbytes <= 500


def test_texts_take_no_more_than_a_bounded_share_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeport.runtimes.serve.raw.MOST_CHARACTERS", 150)
    told = (
        "the texts of input 'text', each as long as the longest, are 200 characters, at most 150 "
        "go at once\n  fix: send fewer at a time, long ones in requests of their own, and cut "
        "longer ones"
    )
    with pytest.raises(InputError, match=rf"^{told}$"):
        from_bytes(TEXT, rows(b"a" * 100, b"b"))
    assert from_bytes(TEXT, rows(b"a" * 100)).shape == (1, 100)
