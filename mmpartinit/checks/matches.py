"""What can be known of a rule on a model before anything is written."""

from typing import Callable, List, Sequence, Tuple

from torch import Tensor
from torch.nn.parameter import is_lazy

from ..errors import some
from ..model.tree import Slot
from ..rules.matching import Match
from ..rules.rule import Rule
from .items import check_item


def check_matches(
    rule: Rule, matches: Sequence[Match], files: bool = True
) -> List[str]:
    """What is wrong with a rule on what it acts on, a sentence for each
    problem; with ``files``, also that checkpoints are missing.
    """
    if matches and not any(match.new or match.kept for match in matches):
        kinds = sorted({type(match.node).__name__ for match in matches})
        return [
            f'{rule}: it matches {some([m.path for m in matches], 3)} '
            f'({", ".join(kinds)}), and there are no parameters in there'
        ]
    acting = [match for match in matches if match.new]
    problems = _no_memory([slot for match in acting for slot in match.new])
    if not problems and rule.copy_from is not None:
        problems = _no_copies(acting)
    elif not problems and acting:
        targets = [(match.path, match.target) for match in acting]
        for item in rule.init_cfg:
            problems += check_item(item, targets, files)
    return [f'{rule}: {problem}' for problem in problems]


def _no_copies(matches: Sequence[Match]) -> List[str]:
    """Shapes that differ from those of the source, and nothing in common."""
    shapes, problems = [], []
    for match in matches:
        copies, source = match.copies, match.rule.copy_from
        if match.sources and not copies:
            names = ', '.join(slot.name for slot in match.new[:3])
            problems.append(
                f'{source} has none of the new tensors of {match.path} '
                f'({names}, ...)'
            )
        if any(other.name == name for name, other in copies.items()):
            problems.append(f'{match.path} would be copied from itself')
        shapes += [
            f'{slot.name} {tuple(slot.tensor.shape)} and '
            f'{copies[slot.name].name} '
            f'{tuple(copies[slot.name].tensor.shape)}'
            for slot in match.new
            if slot.name in copies
            and copies[slot.name].tensor.shape != slot.tensor.shape
        ]
    if shapes:
        problems.append(
            f'shapes differ from those to copy: {"; ".join(shapes)}'
        )
    return problems


def _no_memory(slots: Sequence[Slot]) -> List[str]:
    """Find tensors that hold no values that could be written."""
    kinds: List[Tuple[Callable[[Tensor], bool], str]] = [
        (
            is_lazy,
            'of lazy modules have no shape yet; run the model once before '
            'training starts',
        ),
        (
            lambda tensor: tensor.is_meta,
            'are on the meta device, without memory; materialize them first '
            '(`to_empty`)',
        ),
        (
            lambda tensor: hasattr(tensor, 'full_tensor'),
            'are buffers that lie in parts (DTensor), which cannot be '
            'written; leave them out of the path',
        ),
    ]
    found = [
        ([slot.name for slot in slots if is_one(slot.tensor)], text)
        for is_one, text in kinds
    ]
    return [f'{", ".join(names)} {text}' for names, text in found if names]
