"""What the user should see in a plan or in its outcome.

Each function looks for one kind of finding and knows nothing of the others;
``docs/en/report.md`` explains every code. What makes a rule impossible is no
finding but a problem, and lives in ``checks.py``.
"""

from typing import Collection, Dict, Iterable, List, Sequence, Set

import torch.nn as nn
from torch import Tensor

from ..errors import nearest
from ..initializers.layers import layer_names
from ..model.tree import ModelTree, Slot
from ..processes.masters import is_optimized
from ..report.records import Finding
from ..rules.matching import Match
from ..rules.rule import Rule

Written = Dict[int, List[int]]


def _found(
    level: str, code: str, text: str, names: List[str]
) -> List[Finding]:
    """A finding about some tensors, where there are any."""
    return [Finding(level, code, text, names)] if names else []


def uncovered(
    tree: ModelTree, matches: Iterable[Match], loaded: Set[int]
) -> List[Finding]:
    """New tensors that no rule covers, in parts of the model (``backbone``)
    that hold loaded ones.
    """
    covered = {
        id(slot.tensor)
        for match in matches
        for slot in [*match.new, *match.kept]
    }
    new = [
        slot.name
        for slot in tree.slots
        if id(slot.tensor) not in loaded
        and id(slot.tensor) not in covered
        and not slot.is_counter
    ]
    parts = [name.partition('.')[0] for name in new]
    beside = {
        part
        for part in set(parts).intersection(tree.index)
        if any(
            id(slot.tensor) in loaded
            for slot in tree.slots_under(tree.index[part])
        )
    }
    names = [name for name, part in zip(new, parts) if part in beside]
    text = (
        f'{len(names)} tensors that no checkpoint supplied and no rule '
        "covers keep what the model's own code gave them"
    )
    return _found('warning', 'uncovered', text, names)


def nothing_to_do(rule: Rule, matches: Sequence[Match]) -> List[Finding]:
    """Rules that act on nothing, or leave loaded tensors alone."""
    if not matches:
        text = f'{rule} is optional and matches nothing in this model'
        return [Finding('note', 'no-match', text, [])]
    kept = [slot.name for match in matches for slot in match.kept]
    if not any(match.new for match in matches):
        text = (
            f'{rule} does nothing: a checkpoint supplied all that it '
            'names (overwrite=True would write over that)'
        )
        return _found('warning', 'nothing-new', text, kept)
    text = f'{rule} leaves {len(kept)} loaded tensors as they are'
    return _found('note', 'kept', text, kept)


def unused_layers(rule: Rule, matches: Sequence[Match]) -> List[Finding]:
    """Names in ``layer`` that no module answers to."""
    asked = []
    for item in rule.init_cfg:
        layer = item.cfg.get('layer') or []
        asked += [layer] if isinstance(layer, str) else layer
    modules = [match.target for match in matches if match.new]
    if not asked or not modules:
        return []
    there = {
        name
        for module in modules
        for child in module.modules()
        for name in layer_names(child)
    }
    findings = []
    for name in dict.fromkeys(asked):
        if name not in there:
            hint = nearest(name, sorted(there))
            # A name that is nearly right is a typo.
            level = 'warning' if hint else 'note'
            text = (
                f'{rule} is for layer {name!r}, and there is none under '
                f'its matches{hint}'
            )
            findings.append(Finding(level, 'unused-layer', text, []))
    return findings


def not_written(matches: Iterable[Match], written: Written) -> List[Finding]:
    """New parameters under a rule's matches that no rule wrote."""
    unwritten = {
        slot.name: None
        for match in matches
        for slot in match.new
        if match.rule.copy_from is None
        and id(slot.tensor) not in written
        and isinstance(slot.tensor, nn.Parameter)
    }
    text = (
        f'{len(unwritten)} new parameters that rules cover are not written '
        "by their init_cfg, and keep what the model's own code gave them"
    )
    return _found('note', 'not-written', text, list(unwritten))


def not_copied(matches: Iterable[Match]) -> List[Finding]:
    """Tensors that the source of a copy lacks."""
    left: Dict[Rule, List[str]] = {}
    for match in matches:
        if match.rule.copy_from is not None:
            copies = match.copies
            names = [s.name for s in match.new if s.name not in copies]
            left.setdefault(match.rule, []).extend(names)
    findings = []
    for rule, names in left.items():
        text = (
            f'{rule} leaves {len(names)} tensors as they are, for '
            f'{rule.copy_from} has none of that name'
        )
        findings += _found('note', 'not-copied', text, names)
    return findings


def rewritten(slots: Sequence[Slot], written: Written) -> List[Finding]:
    """Tensors that more than one rule wrote."""
    pairs: Dict[tuple, List[str]] = {}
    for slot in slots:
        rules = written.get(id(slot.tensor), [])
        for pair in zip(rules, rules[1:]):
            pairs.setdefault(pair, []).append(slot.name)
    findings = []
    for (earlier, later), names in pairs.items():
        text = (
            f'rule {later} writes {len(names)} tensors that rule {earlier} '
            'writes before it'
        )
        findings += _found('note', 'rewritten', text, names)
    return findings


def overwritten(
    slots: Sequence[Slot], written: Written, loaded: Set[int]
) -> List[Finding]:
    """Loaded tensors that a rule with ``overwrite=True`` wrote."""
    both = loaded.intersection(written)
    names = [slot.name for slot in slots if id(slot.tensor) in both]
    text = f'{len(names)} loaded tensors are written over, as `overwrite` asks'
    return _found('note', 'overwritten', text, names)


def differed(slots: Sequence[Slot], tensors: Collection[int]) -> List[Finding]:
    """Tensors that not all ranks gave the same values."""
    names = [slot.name for slot in slots if id(slot.tensor) in tensors]
    text = (
        f'{len(names)} tensors had other values on other ranks, and have '
        "rank 0's now: their initializer depends on the rank"
    )
    return _found('warning', 'ranks-differed', text, names)


def frozen(slots: Sequence[Slot], written: Written) -> List[Finding]:
    """Parameters that were written and take no gradient."""
    names = [
        slot.name
        for slot in _parameters(slots, written)
        if not slot.tensor.requires_grad
    ]
    text = (
        f'{len(names)} parameters that rules write have requires_grad=False '
        'and will never train (a new module inside `frozen_stages`?)'
    )
    return _found('warning', 'frozen', text, names)


def not_optimized(
    slots: Sequence[Slot], written: Written, optimized: Iterable[Tensor]
) -> List[Finding]:
    """Parameters that were written and that no optimizer updates."""
    known = {id(tensor) for tensor in optimized}
    names = [
        slot.name
        for slot in _parameters(slots, written)
        if slot.tensor.requires_grad and not is_optimized(slot.tensor, known)
    ]
    text = (
        f'{len(names)} written parameters are in no parameter group of the '
        'optimizer and will never train'
    )
    return _found('warning', 'not-optimized', text, names)


def _parameters(slots: Iterable[Slot], written: Written) -> List[Slot]:
    return [
        slot
        for slot in slots
        if id(slot.tensor) in written and isinstance(slot.tensor, nn.Parameter)
    ]
