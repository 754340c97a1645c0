"""What the user should see in a plan or in its outcome.

Each function looks for one kind of finding and knows nothing of the others;
``docs/en/messages.md`` explains every code. What makes a rule impossible is an
error, and lives in ``matches.py`` and ``items.py``.
"""

from typing import Collection, Dict, Iterable, List, Sequence, Set, Tuple

from ..errors import Finding, nearest, some
from ..initializers.traits import layer_names
from ..model.blocks import outermost_new
from ..model.tensors import has_memory
from ..model.tree import Entry, ModelTree
from ..processes.masters import Optimized
from ..rules.matching import Match
from ..rules.rule import Rule
from .items import ItemCheck

_MUCH = 2**29  # bytes of a copy of which a plan tells

# Names of what was written, and the rules that wrote it, in order.
Written = Dict[str, List[int]]


def found(level: str, code: str, text: str, names: List[str]) -> List[Finding]:
    """A finding about some tensors, where there are any."""
    return [Finding(level, code, text, names)] if names else []


def nothing_to_do(rule: Rule, matches: Sequence[Match]) -> List[Finding]:
    """Rules that act on nothing, or leave loaded tensors alone."""
    if not matches:
        text = ' is optional and matches nothing in this model'
        return [rule.finding('note', 'no-match', text)]
    kept = [entry.path for match in matches for entry in match.kept]
    if not any(match.new for match in matches):
        text = (
            ' does nothing: all that it names was loaded or put in '
            '(overwrite=True would write over that)'
        )
        return [rule.finding('warning', 'nothing-new', text, kept)]
    text = f' leaves {len(kept)} tensors as they were loaded or put in'
    return [rule.finding('note', 'kept', text, kept)] if kept else []


def memory(
    tree: ModelTree, rule: Rule, matches: Sequence[Match]
) -> List[Finding]:
    """Much that is copied so that an initializer may read it."""
    acting = [match for match in matches if match.new and match.is_read]
    size = max((_kept_bytes(match) for match in acting), default=0)
    # What later initializers write is seen beside what they were given.
    size *= 1 + any(not item.writes for item in rule.init_cfg[1:])
    if size < _MUCH:
        return []
    new = {entry.path for match in acting for entry in match.new}
    parts = [node.path for node in outermost_new(tree, new)]
    text = (
        f' copies {size / 2**20:,.0f} MiB of loaded tensors while it runs, '
        'for its initializer may read them; a path that names what is new '
        f'alone copies none of them: {some(parts, 3)}'
    )
    return [rule.finding('note', 'memory', text)]


def _kept_bytes(match: Match) -> int:
    kept = {id(e.value): e.value for e in match.kept if has_memory(e.value)}
    return sum(t.numel() * t.element_size() for t in kept.values())


def by_name(notes: Iterable[Tuple[Rule, str]]) -> List[Finding]:
    """Rows that went by the names of classes, as their initializers say."""
    return [rule.finding('note', 'classes', f': {t}') for rule, t in notes]


def unused_items(rule: Rule, matches: Sequence[Match]) -> List[Finding]:
    """Dicts of an ``init_cfg`` that reach nothing, and names in ``layer``
    that no module answers to.
    """
    targets = [(match.path, match.target) for match in matches if match.new]
    items, several = rule.init_cfg, len(rule.init_cfg) > 1
    if not targets or not (several or any(item.layers for item in items)):
        return []
    there = {
        name
        for _, module in targets
        for child in module.modules()
        for name in layer_names(child)
    }
    findings = []
    told: Set[str] = set()
    for item in items:
        nothing = several and ItemCheck(item, targets).reaches_nothing()
        if nothing:
            text = (
                f': {item.name} {item} has no effect in this model: {nothing} '
                '(leave it if the list is for other models too)'
            )
            findings.append(rule.finding('warning', 'unused-item', text))
        for name in () if nothing else item.layers:
            if name in there or name in told:
                continue
            told.add(name)
            hint = nearest(name, sorted(there))
            # A name that is nearly right is a typo.
            level = 'warning' if hint else 'note'
            text = (
                f' is for layer {name!r}, and there is none under '
                f'its matches{hint}'
            )
            findings.append(rule.finding(level, 'unused-layer', text))
    return findings


