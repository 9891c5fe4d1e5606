"""A program of torch.export, of a user's module.

``program`` captures it. ``special_sizes`` lets a size be 1, ``size_questions`` sees that a branch
on sizes goes one way for all of them, ``known_values`` and ``few_values`` let forward decide by
what hangs on no input, ``derivatives_in_forks`` is for a forward with derivatives beside a GPU.

``recorded`` captures one way through forward: what is ``asked`` of values is answered as by the
example, ``texts`` that are made of them are asked for, ``rows`` that they choose are constants,
what is ``listed`` is an index again, and ``truths`` has conditions asked of tensors. What is
``of_python`` alone, ``flag is True`` and a division by 0, is asked too. Of these what is
``harmless`` is dropped. ``ways`` puts those that samples take into one program, and ``one_way``
lets the file of it refuse what takes another.
"""
