"""Signals, and processes of a run that are killed: an end within 30 s, no orphan, resumable."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from .conftest import count
from .processes import LIMIT, ROOT, descendants, seconds_until_gone, table
from .runs import EPOCHS, assert_identical, final, mixed, write_config, write_images

GOES_ON = 'the run can be continued from its last checkpoint'


@pytest.fixture(scope='module')
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp('ended')
    write_images(folder / 'train', 12)
    write_images(folder / 'held_out', 4)
    return write_config(folder / 'mixed.py', mixed(folder / 'train', folder / 'held_out'))


@pytest.fixture(scope='module')
def expected(server, config):
    work_dir = config.parent / 'whole'
    arguments = [config, '--work-dir', work_dir]
    assert server.start('train', arguments, config.parent / 'whole.txt').wait() == 0
    return final(work_dir)


# what is done, to the whole group as a terminal does or to the process alone; exit code; last line
SIGNALS = {
    'SIGTERM': (signal.SIGTERM, False, 143, f'train.py: terminated; {GOES_ON}'),
    'Ctrl-C': (signal.SIGINT, True, 130, f'train.py: interrupted; {GOES_ON}'),
}


@pytest.mark.parametrize('run', range(count(5)))
@pytest.mark.parametrize('name', SIGNALS)
def test_signal(server, config, expected, figure, name, run):
    number, group, code, line = SIGNALS[name]
    work_dir = config.parent / f'{name} {run}'
    output = config.parent / f'{name} {run}.txt'
    command = server.start('train', [config, '--work-dir', work_dir], output)
    command.wait_for(f'Epoch(train) [{run % EPOCHS + 1}][1/3]')
    processes = descendants(command.pid)
    assert len(processes) == 3  # with two workers
    start = time.monotonic()
    command.signal(number, group)
    assert command.wait(LIMIT) == code, command.text()
    seconds_until_gone(processes)
    figure(f'{name}: {time.monotonic() - start:.1f} s')
    assert command.text().splitlines()[-1] == line
    assert 'Traceback' not in command.text()
    resumed = server.start('train', [config, '--work-dir', work_dir, '--resume'], output)
    assert resumed.wait() == 0, resumed.text()
    assert_identical(expected, final(work_dir))


@pytest.mark.parametrize('run', range(count(5)))
def test_killed_worker(server, config, expected, figure, run):
    work_dir = config.parent / f'worker {run}'
    output = config.parent / f'worker {run}.txt'
    command = server.start('train', [config, '--work-dir', work_dir], output)
    command.wait_for(f'Epoch(train) [{run % (EPOCHS - 1) + 1}][1/3]')
    processes = descendants(command.pid)
    start = time.monotonic()
    os.kill(sorted(set(processes) - {command.pid})[run % 2], signal.SIGKILL)
    assert command.wait(LIMIT) == 2, command.text()
    seconds_until_gone(processes)
    figure(f'{time.monotonic() - start:.1f} s')
    last = command.text().splitlines()[-1]
    assert 'train.py: error: a data-loading worker was killed' in last
    resumed = server.start('train', [config, '--work-dir', work_dir, '--resume'], output)
    assert resumed.wait() == 0, resumed.text()
    assert_identical(expected, final(work_dir))


@pytest.mark.parametrize('run', range(count(5)))
def test_killed_rank(config, figure, run):
    """Of two processes that tools/dist_train.sh started; the commands are the user's own."""
    work_dir = config.parent / f'rank {run}'
    text = config.parent / f'rank {run}.txt'
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    options = [f'train_cfg.max_epochs={EPOCHS}', 'train_dataloader.batch_size=2']
    command = ['bash', ROOT / 'tools/dist_train.sh', config, '2', '--work-dir', work_dir]
    command += ['--resume', '--cfg-options', *options]
    environment = dict(
        os.environ,
        PYTHON=sys.executable,
        PYTHONPATH=str(ROOT),
        OMP_NUM_THREADS='1',
        PORT=str(port),
        PYTHONUNBUFFERED='1',
    )

    def start():
        return subprocess.Popen(
            [str(part) for part in command],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=text.open('a'),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    launcher = start()
    end = time.monotonic() + 300
    while 'Epoch(train) [2][1/3]' not in text.read_text():
        assert time.monotonic() < end, text.read_text()
        time.sleep(0.05)
    processes = descendants(launcher.pid)
    ranks = sorted(pid for pid, (parent, _, _) in table().items() if parent == launcher.pid)
    assert len(ranks) == 2
    begin = time.monotonic()
    os.kill(ranks[run % 2], signal.SIGKILL)
    assert launcher.wait(LIMIT) != 0
    seconds_until_gone(processes)
    figure(f'{time.monotonic() - begin:.1f} s')
    assert 'Signal 9 (SIGKILL)' in text.read_text()
    assert start().wait(300) == 0, text.read_text()
    assert (work_dir / f'epoch_{EPOCHS}.pth').is_file()
