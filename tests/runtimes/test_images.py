"""Files of images as Pillow decodes them, and without a word from it."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgeport.runtimes import FormatError
from edgeport.runtimes.images import decoded, images_in, opened, others_in

COLOURS = np.random.default_rng(0).integers(0, 256, (6, 8, 4), np.uint8)
SEEN = Image.fromarray(COLOURS[..., :3])
SEE_THROUGH = Image.fromarray(COLOURS)


def in_16_colours() -> Image.Image:
    return SEEN.quantize(16)


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize(
    ("image", "name", "how"),
    [
        (SEE_THROUGH, "a.png", {}),
        (SEE_THROUGH, "a.tiff", {}),
        (SEE_THROUGH.convert("LA"), "a.png", {}),
        (SEEN, "a.png", {"transparency": (1, 2, 3)}),
        (SEEN.convert("L"), "a.png", {"transparency": 7}),
        (in_16_colours(), "a.png", {"transparency": 3}),
        (in_16_colours(), "a.png", {"transparency": bytes(range(16))}),
        (in_16_colours(), "a.gif", {"transparency": 2}),
        (SEEN.convert("1"), "a.png", {}),
        (SEEN.convert("CMYK"), "a.tiff", {}),
        (SEEN, "a.tiff", {"save_all": True, "append_images": [SEE_THROUGH.convert("RGB")]}),
    ],
)
def test_an_image_is_what_pillow_makes_of_its_first_frame(
    tmp_path: Path, image: Image.Image, name: str, how: dict[str, Any], mode: Any
) -> None:
    image.save(tmp_path / name, **how)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted = np.asarray(Image.open(tmp_path / name).convert(mode))
    with opened(tmp_path / name) as found:
        np.testing.assert_array_equal(decoded(found, mode), wanted)


def test_a_large_photo_is_one_and_a_larger_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    SEEN.save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 47)
    with opened(tmp_path / "a.png") as found:
        np.testing.assert_array_equal(decoded(found, "RGB"), COLOURS[..., :3])
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 23)
    with (
        pytest.raises(FormatError, match=r"a\.png is too large: .*48 pixels.*\n  fix: make it sm"),
        opened(tmp_path / "a.png"),
    ):
        pass


def test_what_is_hidden_is_neither_an_image_nor_another_file(tmp_path: Path) -> None:
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "more").mkdir()
    for name in ("a.PNG", "b.heic", ".c.png", ".d", ".hidden/e.png", ".hidden/f", "more/g.jpeg"):
        (tmp_path / name).touch()
    assert images_in(tmp_path) == [tmp_path / "a.PNG", tmp_path / "more" / "g.jpeg"]
    assert others_in(tmp_path) == [tmp_path / "b.heic"]
