"""What the user should see of files of which something went nowhere."""

from collections import Counter
from typing import Any, Dict, List, Sequence

from ..errors import Finding, some
from ..model.checkpoints import Checkpoint, renaming, revised
from ..model.origins import Origins
from ..model.renaming import Revision
from ..model.tree import ModelTree
from ..rules.matching import Match
from .findings import found
from .uncovered import pretrained_parts


def nothing_loaded(
    tree: ModelTree, origins: Origins, matches: Sequence[Match]
) -> List[Finding]:
    """State dicts of which nothing fitted, and configs whose file of weights
    went nowhere.
    """
    findings = []
    for checkpoint in origins.checkpoints:
        path, unused = checkpoint.path, checkpoint.unused
        if checkpoint.used or path in origins.loaded_into or not unused:
            continue
        where = f'{path}.' if path else ''
        names = [e.path for e in tree.entries if e.path.startswith(where)]
        fit = renaming(tree, checkpoint, names)
        hint = 'its names are others'
        if fit and not fit.new:
            hint = f'with prefix={fit.old!r} {len(fit.names)} would'
        elif fit and not fit.old:
            hint = f'{len(fit.names)} would fit {where}{fit.new[:-1]}'
        elif fit:
            hint = f'{len(fit.names)} would with {fit.new!r} for {fit.old!r}'
        text = (
            f'none of the {checkpoint.tensors} tensors of '
            f'{_file(checkpoint)} fits '
            f'{path or "the model"}, into which it was loaded; {hint}'
        )
        findings.append(Finding('warning', 'nothing-loaded', text, []))
    writes = any(match.new for match in matches)
    # Formulas are no weights of a file; most of a part put in by code is.
    has_some = origins.files or pretrained_parts(tree, origins)
    if origins.expected and writes and not (findings or has_some):
        text = (
            'the config names a file of weights, and no tensor of the model '
            'is from a file; rules write as if all of it were new'
        )
        findings.append(Finding('warning', 'nothing-loaded', text, []))
    return findings


def shapes(origins: Origins) -> List[Finding]:
    """Tensors of checkpoints that have another shape in the model."""
    differing = {
        name: f'{name} {tuple(there)}, here {tuple(here)}'
        for checkpoint in origins.checkpoints
        for name, there, here in checkpoint.shapes
        if name not in origins.files
    }
    text = (
        f'{len(differing)} tensors of a checkpoint have another shape in the '
        f'model, and were not loaded: {some(list(differing.values()), 3)}'
    )
    return found('note', 'shape', text, list(differing))


def renamed(
    tree: ModelTree, origins: Origins, new: Sequence[str]
) -> List[Finding]:
    """Unused tensors of checkpoints that would fit under another name, with
    the rule that loads them where their names leave no doubt.
    """
    findings = []
    for checkpoint in origins.checkpoints:
        if not checkpoint.used or not checkpoint.unused:
            continue
        count = len(checkpoint.unused)
        text = f'{count} tensors of {_file(checkpoint)} went nowhere; '
        start = f'{checkpoint.path}.' if checkpoint.path else ''
        there = [name for name in new if name.startswith(start)]
        both = (
            '; `prefix` or `revise_keys` of AdaptedPretrained can say which '
            f'is which: in the file {some(list(checkpoint.unused), 5)}; new '
            f'in the model {some(there, 5)}'
        )
        sure = revised(tree, checkpoint, new)
        fit = sure or renaming(tree, checkpoint, new)
        # Names decide where most of what went nowhere would fit.
        if fit and 2 * len(fit.names) >= count:
            rule = _rule(checkpoint, sure) if sure else ''
            text += (
                f'with {fit.new!r} in place of {fit.old!r} {len(fit.names)} '
                'of them would fit new ones'
            )
            text += f'; a rule loads them: {rule}' if rule else both
            findings += found('warning', 'renamed', text, fit.names)
        elif _have_shapes(tree, checkpoint, there):
            text += 'as many new ones have their shapes' + both
            findings.append(Finding('warning', 'renamed', text, []))
    return findings


def _rule(checkpoint: Checkpoint, sure: Revision) -> str:
    """The rule to paste for a renaming; '' where the file is not known."""
    if checkpoint.file is None or checkpoint.head is None:
        return ''
    path = '.'.join(filter(None, (checkpoint.path, sure.path))) or '**'
    cfg: Dict[str, Any] = dict(
        type='AdaptedPretrained', checkpoint=checkpoint.file
    )
    prefix = f'{checkpoint.head}{sure.prefix}'.rstrip('.')
    if prefix:
        cfg['prefix'] = prefix
    if sure.pairs:
        cfg['revise_keys'] = sure.pairs
    text = ', '.join(f'{key}={value!r}' for key, value in cfg.items())
    return f'dict(path={path!r}, init_cfg=dict({text}))'


def _have_shapes(
    tree: ModelTree, checkpoint: Checkpoint, names: Sequence[str]
) -> bool:
    """Whether for each tensor that went nowhere there is one of its shape."""
    inner = set(names)
    there = Counter(
        tuple(e.value.shape) for e in tree.entries if e.path in inner
    )
    wanted = Counter(
        tuple(shape)
        for name, shape in checkpoint.unused.items()
        if not name.endswith('num_batches_tracked')
    )
    return bool(wanted) and not wanted - there


def _file(checkpoint: Checkpoint) -> str:
    return checkpoint.file or 'a checkpoint'
