"""Values that a rule gives, and that have no effect or stay for ever."""

from typing import (
    Collection,
    Dict,
    Iterable,
    Iterator,
    List,
    Optional,
    Sequence,
    Set,
    Tuple,
)

import torch.nn as nn
from mmengine.model import BaseInit, ConstantInit
from torch import Tensor

from ..errors import Finding
from ..initializers.traits import layer_names
from ..model.tree import ModelTree
from ..model.values import is_readable
from ..processes.units import original
from ..rules.init_cfg import InitItem, has_values
from ..rules.matching import Match
from ..rules.rule import Rule

# What layers without one compute is what these values would come to.
_NONE_IS = dict(weight=1, bias=0)
_BUILT_WITH = dict(weight='affine=True', bias='bias=True')


def unused_values(rule: Rule, matches: Sequence[Match]) -> List[Finding]:
    """A ``bias`` or ``val`` for layers that were built without one."""
    acting = [match for match in matches if match.new]
    findings = []
    for item in rule.init_cfg:
        for name, step in item.steps() if acting else ():
            layers = dict(
                layer
                for match in acting
                for layer in _layers(match, name, step)
            )
            for key, value in _values(step).items():
                lacking = _without(key, layers)
                if lacking:
                    text = (
                        f': {item.name} {item} gives a {key} of {value:g} to '
                        f'{len(lacking)} layers that have none, where it has '
                        f'no effect; {_advice(lacking, key)}'
                    )
                    names = [layers[layer] for layer in lacking]
                    findings.append(
                        rule.finding('warning', 'unused-bias', text, names)
                    )
    return findings


def _values(step: InitItem) -> Dict[str, float]:
    """What an initializer of MMEngine's kind was told to write, where a layer
    without it computes something else.
    """
    initializer, told = step.initializer, {}
    if isinstance(initializer, BaseInit) and 'bias' in step.writes:
        told['bias'] = initializer.bias
        if isinstance(initializer, ConstantInit):
            told['weight'] = initializer.val
    return {k: value for k, value in told.items() if value != _NONE_IS[k]}


def _layers(
    match: Match, name: str, step: InitItem
) -> Iterator[Tuple[nn.Module, str]]:
    """Layers that an initializer is for, and their paths; not those of which
    all is kept.
    """
    target = getattr(match.target, name, None) if name else match.target
    if not isinstance(target, nn.Module):
        return
    wanted = set(step.layers)
    kept = {id(entry.owner) for entry in match.kept}
    kept -= {id(entry.owner) for entry in match.new}
    for below, layer in target.named_modules():
        if id(layer) in kept:
            continue
        if wanted.intersection(layer_names(layer)) or (
            not wanted and has_values(layer, step.writes)
        ):
            yield layer, '.'.join(filter(None, (match.path, name, below)))


def _without(key: str, layers: Iterable[nn.Module]) -> List[nn.Module]:
    """The layers that lack what an initializer gives them: where others take
    it, those only that could have been built with it.
    """
    found = [layer for layer in layers if getattr(layer, key, None) is None]
    if any(isinstance(getattr(m, key, None), Tensor) for m in layers):
        found = [layer for layer in found if hasattr(layer, key)]
    return found


def _advice(lacking: Iterable[nn.Module], key: str) -> str:
    if not any(hasattr(layer, key) for layer in lacking):
        return 'leave it out, for layers of their kind never have one'
    return (
        f'build them with {_BUILT_WITH[key]}, or say with `layer` or by path '
        'which layers it is for'
    )


def padding_filled(
    tree: ModelTree,
    matches: Iterable[Match],
    wrote: Iterable[Sequence[Collection[str]]],
) -> List[Finding]:
    """Rows of padding that rules filled, as it is once all is written;
    ``wrote`` has the names that each initializer of each match wrote.
    """
    filled = _filled_tables(tree)
    last: Dict[str, Tuple[Rule, Optional[InitItem]]] = {}
    for match, sets in zip(matches, wrote) if filled else ():
        for item, names in zip(match.rule.init_cfg or [None], sets):
            for name in filled.intersection(
                names, (e.path for e in match.new)
            ):
                last[name] = match.rule, item
    by_rule: Dict[Rule, List[str]] = {}
    for name in (e.path for e in tree.entries if e.path in last):
        rule, item = last[name]
        if not _is_copy(item):
            by_rule.setdefault(rule, []).append(name)
    return [
        rule.finding(
            'warning',
            'padding-filled',
            f' fills the row at padding_idx of {len(names)} tables, which '
            'takes no gradient and so keeps these values for ever; '
            "dict(type='ResetParameters', layer='Embedding') keeps it zero, "
            'or fill it with zeros by a function in Apply',
            names,
        )
        for rule, names in by_rule.items()
    ]


def _filled_tables(tree: ModelTree) -> Set[str]:
    """Embeddings that hold something in a row that nothing ever trains."""
    owners = {entry.path: entry.owner for entry in tree.entries}
    return {
        entry.path
        for entry in tree.entries
        if entry.key == 'weight'
        and is_filled(entry.owner, entry.value)
        # An output layer with the same weight trains all of it.
        and all(
            is_filled(owners[name], entry.value)
            for name in tree.sharing.get(entry.path, ())
        )
    }


def is_filled(layer: nn.Module, weight: Tensor) -> bool:
    """Whether a layer's weight, where it can be read, has something else than
    zeros in a row of padding.
    """
    if not isinstance(layer, (nn.Embedding, nn.EmbeddingBag)):
        return False
    row = layer.padding_idx
    return (
        row is not None
        and is_readable(weight)
        # What stands for a parameter in parts holds no values of it.
        and original(weight) is weight
        and weight.dim() == 2
        and row < len(weight)
        and bool(weight.detach()[row].ne(0).any())
    )


def _is_copy(item: Optional[InitItem]) -> bool:
    """Whether values are another tensor's or a file's, and so on purpose."""
    return item is None or bool(item.files)
