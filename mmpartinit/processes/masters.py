"""What optimizers have, and the master copies that DeepSpeed's keep.

A plain write does not reach those, so that the first step would undo it.
"""

from typing import Any, Dict, Iterable, Union

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


class Optimized:
    """What optimizers update.

    Args:
        optimized (Iterable): Their parameters, or their parameter groups.
    """

    def __init__(
        self, optimized: Iterable[Union[Tensor, Dict[str, Any]]]
    ) -> None:
        self._moves: Dict[int, bool] = {}
        self._one_moves = False
        for item in optimized:
            group = item if isinstance(item, dict) else {'params': [item]}
            # A schedule may begin at 0; it goes on from where it began.
            rates = group.get('lr', 1.0), group.get('initial_lr', 0.0)
            self._one_moves |= any(rates)
            for parameter in group['params']:
                self._moves[id(parameter)] = any(rates)

    def has(self, tensor: Tensor) -> bool:
        """Whether a parameter, or what it stands in for, is among them."""
        parameter = original(tensor)
        # DeepSpeed's get flat copies, and it marks what is in them.
        marks = ('_z3_optimizer', '_hp_mapping')
        return id(parameter) in self._moves or any(
            hasattr(parameter, mark) for mark in marks
        )

    def moves(self, tensor: Tensor) -> bool:
        """Whether it is, and its learning rate is not 0. Under DeepSpeed,
        that holds if one of its rates is not.
        """
        moves = self._moves.get(id(original(tensor)), self._one_moves)
        return moves and self.has(tensor)


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
