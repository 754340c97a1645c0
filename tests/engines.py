"""Training on several processes, under each engine; started by torchrun.

Run as a script, this is one process of such runs; :func:`launch` starts all of
them, and :func:`results` gives what each rank's model and report were.
"""

import copy
import functools
import importlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

if __name__ == '__main__':  # be the module that the others import
    from engines import main

    sys.exit(main(*sys.argv[1:]))

import torch
import torch.distributed as dist
import torch.nn as nn
from mmengine.config import Config
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import FUNCTIONS, HOOKS, MODELS, OPTIM_WRAPPERS
from mmengine.runner import Runner, load_checkpoint
from mmengine.runner._flexible_runner import FlexibleRunner
from toy import Block, ToyModel, runner_cfg
from ways import make, make_seeded, same_bits, tensors

from mmpartinit import RuleError, init_modules, record_loads
from mmpartinit.processes import ranks

# The two measures that mmengine's `init_dist` needs without CUDA: this, and
# `device_ids=None` or a CPU `device_id` for the wrappers below.
if not torch.cuda.is_available():
    torch.cuda.set_device = lambda device: None

HALF = dict(enabled=True)
DDP = dict(type='MMDistributedDataParallel', device_ids=None)
FSDP = dict(
    type='MMFullyShardedDataParallel',
    device_id=torch.device('cpu'),
    auto_wrap_policy='wrap_blocks',
)
ADAM = dict(optimizer=dict(type='Adam', lr=0.01))


def use_deepspeed():
    """What the engines named zero need; the others run without DeepSpeed."""
    from mmengine._strategy import deepspeed

    @OPTIM_WRAPPERS.register_module(force=True)
    class NoGradStep(deepspeed.DeepSpeedOptimWrapper):
        """Lets DeepSpeed's stages 1 and 2 step on the CPU: there, torch 2.13
        gathers by writing into views, which autograd does not allow."""

        def step(self, **kwargs):
            with torch.no_grad():
                super().step(**kwargs)

    # A strategy registers its optimizers, once more for each run.
    register = deepspeed.register_deepspeed_optimizers
    deepspeed.register_deepspeed_optimizers = functools.lru_cache(register)


@FUNCTIONS.register_module()
def wrap_blocks(module, recurse, nonwrapped_numel):
    """FSDP units: each block, and what is left."""
    return recurse or isinstance(module, Block)


def fsdp(**wrapper):
    return dict(
        type='FSDPStrategy',
        model_wrapper=dict(FSDP, **wrapper),
        state_dict_cfg='full',
    )


def zero(stage, **strategy):
    return dict(
        strategy=dict(
            type='DeepSpeedStrategy',
            # Stage 3 would leave small parameters whole.
            zero_optimization=dict(
                stage=stage, stage3_param_persistence_threshold=0
            ),
            train_micro_batch_size_per_gpu=8,
            **strategy,
        ),
        optim_wrapper=dict(ADAM, type='NoGradStep'),
    )


ENGINES = dict(
    one=dict(),
    ddp=dict(model_wrapper_cfg=DDP),
    ddp_rank_seeds=dict(
        model_wrapper_cfg=DDP, randomness=dict(seed=3, diff_rank_seed=True)
    ),
    flexible_ddp=dict(strategy=dict(type='DDPStrategy', model_wrapper=DDP)),
    fsdp_flat=dict(strategy=fsdp(use_orig_params=False)),
    fsdp_orig=dict(strategy=fsdp(use_orig_params=True)),
    fsdp_one_unit=dict(strategy=fsdp(auto_wrap_policy=None)),
    zero1=zero(1),
    zero2=zero(2),
    zero3=zero(3),
    zero0_bf16=zero(0, bf16=HALF, inputs_to_half=['inputs']),
    zero1_bf16=zero(1, bf16=HALF, inputs_to_half=['inputs']),
    zero3_bf16=zero(3, bf16=HALF, inputs_to_half=['inputs']),
)


def odd(module):
    """A function of the user's own, for `Apply`."""
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight)
        module.weight.data[0, 0] = 7.0


def reads_rank(module):
    """One that gives each rank other values."""
    if isinstance(module, nn.Linear):
        nn.init.constant_(module.bias, float(get_rank()))


def fails_on_rank_1(module):
    if get_rank() == 1:
        raise FloatingPointError('no luck here')


def writes_unevenly(module):
    if isinstance(module, nn.Linear):
        nn.init.constant_(module.weight, 1.0)
        wants = module.out_features == 2  # the first on rank 0 only
        if wants == (get_rank() == 0):
            nn.init.constant_(module.bias, 5.0)


