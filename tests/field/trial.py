"""One config, tried: blocks put into its model, and all that must hold."""

import io
import logging
import random
import re
import time
import traceback
import warnings
from collections import OrderedDict
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, Iterator, List, Set, Tuple

import numpy as np
import torch
import torch.nn as nn
from blocks import NEW, layers_of
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import load_checkpoint
from packages import PACKAGES, model_cfg, read, reason
from patterns import check_patterns, expect, same
from start import no_start, started
from torch import Tensor

from mmpartinit import InitReport, init_modules, plan_init, record_loads
from mmpartinit.command import paste
from mmpartinit.command.check import check_config
from mmpartinit.command.look import Look, LookError, look, read_config
from mmpartinit.command.planning import plan_config
from mmpartinit.command.suggest import Suggester
from mmpartinit.command.words import build_parser
from mmpartinit.start import build_model, init_model

_LEFT_OUT = 7  # one tensor in so many is in no file
_RAN, _NOT_RUN, _DIFFERS = 'ran', 'not run', 'differs'


@dataclass
class Result:
    """What became of one config.

    Attributes:
        package (str): Its package.
        config (str): Its name, relative to the package's folder of configs.
        status (str): ``'ran'``, ``'not run'`` or ``'differs'``.
        reason (str): Why it was not run.
        differences (list[str]): What does not hold.
        added (list[str]): Tensors whose values depend on what was there, by
            upstream's own code.
        check (str): Why its network was not checked; '' where it was.
        start (str): Why no Runner starts it; '' where one does.
        tensors (int): Entries of the state dict.
        from_file (int): How many of them a file decides.
        rules (int): How many rules were suggested.
        wrote (int): How many tensors they wrote.
        seconds (float): How long it took.
        same_as (str): The config that has the same model, if one came before;
            the rest is that one's then.
    """

    package: str
    config: str
    status: str = _NOT_RUN
    reason: str = ''
    differences: List[str] = field(default_factory=list)
    added: List[str] = field(default_factory=list)
    check: str = ''
    start: str = ''
    tensors: int = 0
    from_file: int = 0
    rules: int = 0
    wrote: int = 0
    seconds: float = 0.0
    same_as: str = ''

    def __str__(self) -> str:
        text = f'{self.package} {self.config}: {self.status}'
        if self.same_as:
            return f'{text}, same model as {self.same_as}'
        text += f', {self.seconds:.0f} s'
        if self.tensors:
            text += (
                f', {self.tensors} tensors, {self.from_file} from the file, '
                f'{self.rules} rules wrote {self.wrote}'
            )
        for what, why in (('check', self.check), ('start', self.start)):
            text += f'; no {what}: {why}' if why else ''
        if self.added:
            text += f'; added to what was there: {", ".join(self.added)}'
        text += f' ({self.reason})' if self.reason else ''
        return '\n    '.join([text, *self.differences])


