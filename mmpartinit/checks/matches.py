"""What can be known of a rule on a model before anything is written."""

from typing import Dict, List, Sequence

from torch import Tensor
from torch.nn.parameter import is_lazy

from ..errors import Collector, RuleError, some
from ..initializers.adapted import AdaptedPretrained
from ..initializers.rows import class_tensors
from ..model.tensors import has_memory
from ..model.tree import Entry
from ..processes.units import lies_in_parts
from ..rules.matching import Match
from ..rules.rule import Rule
from .items import ItemCheck


def check_matches(rule: Rule, matches: Sequence[Match], files: bool) -> None:
    """See to it that a rule can be carried out on what it acts on; with
    ``files``, also that checkpoints are there.

    Raises:
        RuleError: With all that is wrong.
    """
    if matches and not any(match.new or match.kept for match in matches):
        kinds = sorted({type(match.value).__name__ for match in matches})
        raise RuleError.of(
            'no-parameters',
            f'it matches {some([m.path for m in matches], 3)} '
            f'({", ".join(kinds)}), and there are no parameters in there',
        )
    wrong = Collector()
    acting = [match for match in matches if match.new]
    with wrong.gather():
        _check_rows(rule, matches)
    _check_memory([entry for match in acting for entry in match.new], wrong)
    wrong.check()
    if rule.copy_from is not None:
        _check_copies(acting, wrong)
    elif acting:
        targets = [(match.path, match.target) for match in acting]
        checks = [ItemCheck(item, targets) for item in rule.init_cfg]
        nothing = [check.reaches_nothing() for check in checks]
        for check, text in zip(checks, nothing):
            with wrong.gather(where=f'{check.item.name} {check.item}'):
                # Of several, some may be for other models.
                if all(nothing):
                    raise RuleError.of(
                        'nothing-reached', f'it initialises nothing: {text}'
                    )
                check.check(files)
    wrong.check()


def _check_rows(rule: Rule, matches: Sequence[Match]) -> None:
    """Rows that are to go by name, and were loaded as they are."""
    if not any(
        isinstance(item.initializer, AdaptedPretrained)
        and item.initializer.classes is not None
        for item in rule.init_cfg
    ):
        return
    kept = [
        entry.path
        for match in matches
        for known in class_tensors(match.target)
        for entry in match.kept
        if entry.value is known.tensor
    ]
    if kept:
        raise RuleError.of(
            'kept-classes',
            f'{some(kept, 3)} would be kept as loaded, each row with the '
            'class that it had in the file; with overwrite=True the rows '
            'go by name (where the classes are the same, leave `classes` out)',
            kept,
        )


def _check_copies(matches: Sequence[Match], wrong: Collector) -> None:
    """Shapes that differ from those of the source, and nothing in common."""
    shapes = []
    for match in matches:
        copies = match.copies
        if match.sources and not copies:
            text = f'{match.path} would be copied from itself'
            if match.left:
                text = (
                    f'{match.source} has none of the new tensors of '
                    f'{match.path} ({", ".join(match.left[:3])}, ...)'
                )
            wrong.add('copy', text)
        shapes += [
            f'{entry.path} {tuple(entry.value.shape)} and '
            f'{copies[entry.path].path} '
            f'{tuple(copies[entry.path].value.shape)}'
            for entry in match.new
            if entry.path in copies
            and copies[entry.path].value.shape != entry.value.shape
        ]
    if shapes:
        text = f'shapes differ from those to copy: {"; ".join(shapes)}'
        wrong.add('copy', text)


def _check_memory(entries: Sequence[Entry], wrong: Collector) -> None:
    """Find tensors that hold no values that could be written."""
    found: Dict[str, List[str]] = {}
    for entry in entries:
        text = '' if has_memory(entry.value) else _no_memory(entry.value)
        if text:
            found.setdefault(text, []).append(entry.path)
    for text, names in found.items():
        wrong.add('not-writable', f'{", ".join(names)} {text}', names)


def _no_memory(tensor: Tensor) -> str:
    """Why a tensor without memory of its own cannot be written; '' where
    there is nothing to write.
    """
    if is_lazy(tensor):
        return (
            'of lazy modules have no shape yet; run the model once before '
            'training starts'
        )
    if tensor.is_meta:
        return (
            'are on the meta device, without memory; materialize them first '
            '(`to_empty`)'
        )
    if lies_in_parts(tensor):
        return (
            'are buffers that lie in parts (DTensor), which cannot be '
            'written; leave them out of the path'
        )
    if tensor.numel() == 0:
        return ''
    return (
        'are sparse, quantized or made of other tensors, which cannot be '
        'written; leave them out of the path'
    )
