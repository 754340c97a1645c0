"""What of a model does not train: without gradients, and in eval mode."""

from typing import Any, Iterable, List, Set

import torch.nn as nn

from ..checks.frozen import frozen_as_drawn, put_in_and_trained
from ..errors import RuleError, some
from ..model.blocks import outermost_still
from ..model.whole import WholeModel
from ..processes.gradients import mixed_unit, no_freezing
from ..processes.ranks import on_all_ranks
from ..processes.units import original
from ..report.report import InitReport
from ..rules.matching import named_tensors
from .inputs import let_gradients_in

LOADED = 'loaded'
KEY = 'mmpartinit_loaded'  # under which checkpoints have its names


class Freezing:
    """What is frozen, by the entries of ``freeze``.

    With several processes, all of them have to call its methods.

    Args:
        entries (Iterable[str]): ``'loaded'``, and paths as in rules.

    Attributes:
        entries (list[str]): The same, each once.
    """

    def __init__(self, entries: Iterable[str] = ()) -> None:
        self.entries = list(dict.fromkeys(entries))
        self._paths = [entry for entry in self.entries if entry != LOADED]
        self._still: List[nn.Module] = []

    def check(self, whole: WholeModel) -> None:
        """See to it that something can be frozen, and that the paths match.

        Raises:
            RuleError: If the engine does not bear it, or a path matches
                nothing.
        """
        with on_all_ranks():
            problem = no_freezing(whole.model) if self.entries else ''
            if problem:
                raise _wrong(problem)
            named_tensors(whole.tree, self._paths, '`freeze`')

    def start(
        self, whole: WholeModel, report: InitReport, hub: Any = None
    ) -> None:
        """Freeze when a run begins, and add to its report what to see of it.

        Args:
            whole (WholeModel): The model.
            report (InitReport): What decided its values.
            hub (MessageHub, optional): Of the run, for its checkpoints.

        Raises:
            RuleError: If nothing would be frozen, or nothing be left to
                train, or FSDP has put both into one.
        """
        origins = {tensor.name: tensor.origin for tensor in report.tensors}
        loaded = {name for name in origins if origins[name] == 'file'}
        is_asked = LOADED in self.entries
        with on_all_ranks():
            if is_asked and not loaded:
                raise _wrong(
                    'no tensor is from a file, so that nothing is loaded '
                    'that could be frozen; load weights, name in `loaded` '
                    'what was loaded unseen, or give paths'
                )
            frozen = self._freeze(whole, loaded if is_asked else set())
        if is_asked:
            report.findings += put_in_and_trained(whole.tree, origins, frozen)
            if hub is not None:
                hub.update_info(KEY, sorted(loaded))
        report.findings += frozen_as_drawn(
            [
                tensor.name
                for tensor in report.tensors
                if tensor.name in frozen
                and tensor.name in whole.tree.index  # no buffer is
                and tensor.origin == 'built'
                and tensor.std
                and tensor.trains is not False  # said already
            ]
        )

    def resume(self, whole: WholeModel, hub: Any) -> None:
        """Freeze what was frozen when the run began, and what paths name.

        Raises:
            RuleError: As of :meth:`check` and :meth:`start`, or if the
                checkpoint does not say what was loaded when the run began.
        """
        self.check(whole)
        with on_all_ranks():
            loaded = set(hub.runtime_info.get(KEY, ()))
            loaded &= {entry.path for entry in whole.tree.entries}
            if LOADED in self.entries and not loaded:
                raise _wrong(
                    'the checkpoint to resume from does not say what was '
                    "loaded when its run began, which was without 'loaded'; "
                    'give paths, or start anew: load_from in place of resume'
                )
            self._freeze(whole, loaded if LOADED in self.entries else set())

    def hold(self) -> None:
        """Have what is frozen in eval mode, before an iteration."""
        for module in self._still:
            if module.training:
                module.eval()

    def _freeze(self, whole: WholeModel, loaded: Set[str]) -> Set[str]:
        """Freeze loaded tensors and what paths name; gives all names."""
        if not self.entries:
            return set()
        tree = whole.tree
        names = loaded | named_tensors(tree, self._paths, '`freeze`')
        names = tree.with_sharing(names)
        weights = {
            entry.path: entry.value
            for entry in tree.entries
            if entry.is_parameter
        }
        trains = {n for n, tensor in weights.items() if tensor.requires_grad}
        problem = mixed_unit(weights, names)
        if names.isdisjoint(weights):
            problem = f'there are no parameters in {some(self.entries, 5)}'
        elif names >= trains:
            problem = 'nothing is left to train; name less'
        if problem:
            raise _wrong(problem)
        for name in names & weights.keys():
            for tensor in (weights[name], original(weights[name])):
                tensor.requires_grad_(False)
                # One that is left would move it once, by any optimizer.
                tensor.grad = None
        self._still = outermost_still(tree, names)
        let_gradients_in(whole.model)
        return names


def _wrong(text: str) -> RuleError:
    return RuleError.of('freeze', f'`freeze`: {text}')
