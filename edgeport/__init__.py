"""Take a PyTorch model to the device it runs on, and prove that it is still the same model.

The code lies beside this folder, in ``deploy/``, ``runtimes/`` and ``training/``; the links
here give it its import name.
"""

import os

# ONNX Runtime from 1.29 on tells Microsoft about the machine and its models unless this is set
# before it is imported. Whoever wants that says ORT_DISABLE_TELEMETRY=0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"  # read by pyproject.toml; asking importlib.metadata takes 15 ms
