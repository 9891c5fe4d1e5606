"""Take a PyTorch model to the device it runs on, and prove that it is still the same model.

The code lies beside this folder, in ``deploy/``, ``runtimes/`` and ``training/``; the links
here give it its import name.
"""

__version__ = "0.1.0"  # read by pyproject.toml; asking importlib.metadata takes 15 ms
