"""The engine of ``infer.py`` where a bundle holds TorchScript and no ONNX."""

from collections.abc import Callable, Sequence
from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]


# <engine>
def load_engine(files: Sequence[bytes], threads: int) -> Callable[[list[Array]], list[Array]]:
    """Open the model: arrays in the order of INPUTS to arrays in the order of OUTPUTS."""
    import io
    import warnings

    import torch

    torch.set_num_threads(threads)
    load: Any = torch.jit.load
    with warnings.catch_warnings():  # torch deprecates torch.jit
        warnings.filterwarnings("ignore", "`torch.jit")
        model = load(io.BytesIO(files[0]), map_location="cpu")

    def run(arrays: list[Array]) -> list[Array]:
        with torch.inference_mode():
            result = model(*[torch.tensor(array) for array in arrays])
            tensors = (result,) if isinstance(result, torch.Tensor) else result
            return [tensor.numpy() for tensor in tensors]

    return run


# </engine>
