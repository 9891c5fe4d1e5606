"""What a module is called: its class, which scripted code hides."""

import torch
from torch import nn


def kind_of(module: nn.Module) -> str:
    """The name of its class; of scripted or traced code that of the class it was made of."""
    made_of = str(module.original_name) if isinstance(module, torch.jit.ScriptModule) else ""
    return made_of or type(module).__name__


def kind_at(module: nn.Module, path: str) -> str:
    """The name of the class of a part; ``get_submodule`` is not for scripted code.

    Raises:
        KeyError: There is no such part.
    """
    return kind_of(dict(module.named_modules(remove_duplicate=False))[path])
