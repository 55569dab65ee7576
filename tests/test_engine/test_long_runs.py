"""What a run of days needs: bounded memory, a stop that loses nothing, no validation missed.

Stops of real processes: tests/campaign.
"""

import json
import logging
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest

from mmebm.engine.hooks import (
    BoundedHistoryHook,
    GracefulStopHook,
    MissedValidationHook,
    ReproducibleEpochsHook,
)

from .conftest import Nothing


@pytest.mark.slow
@pytest.mark.parametrize(
    ('hooks', 'windows', 'kept'),
    [(0, (), 24), (1, (), 4), (1, ('epoch', 7), 7), (1, ('global', 7), 24)],
)
def test_no_more_is_kept_than_the_longest_average_needs(
    make_runner, monkeypatch, hooks, windows, kept
):
    monkeypatch.setattr(BoundedHistoryHook, 'least', 4)
    custom = [
        dict(data_src='loss', method_name='mean', window_size=w, log_name=f'loss_{w}')
        for w in windows
    ]
    runner = make_runner(
        [BoundedHistoryHook()] * hooks,
        train_cfg=dict(by_epoch=True, max_epochs=12),
        log_processor=dict(window_size=3, custom_cfg=custom),
        default_hooks=dict(logger=dict(type='LoggerHook', interval=1)),
    )
    runner.train()
    assert len(runner.message_hub.log_scalars['train/loss'].data[0]) == kept


class Score(Nothing):
    """Stops the run at a validation, before it is finished."""

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
        work_dir = Path(runner.work_dir)
        lines = [
            json.loads(line)
            for file in work_dir.glob('*/vis_data/scalars.json')
            for line in file.read_text().splitlines()
        ]
        validated = sorted({line['step'] for line in lines if 'nothing/score' in line})
        return [path.name for path in work_dir.glob('best*')], validated

    return run


@pytest.mark.slow
def test_the_validation_that_was_cut_off_is_run_on_resume(train):
    resume = dict(resume=True, load_from=None)
    assert train('with', Score(stop_at=1)) is None
    metric = Score()
    found = train('with', metric, [MissedValidationHook()], **resume)
    assert found == (['best_nothing_score_epoch_1.pth'], [1, 2, 3])
    assert metric.validations == 3
    # without the hook it is missed
    assert train('without', Score(stop_at=1)) is None
    assert train('without', Score(), **resume) == (['best_nothing_score_epoch_2.pth'], [2, 3])


@pytest.fixture
def runner():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield SimpleNamespace(logger=logging.getLogger('test_long_runs'), hooks=[])
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_stop_waits_for_the_end_of_the_round(runner):
    hook = GracefulStopHook()
    hook.before_train(runner)
    hook.after_train_epoch(runner)
    signal.raise_signal(signal.SIGINT)
    hook.before_train_epoch(runner)  # nothing was saved since the signal
    hook.after_train_epoch(runner)
    with pytest.raises(KeyboardInterrupt):
        hook.before_train_epoch(runner)


def test_the_second_signal_acts_at_once(runner):
    hook = GracefulStopHook()
    hook.before_train(runner)
    signal.raise_signal(signal.SIGINT)  # remembered
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_an_ignored_signal_stays_ignored(runner):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    default = signal.getsignal(signal.SIGTERM)
    hook = GracefulStopHook()
    hook.before_train(runner)
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    assert signal.getsignal(signal.SIGTERM) is not default
    hook.after_train(runner)
    assert signal.getsignal(signal.SIGTERM) is default