def not_written(matches: Iterable[Match], written: Written) -> List[Finding]:
    """New parameters under a rule's matches that no rule wrote."""
    unwritten = {
        entry.path: None
        for match in matches
        for entry in match.new
        if match.rule.copy_from is None
        and entry.path not in written
        and entry.is_parameter
    }
    text = (
        f'{len(unwritten)} new parameters that rules cover are not written '
        'by their init_cfg, and keep the values that they were built with'
    )
    return found('note', 'not-written', text, list(unwritten))


def not_copied(matches: Iterable[Match]) -> List[Finding]:
    """Tensors that the source of a copy lacks."""
    left: Dict[Rule, List[str]] = {}
    for match in matches:
        if match.rule.copy_from is not None:
            left.setdefault(match.rule, []).extend(match.left)
    findings = []
    for rule, names in left.items():
        text = (
            f' leaves {len(names)} tensors as they are, for '
            f'{rule.copy_from} has none of that name'
        )
        if names:
            findings.append(rule.finding('note', 'not-copied', text, names))
    return findings


def rewritten(rules: Iterable[Rule], written: Written) -> List[Finding]:
    """Rules of which nothing is left. That a part of a block starts in another
    way than the whole of it, by a rule after that, is as it should be.
    """
    wrote: Dict[int, List[str]] = {}
    for name, indices in written.items():
        for index in indices:
            wrote.setdefault(index, []).append(name)
    findings = []
    for rule in rules:
        names = wrote.get(rule.index, [])
        last = sorted({written[name][-1] for name in names} or {rule.index})
        if rule.index not in last:
            later = ', '.join(map(str, last))
            text = (
                f' is without effect: all {len(names)} tensors that it writes '
                f'are written after it, by rule {later}'
            )
            findings.append(rule.finding('warning', 'rewritten', text, names))
    return findings


def overwritten(
    tree: ModelTree, written: Written, loaded: Collection[str]
) -> List[Finding]:
    """Loaded tensors that a rule with ``overwrite=True`` wrote."""
    names = [
        entry.path
        for entry in tree.entries
        if entry.path in written and entry.path in loaded
    ]
    text = f'{len(names)} loaded tensors are written over, as `overwrite` asks'
    return found('note', 'overwritten', text, names)


def differed(
    names: Collection[str], matches: Iterable[Match]
) -> List[Finding]:
    """Tensors that not all ranks gave the same values."""
    known: Set[str] = set()
    for match in matches if names else ():
        # By the last one that may have written.
        if all(item.writes for item in match.rule.init_cfg):
            known |= match.would_write()
        else:
            known -= match.would_write()
    end = 'their initializer depends on the rank'
    if known.issuperset(names):  # MMEngine's own draw the same from a seed
        end = 'the processors of the ranks round in other ways'
    text = (
        f'{len(names)} tensors had other values on other ranks, and have '
        f"rank 0's now: {end}"
    )
    return found('warning', 'ranks-differed', text, list(names))


def frozen(tree: ModelTree, drawn: Collection[str]) -> List[Finding]:
    """Parameters that take no gradient, of those to which rules gave values
    that nothing has trained.
    """
    names = [
        entry.path
        for entry in _parameters(tree, drawn)
        if not entry.value.requires_grad
    ]
    text = (
        f'{len(names)} parameters that rules write have requires_grad=False '
        'and will never train (a new module inside `frozen_stages` or '
        '`freeze`?)'
    )
    return found('warning', 'frozen', text, names)


def not_optimized(
    tree: ModelTree, written: Written, optimized: Optimized
) -> List[Finding]:
    """Parameters that were written and that no optimizer moves."""
    names: List[str] = []
    still: List[str] = []
    for entry in _parameters(tree, written):
        if not entry.value.requires_grad:
            continue  # said already
        if not optimized.has(entry.value):
            names.append(entry.path)
        elif not optimized.moves(entry.value):
            still.append(entry.path)
    text = (
        f'{len(names)} written parameters are in no parameter group of the '
        'optimizer and will never train'
    )
    findings = found('warning', 'not-optimized', text, names)
    text = (
        f'{len(still)} written parameters are in a parameter group whose '
        'learning rate is 0, and do not train (new modules in a part with '
        '`lr_mult=0`? `custom_keys` of `paramwise_cfg` give them another)'
    )
    return findings + found('warning', 'not-optimized', text, still)


def _parameters(tree: ModelTree, names: Collection[str]) -> List[Entry]:
    return [
        entry
        for entry in tree.entries
        if entry.path in names and entry.is_parameter
    ]
