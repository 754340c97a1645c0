"""What became of a start by the first iteration.

Other hooks write and freeze after this package's turn: mmdet's
MeanTeacherHook copies the student over the teacher, others freeze a part with
the new modules in it.
"""

from typing import Any, Dict, Iterable, List, Optional

import torch.nn as nn

from ..checks import findings as find
from ..errors import Finding
from ..model.values import Trace, trace
from ..model.whole import WholeModel
from .describe import add_scales
from .report import InitReport
from .training import see_training


class LastLook:
    """A look at what rules wrote, once when it is written and once later.

    With several processes, all of them have to take part in both.

    Args:
        model (nn.Module): The model, as it is after the rules.
        report (InitReport): What was done to it.

    Attributes:
        report (InitReport): The same, as it was corrected.
        has_changed (bool): Whether there was something to correct.
    """

    def __init__(self, model: nn.Module, report: InitReport) -> None:
        self.report = report
        self.has_changed = False
        self._model = model
        self._traces = self._look(WholeModel(model))

    def correct(self, optimized: Iterable[Dict[str, Any]]) -> List[Finding]:
        """Bring the report to what is there now, and say what has changed.

        Args:
            optimized (Iterable[dict]): The parameter groups of the optimizers.
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
        report.findings += news
        for tensor in report.tensors:
            if tensor.name in changed:
                tensor.origin, tensor.rule = 'code', None
                tensor.source = tensor.file = None
                tensor.mean = tensor.std = None
        if changed:
            add_scales(report.tensors, whole)
        trained = [tensor.trains for tensor in report.tensors]
        news += see_training(report, whole.tree, optimized)
        trains = [tensor.trains for tensor in report.tensors]
        self.has_changed = bool(news) or trains != trained
        return news

    def _look(self, whole: WholeModel) -> Dict[str, Optional[Trace]]:
        wrote = {t.name for t in self.report.tensors if t.origin == 'rule'}
        tensors = [
            (entry.value, entry.path)
            for entry in whole.tree.entries
            if entry.path in wrote
        ]
        found: Dict[str, Optional[Trace]] = {}
        with whole.bare():
            for there in whole.shards.in_turn(tensors):
                for tensor, names in there:
                    found.update(dict.fromkeys(names, trace(tensor)))
        return found
