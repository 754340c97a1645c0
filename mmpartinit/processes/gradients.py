"""Which engines bear that parameters cease to need gradients.

All of them are set up before any hook exists.
"""

from typing import Collection, Dict, Tuple

import torch.nn as nn
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from .units import original


def no_freezing(model: nn.Module) -> str:
    """Why nothing can be frozen in a model as it is wrapped; '' if it can."""
    if hasattr(model, 'zero_optimization_stage'):
        return (
            "DeepSpeed's optimizer has taken over the parameters before any "
            'hook exists, and its weight decay would move what is frozen '
            "since; freeze in the model's constructor (`frozen_stages`), or "
            'train with DDP, or with FSDP and use_orig_params=True'
        )
    for module in model.modules():
        if (
            isinstance(module, DistributedDataParallel)
            and not module.find_unused_parameters
        ):
            return (
                'DistributedDataParallel was wrapped around the model before '
                'any hook exists, and waits for the gradients of all that '
                'needed one then; set find_unused_parameters=True: in the '
                'config, or where it has them in model_wrapper_cfg or in the '
                'model_wrapper of its strategy'
            )
    return ''


def mixed_unit(weights: Dict[str, Tensor], frozen: Collection[str]) -> str:
    """Why parameters cannot be frozen beside others, all given by name: they
    are one for FSDP; '' if they can.
    """
    units: Dict[int, Tuple[str, bool]] = {}
    for name, tensor in weights.items():
        this = name, name in frozen
        other = units.setdefault(id(original(tensor)), this)
        if this[1] is not other[1]:
            still, moving = (this, other) if this[1] else (other, this)
            return (
                f'FSDP has put {still[0]} (to be frozen) and {moving[0]} (to '
                'train) into one flat parameter, which the optimizer moves '
                'as a whole; set use_orig_params=True in the model_wrapper '
                'of the strategy'
            )
    return ''
