"""Runs that are killed or stopped, then the same command again: bit for bit the undisturbed run."""

import random
import signal

import pytest

from tests.tools import write_images

from . import count, long
from .runs import EPOCHS, ITERATIONS, LIMIT, Runs, mixed, write_config
from .sabotage import MOMENTS

# How often each moment comes in a run; a validation has one batch, an epoch one or two saves.
TIMES = {'iteration': EPOCHS * ITERATIONS, 'update': EPOCHS * ITERATIONS, 'old file removed': 1}


def moments(number: int, seed: int) -> list[tuple[str, int]]:
    """Where the runs are killed."""
    rng = random.Random(seed)
    kinds = rng.sample(list(MOMENTS), len(MOMENTS))
    found = [kinds[index % len(kinds)] for index in range(number)]
    return [(kind, rng.randint(1, TIMES.get(kind, EPOCHS))) for kind in found]


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp('killed')
    for label in 'ab':
        write_images(folder / 'train' / label, 2 * ITERATIONS, seed=ord(label))
        write_images(folder / 'held_out' / label, 2, seed=2 * ord(label))
    return folder


@pytest.fixture(scope='module')
def runs(data):
    config = mixed(data / 'train', data / 'held_out')
    config['optim_wrapper'].update(type='MixedPrecisionOptimWrapper', dtype='bfloat16')
    return Runs(data, write_config(data / 'mixed.py', config))


@pytest.mark.parametrize(('moment', 'number'), moments(count(20), seed=0))
def test_mixed_task(runs, moment, number):
    name = f'{moment} {number}'
    assert runs.run(name, (moment, number)) == [-signal.SIGKILL], runs.text(name)
    runs.check_resumed(name)


@pytest.mark.parametrize('run', range(count(5)))
@pytest.mark.parametrize(
    ('number', 'code'), [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=long)]
)
def test_signal(runs, number, code, run):
    """To the process alone, or to its whole group, as a terminal does."""
    name = f'{code} {run}'
    (command,) = runs.start(name)
    command.wait_for(f'Epoch(train) [{run % EPOCHS + 1}][1/3]')
    command.signal(number, group=number == signal.SIGINT)
    assert command.wait(LIMIT) == code, command.text()
    assert 'Traceback' not in command.text()
    runs.check_resumed(name)


@pytest.mark.parametrize('number', range(1, 1 + count(5)))
def test_killed_worker(runs, number):
    name = f'worker {number}'
    assert runs.run(name, ('worker', 1 + number)) == [2], runs.text(name)
    assert 'Traceback' not in runs.text(name)
    runs.check_resumed(name)


@long
@pytest.mark.parametrize('size', [0, 0.5, 0.99])
def test_a_truncated_checkpoint(runs, size):
    """As a file system leaves it that lost power; our own writing does not."""
    name = f'truncated {size}'
    assert runs.run(name, ('iteration', 2 * ITERATIONS + 2)) == [-signal.SIGKILL]
    newest = runs.folder / name / 'epoch_2.pth'
    content = newest.read_bytes()
    newest.write_bytes(content[: int(size * len(content))])
    assert runs.run(name) == [0]
    assert f'{newest} is damaged' in runs.text(name)
    runs.check_resumed(name)


@pytest.fixture(scope='module')
def two_processes(data):
    folder = data / 'two'
    folder.mkdir()
    config = mixed(data / 'train', data / 'held_out')
    config['train_dataloader'].update(batch_size=2)
    return Runs(folder, write_config(folder / 'mixed.py', config), processes=2)


@long
@pytest.mark.parametrize(('moment', 'number'), moments(count(5), seed=1))
@pytest.mark.parametrize('rank', [0, 1])
def test_two_processes(two_processes, rank, moment, number):
    """The other one ends by itself."""
    if rank == 1:
        moment, number = 'update', number + 1
    name = f'{rank} {moment} {number}'
    codes = two_processes.run(name, (moment, number), killed_rank=rank)
    assert codes[rank] == -signal.SIGKILL, two_processes.text(name)
    assert codes[1 - rank] not in (0, None), two_processes.text(name)
    two_processes.check_resumed(name)
