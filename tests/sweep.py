"""Plan and carry out rules on every model that mmdet ships a config for.

``make sweep``, or ``python tests/sweep.py [--sample N] [--json FILE]``. One
line for each config, then totals. The exit status is 1 if a config failed for
a reason of ours: whatever goes wrong once the model is built. Models are built
without weights and without network.
"""

import argparse
import importlib.util
import json
import multiprocessing
import os
import random
import re
import signal
import socket
import sys
import time
import traceback
import warnings
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence, Set, Tuple

import torch
import torch.nn as nn
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor
from torch.overrides import TorchFunctionMode

from mmpartinit import plan_init, record_loads

WORKERS = 2
TIMEOUT = 120  # seconds for a config
# What a message of upstream's says where a package is missing.
_PACKAGE = re.compile(
    r"No module named '(\w+)|(\w+) is not installed|'imports': \['(\w+)"
    r'|install (?!it\b|openmim\b)(\w+)'
)
_LOADING = ('pretrained', 'teacher_ckpt')
_RANDOM = {
    'kaiming_normal_',
    'kaiming_uniform_',
    'normal_',
    'trunc_normal_',
    'uniform_',
    'xavier_normal_',
    'xavier_uniform_',
}


@dataclass
class Result:
    """What became of one config.

    Attributes:
        config (str): Its name, relative to mmdet's folder of configs.
        status (str): ``'applied'``; ``'skipped'``, where upstream gave no
            model; ``'failed'``, for a reason of ours.
        reason (str): Why, where it was skipped or failed.
        seconds (float): How long it took.
        modules (int): Modules in the model.
        planned (int): Tensors that the rules were to write.
        written (int): Tensors that they wrote.
        same_as (str): The config that has the same model, if one came before;
            the rest is that one's then.
    """

    config: str
    status: str = 'skipped'
    reason: str = ''
    seconds: float = 0.0
    modules: int = 0
    planned: int = 0
    written: int = 0
    same_as: str = ''

    def __str__(self) -> str:
        if self.same_as:
            return (
                f'{self.config}: {self.status}, same model as {self.same_as}'
            )
        text = f'{self.config}: {self.status}, {self.seconds:.2f} s'
        if self.modules:
            text += (
                f', {self.modules} modules, {self.planned} tensors planned, '
                f'{self.written} written'
            )
        return f'{text} ({self.reason})' if self.reason else text


def config_files(sample: Optional[int] = None) -> List[str]:
    """Names of mmdet's config files, in order.

    Args:
        sample (int, optional): Take this many of those that are not base
            files, always the same. Defaults to None: all.
    """
    root = _root()
    names = sorted(str(p.relative_to(root)) for p in root.rglob('*.py'))
    if sample is None:
        return names
    whole = [name for name in names if not _is_base(name)]
    return sorted(random.Random(0).sample(whole, min(sample, len(whole))))


def sweep(names: Sequence[str]) -> Iterator[Result]:
    """Go through configs, in worker processes.

    Args:
        names (list[str]): As :func:`config_files` gives them.

    Yields:
        Result: One for each, in the same order.
    """
    with ProcessPoolExecutor(
        WORKERS, multiprocessing.get_context('spawn'), _start_worker
    ) as pool:
        first: Dict[str, str] = {}
        same = [
            first.setdefault(key, name)
            for name, key in zip(names, pool.map(_model_key, names))
        ]
        runs = pool.map(
            run, (n for n, other in zip(names, same) if n == other)
        )
        done: Dict[str, Result] = {}
        for name, other in zip(names, same):
            if other == name:
                done[name] = next(runs)
                yield done[name]
            else:
                fields = dict(asdict(done[other]), config=name, seconds=0.0)
                yield Result(**dict(fields, same_as=other))


def run(name: str) -> Result:
    """Build the model of a config, and plan and apply rules on it."""
    result = Result(name)
    start = time.perf_counter()
    ours = False
    try:
        with _time_limit(TIMEOUT):
            model = _build(name)
            ours = True
            result.modules = sum(1 for _ in model.modules())
            check(model, result)
        result.status = 'applied'
    except Exception as error:
        result.reason = _reason(error)
        if ours:
            result.status = 'failed'
            traceback.print_exc()
    result.seconds = time.perf_counter() - start
    return result


def check(model: nn.Module, result: Result) -> None:
    """Load half of a model's tensors, and let rules write the others.

    What is loaded, planned and written is compared with what follows from
    ``named_modules()``, ``named_parameters()`` and ``state_dict()``.

    Args:
        model (nn.Module): The model.
        result (Result): Gets the numbers of tensors.

    Raises:
        AssertionError: If something is not as it should be.
    """
    state = model.state_dict(keep_vars=True)
    file = {name: state[name].detach().clone() for name in list(state)[::2]}
    with record_loads(model) as loaded:
        model.load_state_dict(file, strict=False)
    _expect('loaded', loaded, set(file))
    before = {name: value.detach().clone() for name, value in state.items()}

    cases = _rules(model)
    plan = plan_init(model, [rule for _, rule in cases], loaded=loaded)
    _expect(
        'state dict',
        [(e.path, id(e.value)) for e in plan.whole.tree.entries],
        [(name, id(value)) for name, value in state.items()],
    )
    loaded_ids = {id(state[name]) for name in file}
    kept = {name for name in state if id(state[name]) in loaded_ids}
    planned: Set[str] = set()
    for index, (pattern, rule) in enumerate(cases):
        matches = [m for m in plan.matches if m.rule.index == index]
        paths = _outermost(model, pattern)
        _expect(f'{rule} matches', {m.path for m in matches}, paths)
        under = {n for n in state if not paths.isdisjoint(_prefixes(n))}
        new = {entry.path for m in matches for entry in m.new}
        _expect(f'{rule} plans', new, under - kept)
        planned |= new
    result.planned = len(planned)

    random_state = torch.get_rng_state()
    report = plan.apply(seed=0)
    _expect('random state', random_state.equal(torch.get_rng_state()), True)
    str(report), report.to_dict()
    for record in report.tensors:
        name, value = record.name, state[record.name]
        if record.origin == 'rule':
            result.written += 1
            _expect(f'{name} was planned', name in planned, True)
            if record.rule == len(cases) - 1:
                _expect(f'{name} is .25', value.eq(0.25).all().item(), True)
        else:
            _expect(f'{name} stays', _same(value, before[name]), True)
            _expect(
                f'origin of {name}',
                record.origin,
                'file' if name in kept else 'built',
            )
    biases = {n for n, _ in model.named_parameters() if _last(n) == 'bias'}
    _expect('biases', set(report.rules[-1].wrote), biases - kept)


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


