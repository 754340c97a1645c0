"""Weights of a checkpoint in the shapes that a model has."""

from typing import Any, Optional, Sequence, Union

import torch.nn as nn
from torch import Tensor
from torch.nn.parameter import is_lazy

from .layers import CONVOLUTIONS

Channels = Union[str, Sequence[int]]
CHANNELS = ('repeat', 'mean', 'zero')
INFLATE = ('mean', 'center')


def differ(tensor: Optional[Tensor], value: Any) -> bool:
    """Whether a tensor is there on both sides, in shapes that torch would
    not load: it takes a scalar from a list of them.
    """
    return (
        isinstance(tensor, Tensor)
        and isinstance(value, Tensor)
        and not is_lazy(tensor)
        and value.shape != tensor.shape
        and not (tensor.dim() == 0 and value.dim() == 1)
    )


def is_list(channels: Any) -> bool:
    """Whether something is a list of numbers of channels."""
    return (
        isinstance(channels, (list, tuple))
        and len(channels) > 0
        and all(type(c) is int and c >= 0 for c in channels)
    )


def fitted(
    module: nn.Module,
    key: str,
    value: Tensor,
    tensor: Tensor,
    channels: Channels,
    inflate: str,
) -> Tensor:
    """A tensor of a checkpoint in the shape that it has in the model.

    Args:
        module (nn.Module): The layer that has it.
        key (str): Its name there.
        value (Tensor): The tensor of the checkpoint.
        tensor (Tensor): That of the model.
        channels (str | list[int]): As in :class:`AdaptedPretrained`.
        inflate (str): As in :class:`AdaptedPretrained`.

    Raises:
        ValueError: If it does not fit and cannot be adapted, with the reason
            as the end of a sentence.
    """
    shape = tensor.shape
    if (
        key == 'weight'
        and isinstance(module, nn.Conv3d)
        and value.dim() == 4
        and value.shape[:1] + value.shape[2:] == shape[:1] + shape[3:]
    ):
        value = inflate_kernel(value, shape[2], inflate)
    layers = (*CONVOLUTIONS, nn.Linear)
    inputs_only = (
        value.dim() == tensor.dim()
        and value.shape[:1] == shape[:1]
        and value.shape[2:] == shape[2:]
    )
    if key != 'weight' or not isinstance(module, layers) or not inputs_only:
        raise ValueError(
            'only the input channels of convolutions can be adapted, and 2-D '
            'kernels of the same size be made 3-D'
        )
    if value.shape == shape:
        return value
    if isinstance(module, nn.Linear) and isinstance(channels, str):
        raise ValueError(
            'which in-features of a linear layer are the same channel is not '
            'known; `channels` can be a list with an entry for each in-feature'
        )
    return adapt_channels(value, shape[1], channels)


def inflate_kernel(weight: Tensor, length: int, inflate: str) -> Tensor:
    """Make the kernels of a 2-D convolution those of a 3-D one.

    Args:
        weight (Tensor): Shape (out, in, height, width).
        length (int): The length in time to have.
        inflate (str): As in :class:`AdaptedPretrained`.

    Returns:
        Tensor: Shape (out, in, length, height, width).
    """
    weight = weight.unsqueeze(2)
    if inflate == 'mean':
        return weight.repeat(1, 1, length, 1, 1) / length
    inflated = weight.new_zeros(*weight.shape[:2], length, *weight.shape[3:])
    inflated[:, :, length // 2] = weight[:, :, 0]
    return inflated


def adapt_channels(weight: Tensor, new: int, channels: Channels) -> Tensor:
    """Give a weight another number of input channels.

    Args:
        weight (Tensor): Shape (out, old, ...).
        new (int): Number of channels to have.
        channels (str | list[int]): As in :class:`AdaptedPretrained`.

    Returns:
        Tensor: Shape (out, new, ...).

    Raises:
        ValueError: If ``channels`` does not say what the channels are.
    """
    old = weight.shape[1]
    if not isinstance(channels, str):
        if len(channels) != new or max(channels) >= old:
            raise ValueError(
                f'`channels` must have {new} entries from 0 to {old - 1}; it '
                f'has {len(channels)} from {min(channels)} to {max(channels)}'
            )
        return weight[:, list(channels)]
    if channels == 'repeat':
        return weight[:, [i % old for i in range(new)]] * (old / new)
    if new < old:
        raise ValueError(
            f'channels={channels!r} has nothing to fill where there are '
            "fewer; 'repeat' or a list says which ones to take"
        )
    adapted = weight.new_zeros(weight.shape[0], new, *weight.shape[2:])
    adapted[:, :old] = weight
    if channels == 'mean':
        adapted[:, old:] = weight.mean(1, keepdim=True)
    return adapted
