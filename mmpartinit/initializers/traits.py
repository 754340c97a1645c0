"""What an initializer says of itself, and what is known of MMEngine's.

A class in ``WEIGHT_INITIALIZERS`` may have, and need not:

- ``writes``, a tuple: the attributes of each layer that it writes
  (``('weight', 'bias')``), all of them and nothing else. Without it, only
  running it tells what it does.
- ``reads``: False if it writes them as a whole, whatever they held.
- ``obstacle(module)``: why it cannot be used on a module (on a layer, where
  ``writes`` says that it acts on layers), as the end of a sentence that starts
  with the module; ``''`` if it can.
"""

from typing import Any, Callable, List, Optional, Tuple

import torch.nn as nn
from mmengine.model import BaseInit, KaimingInit, PretrainedInit, XavierInit
from torch import Tensor


def writes(initializer: Any) -> Tuple[str, ...]:
    """Attributes of layers that an initializer writes; none if that is not
    known.
    """
    # Its own word only: what inherits from it may do something else.
    said = vars(type(initializer)).get('writes', ())
    if _is_mmengines(initializer):
        said = ('weight', 'bias')
    return (said,) if isinstance(said, str) else tuple(said)


def reads(initializer: Any) -> bool:
    """Whether an initializer may read what it writes to."""
    said = vars(type(initializer)).get('reads', True)
    return bool(said) and not _is_mmengines(initializer)


def _is_mmengines(initializer: Any) -> bool:
    kind = type(initializer)
    return (
        issubclass(kind, BaseInit) and kind.__module__ == BaseInit.__module__
    )


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
    return (
        'has a weight with fewer than two dimensions, which this initializer '
        'needs'
    )
