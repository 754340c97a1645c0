"""What a new module may start from, by the layers it is made of."""

from typing import Any, Dict, Iterator, List, Optional, Tuple

import torch.nn as nn
from mmengine.model import BaseModule
from torch import Tensor

from ..initializers.layers import CONVOLUTIONS
from ..initializers.traits import layer_names

InitCfg = Dict[str, Any]
# The items of an init_cfg, in the order in which they are written; `layer` is
# for the names of the layers.
_STARTS: Dict[str, InitCfg] = dict(
    conv=dict(type='Kaiming', layer=[], bias=0.0),
    linear=dict(type='TruncNormal', layer=[], std=0.02, bias=0.0),
    norm=dict(type='Constant', layer=[], val=1.0, bias=0.0),
)


def layers_of(module: nn.Module) -> List[Tuple[str, str, nn.Module]]:
    """Layers that can be started by what they are: kind, name and layer."""
    return [
        (kind, name, child)
        for name, child in module.named_modules()
        for kind in [_kind(child)]
        if kind
    ]


def bare_parameters(module: nn.Module) -> List[str]:
    """Names of the parameters under a module that no rule by layers writes:
    of no layer's ``weight`` or ``bias``.
    """
    found = []
    for name, child in module.named_modules():
        written = ('weight', 'bias') if _kind(child) else ()
        for key, tensor in child._parameters.items():
            if tensor is not None and key not in written:
                found.append('.'.join(filter(None, (name, key))))
    return found


def by_layers(module: nn.Module) -> List[InitCfg]:
    """An init_cfg that suits a module's layers, one item for each kind."""
    layers: Dict[str, Dict[str, None]] = {}
    for kind, _, child in layers_of(module):
        layers.setdefault(kind, {})[_layer_name(child)] = None
    items = []
    for kind, start in _STARTS.items():
        names = list(layers.get(kind, ()))
        if names:
            layer = names if len(names) > 1 else names[0]
            items.append(dict(start, layer=layer))
    return items


def by_value(tensor: Tensor) -> InitCfg:
    """An init_cfg for a bare parameter: the constant that it was built with,
    or small random values.
    """
    values = tensor.detach().flatten()
    if bool((values == values[0]).all()):
        # Seven digits say all there is to a float32.
        return dict(type='Constant', val=float(f'{values[0].item():.7g}'))
    return dict(type='TruncNormal', std=0.02)


def by_owner(
    path: str, owner: nn.Module, node: nn.Module
) -> Optional[InitCfg]:
    """What the init_cfg of a module says of one below it, at a path from it:
    the item that writes it last, as MMEngine applies them, or None.
    """
    found = None
    for item in _items(getattr(owner, 'init_cfg', None)):
        layers = item.get('layer') or []
        if set([layers] if isinstance(layers, str) else layers).intersection(
            layer_names(node)
        ):
            found = {k: v for k, v in item.items() if k != 'override'}
        overrides = item.get('override') or []
        if isinstance(overrides, dict):
            overrides = [overrides]
        for override in overrides:
            if override.get('name') == path.split('.')[0]:
                found = {k: v for k, v in override.items() if k != 'name'}
                if not found:  # it takes the arguments of the whole item
                    found = {
                        k: v
                        for k, v in item.items()
                        if k not in ('override', 'layer')
                    }
    return found


def has_own_code(module: nn.Module) -> bool:
    """Whether a module's class says in code how it starts."""
    own = getattr(type(module), 'init_weights', None)
    return callable(own) and own is not BaseModule.init_weights


def _items(init_cfg: Any) -> Iterator[InitCfg]:
    for item in [init_cfg] if isinstance(init_cfg, dict) else init_cfg or []:
        if 'Pretrained' not in str(item.get('type')):
            yield item


def _kind(module: nn.Module) -> str:
    weight = module._parameters.get('weight')
    if weight is None:
        return ''
    is_known = isinstance(module, (nn.Linear, *CONVOLUTIONS))
    # mmdet's NormedLinear is a Linear.
    if 'Norm' in type(module).__name__ and not is_known:
        return 'norm'
    return {0: '', 1: '', 2: 'linear'}.get(weight.dim(), 'conv')


def _layer_name(module: nn.Module) -> str:
    """The name to call a layer by: torch's own, where it has one."""
    names = layer_names(module)
    return next((name for name in names if hasattr(nn, name)), names[0])
