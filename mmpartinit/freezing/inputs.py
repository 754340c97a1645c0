"""Inputs that need a gradient, for reentrant activation checkpointing: it
gives parameters none where no input has one, as behind frozen parts.
"""

from typing import Any, Optional, Tuple

import torch
import torch.nn as nn
from torch import Tensor

_BY_MMENGINE = 'mmengine.runner.activation_checkpointing'


def let_gradients_in(model: nn.Module) -> None:
    """Have the inputs require one of what is checkpointed and trains."""
    for module in model.modules():
        if _is_reentrant(module) and any(
            parameter.requires_grad for parameter in module.parameters()
        ):
            module.register_forward_pre_hook(_require_gradient)


def _is_reentrant(module: nn.Module) -> bool:
    # MMEngine's key hangs a function of its own in the place of `forward`.
    forward = vars(module).get('forward')
    kind = getattr(module, 'checkpoint_impl', None)  # torch's wrapper
    return (
        getattr(forward, '__globals__', {}).get('__name__') == _BY_MMENGINE
        or getattr(kind, 'name', '') == 'REENTRANT'
    )


def _require_gradient(
    module: nn.Module, inputs: Tuple[Any, ...]
) -> Optional[Tuple[Any, ...]]:
    floats = [
        i
        for i, value in enumerate(inputs)
        if isinstance(value, Tensor) and value.is_floating_point()
    ]
    if (
        not floats
        or not torch.is_grad_enabled()
        or any(inputs[i].requires_grad for i in floats)
    ):
        return None
    given = list(inputs)
    given[floats[0]] = inputs[floats[0]].detach().requires_grad_()
    return tuple(given)
