"""What one dict of an ``init_cfg`` needs of the modules that it acts on."""

import os.path as osp
from collections import Counter
from typing import Dict, List, Sequence, Set, Tuple

import torch.nn as nn
from torch import Tensor

from ..errors import Collector, nearest, some
from ..initializers.traits import layer_names, obstacle_of
from ..rules.init_cfg import InitItem, as_tuple, has_values
from ..rules.matching import BareParameter

Target = Tuple[str, nn.Module]


class ItemCheck:
    """One dict of an ``init_cfg`` on the modules that it acts on.

    Args:
        item (InitItem): The dict.
        targets (Sequence[tuple[str, nn.Module]]): The modules, by path.
    """

    def __init__(self, item: InitItem, targets: Sequence[Target]) -> None:
        self.item, self.targets = item, targets
        self._layers: List[Tuple[Target, nn.Module]] = []
        if item.writes:
            self._layers = [
                (target, layer)
                for target in targets
                for layer in item.layers_in(target[1])
            ]

    def check(self, files: bool) -> None:
        """See to it that it can be carried out; with ``files``, also that its
        checkpoint is there.

        Raises:
            RuleError: With all that is wrong.
        """
        wrong = Collector()
        self._check_computed(wrong)
        self._check_obstacles(wrong)
        self._check_override(wrong)
        # Not when the rule is parsed: a run that only tests needs no file.
        for file in self.item.files if files else ():
            if '://' not in file and not osp.isfile(osp.expanduser(file)):
                wrong.add('no-file', f'there is no checkpoint file {file!r}')
        wrong.check()

    def reaches_nothing(self) -> str:
        """Why it writes to none of the modules; '' if it does, or if only
        running it tells.
        """
        item, keys = self.item, self.item.writes
        if self._layers or not keys:
            return ''
        children = [child for _, m in self.targets for child in m.modules()]
        there = Counter(_kind(c) for c in children if has_values(c, keys))
        writes = 'it writes ' + ' and '.join(f'`{key}`' for key in keys)
        where = _some(self.targets)
        if not there:
            return f'{writes}, and nothing under {where} has either'
        if all(isinstance(child, BareParameter) for child in children):
            return (
                f'{where} is a parameter, and `layer` selects modules; leave '
                '`layer` out'
            )
        known = {name for child in children for name in layer_names(child)}
        if known.intersection(item.layers):
            return (
                f'{writes}, and {" or ".join(item.layers)} has neither itself'
            )
        named = ' or '.join(
            repr(layer) + nearest(layer, sorted(known))
            for layer in item.layers
        )
        listed = ', '.join(f'{kind} ({n})' for kind, n in there.most_common(8))
        return f'no layer there is a {named}; there are {listed}'

    def _check_computed(self, wrong: Collector) -> None:
        held: Dict[str, Set[int]] = {}
        for target, layer in self._layers:
            for key in self.item.writes:
                if key in layer._parameters or key in layer._buffers:
                    continue
                value = getattr(layer, key, None)
                if not isinstance(value, Tensor):
                    continue
                # A layer around another one may show the other's, as peft's.
                if target[0] not in held:
                    held[target[0]] = {id(p) for p in target[1].parameters()}
                if id(value) not in held[target[0]]:
                    wrong.add(
                        'not-writable',
                        f'{_name(target, layer, key)} is computed from other '
                        'parameters (`weight_norm` or the like), so writing '
                        'it would change nothing; name those by path, or use '
                        'Apply',
                    )
                    return

    def _check_obstacles(self, wrong: Collector) -> None:
        """What an initializer says of each layer, or of each module."""
        item = self.item
        found: Dict[Tuple[str, str], List[str]] = {}
        obstacle = obstacle_of(item.initializer)
        if not obstacle or 'override' in item.cfg:
            return
        whole = [(target, target[1]) for target in self.targets]
        for target, module in self._layers if item.writes else whole:
            hindered = obstacle(module)
            if hindered:
                name = target[0] or 'the model'
                if item.writes:
                    name = _name(target, module, item.writes[0])
                found.setdefault((_kind(module), hindered), []).append(name)
        for (kind, text), names in found.items():
            if item.writes:
                text += '; say with `layer` or by path which layers it is for'
            text = f'{some(names, 3)} ({kind}) {text}'
            wrong.add('unsuitable', text, names)

    def _check_override(self, wrong: Collector) -> None:
        for override in as_tuple(self.item.cfg.get('override', ())):
            name = override['name']
            without = [t for t in self.targets if not hasattr(t[1], name)]
            if without:
                children = [key for key, _ in without[0][1].named_children()]
                wrong.add(
                    'unsuitable',
                    f'`override` names {name!r}, and {_some(without)} has no '
                    f'such attribute{nearest(name, children)}; it has '
                    f'{", ".join(children) or "no modules in it"}',
                )


def _name(target: Target, layer: nn.Module, key: str) -> str:
    path, module = target
    if isinstance(layer, BareParameter):
        return path
    names = {child: name for name, child in module.named_modules()}
    return '.'.join(filter(None, (path, names[layer], key)))


def _kind(module: nn.Module) -> str:
    is_bare = isinstance(module, BareParameter)
    return 'Parameter' if is_bare else type(module).__name__


def _some(targets: Sequence[Target]) -> str:
    return some([path or 'the model' for path, _ in targets], 2)
