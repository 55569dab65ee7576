"""Processes that train together end together. Each is a Python without imports of ours."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from mmebm.cli import group
from mmebm.cli.group import GRACE, SIGNALS, run_together

# Both are ready before one of them does something; it ends some time after the first signal.
BOTH = """
import os, signal, sys, time
def stop(number, frame):
    {stop}
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, stop)
me, other = sys.argv[1:]
open(me, 'w').close()
while not os.path.exists(other):
    time.sleep(0.01)
{then}
{last}
"""
STOP, STAY = 'os._exit(128 + number)', 'os.fork()'
LATER = 'time.sleep(0.1); open(me + "saved", "w").close(); ' + STOP
FOREVER = 'while True: time.sleep(1)'


@pytest.fixture
def pair(tmp_path):
    """Two processes: what they do on a signal, and what the second one does at once."""

    def starts(first, second, then, last=FOREVER):
        files = [str(tmp_path / name) for name in '01']
        commands = (
            [sys.executable, '-ISc', BOTH.format(stop=first, then='', last=last), *files],
            [sys.executable, '-ISc', BOTH.format(stop=second, then=then, last=last), *files[::-1]],
        )
        return [partial(subprocess.Popen, each, start_new_session=True) for each in commands]

    return starts


def members(groups):
    """The processes of these groups that run."""
    found = []
    for stat in Path('/proc').glob('[0-9]*/stat'):
        try:
            state, _, number = stat.read_text().rpartition(')')[2].split()[:3]
        except OSError:  # it has ended
            continue
        if state not in 'ZX' and int(number) in groups:
            found.append(stat.parent.name)
    return found


@pytest.fixture(autouse=True)
def _none_is_left(monkeypatch):
    started, wait = [], group._wait

    def waiting(processes, received):
        started.extend(process.pid for process in processes)
        return wait(processes, received)

    monkeypatch.setattr(group, '_wait', waiting)
    monkeypatch.setattr(group, 'LOOK_AGAIN', 0.01)
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    assert before == {number: signal.getsignal(number) for number in SIGNALS}
    end = time.monotonic() + 60
    while members(started) and time.monotonic() < end:
        time.sleep(0.01)
    assert len(started) == 2
    assert members(started) == []


def tell(number):
    return f'os.kill({os.getpid()}, {int(number)})'


def test_all_end_well(pair):
    assert run_together(pair('pass', 'pass', '', last='os._exit(0)')) == 0


@pytest.mark.parametrize('number', SIGNALS)
def test_a_signal_is_passed_on_and_waited_for(pair, number, tmp_path):
    assert run_together(pair(STOP, LATER, tell(number))) == 128 + number
    assert (tmp_path / '1saved').exists()


def test_a_run_that_ends_by_itself_after_a_signal_is_whole(pair):
    assert run_together(pair('os._exit(0)', 'os._exit(0)', tell(signal.SIGINT))) == 0


def test_a_second_signal_kills_all(pair):
    """Also what they have started."""
    stay = f'os.fork() and {tell(signal.SIGINT)}'
    with pytest.raises(KeyboardInterrupt):
        run_together(pair(STAY, stay, tell(signal.SIGINT)))


def test_the_others_have_some_time_after_one_has_stopped(pair, monkeypatch):
    monkeypatch.setattr(group, 'LOOK_AGAIN', GRACE / 20)
    monkeypatch.setattr(group.time, 'sleep', lambda seconds: None)
    assert run_together(pair(STOP, STAY, tell(signal.SIGTERM))) == 128 + signal.SIGTERM


@pytest.mark.parametrize('then', ['os._exit(2)', 'os.fork(); os._exit(2)'])
def test_one_that_fails_ends_all(pair, then):
    assert run_together(pair(STOP, STOP, then)) == 2


def test_one_that_fails_after_a_signal_ends_all(pair):
    assert run_together(pair(STAY, 'os._exit(1)', tell(signal.SIGINT))) == 1


def test_one_that_is_killed_ends_all(pair):
    with pytest.raises(RuntimeError, match='one of the processes was killed by signal 9'):
        run_together(pair(STOP, STOP, 'os.kill(os.getpid(), 9)'))


def test_a_signal_before_they_can_hear_it(pair):
    reset = 'signal.signal(signal.SIGINT, signal.SIG_DFL);'
    with pytest.raises(KeyboardInterrupt):
        run_together(pair(STAY, 'pass', reset + tell(signal.SIGINT)))
