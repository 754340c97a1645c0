"""``Pretrained`` for a model whose inputs have another number of channels."""

from typing import Any, Dict, List, Optional, Sequence, Union

import torch.nn as nn
from mmengine.logging import print_log
from mmengine.model import PretrainedInit, is_model_wrapper, update_init_info
from mmengine.registry import WEIGHT_INITIALIZERS
from torch import Tensor
from torch.nn.parameter import is_lazy

from .layers import CONVOLUTIONS

_MODES = ('repeat', 'mean', 'zero')


@WEIGHT_INITIALIZERS.register_module()
class AdaptedPretrained(PretrainedInit):
    """Load a checkpoint as ``Pretrained`` does, and adapt weights that
    differ from the model's in their input channels only.

    That is the ``weight`` of ``nn.Conv1d``, ``nn.Conv2d`` and ``nn.Conv3d``
    (and of what inherits from them), of shape (out, in / groups, ...), and
    with a list also that of ``nn.Linear``, of shape (out, in). A tensor whose
    shape differs otherwise is an error; names that are missing or unexpected
    are logged, as ``Pretrained`` does.

    Channels are counted within a group: each group is adapted like a
    convolution of its own, so that the new channels come at the end of each.
    A checkpoint does not say how many groups a convolution had; as many as in
    the model are taken for granted.

    An in-feature of a linear layer may stand for anything (a patch embedding
    may have its pixels channel by channel or position by position), so only
    a list, with an entry for each in-feature, says enough. For 5 channels of
    patches that ``nn.Unfold`` has made of 16 pixels:
    ``[16 * c + i for c in [0, 1, 2, 0, 0] for i in range(16)]``.

    Use it in a rule of ``CustomModuleInitHook``, for what ``Pretrained`` in
    the backbone could not load. Many backbones ask whether their own
    ``init_cfg`` is of the type ``'Pretrained'``, and with another write over
    what it has loaded, or refuse it. Where none does, put it last in the
    list: MMEngine moves only ``Pretrained`` itself to the end. Children are
    initialized before it loads, as with ``Pretrained``, except that
    ``init_weights()`` of a child that is no ``BaseModule`` runs again
    afterwards.

    Args:
        checkpoint (str): File or URL, as ``Pretrained`` takes it.
        prefix (str, optional): The part of the checkpoint to take. Defaults
            to None: all.
        map_location (str): Where to load tensors to. Defaults to ``'cpu'``.
        channels (str | list[int]): What the input channels start from.

            - ``'repeat'``: the pretrained ones over and over, times old / new
              so that activations keep their size, as ``adapt_input_conv`` in
              `timm <https://github.com/huggingface/pytorch-image-models>`_
              does. With fewer than pretrained, the first ones (timm sums
              them for one channel).
            - ``'mean'``: the pretrained ones, and their mean in all others.
            - ``'zero'``: the pretrained ones, and 0 in all others, which the
              network learns to use: at first it gives what it gave.
            - a list: for each channel of the model, the pretrained one that
              it takes, as it is.

            With fewer channels than pretrained, ``'mean'`` and ``'zero'`` are
            an error: there is nothing to fill. Defaults to ``'repeat'``.

    Raises:
        ValueError: If ``channels`` is none of these; on use, if a tensor of
            the checkpoint does not fit and cannot be adapted.
    """

    def __init__(
        self,
        checkpoint: str,
        prefix: Optional[str] = None,
        map_location: str = 'cpu',
        channels: Union[str, Sequence[int]] = 'repeat',
    ) -> None:
        super().__init__(checkpoint, prefix, map_location)
        if channels not in _MODES and not _is_list(channels):
            raise ValueError(
                "AdaptedPretrained: `channels` is 'repeat', 'mean', 'zero' or "
                'a list that has for each input channel of the model the '
                f'number of a pretrained one, from 0; not {channels!r}'
            )
        self.channels = channels

    def __call__(self, module: nn.Module) -> None:
        """Load the checkpoint into a module."""
        _init_children(module)
        adapted: List[str] = []
        problems: List[str] = []

        def adapt(child: nn.Module, state: Dict[str, Any], *args: Any) -> None:
            """Adapt the entries of a state dict that a module itself takes."""
            temporary = child._non_persistent_buffers_set
            for key, tensor in {**child._parameters, **child._buffers}.items():
                name = args[0] + key
                value: Any = state.get(name)
                if key in temporary or not _differ(tensor, value):
                    continue
                try:
                    _check_adaptable(child, key, value, tensor, self.channels)
                    new = tensor.shape[1]
                    state[name] = adapt_channels(value, new, self.channels)
                    adapted.append(name)
                except ValueError as error:
                    problems.append(
                        f'{name} has the shape {tuple(value.shape)} in the '
                        f'checkpoint and {tuple(tensor.shape)} in the model, '
                        f'and {error}'
                    )

        # Run by each module right before it loads, after hooks of the
        # model's own have renamed the keys.
        hooks = [
            child._register_load_state_dict_pre_hook(adapt, with_module=True)
            for child in module.modules()
        ]
        try:
            super().__call__(module)
        finally:
            for hook in hooks:
                hook.remove()
        if problems:
            raise ValueError(
                f'{self.checkpoint} does not fit {type(module).__name__}: '
                + '; '.join(problems)
            )
        print_log(
            f'input channels adapted ({self.channels!r}): '
            f'{", ".join(adapted) or "none, all shapes fit"}',
            logger='current',
        )

    def _get_init_info(self) -> str:
        return f'{super()._get_init_info()}, channels={self.channels}'


def adapt_channels(
    weight: Tensor, new: int, channels: Union[str, Sequence[int]]
) -> Tensor:
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


def _check_adaptable(
    module: nn.Module,
    key: str,
    value: Tensor,
    tensor: Tensor,
    channels: Union[str, Sequence[int]],
) -> None:
    layers = (*CONVOLUTIONS, nn.Linear)
    inputs_only = (
        value.dim() == tensor.dim()
        and value.shape[:1] == tensor.shape[:1]
        and value.shape[2:] == tensor.shape[2:]
    )
    if key != 'weight' or not isinstance(module, layers) or not inputs_only:
        raise ValueError(
            'only the input channels of convolutions can be adapted'
        )
    if isinstance(module, nn.Linear) and isinstance(channels, str):
        raise ValueError(
            'which in-features of a linear layer are the same channel is not '
            'known; `channels` can be a list with an entry for each in-feature'
        )


def _differ(tensor: Optional[Tensor], value: Any) -> bool:
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


def _is_list(channels: Any) -> bool:
    return (
        isinstance(channels, (list, tuple))
        and len(channels) > 0
        and all(type(c) is int and c >= 0 for c in channels)
    )


def _init_children(module: nn.Module) -> None:
    """Do what ``BaseModule.init_weights`` does before ``Pretrained``, and
    would do after any other ``init_cfg``: it knows that one by its name.
    """
    if not hasattr(module, '_params_init_info'):  # not in init_weights()
        return
    for child in module.children():
        if is_model_wrapper(child) and not hasattr(child, 'init_weights'):
            child = child.module
        if hasattr(child, 'init_weights') and not getattr(
            child, 'is_init', False
        ):
            child.init_weights()
            update_init_info(
                child,
                init_info='Initialized by user-defined `init_weights` in '
                f'{type(child).__name__} ',
            )
