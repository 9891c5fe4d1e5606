"""From a source to one artefact: TorchScript, ONNX and ``.pt2``, each by several routes."""
