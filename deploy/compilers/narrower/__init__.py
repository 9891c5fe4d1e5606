"""From an ONNX file in float32 to one in bfloat16, float16 or int8.

``narrowing`` lists the ways; ``half_floats`` and ``int8_weights`` put right what ONNX Runtime's
converters make. ``bfloat16`` puts it in for TensorRT and takes it out for ONNX Runtime;
``rounding`` shows in float32 what an engine does in the narrower one. ``wide_nodes`` tells which
nodes stay in float32, by ``while_loops`` among others.
"""
