"""What the user should see of where values come from."""

from typing import Any, Collection, Dict, List, Sequence

import torch.nn as nn

from ..errors import Finding, some
from ..model.origins import Origins
from ..model.tree import Entry, ModelTree
from ..rules.matching import Match
from ..rules.rule import Rule
from .files import nothing_loaded, renamed, shapes
from .findings import Written, found
from .frozen import frozen_as_drawn
from .uncovered import uncovered, without_start


def about_origins(
    tree: ModelTree, origins: Origins, matches: Sequence[Match]
) -> List[Finding]:
    """What the origins of a model's tensors tell, before anything is
    written.
    """
    new = uncovered(tree, origins, matches)
    findings = [
        *_seeds_itself(origins),
        *nothing_loaded(tree, origins, matches),
        *_lost(tree, origins),
        *_partly(origins, matches),
        *shapes(origins),
    ]
    others = renamed(tree, origins, new)
    misfits = [
        name
        for f in (*findings, *others)
        for name in f.names
        if f.code in ('shape', 'renamed')
    ]
    new = without_start(tree, origins, matches, new, misfits)
    text = (
        f'{len(new)} new tensors that no rule covers keep the values that '
        'they were built with'
    )
    return [*findings, *others, *found('warning', 'uncovered', text, new)]


def _seeds_itself(origins: Origins) -> List[Finding]:
    text = (
        "the model's code seeds the random numbers itself, so that a second "
        'start comes out the same whatever was loaded; recorded loads decide, '
        'and what was put in otherwise has to be named in `loaded`'
    )
    return (
        [Finding('warning', 'seeds-itself', text, [])]
        if origins.seeds_itself
        else []
    )


def _lost(tree: ModelTree, origins: Origins) -> List[Finding]:
    """What was loaded and written over before training starts."""
    kinds: Dict[str, List[str]] = {}
    for name in origins.lost:
        if name in origins.constant:
            now = 'start from one value'
        elif origins.of(name) == 'built':
            now = 'start from chance'
        elif name in origins.files:
            now = f'start from those of {origins.files[name].file}'
        else:
            now = 'are kept, for it may be on purpose'
        kinds.setdefault(now, []).append(name)
    findings = []
    for now, names in kinds.items():
        files = {origins.lost[name].file for name in names} - {None}
        source = f' from {some(sorted(map(str, files)), 2)}' if files else ''
        text = (
            f'{len(names)} tensors were loaded{source} and written over '
            f'before training starts; they {now}'
        )
        if any(_is_adapted(tree, name) for name in names):
            text += (
                "; a backbone that asks whether its init_cfg is 'Pretrained' "
                'wants that one itself, and AdaptedPretrained in a rule for '
                'what did not fit'
            )
        findings += found('warning', 'lost', text, names)
    return findings


def _is_adapted(tree: ModelTree, name: str) -> bool:
    """Whether AdaptedPretrained loads a module that a tensor is in."""
    segments = name.split('.')
    paths = ('.'.join(segments[:i]) for i in range(len(segments)))
    cfgs = (
        getattr(tree.index[path].value, 'init_cfg', None)
        for path in paths
        if path in tree.index
    )
    return any('AdaptedPretrained' in str(cfg) for cfg in cfgs)


def _partly(origins: Origins, matches: Sequence[Match]) -> List[Finding]:
    """Tensors of which a part was put in, unless a rule writes them."""
    written = {entry.path for match in matches for entry in match.new}
    names = [name for name in origins.drawn if name not in written]
    counts = [f'{name}: {origins.drawn[name]:,}' for name in names]
    text = (
        f'{len(names)} tensors were put in in part only, and are kept whole; '
        f'elements of them that were drawn: {some(counts, 5)}'
    )
    return found('warning', 'partly', text, names)


def put_in(
    rule: Rule, matches: Sequence[Match], origins: Origins
) -> List[Finding]:
    """What a rule would write, and leaves since code has put it in."""
    if not origins.code:
        return []
    names: List[str] = []
    owners: Dict[str, str] = {}  # and where they are copied from
    useful: Dict[int, Dict[str, Any]] = {}
    for match in matches:
        writes = [
            (item, match.known_writes(item) if item.writes else None)
            for item in rule.init_cfg
        ]
        for entry in match.kept:
            if entry.path not in origins.code or not entry.is_parameter:
                continue
            reach = {
                id(item): item.cfg
                for item, known in writes
                if known is None or entry.path in known
            }
            if reach or rule.copy_from is not None:
                names.append(entry.path)
                owner = _owner(entry, match, origins)
                below = owner[len(match.path) :].lstrip('.')
                owners[owner] = f'{match.source}.{below}'.rstrip('.')
                useful.update(reach)
    if not names:
        return []
    cfgs = [item.cfg for item in rule.init_cfg]
    if owners.keys() & set(names):  # a parameter is of no `layer`
        cfgs = [
            {key: value for key, value in cfg.items() if key != 'layer'}
            for cfg in useful.values()
        ]
    items = [_as_code(cfg) for cfg in cfgs]
    start = f'init_cfg={items[0] if len(items) == 1 else items}'
    more = [f'path={list(owners)}, ' + start.replace('"', '')]
    if rule.copy_from is not None:
        more = [f'path={at!r}, copy_from={x!r}' for at, x in owners.items()]
    pasted = ', '.join(f'dict({text}, overwrite=True)' for text in more)
    text = (
        f" leaves {len(names)} tensors that the model's code puts in, the "
        'same whatever the seed (a copy, an inflation, a formula); a rule '
        f'behind it writes them: {pasted}'
    )
    return [rule.finding('warning', 'put-in', text, names)]


def _owner(entry: Entry, match: Match, origins: Origins) -> str:
    """The path to name for writing a tensor: its module, where nothing else is
    in it that must stay.
    """
    owner = entry.path.rpartition('.')[0]
    under = [*match.new, *match.kept]
    if not owner or isinstance(match.value, nn.Parameter):
        return entry.path
    is_alone = all(
        other.owner is entry.owner and other.path not in origins.files
        for other in under
        if other.path.startswith(owner + '.')
    )
    return owner if is_alone else entry.path


def _as_code(cfg: Dict[str, Any]) -> str:
    values = {
        key: value if not isinstance(value, type) else value.__name__
        for key, value in cfg.items()
    }
    return f'dict({", ".join(f"{k}={v!r}" for k, v in values.items())})'


def never_trained(
    tree: ModelTree, origins: Origins, written: Written
) -> List[Finding]:
    """Parameters that were drawn and take no gradient."""
    names = [
        entry.path
        for entry in tree.entries
        if origins.looked
        and entry.is_parameter
        and not entry.value.requires_grad
        and entry.path not in written
        and entry.path not in origins.constant
        and entry.path not in origins.kept
    ]
    return frozen_as_drawn(names)


def unknown_loaded(names: Collection[str]) -> List[Finding]:
    """Entries of ``loaded`` that fit nothing in the model."""
    text = (
        f'{len(names)} entries of `loaded` name nothing of the model, and '
        'protect nothing'
    )
    return found('warning', 'unknown-loaded', text, list(names))
