"""The bench's model in LitServe: ``python peer_litserve.py MODEL PORT``."""

import sys
from importlib import import_module
from typing import Any

import numpy as np

litserve: Any = import_module("litserve")


class Api(litserve.LitAPI):  # type: ignore[misc]  # the library is not there to be checked
    """One ONNX file, one thread; {input: rows} in, {output: rows} out."""

    def setup(self, device: str) -> None:
        ort: Any = import_module("onnxruntime")
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(sys.argv[1], options)

    def decode_request(self, request: dict[str, Any]) -> Any:  # the annotation says: a JSON body
        return {name: np.array(rows, np.float32) for name, rows in request.items()}

    def predict(self, x: Any) -> Any:
        names = [output.name for output in self.session.get_outputs()]
        return dict(zip(names, self.session.run(names, x), strict=True))

    def encode_response(self, output: Any) -> Any:
        return {name: array.tolist() for name, array in output.items()}


if __name__ == "__main__":
    server = litserve.LitServer(Api(), accelerator="cpu")
    server.run(host="127.0.0.1", port=int(sys.argv[2]), generate_client_file=False)
