import logging
import signal
from types import SimpleNamespace

import pytest

from mmebm.engine import GracefulStopHook
from mmebm.engine.hooks import graceful_stop


@pytest.fixture(autouse=True)
def _handlers():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def runner():
    return SimpleNamespace(logger=logging.getLogger('test_graceful_stop'), hooks=[])


def test_the_second_signal_acts_at_once(runner):
    hook = GracefulStopHook()
    hook.before_train(runner)
    signal.raise_signal(signal.SIGINT)  # remembered
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_a_stop_waits_for_the_end_of_the_round(runner):
    hook = GracefulStopHook()
    hook.before_train(runner)
    hook.before_train_epoch(runner)
    signal.raise_signal(signal.SIGINT)
    hook.after_train_epoch(runner)
    with pytest.raises(KeyboardInterrupt):
        hook.before_train_epoch(runner)


def test_a_signal_while_saving_or_validating_waits_for_the_next_round(runner, monkeypatch):
    agreed = []
    monkeypatch.setattr(graceful_stop, 'all_reduce', lambda number, op: agreed.append(int(number)))
    hook = GracefulStopHook()
    hook.before_train(runner)
    hook.after_train_epoch(runner)
    signal.raise_signal(signal.SIGINT)
    hook.before_train_epoch(runner)  # nothing was saved, and other processes know of no signal
    hook.after_train_epoch(runner)
    monkeypatch.setattr(graceful_stop, 'barrier', lambda: agreed.append('saved'))
    with pytest.raises(KeyboardInterrupt):
        hook.before_train_epoch(runner)
    assert agreed == [0, signal.SIGINT, 'saved']


def test_an_ignored_signal_stays_ignored(runner):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    default = signal.getsignal(signal.SIGTERM)
    hook = GracefulStopHook()
    hook.before_train(runner)
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    assert signal.getsignal(signal.SIGTERM) is not default
    hook.after_train(runner)
    assert signal.getsignal(signal.SIGTERM) is default
