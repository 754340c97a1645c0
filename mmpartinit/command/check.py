"""Whether the network of a config still computes what it was pretrained to."""

import argparse
import json
from typing import Any, Callable, Dict, Optional, Tuple

from ..errors import some, told
from ..report.report import write_whole
from ..seeding import random_state_kept, seed_everything
from ..start import train_batch
from ..trial.drift import (
    Comparison,
    PartDrift,
    allowed_behind,
    change_ahead,
    compare,
    mark_unsteady,
)
from ..trial.figure import draw_comparison
from ..trial.network import Network, NotRun
from ..trial.parts import (
    Pairs,
    copy_values,
    drawn_in_both,
    loaded_parts,
    new_modules,
    pair_parts,
)
from ..trial.recording import Recording, record
from ..trial.table import comparison_text
from .blocks import blocks_text, check_blocks, gates_ahead
from .look import Look, LookError, look, read_config
from .planning import plan_config

_BATCH = 2
_SEED = 0


def check_config(options: argparse.Namespace, width: int) -> Tuple[str, bool]:
    """Check the config that the command's words name.

    Returns:
        tuple[str, bool]: What to print, in lines of at most ``width``
        characters, and whether all is as it should be.

    Raises:
        LookError: If that cannot be done.
    """
    if options.no_weights:
        raise LookError(
            'nothing is loaded with --no-weights, so that there is nothing '
            'pretrained to compare with'
        )
    check = _beside_base if options.base else _block_by_block
    try:
        with random_state_kept([]):
            seed_everything(_SEED, [])
            return check(options, width)
    except NotRun as error:
        raise LookError(str(error)) from error


def _block_by_block(
    options: argparse.Namespace, width: int
) -> Tuple[str, bool]:
    """Whether each new block leaves what goes through it as it is."""
    if options.figure:
        raise LookError('--figure draws the drift from BASE; name one: --base')
    seen = _loaded(options.config, options.cfg_options)
    network = _network(seen, seen, options.data)
    _start(seen)
    blocks = check_blocks(seen, network, options.tolerance)
    is_fine = all(block.is_fine for block in blocks)
    if options.json:
        found = [block.to_dict() for block in blocks]
        about = dict(config=options.config, same=is_fine, blocks=found)
        _save(options.json, network, about)
    return blocks_text(blocks, _how(network, options.data), width), is_fine


def _beside_base(options: argparse.Namespace, width: int) -> Tuple[str, bool]:
    """Whether each part gives what it gives in the pretrained network."""
    base = _loaded(options.base, options.base_options)
    seen = _loaded(options.config, options.cfg_options)
    # Before rules may write over what was loaded.
    pairs = _pairs(base, seen)
    network = _network(base, seen, options.data)
    theirs = record(network, [pair.base for pair in pairs.both])
    found = _compared(base, seen, network, pairs, theirs)
    ours = network.of(seen.model)
    found.allow(_allowed(seen, ours, found, options.tolerance))
    if found.first is not None:
        change = change_ahead(found)
        shaken = record(network.shaken(change), [p.base for p in pairs.both])
        mark_unsteady(found, theirs, shaken)
    if options.json:
        about = dict(config=options.config, base=options.base)
        _save(options.json, network, {**about, **found.to_dict()})
    if options.figure:
        draw_comparison(found).savefig(options.figure)
    text = comparison_text(found, _how(network, options.data), width)
    return text, found.is_same


def _loaded(name: str, changes: Optional[Dict[str, Any]]) -> Look:
    """The model of a config, with weights."""
    seen = look(read_config(name, changes))
    if not seen.origins.kept:
        raise LookError(
            f'the config {name} loads no weights, so that there is nothing '
            'pretrained to compare'
        )
    return seen


def _pairs(base: Look, seen: Look) -> Pairs:
    trees = base.whole.tree, seen.whole.tree
    theirs, ours = (
        loaded_parts(tree, look.origins.kept)
        for tree, look in zip(trees, (base, seen))
    )
    return pair_parts(trees[0], theirs, trees[1], ours)


def _network(base: Look, seen: Look, data: bool) -> Network:
    """The pretrained network, with what both are run on."""
    if not data:
        return Network(base.model, base.cfg, _SEED)
    if not seen.cfg.get('train_dataloader'):
        raise LookError('the config has no `train_dataloader` for --data')
    try:
        with random_state_kept([]):
            seed_everything(_SEED, [])
            batch = train_batch(seen.cfg, _BATCH, _SEED)
            # Without what it changes at random in training.
            batch = seen.model.data_preprocessor(batch, False)
    except Exception as error:  # anybody's code
        raise LookError(
            f'no batch can be had of `train_dataloader`: {told(error)}'
        ) from error
    return Network(base.model, base.cfg, _SEED, batch)


def _compared(
    base: Look, seen: Look, network: Network, pairs: Pairs, theirs: Recording
) -> Comparison:
    """Compare the model that training would start with, and what it was before
    the rules.
    """
    tree = seen.whole.tree
    parts = [pair.ours for pair in pairs.both]
    drawn = drawn_in_both(base.whole.tree, tree, pairs)
    new = new_modules(tree, pairs, drawn)
    copy_values(drawn)
    ours = network.of(seen.model)
    before = record(ours, parts) if seen.hooks else None
    _start(seen)
    copy_values(drawn)
    return compare(theirs, record(ours, parts, new), pairs, before)


def _start(seen: Look) -> None:
    """Have the rules write to a model, as training would start with it."""
    report = plan_config(seen)
    wrong = [f.message for f in report.findings if f.level == 'error']
    if wrong:
        raise LookError(
            f'the plan has errors, see `mmpartinit plan`: {some(wrong, 1)}'
        )


def _allowed(
    seen: Look,
    network: Network,
    found: Comparison,
    tolerance: Optional[float],
) -> Callable[[PartDrift], float]:
    """How far each part may be: an open gate ahead of it takes a little."""
    if tolerance is not None:
        return lambda part: tolerance
    order = [*found.order, '']
    ahead = dict(zip(order, gates_ahead(seen, network, order)))
    return lambda part: allowed_behind(ahead[part.path])


def _how(network: Network, data: bool) -> str:
    what = 'a batch of the train dataloader' if data else 'a random input'
    return f'{what} of shape {network.shape} ({network.way})'


def _save(path: str, network: Network, found: Dict[str, Any]) -> None:
    """Write all that was found as JSON."""
    run = dict(way=network.way, shape=list(network.shape), seed=network.seed)
    write_whole(path, json.dumps({**run, **found}, indent=1))
