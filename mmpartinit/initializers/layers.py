"""Initializers that act on layers, and those that call a module's own code.

They are usable in any ``init_cfg``, with this package's hook or without.
"""

from abc import abstractmethod
from typing import Any, Callable, List, Optional, Union

import torch.nn as nn
from mmengine.model import BaseInit, BaseModule, update_init_info
from mmengine.registry import WEIGHT_INITIALIZERS
from mmengine.utils import get_object_from_string
from torch import Tensor

from .traits import is_flat, layer_names

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


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
        if not has_init_weights(module):
            raise TypeError(
                "InitWeights calls the module's own init_weights(), and "
                f'{type(module).__name__} has none; give it an init_cfg that '
                'says the values'
            )
        for child in module.modules():
            if isinstance(child, BaseModule):
                child._is_init = False  # `is_init` is read-only in 0.8
        module.init_weights()

    def obstacle(self, module: nn.Module) -> str:
        """Why the module cannot be initialized so; '' if it can."""
        if has_init_weights(module):
            return ''
        return (
            'has no init_weights() to call; give an init_cfg that says the '
            'values'
        )


class _LayerInit(BaseInit):
    """What MMEngine's initializers have in common: they act on the layers
    that ``layer`` names, and on all in a whole module.
    """

    def __call__(self, module: nn.Module) -> None:
        """Initialize a module."""

        def init(child: nn.Module) -> None:
            if self.wholemodule or set(self.layer) & set(layer_names(child)):
                self._init(child)

        module.apply(init)
        if hasattr(module, '_params_init_info'):
            update_init_info(module, init_info=self._get_init_info())

    def _init(self, module: nn.Module) -> None:
        # Either may be a number of the module's own, or a name.
        if isinstance(getattr(module, 'weight', None), Tensor):
            self._init_weight(module)
        if isinstance(getattr(module, 'bias', None), Tensor):
            nn.init.constant_(module.bias, self.bias)

    @abstractmethod
    def _init_weight(self, module: nn.Module) -> None:
        """Write the weight of a layer that has one."""


@WEIGHT_INITIALIZERS.register_module()
class Orthogonal(_LayerInit):
    """Initialize weights with random (semi-)orthogonal matrices, by
    :func:`torch.nn.init.orthogonal_`.

    `Exact solutions to the nonlinear dynamics of learning in deep linear
    neural networks - Saxe, A. et al. (2013).
    <https://arxiv.org/abs/1312.6120>`_

    A weight of shape (out, in, ...) is taken as a matrix of ``out`` rows. It
    needs two dimensions, as with ``Xavier`` and ``Kaiming``.

    Args:
        gain (int | float): Factor of the values. Defaults to 1.
        bias (int | float): Value of the bias. Defaults to 0.
        bias_prob (float, optional): Probability that the bias stands for.
            Defaults to None.
        layer (str | list[str], optional): The layers to initialize. Defaults
            to None.
    """

    writes = ('weight', 'bias')
    reads = False

    def __init__(self, gain: float = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.gain = gain

    def obstacle(self, module: nn.Module) -> str:
        """Why a layer cannot be initialized so; '' if it can."""
        return is_flat(module)

    def _init_weight(self, module: nn.Module) -> None:
        nn.init.orthogonal_(module.weight, gain=self.gain)

    def _get_init_info(self) -> str:
        return f'{type(self).__name__}: gain={self.gain}, bias={self.bias}'


@WEIGHT_INITIALIZERS.register_module()
class Identity(_LayerInit):
    """Initialize layers so that they give what they are given.

    Matrices of shape (n, n) become the identity; in convolutions of shape
    (n, n / groups, ...) the element in the middle of each kernel passes its
    channel on (`DiracNets <https://arxiv.org/abs/1706.00388>`_).

    Args:
        bias (int | float): Value of the bias. Defaults to 0.
        bias_prob (float, optional): Probability that the bias stands for.
            Defaults to None.
        layer (str | list[str], optional): The layers to initialize. Defaults
            to None.

    Raises:
        ValueError: On use, if a layer cannot be the identity: one that gives
            another shape than it is given, or a norm layer.
    """

    writes = ('weight', 'bias')
    reads = False

    def obstacle(self, module: nn.Module) -> str:
        """Why a layer cannot be the identity; '' if it can."""
        if not isinstance(getattr(module, 'weight', None), Tensor):
            return ''
        shape = tuple(module.weight.shape)
        start = f'with a weight of shape {shape} cannot be the identity:'
        if isinstance(module, CONVOLUTIONS):
            # With padding='same', or by hand what that amounts to.
            same = tuple(
                dilation * (size - 1) // 2
                for dilation, size in zip(module.dilation, module.kernel_size)
            )
            if (
                module.in_channels == module.out_channels
                and all(size % 2 for size in module.kernel_size)
                and all(stride == 1 for stride in module.stride)
                and (
                    module.padding in ('same', same)
                    or (module.padding == 'valid' and not any(same))
                )
            ):
                return ''
            return (
                f'{start} it takes as many channels out as in, an odd kernel '
                'size, stride 1 and padding that keeps the size (it has '
                f'in_channels={module.in_channels}, stride={module.stride}, '
                f'padding={module.padding!r})'
            )
        if len(shape) == 2 and shape[0] == shape[1]:
            return ''
        return f'{start} only square matrices and convolutions can'

    def _init_weight(self, module: nn.Module) -> None:
        obstacle = self.obstacle(module)
        if obstacle:
            raise ValueError(f'{type(module).__name__} {obstacle}')
        if isinstance(module, CONVOLUTIONS):
            nn.init.dirac_(module.weight, groups=module.groups)
        else:
            nn.init.eye_(module.weight)


@WEIGHT_INITIALIZERS.register_module()
class ResetParameters(_LayerInit):
    """Initialize each layer as PyTorch does when it is built, by its own
    ``reset_parameters()``; running statistics of norm layers as well.

    Layers without that method and parameters that belong to no such layer
    stay as they are.

    Args:
        layer (str | list[str], optional): The layers to initialize. Defaults
            to None.
    """

    def __init__(self, layer: Union[str, List[str], None] = None) -> None:
        super().__init__(layer=layer)

    def obstacle(self, module: nn.Module) -> str:
        """Why a module cannot be initialized so; '' if it can."""
        if self.layer or any(map(own_reset, module.modules())):
            return ''
        return (
            'has no reset_parameters() to call; give an init_cfg that says '
            'the values'
        )

    def _init(self, module: nn.Module) -> None:
        reset = own_reset(module)
        if reset is not None:
            reset()

    def _get_init_info(self) -> str:
        return type(self).__name__


def has_init_weights(module: nn.Module) -> bool:
    """Whether a module says itself how it starts."""
    return callable(getattr(module, 'init_weights', None))


def own_reset(module: nn.Module) -> Optional[Callable[[], None]]:
    """The method that gives a layer PyTorch's defaults, if it has one."""
    reset = getattr(module, 'reset_parameters', None)
    if reset is None and isinstance(module, nn.MultiheadAttention):
        # The one layer of PyTorch's that has it under a private name.
        reset = module._reset_parameters
    return reset if callable(reset) else None
