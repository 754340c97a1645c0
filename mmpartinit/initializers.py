"""Initializers that MMEngine's ``WEIGHT_INITIALIZERS`` lacks.

They are usable in any ``init_cfg``, with this package's hook or without.
"""

from typing import Callable, Union

import torch.nn as nn
from mmengine.model import BaseModule
from mmengine.registry import WEIGHT_INITIALIZERS
from mmengine.utils import get_object_from_string


@WEIGHT_INITIALIZERS.register_module()
class Apply:
    """Initialize a module with your own function, through
    :meth:`torch.nn.Module.apply`.

    Args:
        fn (Callable | str): Takes a module and writes its parameters in
            place; called for every sub-module and for the module itself, with
            gradients off when the hook calls it. Or its dotted name, such as
            ``'my_project.init.gate_init'``.

    Raises:
        TypeError: If ``fn`` is neither callable nor a str.
        ValueError: If there is no such function, or importing it fails.
    """

    def __init__(self, fn: Union[Callable[[nn.Module], None], str]) -> None:
        if isinstance(fn, str):
            name, fn = fn, get_object_from_string(fn)
            if fn is None:
                raise ValueError(
                    f'Apply cannot find fn={name!r}: is its module importable '
                    '(on PYTHONPATH, or beside the program), and the name '
                    'right?'
                )
        if not callable(fn):
            raise TypeError(
                'Apply needs a function of one module, or its '
                f'dotted name; fn is {fn!r}'
            )
        self.fn = fn

    def __call__(self, module: nn.Module) -> None:
        """Call the function on the module and all below it."""
        module.apply(self.fn)


@WEIGHT_INITIALIZERS.register_module()
class InitWeights:
    """Initialize a module by its own ``init_weights()``, and so by its own
    ``init_cfg``.

    ``BaseModule`` does that once and refuses afterwards; here the modules
    under this one count as not initialized yet.
    """

    def __call__(self, module: nn.Module) -> None:
        """Call the module's ``init_weights()``."""
        if not callable(getattr(module, 'init_weights', None)):
            raise TypeError(
                "InitWeights calls the module's own init_weights(), and "
                f'{type(module).__name__} has none; give it an init_cfg that '
                'says the values'
            )
        for child in module.modules():
            if isinstance(child, BaseModule):
                child.is_init = False
        module.init_weights()
