"""Rules that fit any model, against what regular expressions find in it."""

import re
from typing import Any, Collection, Dict, List, Set, Tuple

import torch
import torch.nn as nn
from torch import Tensor

from mmpartinit import plan_init


def check_patterns(model: nn.Module, loaded: Collection[str]) -> None:
    """Let rules write what was not loaded.

    What is planned and written is compared with what follows from
    ``named_modules()``, ``named_parameters()`` and ``state_dict()``.

    Args:
        model (nn.Module): The model.
        loaded (Collection[str]): Names of what was loaded.

    Raises:
        AssertionError: If something is not as it should be.
    """
    state = model.state_dict(keep_vars=True)
    before = {name: value.detach().clone() for name, value in state.items()}
    cases = _rules(model)
    plan = plan_init(model, [rule for _, rule in cases], loaded=loaded)
    expect(
        'state dict',
        [(e.path, id(e.value)) for e in plan.whole.tree.entries],
        [(name, id(value)) for name, value in state.items()],
    )
    loaded_ids = {id(state[name]) for name in loaded}
    kept = {name for name in state if id(state[name]) in loaded_ids}
    planned: Set[str] = set()
    for index, (pattern, rule) in enumerate(cases):
        matches = [m for m in plan.matches if m.rule.index == index]
        paths = _outermost(model, pattern)
        expect(f'{rule} matches', {m.path for m in matches}, paths)
        under = {n for n in state if not paths.isdisjoint(_prefixes(n))}
        new = {entry.path for m in matches for entry in m.new}
        expect(f'{rule} plans', new, under - kept)
        planned |= new
    report = plan.apply(seed=0)
    for record in report.tensors:
        name, value = record.name, state[record.name]
        if record.origin == 'rule':
            expect(f'{name} was planned', name in planned, True)
            if record.rule == len(cases) - 1:
                expect(f'{name} is .25', value.eq(0.25).all().item(), True)
        else:
            expect(f'{name} stays', same(value, before[name]), True)
            origin = 'file' if name in kept else 'built'
            expect(f'origin of {name}', record.origin, origin)
    biases = {n for n, _ in model.named_parameters() if _last(n) == 'bias'}
    wrote = plan.whole.tree.with_sharing(report.rules[-1].wrote)
    expect('biases', wrote & biases, biases - kept)


def _rules(model: nn.Module) -> List[Tuple[str, Dict[str, Any]]]:
    """Rules that fit any model, each with its path as a regex."""
    layers = sorted(
        {
            type(module).__name__
            for module in model.modules()
            if module._parameters.get('weight') is not None
        }
    )
    # The first part that holds tensors; in most models the backbone.
    part = next(iter(model.state_dict())).split('.')[0]
    return [
        _rule(r'.*', '**', 'Constant', layer=layers, val=1.0),
        _rule(rf'{part}(\..*)?', f'{part}.**', 'Constant', val=0.5),
        _rule(r'(.*\.)?[^.]*norm[^.]*', '**.*norm*', 'Normal', std=0.01),
        _rule(
            r'[^.]+\.[^.]+\.[0-9]\.(.*\.)?(conv|fc).\.weight',
            '*.*.[0-9].**.{conv,fc}?.weight',
            'Constant',
            val=2.0,
        ),
        _rule(r'(.*\.)?bias', '**.bias', 'Constant', val=0.25),
    ]


def _rule(
    pattern: str, path: str, kind: str, **arguments: Any
) -> Tuple[str, Dict[str, Any]]:
    init_cfg = dict(type=kind, **arguments)
    return pattern, dict(path=path, init_cfg=init_cfg, optional=True)


def _outermost(model: nn.Module, pattern: str) -> Set[str]:
    """Paths of what a regex matches, and no path below one of them."""
    first: Dict[int, str] = {}
    found = set()
    for path, node in (
        *model.named_modules(remove_duplicate=False),
        *model.named_parameters(remove_duplicate=False),
    ):
        first.setdefault(id(node), path)
        if re.fullmatch(pattern, path):
            found.add(first[id(node)])
    return {p for p in found if found.isdisjoint(_prefixes(p) - {p})}


def _prefixes(path: str) -> Set[str]:
    """A path and the paths of all that it lies under."""
    parts = path.split('.')
    return {'.'.join(parts[:n]) for n in range(len(parts) + 1)}


def _last(path: str) -> str:
    return path.rsplit('.', 1)[-1]


def same(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors hold the same, bit for bit."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    a, b = a.detach().reshape(-1), b.detach().reshape(-1)
    bits = torch.uint8 if a.element_size() % 4 else torch.int32
    return a.view(bits).equal(b.view(bits))


def expect(what: str, found: Any, expected: Any) -> None:
    """Raise an error that names what is found and not expected."""
    if found == expected:
        return
    if isinstance(found, set):
        more, less = sorted(found - expected), sorted(expected - found)
        text = f'{len(more)} too many {more[:3]}, {len(less)} lack {less[:3]}'
        raise AssertionError(f'{what}: {text}'[:500])
    raise AssertionError(f'{what}: {found}, not {expected}'[:500])
