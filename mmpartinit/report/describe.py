"""What was written, told in the records of a report.

Nothing here writes to a model or judges what was done.
"""

from typing import Dict, Iterable, List, Sequence, Tuple

from torch import Tensor
from torch.nn.parameter import is_lazy

from ..initializers.traits import checkpoint_of
from ..model.origins import Origins
from ..model.tensors import sample, statistics_of_samples
from ..model.values import is_readable
from ..model.whole import WholeModel
from ..rules.matching import Match
from ..rules.rule import Rule
from ..writing.log import WriteLog
from .records import CheckpointRecord, RuleRecord, TensorRecord


def tensor_records(origins: Origins, log: WriteLog) -> List[TensorRecord]:
    """Say of each tensor where its values come from; ``origins`` has every
    name of each one that was loaded or put in.
    """
    sources = {
        (match.rule.index, name): source.path
        for match in log.matches
        if match.sources
        for copy, source in match.copies.items()
        for name in log.tree.with_sharing([copy])
    }
    files = _files_of_rules(log)
    records = []
    for entry in log.tree.entries:
        name = entry.path
        record = TensorRecord(
            name,
            shape_of(entry.value),
            str(entry.value.dtype).replace('torch.', ''),
            origins.of(name),
        )
        if name in log.written:
            record.origin = 'rule'
            record.rule = log.written[name][-1]
            record.source = sources.get((record.rule, name))
            record.file = files.get((record.rule, name)) or None
            known = log.statistics.get(name)
            if known:
                record.mean, record.std = known.mean, known.std
        elif name in origins.files:
            record.file, record.key = origins.files[name]
        records.append(record)
    return records


def _files_of_rules(log: WriteLog) -> Dict[Tuple[int, str], str]:
    """The files that rules took values from, by the rule and what it wrote."""
    files: Dict[Tuple[int, str], str] = {}
    for match, wrote in zip(log.matches, log.wrote):
        # Of an `override`, it is not known which part wrote what.
        loads = [
            '' if 'override' in item.cfg else checkpoint_of(item.initializer)
            for item in match.rule.init_cfg
        ]
        for file, names in zip(loads, wrote) if any(loads) else ():
            for name in log.tree.with_sharing(names):
                files[match.rule.index, name] = file
    return files


def checkpoint_records(origins: Origins) -> List[CheckpointRecord]:
    """Say of each state dict that was loaded what became of it."""
    return [
        CheckpointRecord(
            loaded.path,
            loaded.file,
            loaded.tensors,
            loaded.used,
            [[name, list(a), list(b)] for name, a, b in loaded.shapes],
            list(loaded.unused),
        )
        for loaded in origins.checkpoints
    ]


def rule_records(
    rules: Sequence[Rule], matches: Iterable[Match], log: WriteLog
) -> List[RuleRecord]:
    """Say of each rule what it did."""
    records = {
        rule: RuleRecord(
            rule.index,
            list(rule.paths),
            [str(item) for item in rule.init_cfg],
            rule.copy_from,
        )
        for rule in rules
    }
    for match in matches:
        record = records[match.rule]
        record.matched.append(match.path)
        record.wrote += [
            entry.path
            for entry in match.new
            if match.rule.index in log.written.get(entry.path, ())
        ]
        record.kept += [entry.path for entry in match.kept]
    return list(records.values())


def add_scales(records: Sequence[TensorRecord], whole: WholeModel) -> None:
    """Fill in the mean and standard deviation of what no rule wrote, which
    new values are compared with.

    They are those of at least 1,024 evenly spaced elements (of all in a small
    tensor), so that it costs little in a model of any size. Parameters that
    lie in parts are gathered for it, one unit at a time, so that every
    process has to take part. Lazy and meta tensors are left without, and so
    are integers.
    """
    missing = [
        (entry.value, record)
        for entry, record in zip(whole.tree.entries, records)
        if record.mean is None
    ]
    with whole.bare():
        for there in whole.shards.in_turn(missing):
            there = [pair for pair in there if _has_scale(pair[0])]
            scales = statistics_of_samples([sample(t) for t, _ in there])
            for (_, same), scale in zip(there, scales):
                for record in same:
                    record.mean, record.std = scale


def _has_scale(tensor: Tensor) -> bool:
    return is_readable(tensor) and (
        tensor.is_floating_point() or tensor.is_complex()
    )


def shape_of(tensor: Tensor) -> List[int]:
    """Shape of a tensor; that of a lazy one is not known."""
    return [] if is_lazy(tensor) else list(tensor.shape)