# Of every kind, and over pretrained layers as well.
RULES = [
    dict(path='backbone.layer1', init_cfg=dict(type='Xavier', layer='Linear')),
    dict(
        path='backbone.layer2.*.se',
        init_cfg=[
            dict(type='TruncNormal', layer='Linear', std=0.02),
            dict(type='Constant', layer='LayerNorm', val=0.5, bias=0.25),
        ],
    ),
    dict(path='backbone.**.se.fc2', init_cfg=dict(type='Normal', std=0.1)),
    dict(path='backbone.gamma', init_cfg=dict(type='Uniform')),
    dict(path='neck.adapter', init_cfg=dict(type='InitWeights')),
    dict(
        path=['neck.adapter.up', 'head'],
        init_cfg=dict(type='Apply', fn='engines.odd'),
    ),
    dict(path='backbone.layer2.1.se', copy_from='backbone.layer2.0.se'),
    dict(
        path='backbone.stem',
        init_cfg=dict(type='Constant', val=2.0),
        overwrite=True,
    ),
]


@HOOKS.register_module()
class WholeState(Hook):
    """Keeps the whole model as it is at the start, after one step, and at
    the end."""

    priority = 'LOWEST'

    def before_train(self, runner) -> None:
        self.start = whole_state(runner.model)

    def after_train_iter(self, runner, batch_idx, **kwargs) -> None:
        if batch_idx == 0 and not hasattr(self, 'after'):
            self.after = whole_state(runner.model)

    def after_train(self, runner) -> None:
        self.end = whole_state(runner.model)


def whole_state(model):
    """The state dict of the model within, in full on every rank."""
    from torch.distributed.fsdp import FullyShardedDataParallel

    if isinstance(model, FullyShardedDataParallel):
        with FullyShardedDataParallel.summon_full_params(
            model, writeback=False
        ):
            return _tensors(model)
    return _tensors(getattr(model, 'module', model))


def _tensors(module):
    wrapped = '_fsdp_wrapped_module.'
    named = [*module.named_parameters(), *module.named_buffers()]
    return {
        name.replace(wrapped, ''): _whole(tensor) for name, tensor in named
    }


def _whole(tensor):
    if hasattr(tensor, 'full_tensor'):
        return tensor.detach().full_tensor().clone()
    if not hasattr(tensor, 'ds_id'):
        return tensor.detach().clone()
    import deepspeed

    with deepspeed.zero.GatheredParameters([tensor]):
        return tensor.detach().clone()


@HOOKS.register_module()
class LosesFolder(Hook):
    """Leaves rank 0 nowhere to write its report."""

    priority = 'HIGHEST'

    def before_train(self, runner) -> None:
        if get_rank() == 0:
            runner._log_dir = 'a/folder/that/is/not/there'


@HOOKS.register_module()
class LosesGamma(Hook):
    """Takes a parameter away on rank 1."""

    priority = 'HIGHEST'

    def before_train(self, runner) -> None:
        if get_rank() == 1:
            del runner.model.module.backbone.gamma


@MODELS.register_module()
class Loads(ToyModel):
    """Loads when it is built; a second time, it may fail on one rank, with no
    barrier behind.
    """

    made = []

    def __init__(self, path, fails_on=None) -> None:
        super().__init__()
        load_checkpoint(self, path, logger='silent')
        if fails_on in self.made and get_rank() == fails_on:
            raise RuntimeError('not on this rank')
        self.made.append(fails_on)


def build(engine, folder, changes):
    cfg = runner_cfg(folder)
    hook = dict(type='CustomModuleInitHook', modules=RULES)
    cfg.update(
        custom_hooks=[hook, dict(type='WholeState')],
        optim_wrapper=copy.deepcopy(ADAM),
        train_cfg=dict(by_epoch=True, max_epochs=1),
        default_hooks=dict(checkpoint=None),
    )
    for key in ('val', 'test'):
        for name in (f'{key}_dataloader', f'{key}_cfg', f'{key}_evaluator'):
            cfg.pop(name)
    cfg.update(copy.deepcopy(ENGINES[engine]))
    if engine != 'one':
        cfg['launcher'] = 'pytorch'
    changes = dict(changes)
    hook['modules'] = changes.pop('modules', RULES)
    hook.update(changes.pop('keys', {}))
    cfg['custom_hooks'] += changes.pop('hooks', [])
    cfg.update(changes)
    runner = FlexibleRunner if 'strategy' in cfg else Runner
    return runner.from_cfg(Config(cfg))


