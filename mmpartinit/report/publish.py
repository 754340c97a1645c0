"""A run's report, where its user looks for it."""

import os.path as osp
from logging import Logger
from typing import Any, Iterable

from mmengine.dist import master_only

from ..errors import Finding, some
from .figure import as_image, draw_report, save_image
from .report import InitReport


@master_only
def publish(
    report: InitReport, folder: str, logger: Logger, visualizer: Any = None
) -> None:
    """Write the report and its figure into a folder, and give the figure to
    a visualizer of MMEngine's, where there is one to see it.

    What fails there is a warning: the weights are right.
    """
    path = osp.join(folder, 'init_report')
    try:
        report.save(f'{path}.json')
        logger.info(f'The origin of each tensor: {path}.json')
        image = as_image(draw_report(report.tensors, report.rules))
        save_image(image, f'{path}.png')
        logger.info(f'As a figure: {path}.png')
        if visualizer is not None:
            visualizer.add_image('init_report', image, step=0)
    except Exception as error:  # a full disk, a backend without images
        logger.warning(
            'Training goes on, but of the report of its start not all was '
            f'written or shown: {type(error).__name__}: {error}'
        )


def log(findings: Iterable[Finding], logger: Logger) -> None:
    """Write findings into a log, each in a line."""
    for finding in findings:
        names = some(finding.names, 5)
        logger.warning(f'{finding}: {names}')
