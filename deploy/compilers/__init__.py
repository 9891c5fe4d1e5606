"""From a source to one artefact: TorchScript, ONNX and ``.pt2``, each by several routes.

Which module does what, in the order in which a user's module meets them:

- ``routes`` lists the ways to a format, ``targets`` what each device reads. ``warm`` loads the
  compilers once, ``upstream`` keeps them quiet and mends what all of them share. What a route
  leaves is in ``stored``.
- A program of torch.export: ``program`` captures it, and saves it as ``.pt2``. ``special_sizes``
  lets a size be 1, ``size_questions`` sees that a branch on sizes goes one way for all of them,
  ``known_values`` and ``few_values`` let forward decide by what hangs on no input,
  ``derivatives_in_forks`` is for a forward with derivatives beside a GPU.
- A script: ``script_rewriting`` puts code in words that torch.jit has, by ``script_list_loops``
  and ``script_code``. A program of one: ``script_converter`` interprets it, by ``script_loops``,
  ``script_blocks``, ``script_operands``, ``script_operators``, ``script_numbers`` and
  ``script_writes``.
- A program of one way through forward: ``recorded`` captures it, and ``one_way`` lets its file
  refuse what takes another.
- From a program to a file: ``torchscript``; ``aotinductor``; ``onnx_export``, with
  ``onnx_upstream``, which mends torch's exporter, ``constant_folding`` and ``size_floats``.
- What an exporter wrote as ONNX: ``onnx_graph`` makes a file of it that can ship, by means of
  ``onnx_messages``, which finds and replaces nodes. ``centred_norms``, ``far_places``,
  ``reduced_axes``, ``sigmoids`` and ``wide_integers`` write out what ONNX Runtime computes
  wrongly, and ``recurrent_steps`` its LSTM and GRU; ``older_opsets`` and ``ir_version`` are for
  older readers, ``debug_map`` for whoever looks for a node in the user's code. ``string_input``
  puts text before it.
- From ONNX in float32 to a narrower file: ``narrowing``, with ``half_floats``, ``bfloat16``,
  ``int8_weights``, ``rounding``, ``wide_nodes`` and ``while_loops``.

``operators`` has what is written in place of torch's own operators and functions.
"""
