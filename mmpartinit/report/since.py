"""What became of a start by the first iteration.

Other hooks write and freeze after this package's turn: mmdet's
MeanTeacherHook copies the student over the teacher, others freeze a part with
the new modules in it.
"""

from typing import Dict, Iterable, List, Optional

import torch.nn as nn
from torch import Tensor

from ..checks import findings as find
from ..errors import Finding
from ..model.values import Trace, trace
from ..model.whole import WholeModel
from .describe import add_scales
from .report import InitReport

_TRAINS = ('frozen', 'not-optimized')


class LastLook:
    """A look at what rules wrote, once when it is written and once later.

    With several processes, all of them have to take part in both.

    Args:
        model (nn.Module): The model, as it is after the rules.
        report (InitReport): What was done to it.
    """

    def __init__(self, model: nn.Module, report: InitReport) -> None:
        self.report = report
        self._model = model
        self._traces = self._look(WholeModel(model))

    def correct(self, optimized: Iterable[Tensor]) -> List[Finding]:
        """Bring the report to what is there now, and say what has changed.

        Args:
            optimized (Iterable[Tensor]): Every parameter that an optimizer
                updates.
        """
        report, whole = self.report, WholeModel(self._model)
        now = self._look(whole)
        changed = [
            name
            for name, before in self._traces.items()
            if now.get(name) != before
        ]
        text = (
            f'{len(changed)} tensors that rules wrote hold other values when '
            'training starts: something, such as a hook, wrote them since'
        )
        news = find.found('warning', 'changed-since', text, changed)
        written = {
            tensor.name: [tensor.rule]
            for tensor in report.tensors
            if tensor.origin == 'rule' and tensor.rule is not None
        }
        for tensor in report.tensors:
            if tensor.name in changed:
                tensor.origin, tensor.rule, tensor.source = 'code', None, None
                tensor.mean = tensor.std = None
        if changed:
            add_scales(report.tensors, whole)
        trains = find.frozen(whole.tree, written)
        trains += find.not_optimized(whole.tree, written, optimized)
        before = [f for f in report.findings if f.code in _TRAINS]
        news += [finding for finding in trains if finding not in before]
        if news:
            kept = [f for f in report.findings if f.code not in _TRAINS]
            report.findings[:] = [*kept, *news]
            report.findings += [f for f in trains if f not in news]
        return news

    def _look(self, whole: WholeModel) -> Dict[str, Optional[Trace]]:
        wrote = {t.name for t in self.report.tensors if t.origin == 'rule'}
        names: Dict[int, List[str]] = {}
        tensors = []
        for entry in whole.tree.entries:
            if entry.path in wrote:
                names.setdefault(id(entry.value), []).append(entry.path)
                tensors.append(entry.value)
        found: Dict[str, Optional[Trace]] = {}
        with whole.bare():
            for there in whole.shards.in_turn(tensors):
                for tensor in there:
                    for name in names.get(id(tensor), ()):
                        found[name] = trace(tensor)
        return found
