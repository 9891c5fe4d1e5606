"""Against torch's own antialiased resize, which torchvision's float path is."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_sample_images
from torch.nn import functional

from edgeport.training.vision import IMAGENET_DEVIATION, IMAGENET_MEAN, Preprocess

LEVEL = 1 / 255 / max(IMAGENET_DEVIATION)


def reference(image: torch.Tensor, resize: int, crop: int) -> torch.Tensor:
    """``v2.Resize(resize, antialias=True)``, ``v2.CenterCrop(crop)``, ``v2.Normalize``."""
    height, width = image.shape[:2]
    short, long = sorted((height, width))
    other = int(resize * long / short)
    size = (resize, other) if height <= width else (other, resize)
    pixels = image.permute(2, 0, 1)[None].float() / 255
    large = functional.interpolate(
        pixels, size=size, mode="bilinear", antialias=True, align_corners=False
    )
    top, left = (round((side - crop) / 2.0) for side in size)
    cut = large[0, :, top : top + crop, left : left + crop]
    mean, deviation = (torch.tensor(v).view(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_DEVIATION))
    return (cut - mean) / deviation


@pytest.mark.parametrize("number", [0, 1])
def test_a_photo_is_what_torchvision_makes_of_it(number: int) -> None:
    image = torch.tensor(load_sample_images().images[number])
    found = Preprocess("image", 256, 224)(image=image[None])[0]
    assert found.shape == (3, 224, 224)
    assert found.dtype == torch.float32
    assert float((found - reference(image, 256, 224)).abs().max()) < 0.005 * LEVEL


@settings(max_examples=60)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(4, 40), st.floats(0.2, 1))
def test_any_size_up_and_down(height: int, width: int, resize: int, share: float) -> None:
    if max(height, width) > 12 * min(height, width):
        return
    generator = np.random.default_rng(height * 100 + width)
    image = torch.tensor(generator.integers(0, 256, (height, width, 3), np.uint8))
    crop = max(1, int(resize * share))
    found = Preprocess("image", resize, crop)(image=image[None])[0]
    assert float((found - reference(image, resize, crop)).abs().max()) < 0.02 * LEVEL


def test_images_of_a_batch_do_not_touch_one_another() -> None:
    images = torch.randint(0, 256, (3, 9, 11, 3), dtype=torch.uint8)
    module = Preprocess("image", 8, 6)
    together = module(image=images)
    for index in range(3):
        torch.testing.assert_close(together[index], module(image=images[index : index + 1])[0])


def test_a_crop_that_is_larger_than_the_image() -> None:
    with pytest.raises(ValueError, match="a crop of 9 from images resized to 8"):
        Preprocess("image", 8, 9)
