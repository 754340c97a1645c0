"""What an initializer says of itself, and what is known of MMEngine's.

A class in ``WEIGHT_INITIALIZERS`` may have, and need not:

- ``writes``, a tuple: the attributes of each layer that it writes as a whole,
  whatever they held before (``('weight', 'bias')``). Without it, only running
  it tells what it does.
- ``obstacle(module)``: why it cannot be used on a module (on a layer, where
  ``writes`` says that it acts on layers), as the end of a sentence that starts
  with the module; ``''`` if it can.
"""

from typing import Any, Callable, List, Optional, Tuple

import torch.nn as nn
from mmengine.model import (
    BaseInit,
    KaimingInit,
    PretrainedInit,
    XavierInit,
)
from torch import Tensor


def writes(initializer: Any) -> Tuple[str, ...]:
    """Attributes of layers that an initializer writes; none if that is not
    known.
    """
    kind = type(initializer)
    is_mmengines = (
        issubclass(kind, BaseInit) and kind.__module__ == BaseInit.__module__
    )
    # Its own word only: what inherits from it may do something else.
    return ('weight', 'bias') if is_mmengines else vars(kind).get('writes', ())


def obstacle_of(initializer: Any) -> Optional[Callable[[nn.Module], str]]:
    """What tells why an initializer cannot be used on a module, if anything
    does.
    """
    own = getattr(initializer, 'obstacle', None)
    if own is None and isinstance(initializer, (XavierInit, KaimingInit)):
        return is_flat
    return own


def checkpoint_of(initializer: Any) -> str:
    """The file or URL that an initializer loads; '' if it loads none."""
    is_one = isinstance(initializer, PretrainedInit)
    return initializer.checkpoint if is_one else ''


def layer_names(module: nn.Module) -> List[str]:
    """The names by which ``layer`` may call a module: its class and the
    direct bases of that.
    """
    kind = type(module)
    return [kind.__name__] + [base.__name__ for base in kind.__bases__]


def is_flat(module: nn.Module) -> str:
    """What hinders those that count inputs and outputs, or make a matrix."""
    weight = getattr(module, 'weight', None)
    if not isinstance(weight, Tensor) or weight.dim() >= 2:
        return ''
    return 'has a weight of fewer than the two dimensions that it needs'
