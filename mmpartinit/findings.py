"""What the user should see in a plan or in its outcome.

Each function looks for one kind of finding; ``docs/en/report.md`` explains
every code.
"""

from typing import Collection, Dict, Iterable, List, Optional, Sequence, Set

import torch.nn as nn
from torch import Tensor

from .initializers import layer_names
from .masters import is_optimized
from .matching import Match
from .report import Finding, group_names
from .rules import Rule, nearest
from .tree import ModelTree, Slot


def _finding(level: str, code: str, text: str, names: List[str]) -> Finding:
    listed = f':\n{group_names(names)}' if names else ''
    return Finding(level, code, text + listed, names)


def uncovered(
    tree: ModelTree, covered: Set[int], loaded: Set[int]
) -> List[Finding]:
    """New tensors that no rule covers, in parts of the model (``backbone``)
    that hold loaded ones.
    """
    new = [
        slot.name
        for slot in tree.slots
        if id(slot.tensor) not in loaded
        and id(slot.tensor) not in covered
        # Many checkpoints lack these counters, and MMEngine never minds.
        and slot.key != 'num_batches_tracked'
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
    if not names:
        return []
    return [
        _finding(
            'warning',
            'uncovered',
            f'{len(names)} tensors that no checkpoint supplied and no rule '
            "covers keep what the model's own code gave them",
            names,
        )
    ]


def nothing_to_do(rule: Rule, matches: Sequence[Match]) -> List[Finding]:
    """Rules that act on nothing, or leave loaded tensors alone."""
    if not matches:
        text = f'{rule} is optional and matches nothing in this model'
        return [_finding('note', 'no-match', text, [])]
    kept = [slot.name for match in matches for slot in match.kept]
    if not any(match.new for match in matches):
        text = (
            f'{rule} does nothing: a checkpoint supplied all that it '
            'names (overwrite=True would write over that)'
        )
        return [_finding('warning', 'nothing-new', text, kept)]
    if not kept:
        return []
    text = f'{rule} leaves {len(kept)} loaded tensors as they are'
    return [_finding('note', 'kept', text, kept)]


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
            findings.append(
                _finding(
                    # A name that is nearly right is a typo.
                    'warning' if hint else 'note',
                    'unused-layer',
                    f'{rule} is for layer {name!r}, and there is none under '
                    f'its matches{hint}',
                    [],
                )
            )
    return findings


def not_written(
    matches: Iterable[Match], written: Dict[int, List[int]]
) -> List[Finding]:
    """New parameters under a rule's matches that no rule wrote."""
    names = [
        slot.name
        for match in matches
        for slot in match.new
        if match.rule.copy_from is None
        and id(slot.tensor) not in written
        and isinstance(slot.tensor, nn.Parameter)
    ]
    names = list(dict.fromkeys(names))
    if not names:
        return []
    return [
        _finding(
            'note',
            'not-written',
            f'{len(names)} new parameters that rules cover are not written '
            "by their init_cfg, and keep what the model's own code gave them",
            names,
        )
    ]


def not_copied(matches: Iterable[Match]) -> List[Finding]:
    """Tensors that the source of a copy lacks."""
    names: Dict[Rule, List[str]] = {}
    for match in matches:
        if match.rule.copy_from is not None:
            copies = match.copies
            left = [s.name for s in match.new if s.name not in copies]
            names.setdefault(match.rule, []).extend(left)
    return [
        _finding(
            'note',
            'not-copied',
            f'{rule} leaves {len(left)} tensors as they are, for '
            f'{rule.copy_from} has none of that name',
            left,
        )
        for rule, left in names.items()
        if left
    ]


def rewritten(
    slots: Sequence[Slot], written: Dict[int, List[int]]
) -> List[Finding]:
    """Tensors that more than one rule wrote."""
    pairs: Dict[tuple, List[str]] = {}
    for slot in slots:
        rules = written.get(id(slot.tensor), [])
        for earlier, later in zip(rules, rules[1:]):
            pairs.setdefault((earlier, later), []).append(slot.name)
    return [
        _finding(
            'note',
            'rewritten',
            f'rule {later} writes {len(names)} tensors '
            f'that rule {earlier} writes before it',
            names,
        )
        for (earlier, later), names in pairs.items()
    ]


def overwritten(
    slots: Sequence[Slot], written: Dict[int, List[int]], loaded: Set[int]
) -> List[Finding]:
    """Loaded tensors that a rule with ``overwrite=True`` wrote."""
    names = [
        slot.name
        for slot in slots
        if id(slot.tensor) in loaded and id(slot.tensor) in written
    ]
    if not names:
        return []
    return [
        _finding(
            'note',
            'overwritten',
            f'{len(names)} loaded tensors are '
            'written over, as `overwrite` asks',
            names,
        )
    ]


def differed(slots: Sequence[Slot], tensors: Collection[int]) -> List[Finding]:
    """Tensors that not all ranks gave the same values."""
    names = [slot.name for slot in slots if id(slot.tensor) in tensors]
    if not names:
        return []
    return [
        _finding(
            'warning',
            'ranks-differed',
            f'{len(names)} tensors had other values on other ranks, and have '
            "rank 0's now: their initializer depends on the rank",
            names,
        )
    ]


def never_trained(
    slots: Sequence[Slot],
    written: Dict[int, List[int]],
    optimized: Optional[Iterable[Tensor]],
) -> List[Finding]:
    """Parameters that were written and will keep these values."""
    parameters = [
        slot
        for slot in slots
        if id(slot.tensor) in written and isinstance(slot.tensor, nn.Parameter)
    ]
    frozen = [s.name for s in parameters if not s.tensor.requires_grad]
    findings = []
    if frozen:
        findings.append(
            _finding(
                'warning',
                'frozen',
                f'{len(frozen)} parameters that rules write have '
                'requires_grad=False and will never train (a new module '
                'inside `frozen_stages`?)',
                frozen,
            )
        )
    if optimized is None:
        return findings
    known = {id(tensor) for tensor in optimized}
    left_out = [
        s.name
        for s in parameters
        if s.tensor.requires_grad and not is_optimized(s.tensor, known)
    ]
    if left_out:
        findings.append(
            _finding(
                'warning',
                'not-optimized',
                f'{len(left_out)} written '
                'parameters are in no parameter group of the optimizer and '
                'will never train',
                left_out,
            )
        )
    return findings
