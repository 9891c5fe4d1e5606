"""Code with branches and loops on values: a script of it, and a program of the script.

``rewriting`` puts code that torch.jit refuses in words that it has, by ``list_loops``, for loops
over lists of modules, and ``nodes``. What torch.jit takes, and makes something else of, is put in
other words by ``kept_values``, or refused by ``overlooked`` and ``differences``; what its
interpreter computes otherwise than the script says, ``interpreted`` writes out, and what is
otherwise in Python, of numbers, ``like_python``.

``converter`` interprets a script for torch.export, by ``blocks``, ``loops``, ``operands``,
``operators``, ``numbers`` and ``writes``.
"""
