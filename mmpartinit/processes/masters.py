"""The master copies of parameters that DeepSpeed's optimizers keep.

A plain write does not reach them, so that the first step would undo it.
"""

from typing import Iterable, Set

import torch.nn as nn
from torch import Tensor

from .units import original


def no_access(model: nn.Module) -> str:
    """Why what is written to a model would not last; '' if it would."""
    if not hasattr(model, 'zero_optimization_stage'):
        return ''
    halves = {
        'bf16': model.bfloat16_enabled(),
        'fp16': model.fp16_enabled(),
        'amp': model.amp_enabled(),
    }
    kind = next((kind for kind, enabled in halves.items() if enabled), None)
    if kind and model.zero_optimization_stage() == 0:
        return (
            f'DeepSpeed with {kind} and without ZeRO keeps fp32 copies of the '
            'weights out of reach, and its first step would undo what is '
            'written; set zero_optimization=dict(stage=1), which costs no '
            'more memory'
        )
    offload = model.zero_offload_param()
    if offload is not None and offload.device == 'nvme':
        return (
            'DeepSpeed keeps the parameters on NVMe, where they cannot be '
            "written; set offload_param=dict(device='cpu')"
        )
    return ''


def is_optimized(tensor: Tensor, optimized: Set[int]) -> bool:
    """Whether a parameter, or what it stands in for, is among the
    optimizers', of which ``optimized`` holds ``id()``.
    """
    parameter = original(tensor)
    # DeepSpeed gives its optimizers flat copies, and marks what is in them.
    marks = ('_z3_optimizer', '_hp_mapping')
    return id(parameter) in optimized or any(
        hasattr(parameter, mark) for mark in marks
    )


def write_masters(tensors: Iterable[Tensor]) -> None:
    """Carry values over to the master copies, if there are any, of parameters
    (or what stands in for them) whose parts are up to date.
    """
    for tensor in tensors:
        parameter = original(tensor)
        if not parameter.requires_grad:
            continue  # has none
        if hasattr(parameter, '_z3_optimizer'):
            from deepspeed.utils import safe_set_local_fp32_param

            # `safe_set_full_fp32_param` fails where the number of elements
            # cannot be divided by that of the processes (0.18).
            value = parameter.ds_tensor.detach().float()
            safe_set_local_fp32_param(parameter, value)
        elif hasattr(parameter, '_hp_mapping'):
            from deepspeed.utils import safe_set_full_fp32_param

            safe_set_full_fp32_param(parameter, parameter.detach().float())
