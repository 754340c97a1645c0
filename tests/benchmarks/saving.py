"""What it costs to save a report."""

import json
import tempfile
from dataclasses import asdict
from pathlib import Path

from timing import in_turns

from mmpartinit import InitReport
from mmpartinit.report.records import ORIGINS, TensorRecord

TENSORS = 50_000


def report() -> InitReport:
    """One of many tensors of all origins."""
    tensors = []
    for number in range(TENSORS):
        name = f'backbone.layers.{number // 10}.blocks.{number % 10}.weight'
        origin = ORIGINS[number % len(ORIGINS)]
        record = TensorRecord(name, [256, 128, 3, 3], 'float32', origin)
        record.mean, record.std = 1e-7 * number, 0.02 + 1e-7 * number
        tensors.append(record)
    return InitReport(0, tensors, [], [])


def rows():
    """Against the plain way to write dataclasses."""
    subject = report()
    with tempfile.TemporaryDirectory() as folder:
        ours, plain = (str(Path(folder) / name) for name in ('a', 'b'))

        def by_hand():
            text = json.dumps(asdict(subject), indent=1, ensure_ascii=False)
            Path(plain).write_text(text)

        yield in_turns(
            'save',
            f'the report of {TENSORS:,} tensors saved as JSON',
            'json.dumps(dataclasses.asdict(report), indent=1)',
            0.49,
            lambda: subject.save(ours),
            by_hand,
            turns=5,
        )
        saved = json.loads(Path(ours).read_text())
        assert (
            saved['tensors'] == json.loads(Path(plain).read_text())['tensors']
        )