class Trial:
    """A config in a folder, step by step."""

    def __init__(self, result: Result, folder: Path, seed: int) -> None:
        self.result, self.folder, self.seed = result, folder, seed
        self.files = [str(folder / f'{name}.pth') for name in 'ab']
        self.names: Set[str] = set()  # what record_loads says

    def run(self) -> None:
        """Do all that there is to do; what does not hold is in the result."""
        self.prepare()
        self.result.status = _RAN
        for step in (
            self.plan_from_config,
            self.plan_by_functions,
            self.start_runner,
            self.check_network,
            self.write_all,
        ):
            try:
                step()
            except Exception as error:
                text = f'{type(error).__name__}: {error}'[:500]
                if 'allocate memory' in text or isinstance(error, MemoryError):
                    self.result.status = _NOT_RUN
                    self.result.reason = 'takes more memory than it has'
                    break
                traceback.print_exc()
                self.result.differences.append(f'{step.__name__}: {text}')
                break
        if self.result.differences:
            self.result.status = _DIFFERS

    def holds(self, what: str, found: Any, expected: Any) -> None:
        """Note a difference, where there is one."""
        try:
            expect(what, found, expected)
        except AssertionError as error:
            self.result.differences.append(str(error))

    def prepare(self) -> None:
        """Build the model and make two files for it, which tell what a file
        decides. What goes wrong here is upstream's.
        """
        cfg = read(self.result.package, self.result.config)
        cfg.model = model_cfg(self.result.package, cfg)
        cfg.model.update(type='grown', of=cfg.model.type)
        cfg.model.grown_seed = self.seed
        cfg.load_from, cfg.resume = self.files[0], False
        cfg.randomness = dict(seed=self.seed)
        self.config = self.folder / 'config.py'
        self.config.write_text(_as_text(cfg))
        self.cfg = Config.fromfile(self.config)
        init_default_scope(self.cfg.get('default_scope') or 'mmengine')
        torch.manual_seed(1)
        self.model = self.made()
        self.built = _copied(self.model)
        for number, file in enumerate(self.files):
            self.make_file(file, number)
        self.load(self.model, self.files[1])
        other = _copied(self.model)
        with record_loads(self.model) as self.names:
            self.load(self.model, self.files[0])
        self.state = _copied(self.model)
        self.by_file = {
            name
            for name, value in self.state.items()
            if not same(value, other[name])
        }
        self.result.tensors = len(self.state)
        self.result.from_file = len(self.by_file)

    def made(self) -> nn.Module:
        """The model before anything is loaded."""
        model = build_model(self.cfg)
        init_model(model)
        return model

    def load(self, model: nn.Module, file: str) -> None:
        """Load a file as a Runner does."""
        load_checkpoint(model, file, 'cpu', logger='current')

    def loaded(self) -> nn.Module:
        """The model with the first file in it."""
        model = self.made()
        self.load(model, self.files[0])
        return model

    def make_file(self, file: str, number: int) -> None:
        """Write most of what the model had before its new blocks; one layer
        has another size.
        """
        draw = torch.Generator().manual_seed(number)
        state = self.model.state_dict()
        names = [name for name in state if NEW not in name]
        left_out = self.seed % _LEFT_OUT
        kept: Dict[str, Tensor] = OrderedDict(
            (name, _changed(state[name], name, number, draw))
            for place, name in enumerate(names)
            if place % _LEFT_OUT != left_out
        )
        resized = random.Random(self.seed).choice(layers_of(self.model))
        for name in (f'{resized}.weight', f'{resized}.bias'):
            if name in kept:
                kept[name] = torch.cat([kept[name], kept[name][:1]])
        kept._metadata = state._metadata
        torch.save(dict(state_dict=kept, meta={}), file)

    def plan_from_config(self) -> None:
        """What `mmpartinit suggest` and `plan` say of it."""
        seen = look(read_config(str(self.config)))
        self.check_origins('look', seen)
        with self.untouched('suggest'):
            text, suggester, told = _suggested(seen)
        rules = [s.rule for s in told if s.path and not s.is_advice]
        scope: Dict[str, Any] = {}
        exec(text, scope)
        self.modules = (scope.get('custom_hooks') or [{}])[-1].get(
            'modules', []
        )
        self.result.rules = len(rules)
        self.holds('rules from text', self.modules, rules)
        parameters = dict(seen.model.named_parameters(remove_duplicate=False))
        asked = (suggester.names - suggester.left) & parameters.keys()
        del seen, suggester

        self.pasted = self.folder / 'pasted.py'
        self.pasted.write_text(f'{self.config.read_text()}\n{text}\n')
        seen = look(read_config(str(self.pasted)))
        with self.untouched('plan'):
            self.report = plan_config(seen)
        self.planned = _copied(seen.model)
        wrong = [
            finding.message
            for finding in self.report.findings
            if finding.level == 'error' or finding.code == 'rewritten'
        ]
        self.holds('wrong in the plan', wrong, [])
        self.wrote = {n for rule in self.report.rules for n in rule.wrote}
        self.result.wrote = len(self.wrote)
        self.holds('suggested and not written', asked - self.wrote, set())
        self.nothing_loaded_changed('plan', self.planned)
        path = str(self.folder / 'report.json')
        self.report.save(path)
        again = InitReport.load(path)
        self.holds('report read', again.to_dict(), self.report.to_dict())
        self.holds('text of it', again.text(), self.report.text())

    def check_origins(self, what: str, seen: Look) -> None:
        """Whether what is said of origins is so."""
        origins, state = seen.origins, _copied(seen.model)
        self.holds(f'{what}: from files', set(origins.files), self.by_file)
        put_in = origins.code - origins.drawn.keys()
        self.holds(
            f'{what}: put in, but another value in another start',
            {n for n in put_in if not same(state[n], self.built[n])},
            set(),
        )
        self.kept = origins.kept

    def plan_by_functions(self) -> None:
        """The same with the functions for other trainers, on another model
        and by a second start alone.
        """
        with self.untouched('plan_init'):
            plan = plan_init(self.model, self.modules, build=self.loaded)
        self.holds('second start: kept', plan.origins.kept, self.kept)
        tree = plan.whole.tree
        names = tree.with_sharing(self.names)
        self.holds('record_loads', names, self.by_file)
        preview = plan.preview()
        with self.untouched('apply'):
            report = plan.apply(self.seed)
        for rule, planned, found in zip(
            plan.rules, preview.rules, report.rules
        ):
            wrote, may = set(found.wrote), set(planned.wrote)
            is_known = all(item.writes for item in rule.init_cfg)
            self.holds(f'{rule} planned', wrote if is_known else may, may)
            self.holds(f'{rule} beyond its plan', wrote - may, set())
        self.agrees('apply', report, _copied(self.model))

    def agrees(
        self, what: str, report: InitReport, state: Dict[str, Tensor]
    ) -> None:
        """Whether what was done is what `mmpartinit plan` says, values and
        all.
        """
        for rule, planned in zip(report.rules, self.report.rules):
            self.holds(f'{what}: rule', vars(rule), vars(planned))
        told, found = (
            {t.name: (t.origin, t.rule) for t in r.tensors}
            for r in (self.report, report)
        )
        self.holds(f'{what}: origins', set(found.items()), set(told.items()))
        other = {n for n in self.wrote if not same(state[n], self.planned[n])}
        adds = PACKAGES[self.result.package].adds
        added = {name for name in other if re.fullmatch(adds, name)}
        self.result.added = sorted(added)
        other -= added
        self.holds(f'{what}: other values by the same seed', other, set())
        self.nothing_loaded_changed(what, state)

    def nothing_loaded_changed(
        self, what: str, state: Dict[str, Tensor]
    ) -> None:
        """Whether loaded tensors are as they were, bit for bit."""
        changed = {
            n for n in self.by_file if not same(state[n], self.state[n])
        }
        self.holds(f'{what}: loaded and changed', changed, set())

    def start_runner(self) -> None:
        """What a real start does, up to the first iteration."""
        cfg = Config.fromfile(self.pasted)
        cfg.work_dir = str(self.folder / 'work')
        try:
            report, state = started(cfg)
        except Exception as error:
            plain = Config.fromfile(self.config)
            plain.work_dir = cfg.work_dir
            why = no_start(plain)
            if not why:
                raise
            self.result.start = reason(why, self.result.package)
            del error
            return
        self.agrees('start', report, state)
        codes = [[f.code for f in r.findings] for r in (report, self.report)]
        self.holds('findings at the start', *codes)

    def check_network(self) -> None:
        """`mmpartinit check`, where the network can be run."""
        words = build_parser().parse_args(['check', str(self.pasted)])
        try:
            with self.untouched('check'):
                check_config(words, 100)
        except LookError as error:
            if 'cannot be run' not in str(error):
                raise
            self.result.check = str(error)[:300]

    def write_all(self) -> None:
        """Rules that would write everything leave what was loaded."""
        kept = set(self.kept)
        check_patterns(self.model, kept)
        rule = dict(path='**', init_cfg=dict(type='Apply', fn=_overwrite))
        init_modules(self.model, [rule], loaded=kept)
        state = _copied(self.model)
        self.nothing_loaded_changed('all', state)
        other = {n for n in state.keys() - kept if not (state[n] == 1).all()}
        self.holds('all: new and not written', other, set())

    @contextmanager
    def untouched(self, what: str) -> Iterator[None]:
        """See that the random state stays as it is."""
        before = _random_state()
        yield
        is_same = _random_state() == before
        self.holds(f'{what}: random state untouched', is_same, True)


