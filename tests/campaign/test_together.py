"""``mmebm pretrain --gpus 2`` on a CPU, as users start it: all processes end, saved."""

import os
import signal
import subprocess
import sys
import time

import pytest

from .conftest import count
from .processes import LIMIT, PATIENCE, ROOT, descendants, seconds_until_gone, table
from .runs import write_images

GOES_ON = 'run the same command again to continue'


class Together:
    """A command that trains in two processes, each with two that load images."""

    def __init__(self, folder):
        self.text, self.out = folder / 'said.txt', folder / 'out'
        options = ['--image-size', '32', '--batch-size', '4', '--workers', '2', '--gpus', '2']
        options += ['--iterations', '1500', '--backbone', 'timm/test_vit', '--out', self.out]
        self.process = subprocess.Popen(
            [sys.executable, '-m', 'mmebm', 'pretrain', folder / 'images', *options],
            cwd=folder,
            env=dict(os.environ, PYTHONPATH=str(ROOT)),
            stdin=subprocess.DEVNULL,
            stdout=self.text.open('a'),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def said(self):
        return self.text.read_text().splitlines()

    def log(self):
        log = self.out / 'log.txt'
        return log.read_text() if log.is_file() else ''

    def wait_for(self, text):
        """Wait until it is in the log."""
        end = time.monotonic() + PATIENCE
        while text not in self.log():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < end, self.said()
            time.sleep(0.05)


@pytest.fixture
def start(tmp_path):
    write_images(tmp_path / 'images', 40)
    commands = []

    def start():
        commands.append(Together(tmp_path))
        return commands[-1]

    yield start
    for command in commands:
        command.process.kill()
        command.process.wait()


@pytest.fixture
def command(start):
    command = start()
    command.wait_for('Epoch(train)')
    return command


@pytest.mark.parametrize('run', range(count(3)))
@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_together_signal(command, figure, number, run):
    processes = descendants(command.process.pid)
    assert len(processes) == 7
    begin = time.monotonic()
    if number == signal.SIGINT:
        os.killpg(command.process.pid, number)  # as a terminal does
    else:
        os.kill(command.process.pid, number)
    assert command.process.wait(PATIENCE) == 128 + number, command.said()
    seconds_until_gone(processes)
    figure(f'{number.name}: {time.monotonic() - begin:.1f} s')
    assert [GOES_ON in line for line in command.said()].index(True) == len(command.said()) - 1
    assert 'Traceback' not in command.text.read_text()
    saved = (command.out / 'last_checkpoint').read_text()
    trained = [line for line in command.log().splitlines() if 'Epoch(train)' in line]
    assert f'[{saved.rpartition("_")[2].removesuffix(".pth")}]' in trained[-1]


@pytest.mark.parametrize('run', range(count(3)))
@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_together_signal_while_importing(start, number, run):
    command, end = start(), time.monotonic() + PATIENCE
    while len(processes := descendants(command.process.pid)) < 3:
        assert time.monotonic() < end, command.said()
        time.sleep(0.05)
    time.sleep(run + 1)
    command.process.send_signal(number)
    assert command.process.wait(LIMIT) == 128 + number, command.said()
    seconds_until_gone(processes)
    assert [GOES_ON in line for line in command.said()].index(True) == len(command.said()) - 1
    assert 'Traceback' not in command.text.read_text()


@pytest.mark.parametrize('run', range(count(3)))
def test_together_second_signal(command, start, figure, run):
    processes = descendants(command.process.pid)
    begin = time.monotonic()
    command.process.send_signal(signal.SIGINT)
    command.wait_for('Stopping after this round')
    command.process.send_signal(signal.SIGINT)
    assert command.process.wait(LIMIT) == 130, command.said()
    seconds_until_gone(processes)
    figure(f'{time.monotonic() - begin:.1f} s')
    assert command.said()[-1].endswith(GOES_ON)

    (command.out / 'train.txt').unlink()
    command = start()
    assert command.process.wait(PATIENCE) == 2, command.said()
    lines = command.said()
    last = [i for i, line in enumerate(lines) if line.endswith(GOES_ON)][-1]
    assert len(lines) == last + 3, lines  # that the run goes on, and the mistake
    assert lines[-1].startswith('mmebm pretrain: error: ')
    assert 'train.txt' in lines[-1]


@pytest.mark.parametrize('run', range(count(3)))
@pytest.mark.parametrize('which', ['command', 'rank'])
def test_together_killed(command, start, figure, which, run):
    processes = descendants(command.process.pid)
    if which == 'command':
        other = start()
        assert other.process.wait(PATIENCE) == 2
        assert f'another process is training in {other.out}' in command.text.read_text()
        os.kill(command.process.pid, signal.SIGKILL)
        assert command.process.wait(LIMIT) == -signal.SIGKILL
    else:
        ranks = [pid for pid, row in table().items() if row[0] == command.process.pid]
        assert len(ranks) == 2
        os.kill(sorted(ranks)[run % 2], signal.SIGKILL)
        assert command.process.wait(LIMIT) == 2
        assert 'was killed by signal 9' in command.said()[-1]
    figure(f'{which}: {seconds_until_gone(processes):.1f} s')
