"""SIGKILL at random moments, then the same command again: bit for bit the uninterrupted run."""

import random
import signal
import socket
import time
from pathlib import Path

import pytest

from mmebm.utils.checkpoint import load_checkpoint_safely

from .conftest import count
from .processes import Command, seconds_until_gone, table
from .runs import EPOCHS, ITERATIONS, assert_identical, final, finetuning, mixed, write_config
from .runs import write_images as images
from .sabotage import MOMENTS

# How often each moment comes in a run; a validation has one batch, an epoch one or two saves.
TIMES = {'iteration': EPOCHS * ITERATIONS, 'update': EPOCHS * ITERATIONS, 'old file removed': 1}


def moments(number: int, seed: int) -> list[tuple]:
    """Where the runs are killed: every third at a random time, the others at random events."""
    rng = random.Random(seed)
    found = []
    kinds = list(MOMENTS)
    rng.shuffle(kinds)
    for index in range(number):
        if index % 3 == 2:
            found.append(('share of the time', rng.random()))
        else:
            kind = kinds[index % len(kinds)]
            found.append((kind, rng.randint(1, TIMES.get(kind, EPOCHS))))
    return found


class Runs:
    """A config and what its uninterrupted run left."""

    def __init__(self, server, folder: Path, config: Path, processes: int = 1, **environment):
        self.server, self.folder, self.config = server, folder, config
        self.processes, self.environment = processes, environment
        start = time.monotonic()
        assert self.run('whole') == [0] * processes, self.text('whole')
        self.seconds = time.monotonic() - start
        self.expected = final(folder / 'whole')

    def start(self, name: str, kill=()) -> list[Command]:
        environment = dict(self.environment)
        if self.processes > 1:
            with socket.socket() as free:
                free.bind(('127.0.0.1', 0))
                port = free.getsockname()[1]
            size = str(self.processes)
            environment |= dict(MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port), WORLD_SIZE=size)
        arguments = [self.config, '--work-dir', self.folder / name, '--resume', '--amp']
        arguments += ['--launcher', 'pytorch'] if self.processes > 1 else []
        return [
            self.server.start(
                'train',
                arguments,
                self.folder / f'{name}.{rank}.txt',
                environment | dict(RANK=str(rank), LOCAL_RANK=str(rank)),
                kill=kill if rank == 0 else (),
            )
            for rank in range(self.processes)
        ]

    def run(self, name: str, kill=()) -> list[int]:
        return [command.wait() for command in self.start(name, kill)]

    def text(self, name: str) -> str:
        return '\n'.join(p.read_text() for p in sorted(self.folder.glob(f'{name}.*.txt')))

    def kill(self, name: str, moment: str, number: float) -> None:
        """Start the run, and see it killed."""
        commands = self.start(name, (moment, number) if moment in MOMENTS else ())
        if moment not in MOMENTS:
            time.sleep(number * self.seconds)
            commands[0].signal(signal.SIGKILL)
        codes = [command.wait() for command in commands]
        late = moment not in MOMENTS and codes[0] == 0  # the run was faster this time
        assert late or codes[0] == -signal.SIGKILL, self.text(name)
        sessions = {command.pid for command in commands}
        seconds_until_gone({p: start for p, (_, s, start) in table().items() if s in sessions})
        for file in (self.folder / name).glob('*.pth'):
            load_checkpoint_safely(file)  # there is none that cannot be read

    def check(self, name: str, moment: str, number: float) -> None:
        self.kill(name, moment, number)
        assert self.run(name) == [0] * self.processes, self.text(name)
        assert_identical(self.expected, final(self.folder / name))


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp('killed')
    for label in 'ab':
        images(folder / 'train' / label, 2 * ITERATIONS, seed=ord(label))
        images(folder / 'held_out' / label, 2, seed=2 * ord(label))
    return folder


@pytest.fixture(scope='module')
def mixed_runs(server, data):
    config = mixed(data / 'train', data / 'held_out')
    config['optim_wrapper']['dtype'] = 'bfloat16'
    config['optim_wrapper']['type'] = 'MixedPrecisionOptimWrapper'
    return Runs(server, data, write_config(data / 'mixed.py', config))


@pytest.mark.parametrize(('moment', 'number'), moments(count(20), seed=0))
def test_mixed_task(mixed_runs, moment, number, figure, request):
    mixed_runs.check(f'killed {request.node.callspec.id}', moment, number)
    figure(f'an uninterrupted run took {mixed_runs.seconds:.1f} s')


@pytest.fixture(scope='module')
def two_processes(server, data):
    folder = data / 'two'
    folder.mkdir()
    config = mixed(data / 'train', data / 'held_out')
    config['train_dataloader'].update(batch_size=2)
    return Runs(server, folder, write_config(folder / 'mixed.py', config), processes=2)


@pytest.mark.parametrize(('moment', 'number'), moments(count(5), seed=1))
def test_two_processes(two_processes, moment, number, request):
    two_processes.check(f'killed {request.node.callspec.id}', moment, number)


@pytest.fixture(scope='module')
def finetuning_runs(server, data, mixed_runs):
    folder = data / 'finetuning'
    folder.mkdir()
    config = write_config(
        folder / 'finetuning.py',
        finetuning(data / 'train', data / 'held_out'),
        'pretrained_runtime',
    )
    pretrained = str(data / 'whole' / f'epoch_{EPOCHS}.pth')
    return Runs(server, folder, config, PRETRAINED=pretrained)


@pytest.mark.parametrize(('moment', 'number'), moments(count(5), seed=2))
def test_finetuning(finetuning_runs, moment, number, request):
    finetuning_runs.check(f'killed {request.node.callspec.id}', moment, number)


@pytest.mark.parametrize('size', [0, 0.5, 0.99])
def test_a_truncated_checkpoint(mixed_runs, size):
    """As a file system leaves it that lost power; our own writing does not."""
    name = f'truncated {size}'
    mixed_runs.kill(name, 'iteration', 2 * ITERATIONS + 2)
    newest = mixed_runs.folder / name / 'epoch_2.pth'
    content = newest.read_bytes()
    newest.write_bytes(content[: int(size * len(content))])
    assert mixed_runs.run(name) == [0]
    assert 'Warning: going on from' in mixed_runs.text(name)
    assert f'epoch_1.pth: {newest} is damaged' in mixed_runs.text(name)
    assert_identical(mixed_runs.expected, final(mixed_runs.folder / name))