def try_config(
    result: Result, folder: Path, seed: int, paths: bool = False
) -> Result:
    """Try one config; gives the result, filled in. With ``paths``, it is rules
    on paths alone.
    """
    begun = time.perf_counter()
    logging.disable(logging.CRITICAL)
    with redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        try:
            if paths:
                _try_paths(result)
            else:
                Trial(result, folder, seed).run()
        except Exception as error:  # upstream's code
            result.reason = reason(error, result.package)
    result.seconds = time.perf_counter() - begun
    return result


def _try_paths(result: Result) -> None:
    """Load half of a model as it is, and let rules write the rest."""
    cfg = read(result.package, result.config)
    cfg.model = model_cfg(result.package, cfg)
    init_default_scope(cfg.get('default_scope') or 'mmengine')
    model = build_model(cfg)
    state = _copied(model)
    result.status, result.tensors = _RAN, len(state)
    half = {name: state[name] for name in list(state)[::2]}
    result.from_file = len(half)
    result.check = result.start = 'not tried'
    try:
        with record_loads(model) as loaded:
            model.load_state_dict(half, strict=False)
        expect('loaded', loaded & half.keys(), set(half))
        check_patterns(model, loaded)
    except Exception as error:
        traceback.print_exc()
        result.differences.append(f'{type(error).__name__}: {error}'[:500])
        result.status = _DIFFERS


