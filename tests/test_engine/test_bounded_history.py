import pytest

from mmebm.engine import BoundedHistoryHook


@pytest.fixture
def lengths(make_runner, monkeypatch):
    """Train 12 epochs of two iterations, with the bound at 4 and renewed as often."""
    monkeypatch.setattr(BoundedHistoryHook, 'least', 4)

    def train(*windows, hooks=True):
        custom = [
            dict(data_src='loss', method_name='mean', window_size=w, log_name=f'loss_{w}')
            for w in windows
        ]
        runner = make_runner(
            [BoundedHistoryHook()] if hooks else [],
            train_cfg=dict(by_epoch=True, max_epochs=12),
            log_processor=dict(window_size=3, custom_cfg=custom),
            default_hooks=dict(logger=dict(type='LoggerHook', interval=1)),
        )
        runner.train()
        histories = runner.message_hub.log_scalars
        return {name: len(history.data[0]) for name, history in histories.items()}

    return train


@pytest.mark.slow
def test_no_more_is_kept_than_the_longest_average_needs(lengths):
    assert lengths(hooks=False)['train/loss'] == 24
    assert lengths()['train/loss'] == 4
    assert lengths('epoch', 7)['train/loss'] == 7


def test_an_average_over_the_run_needs_all(lengths):
    assert lengths('global', 7)['train/loss'] == 24
