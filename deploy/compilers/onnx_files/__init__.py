"""A file of ONNX from a program of torch.export.

``onnx_export`` calls torch's exporter, which ``onnx_upstream`` mends, with ``constant_folding``
and ``size_floats``. Of what that wrote ``onnx_graph`` makes a file that can ship, by means of
``onnx_messages``, which finds and replaces nodes.

``centred_norms``, ``far_places``, ``reduced_axes``, ``sigmoids`` and ``wide_integers`` write out
what ONNX Runtime computes wrongly, and ``recurrent_steps`` its LSTM and GRU.

``older_opsets`` and ``ir_version`` are for older readers, ``debug_map`` for whoever looks for a
node in the user's code. ``string_input`` puts text before a file.
"""
