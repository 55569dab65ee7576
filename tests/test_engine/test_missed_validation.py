import json
from pathlib import Path

import pytest

from mmebm.engine import MissedValidationHook, ReproducibleEpochsHook
from tests.test_engine.conftest import Nothing


class Score(Nothing):
    """Falls from one validation to the next; stops the run at one, before it is finished."""

    def __init__(self, stop_at=None):
        super().__init__()
        self.validations, self.stop_at = 0, stop_at

    def compute_metrics(self, results):
        self.validations += 1
        if self.validations == self.stop_at:
            raise KeyboardInterrupt
        return dict(score=len(results))


@pytest.fixture
def train(make_runner):
    def run(name, metric, hooks=(), **options):
        runner = make_runner(
            [ReproducibleEpochsHook(), *hooks],
            val=True,
            work_dir=name,
            train_cfg=dict(by_epoch=True, max_epochs=3, val_interval=1),
            default_hooks=dict(
                checkpoint=dict(
                    type='CheckpointHook', interval=1, save_best='nothing/score', rule='greater'
                )
            ),
            **options,
        )
        runner.val_evaluator.metrics[:] = [metric]
        metric.dataset_meta = {}
        try:
            runner.train()
        except KeyboardInterrupt:
            return None
        return Path(runner.work_dir)

    return run


def best(work_dir):
    return [path.name for path in work_dir.glob('best*')]


def validated(work_dir):
    lines = [
        json.loads(line)
        for file in work_dir.glob('*/vis_data/scalars.json')
        for line in file.read_text().splitlines()
    ]
    return sorted({line['step'] for line in lines if 'nothing/score' in line})


@pytest.mark.slow
def test_the_validation_that_was_cut_off_is_made_up_for(train):
    resume = dict(resume=True, load_from=None)
    assert train('with', Score(stop_at=1)) is None
    metric = Score()
    work_dir = train('with', metric, [MissedValidationHook()], **resume)
    assert metric.validations == 3
    assert best(work_dir) == ['best_nothing_score_epoch_1.pth']
    assert validated(work_dir) == [1, 2, 3]

    # without the hook it is missed
    assert train('without', Score(stop_at=1)) is None
    work_dir = train('without', Score(), **resume)
    assert best(work_dir) == ['best_nothing_score_epoch_2.pth']
    assert validated(work_dir) == [2, 3]


def test_a_run_from_the_start_is_not_validated_first(train):
    metric = Score()
    train('whole', metric, [MissedValidationHook()])
    assert metric.validations == 3
