"""Suggested rules as Python that can be pasted into a config."""

import math
import textwrap
from typing import Any, List

from ..checks.uncovered import pretrained_parts
from ..errors import some
from .hooks import imports_of, listed
from .look import Look
from .rates import custom_keys
from .suggest import Suggester
from .suggestion import Suggestion

_WIDTH = 79
_MOST_KEYS = 8  # more are no help


def suggest(seen: Look) -> str:
    """Write rules for what is new in a config's model and not covered, as
    Python; nothing but comments where there is nothing to suggest.

    Raises:
        LookError: If no rules could be found.
    """
    if not seen.weights:
        return _comment(
            'Nothing to suggest: nothing was loaded (--no-weights), so that '
            'every tensor counts as new, and none is new beside pretrained '
            'weights. Leave --no-weights out where the checkpoints are at '
            'hand.'
        )
    origins = seen.origins
    if not (origins.files or pretrained_parts(seen.whole.tree, origins)):
        return _comment(
            'Nothing to suggest: the config loads no weights, so nothing in '
            'its model is new beside pretrained weights.'
        )
    suggester = Suggester(seen)
    suggestions = suggester.suggest()
    if not any(suggestion.path for suggestion in suggestions):
        nothing = (
            'Nothing to suggest: no parameter is new beside loaded ones and '
            'in need of a rule.'
        )
        texts = [' '.join(said.comment) for said in suggestions]
        if suggester.buffers:
            texts.append(_buffers(suggester.buffers))
        return '\n'.join(map(_comment, [nothing, *texts]))
    said = []
    if suggester.errors:
        said.append(
            'The rules of the config have errors, which `mmpartinit plan` '
            'shows; what they should cover may be in here too.'
        )
    if suggester.tried.why:
        said.append(
            'No start was tried on the network, which could not be run: '
            f'{suggester.tried.why}.'
        )
    trial = suggester.tried.trial
    if trial is not None and trial.only_eval:
        said.append(
            'Starts were tried in eval mode only, since the network does '
            f'not run in train mode like this: {trial.only_eval}'
        )
    if suggester.buffers:
        said.append(_buffers(suggester.buffers))
    if seen.hooks:
        said.append(
            'Add these rules to `modules` of the CustomModuleInitHook that '
            'the config has.'
        )
        rules = _list('modules = ', _rules(suggestions))
    else:
        rules = _whole(seen, suggestions)
    return '\n'.join([*map(_comment, said), rules, *_rates(seen)])


def _rates(seen: Look) -> List[str]:
    """How new parts are given another learning rate, as a comment."""
    keys = custom_keys(seen.whole.tree, seen.new)
    if not 0 < len(keys) <= _MOST_KEYS:
        return []
    text = 'Another learning rate for what is new, here ten times the other:'
    lines = [f'#   {key!r}: {as_code(cfg)},' for key, cfg in keys.items()]
    start = '# optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'
    return [_comment(text), start, *lines, '# }))']


def _buffers(names: List[str]) -> str:
    return (
        f'Buffers that are new, and that no rule can write: {some(names, 5)}.'
    )


def as_code(value: Any, room: float = _WIDTH, beside: int = 0) -> str:
    """Write dicts, lists, tuples, classes and literals as configs do, without
    a newline at the end.

    Args:
        value (Any): What to write.
        room (float): Characters in a line, from where the last line starts.
        beside (int): Characters beside the value in its first line. Defaults
            to 0.
    """
    if isinstance(value, type):  # of a pure-Python config
        return repr(f'{value.__module__}.{value.__qualname__}')
    if not isinstance(value, (dict, list, tuple)):
        return repr(value)
    opening, closing = '[]' if isinstance(value, list) else '()'
    names, values = [''] * len(value), list(value)
    if isinstance(value, dict):
        is_plain = all(isinstance(k, str) and k.isidentifier() for k in value)
        opening, closing = ('dict(', ')') if is_plain else ('{', '}')
        names = [f'{k}=' if is_plain else f'{k!r}: ' for k in value]
        values = list(value.values())
    flat = [n + as_code(v, math.inf) for n, v in zip(names, values)]
    end = ',' if isinstance(value, tuple) and len(value) == 1 else ''
    text = f'{opening}{", ".join(flat)}{end}{closing}'
    if len(text) + beside <= room:
        return text
    items = [
        name + as_code(item, room - 4, len(name) + 1)
        for name, item in zip(names, values)
    ]
    body = textwrap.indent(''.join(f'{item},\n' for item in items), '    ')
    return f'{opening}\n{body}{closing}'


def _whole(seen: Look, suggestions: List[Suggestion]) -> str:
    """The hook, after the imports and hooks that the config has."""
    imports = imports_of(seen.cfg)
    if 'mmpartinit' not in imports:
        imports.append('mmpartinit')
    custom = dict(imports=imports, allow_failed_imports=False)
    others = listed(seen.cfg)
    ours = [
        'dict(',
        "    type='CustomModuleInitHook',",
        textwrap.indent(_list('modules=', _rules(suggestions)), '    ') + ',',
        '),',
    ]
    if others:
        ours.insert(0, '# New; those above are the ones that the config has.')
    hooks = [f'{as_code(hook, _WIDTH - 4, 1)},' for hook in others] + ours
    code = as_code(custom, beside=len('custom_imports = '))
    return f'custom_imports = {code}\n{_list("custom_hooks = ", hooks)}'


def _list(start: str, lines: List[str]) -> str:
    body = textwrap.indent('\n'.join(lines), '    ')
    return f'{start}[\n{body}\n]'


def _rules(suggestions: List[Suggestion]) -> List[str]:
    """Each rule with its comment, where the lines are 12 columns in."""
    room = _WIDTH - 12
    lines = []
    for suggestion in suggestions:
        if suggestion.comment:  # the second of two gates has none
            lines.append(_comment(' '.join(suggestion.comment), room))
        if suggestion.is_advice:
            code = f'{as_code(suggestion.rule, room - 2, 1)},'
            lines.append(textwrap.indent(code, '# '))
        elif suggestion.path:
            lines.append(f'{as_code(suggestion.rule, room, 1)},')
    return lines


def _comment(text: str, room: int = _WIDTH) -> str:
    lines = textwrap.wrap(text, room - 2, break_on_hyphens=False)
    return '\n'.join(f'# {line}' for line in lines)
