"""What a run of MMEngine logged, over all of its starts."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


class Record(NamedTuple):
    """A line of ``scalars.json``: iterations done, whether of training or validation, figures."""

    iteration: int
    training: bool
    figures: dict[str, float]

    def get(self, name: str) -> float | None:
        return self.figures.get(name)


def read_history(
    work_dir: str | Path, iterations_per_epoch: int | None, resumed_at: int | None = None
) -> list[Record]:
    """Read ``WORK_DIR/TIME/vis_data/scalars.json`` of every start, in the order of logging.

    MMEngine's ``LocalVisBackend`` writes these files. What a start repeats, from an earlier
    checkpoint on, replaces what was logged before.

    Args:
        iterations_per_epoch: of a run that counts epochs; None if it counts iterations.
        resumed_at: iterations done when the last start began, 0 drops all before; None: not known.
    """
    files = sorted(Path(work_dir).glob('*/vis_data/scalars.json'))
    history: list[Record] = []
    for file in files:
        records = list(_records(file, iterations_per_epoch))
        begin = min((r.iteration for r in records if r.training), default=None)
        if file == files[-1] and resumed_at is not None:
            begin = resumed_at + 1 if resumed_at else 0
        if begin is not None:
            history = [r for r in history if r.iteration < begin]
        history += records
    return history


def _records(file: Path, iterations_per_epoch: int | None) -> Iterator[Record]:
    last = 0
    for line in file.read_text('utf-8').splitlines():
        try:
            found = json.loads(line)
        except json.JSONDecodeError:
            continue  # the line that was being written when the process was killed
        figures = {k: float(v) for k, v in found.items() if isinstance(v, int | float)}
        if 'iter' in found:
            last = int(found['iter'])
            yield Record(last, True, figures)
        elif iterations_per_epoch is not None:
            yield Record(int(found['step']) * iterations_per_epoch, False, figures)
        else:  # MMEngine gives the epoch, 0, unless LoggerHook(log_metric_by_epoch=False)
            yield Record(max(int(found['step']), last), False, figures)