def train(engine, folder, changes):
    """Train, and give what came of it."""
    sent = []

    def spy(tensor, *args, **kwargs):
        sent.append(tensor.numel() * tensor.element_size())
        return broadcast(tensor, *args, **kwargs)

    broadcast, ranks.broadcast = ranks.broadcast, spy
    caught = () if changes.pop('crash', False) else (RuleError, OSError)
    runner = build(engine, folder, changes)
    try:
        runner.train()
    except caught as error:
        return dict(error=str(error), sent=sent)
    finally:
        ranks.broadcast = broadcast
    kept = {type(hook).__name__: hook for hook in runner.hooks}
    report = kept['CustomModuleInitHook'].report
    return dict(
        start=kept['WholeState'].start,
        after=kept['WholeState'].after,
        end=kept['WholeState'].end,
        report=report.to_dict() if report else None,  # not after a resume
        sent=sent,
    )


def fully_sharded(weights):
    """FSDP2, which MMEngine has no strategy for, through `init_modules`."""
    from torch.distributed.fsdp import fully_shard

    torch.manual_seed(0)
    model = ToyModel()
    with record_loads(model) as loaded:
        load_checkpoint(model, weights)
    if dist.is_initialized():
        for module in model.modules():
            if isinstance(module, Block):
                fully_shard(module)
        fully_shard(model)
        model.eval()(torch.ones(8, 4))  # leaves the outer parameters whole
    report = init_modules(model, RULES, loaded=loaded, seed=3)
    return dict(start=_tensors(model), report=report.to_dict())


def by_ways(path, names, wrap):
    """Every way of loading, the model wrapped on each rank: what is said of
    it, and what a rule that reaches everything changes.
    """
    from torch.distributed.fsdp import FullyShardedDataParallel
    from torch.nn.parallel import DistributedDataParallel

    # Importing them makes the ways known.
    for file in ('ways_whole', 'ways_modules', 'ways_changed', 'ways_without'):
        importlib.import_module(file)
    kept = {}
    for name in names:
        model = make_seeded(name, path, 1)
        before = tensors(model)
        try:
            if wrap == 'ddp':
                model = DistributedDataParallel(model)
            else:
                model = FullyShardedDataParallel(
                    model, device_id=torch.device('cpu'), use_orig_params=True
                )
        except (RuntimeError, ValueError, TypeError) as error:
            kept[name] = str(error)  # that engine does not take it
            continue
        report = init_modules(
            model,
            [
                dict(
                    path='**',
                    init_cfg=dict(type='Apply', fn='ways.everywhere'),
                )
            ],
            build=functools.partial(make, name, path),
        )
        plan = {tensor.name: tensor.origin for tensor in report.tensors}
        after = whole_state(model)
        changed = [
            key
            for key in before
            if key in after and not same_bits(before[key], after[key])
        ]
        kept[name] = dict(origins=plan, changed=changed, by=report.known_by)
    return kept


def main(engine, folder, runs):
    """Be one process of some runs, one after the other."""
    if engine.startswith('zero'):
        use_deepspeed()
    if engine in ('fsdp2', 'ways'):
        dist.init_process_group('gloo')
    for name, changes in json.loads(runs).items():
        place = Path(folder) / name
        if engine.startswith('fsdp2'):
            kept = fully_sharded(**changes)
        elif engine == 'ways':
            kept = by_ways(**changes)
        else:
            kept = train(engine, place, changes)
        place.mkdir(parents=True, exist_ok=True)
        torch.save(kept, place / f'rank{get_rank()}.pt')
    if dist.is_initialized():
        dist.barrier()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # gloo's threads may abort an orderly exit


def launch(engine, processes, folder, **runs):
    """Run an engine on so many processes.

    Args:
        engine (str): One of ``ENGINES``, or ``'fsdp2'``, or
            ``'fsdp2_not'`` for the same on one process, or ``'ways'``.
        processes (int): How many.
        folder (Path): For what they leave.
        **runs (dict): By name, what to change in the Runner's config.

    Returns:
        subprocess.CompletedProcess: With what they printed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    job = [__file__, engine, str(folder), json.dumps(runs)]
    if processes > 1:
        job = [
            *('-m', 'torch.distributed.run', '--nproc-per-node'),
            *(str(processes), '--master-port', str(_free_port())),
            *job,
        ]
    env = dict(
        os.environ,
        OMP_NUM_THREADS='1',
        DS_ACCELERATOR='cpu',
        PYTHONPATH=os.pathsep.join(sys.path),
    )
    return subprocess.run(
        [sys.executable, *job],
        capture_output=True,
        text=True,
        timeout=1800,  # ranks that wait for each other wait for ever
        env=env,
    )


def _free_port():
    with socket.socket() as found:
        found.bind(('localhost', 0))
        return found.getsockname()[1]


def results(folder, processes, run='plain'):
    """What each rank left of a run."""
    return [
        torch.load(folder / run / f'rank{rank}.pt', weights_only=False)
        for rank in range(processes)
    ]
