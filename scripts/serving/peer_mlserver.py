"""The bench's model in MLServer; copied beside its settings, and run by a Python that has it."""

from importlib import import_module
from typing import Any

mlserver: Any = import_module("mlserver")
codecs: Any = import_module("mlserver.codecs")
ort: Any = import_module("onnxruntime")


class OnnxModel(mlserver.MLModel):  # type: ignore[misc]  # the library is not there to be checked
    """One ONNX file, one thread."""

    async def load(self) -> bool:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(self.settings.parameters.uri, options)
        return True

    async def predict(self, payload: Any) -> Any:
        feed = {each.name: codecs.NumpyCodec.decode_input(each) for each in payload.inputs}
        names = [output.name for output in self.session.get_outputs()]
        arrays = self.session.run(names, feed)
        outputs = [
            codecs.NumpyCodec.encode_output(name, array)
            for name, array in zip(names, arrays, strict=True)
        ]
        return mlserver.types.InferenceResponse(model_name=self.name, outputs=outputs)
