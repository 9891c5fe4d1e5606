"""BYTES for tensors that hold text or images: what a client has, as the model takes it.

A text input is int32 code points with a free axis ``characters``; an image input is uint8, as a
decoder gives it (``images.is_image``). Everything after that is in the artefact.
"""

import io
from collections.abc import Sequence

import numpy as np

from edgeport.runtimes.errors import BackendMissingError, InputError
from edgeport.runtimes.images import is_image, pixels
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.signature import TensorSpec
from edgeport.runtimes.text import MOST_CHARACTERS, PADDING, SHORTEST, encode, is_text

MOST_PIXELS = 2**26
"""Of one image: 64 million, which are 200 MB as colours."""

MOST_BYTES = 2**28
"""Of images of one tensor: files of 900 KB may hold 5 GB of pixels."""


def takes_bytes(spec: TensorSpec) -> bool:
    """Whether an input may be given as BYTES, one string per row."""
    return is_text(spec) or is_image(spec)


def from_bytes(spec: TensorSpec, array: Array) -> Array:
    """Make the tensor that the model takes.

    Args:
        spec: Of an input that takes bytes.
        array: (n,) or (n, 1) object: UTF-8 texts, or encoded images.

    Raises:
        InputError: It has another shape, a text is not UTF-8, an image is none or of another size,
            or the tensor would be too large.
        BackendMissingError: Images are decoded by Pillow, which is not installed.
    """
    if array.ndim not in (1, 2) or array.size != len(array) or not len(array):
        raise InputError(
            f"input {spec.name!r} is BYTES of shape {list(array.shape)}",
            remedy="send one string per row: shape [n] or [n, 1]",
        )
    values: Sequence[bytes] = array.ravel().tolist()
    if is_text(spec):
        texts = [_text(spec, index, value) for index, value in enumerate(values)]
        check_characters(spec, len(texts) * max(SHORTEST, *map(len, texts)))
        return encode(texts)
    first = _image(spec, 0, values[0])
    _check_size(spec, len(values), first.nbytes)
    found = np.empty((len(values), *first.shape), np.uint8)
    for index, value in enumerate(values):
        image = _image(spec, index, value) if index else first
        if image.shape != first.shape:
            sizes = sorted((first.shape, image.shape))
            raise InputError(
                f"the images of input {spec.name!r} have different sizes: "
                f"{', '.join(f'{size[1]} x {size[0]}' for size in sizes)}",
                remedy="send them in requests of their own",
            )
        found[index] = image
    return found


def widened(spec: TensorSpec, texts: Array, width: int) -> Array:
    """Texts as wide as the widest of all inputs.

    Args:
        spec: Of an input that is text.
        texts: (texts, length) int32.
        width: At least their own.

    Raises:
        InputError: They would be too large.
    """
    more = width - texts.shape[1]
    check_characters(spec, len(texts) * width)
    return np.pad(texts, ((0, 0), (0, more)), constant_values=PADDING) if more else texts


def check_characters(spec: TensorSpec, count: int) -> None:
    """See that a model is not asked for more than it may take memory for.

    Args:
        spec: Of an input that is text.
        count: Of rows times characters of the longest: one long text widens every row.

    Raises:
        InputError: There are too many.
    """
    if count > MOST_CHARACTERS:
        raise InputError(
            f"the texts of input {spec.name!r}, each as long as the longest, are {count:,} "
            f"characters, at most {MOST_CHARACTERS:,} go at once",
            remedy="send fewer at a time, long ones in requests of their own, and cut longer ones",
        )


def _check_size(spec: TensorSpec, rows: int, row_bytes: int) -> None:
    """Before the tensor is made."""
    if rows * row_bytes > MOST_BYTES:
        raise InputError(
            f"{rows} rows of {row_bytes:,} bytes, decoded, are {rows * row_bytes:,} bytes of input "
            f"{spec.name!r}, at most {MOST_BYTES:,} are made",
            remedy="send fewer rows at a time",
        )


def _text(spec: TensorSpec, index: int, value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError as e:
        raise InputError(
            f"text {index} of input {spec.name!r} is not UTF-8: {e}", remedy="encode it as UTF-8"
        ) from e


def _image(spec: TensorSpec, index: int, value: bytes) -> Array:
    try:
        from PIL import Image, UnidentifiedImageError
    except ModuleNotFoundError as e:
        raise BackendMissingError(
            f"BYTES of input {spec.name!r} are images, and Pillow, which decodes them, is not "
            "installed",
            remedy="pip install pillow where the server runs, or send the pixels as UINT8",
        ) from e
    try:
        with Image.open(io.BytesIO(value)) as image:
            if image.width * image.height > MOST_PIXELS:
                raise InputError(
                    f"image {index} of input {spec.name!r} has {image.width} x {image.height} "
                    f"pixels, at most {MOST_PIXELS:,} are decoded",
                    remedy="make it smaller",
                )
            return pixels(image, spec)
    except InputError:
        raise
    except Image.DecompressionBombError as e:
        raise InputError(
            f"image {index} of input {spec.name!r} is too large: {str(e).partition(', could')[0]}",
            remedy="make it smaller",
        ) from e
    except Exception as e:  # decoders of damaged files raise what they like
        unknown = isinstance(e, UnidentifiedImageError)  # whose text names an object of Python's
        raise InputError(
            f"bytes {index} of input {spec.name!r} cannot be read as an image: "
            f"{'they are of no kind that Pillow knows' if unknown else e}",
            remedy="send a PNG or JPEG file of 8 bits as it is, as a binary tensor; or in "
            'base64, with "content_type": "base64" among the parameters of the input',
        ) from e