def _suggested(seen: Look) -> Tuple[str, Suggester, List[Any]]:
    """What `suggest` prints, and what it printed that from."""
    found: List[Any] = []

    class Kept(Suggester):
        def suggest(self) -> List[Any]:
            told = super().suggest()
            found.extend([self, told])
            return told

    paste.Suggester = Kept
    try:
        text = paste.suggest(seen)
    finally:
        paste.Suggester = Suggester
    return (text, *found)


def _as_text(cfg: Config) -> str:
    """A config as a file, without yapf, which takes seconds."""
    keys = [f'{key} = {value!r}\n' for key, value in cfg.to_dict().items()]
    text = ''.join(keys)
    used = [name for name in ('inf', 'nan') if re.search(rf'\b{name}\b', text)]
    return ''.join(f'{name} = float({name!r})\n' for name in used) + text


def _copied(model: nn.Module) -> Dict[str, Tensor]:
    state = model.state_dict().items()
    return {name: value.detach().clone() for name, value in state}


def _changed(
    value: Tensor, name: str, number: int, draw: torch.Generator
) -> Tensor:
    """Other values of the same size, by the number of a file."""
    value = value.detach().clone()
    if value.dtype == torch.bool:
        return ~value if number else value
    if not value.is_floating_point():
        return value + number
    noise = torch.randn(value.shape, generator=draw)
    value += noise * (0.05 * value[value.isfinite()].std(False) + 0.01)
    return value.abs() if 'var' in name else value


def _overwrite(module: nn.Module) -> None:
    """Write all that there is, past torch's functions."""
    for tensor in [*module._parameters.values(), *module._buffers.values()]:
        if tensor is not None:
            tensor.data.fill_(1)


def _random_state() -> Tuple[Any, ...]:
    name, keys, *rest = np.random.get_state()
    torch_state = torch.get_rng_state().numpy().tobytes()
    return random.getstate(), name, keys.tobytes(), rest, torch_state
