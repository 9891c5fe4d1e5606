"""Operators and functions of torch, written so that what is exported of them is right.

They take effect at three times.

- While torch.export captures a module. Functions that forward calls are replaced meanwhile, by a
  table ``WHILE_CAPTURED`` of owner, name and what stands there: ``comparisons``, ``derivatives``,
  ``free_sizes``, ``losses``, ``moved_modules``, ``packed``, ``pooling``, ``spectra``. What torch
  knows of an operator or of a number is replaced by a context ``known`` or the like: ``checks``,
  ``composites``, ``conversions``, ``copies``, ``experts``, ``fake_quantisation``, ``fallbacks``,
  ``number_functions``, ``quotients``, ``recurrent``.
- When a program is written in the operators that a format has. ``decompositions`` joins the tables
  by operator, ``TABLE`` for TorchScript and ``ONNX_TABLE``, and tells which nodes need them:
  ``adaptive_pools``, ``attention``, ``bags``, ``counting``, ``distances``, ``divisors``,
  ``doubles``, ``elementwise``, ``empty``, ``free_numbers``, ``free_parts``, ``nearest_pixels``,
  ``ordering``, ``scattering``, ``small_matrices``, ``smoothed_resizing``, ``special``.
  ``complex_parts`` has a table of its own, for programs with complex numbers alone.
- When a file was wrong, and is made once more without kernels that are less exact: ``exact_sums``,
  ``exact_resizing``, ``exact_spectra``.

``fx_nodes`` and ``symbols`` serve all of them.
"""
