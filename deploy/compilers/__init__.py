"""From a source to one artefact: TorchScript, ONNX and ``.pt2``, each by several routes.

Which module does what, in the order in which a user's module meets them:

- ``routes`` lists the ways to a format, ``targets`` what each device reads. ``warm`` loads the
  compilers once, ``upstream`` keeps them quiet and mends what all of them share. What a route
  leaves is in ``stored``.
- ``capture`` makes a program of torch.export, or one of the way that forward took.
- ``scripted`` is for code with branches and loops: it makes a script of a module, and a program
  of the script.
- ``pt2``, ``aotinductor`` and ``torchscript`` make a file of a program, the last by
  ``traced_branches``; ``onnx_files`` does for ONNX. ``bounded_indices`` lets native code ask of
  indices, ``sums_by_axis`` adds in it as precisely as eager does.
- ``narrower`` makes a file in bfloat16, float16 or int8 of one in float32.

``operators`` has what is written in place of torch's own operators and functions.
"""