def _same(a: Tensor, b: Tensor) -> bool:
    """Bit for bit."""
    a, b = a.detach().reshape(-1), b.detach().reshape(-1)
    bits = torch.uint8 if a.element_size() % 4 else torch.int32
    return a.view(bits).equal(b.view(bits))


def _expect(what: str, found: Any, expected: Any) -> None:
    if found == expected:
        return
    if isinstance(found, set):
        found, expected = found - expected, expected - found
    raise AssertionError(f'{what}: {found}, not {expected}'[:500])


def _build(name: str) -> nn.Module:
    """Build a config's model, without weights."""
    with _NoRandomValues(), torch.no_grad():
        return MODELS.build(_model_cfg(name))


class _NoRandomValues(TorchFunctionMode):
    """Writes one value instead of drawing random ones, which is most of the
    time that it takes to build a model.
    """

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: Tuple[Any, ...] = (),
        kwargs: Optional[Dict[str, Any]] = None,
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, '__name__', '') in _RANDOM:
            return (args[0] if args else kwargs['tensor']).fill_(0.125)
        return func(*args, **kwargs)


class _SkipError(Exception):
    """A config that is not there to be built."""


def _model_cfg(name: str) -> ConfigDict:
    if _is_base(name):
        raise _SkipError('a base file, not a whole config')
    cfg = Config.fromfile(_root() / name)
    if 'model' not in cfg:
        raise _SkipError('has no model: a part for other configs')
    return ConfigDict(_without_weights(cfg.model.to_dict()))


def _without_weights(value: Any) -> Any:
    """A config without what loads weights."""
    if isinstance(value, dict):
        if isinstance(value.get('checkpoint'), str):
            return None
        return {
            key: None if key in _LOADING else _without_weights(item)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        items = [(item, _without_weights(item)) for item in value]
        return type(value)(
            new for old, new in items if old is None or new is not None
        )
    return value


def _model_key(name: str) -> str:
    """The same for two configs if their models are."""
    try:
        return repr(_model_cfg(name).to_dict())
    except Exception:
        return name  # it is for `run` to say why


def _reason(error: Exception) -> str:
    if isinstance(error, _SkipError):
        return str(error)
    text = ' '.join(f'{type(error).__name__}: {error}'.split())
    for groups in _PACKAGE.findall(text):
        package = ''.join(groups).lower()
        if importlib.util.find_spec(package) is None:
            return f'{package} is not installed'
    return text.replace(f'{_root()}{os.sep}', '')


def _root() -> Path:
    """The folder that mmdet's configs lie in."""
    spec = importlib.util.find_spec('mmdet')
    return Path(spec.origin).parent / '.mim' / 'configs'


def _is_base(name: str) -> bool:
    return '_base_' in Path(name).parts


@contextmanager
def _time_limit(seconds: int) -> Iterator[None]:
    def stop(*_: Any) -> None:
        raise TimeoutError(f'more than {seconds} s')

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


def _start_worker() -> None:
    def refuse(*_: Any) -> None:
        raise OSError('the sweep works without network')

    socket.socket.connect = refuse
    warnings.simplefilter('ignore')
    torch.set_num_threads(1)
    # Memory that no constructor writes holds NaN, instead of anything.
    torch.use_deterministic_algorithms(True)
    os.chdir(_root().parent)  # some configs name others, from here
    torch.distributed.init_process_group(  # which SyncBN asks for
        'gloo', store=torch.distributed.HashStore(), rank=0, world_size=1
    )
    init_default_scope('mmdet')


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the sweep and print it.

    Returns:
        int: 1 if a config failed for a reason of ours, else 0.
    """
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--sample', type=int, metavar='N', help='only N')
    parser.add_argument('--json', metavar='FILE', help='write results there')
    args = parser.parse_args(argv)
    start = time.perf_counter()
    results = []
    for result in sweep(config_files(args.sample)):
        print(result, flush=True)
        results.append(result)
    seconds = time.perf_counter() - start
    print(f'\n{len(results)} configs in {seconds:.0f} s')
    for status in ('applied', 'skipped', 'failed'):
        some = [r for r in results if r.status == status]
        same = sum(bool(r.same_as) for r in some)
        print(f'{len(some):5} {status}, {same} of them the same as another')
        for reason, count in Counter(r.reason for r in some).most_common():
            if reason:
                print(f'      {count:5} {reason}')
    if args.json:
        with open(args.json, 'w', encoding='utf-8') as file:
            json.dump([asdict(r) for r in results], file, indent=1)
    return int(any(r.status == 'failed' for r in results))


if __name__ == '__main__':
    sys.exit(main())
