"""Disks that are full or read-only, and folders that vanish."""

import os
import shutil
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from mmebm.utils.checkpoint import load_checkpoint_safely

from .conftest import count
from .processes import LIMIT
from .runs import EPOCHS, final, mixed, write_config, write_images

GOES_ON = 'Earlier files are whole'


@contextmanager
def mounted(folder: Path, kilobytes: int, *options: str):
    """A file system of its own in the memory."""
    folder.mkdir()
    size = ','.join((f'size={kilobytes}k', *options))
    done = subprocess.run(
        ['mount', '-t', 'tmpfs', '-o', size, 'tmpfs', str(folder)], capture_output=True, text=True
    )
    if done.returncode != 0:
        pytest.skip(f'mounting needs root: {done.stderr.strip()}')
    try:
        yield folder
    finally:
        subprocess.run(['umount', '-l', str(folder)], check=True)


def remount(folder: Path, options: str) -> None:
    subprocess.run(['mount', '-o', f'remount,{options}', str(folder)], check=True)


@pytest.fixture
def config(tmp_path):
    write_images(tmp_path / 'train', 12)
    write_images(tmp_path / 'held_out', 4)
    return write_config(tmp_path / 'mixed.py', mixed(tmp_path / 'train', tmp_path / 'held_out'))


def start(server, config, work_dir, *arguments):
    return server.start('train', [config, '--work-dir', work_dir, *arguments], f'{config}.txt')


def readable(work_dir: Path) -> list[str]:
    """The checkpoints of epochs; all have to be readable."""
    files = sorted(work_dir.glob('*.pth'))
    for file in files:
        load_checkpoint_safely(file)
    return [file.name for file in files if file.name.startswith('epoch')]


# Left on the disk once the first checkpoint is there, in kB; a checkpoint takes about 350.
@pytest.mark.parametrize('left', [8, 200, 500][: count(3)])
def test_full_disk(server, config, figure, left):
    with mounted(config.parent / 'disk', 40_000) as disk:
        work_dir = disk / 'run'
        command = start(server, config, work_dir)
        while not (work_dir / 'last_checkpoint').exists():
            time.sleep(0.01)
        used = (shutil.disk_usage(disk).used + left * 1000) // 1024
        remount(disk, f'size={used}k')
        code = command.wait()
        text = command.text()
        figure(f'{left} kB left: exit code {code}')
        assert code == 2, text
        assert text.splitlines()[-1].startswith('train.py: error: '), text
        assert 'No space left on device' in text.splitlines()[-1]
        assert 'are missing' in text.splitlines()[-1]
        assert 'epoch_1.pth' in readable(work_dir)
        remount(disk, 'size=40000k')
        resumed = start(server, config, work_dir, '--resume')
        assert resumed.wait() == 0, resumed.text()
        assert f'epoch_{EPOCHS}.pth' in readable(work_dir)


@pytest.mark.parametrize('when', ['before', 'mounted so', 'in the second epoch'][: count(3)])
def test_read_only_work_dir(server, config, when):
    with mounted(config.parent / 'disk', 40_000) as disk:
        work_dir = disk / 'run' if when != 'mounted so' else disk
        if when == 'in the second epoch':
            command = start(server, config, work_dir)
            while not (work_dir / 'last_checkpoint').exists():
                time.sleep(0.01)
            # files that are open for writing forbid it: what is not yet open is made read-only
            subprocess.run(['chattr', '+i', str(work_dir)], check=False)
            command.wait()
            subprocess.run(['chattr', '-i', str(work_dir)], check=False)
        else:
            remount(disk, 'ro')
            command = start(server, config, work_dir)
            assert command.wait(LIMIT) == 2, command.text()
            assert 'no permission in' in command.text().splitlines()[-1]
            remount(disk, 'rw')
        resumed = start(server, config, work_dir, '--resume')
        assert resumed.wait() == 0, resumed.text()
        assert f'epoch_{EPOCHS}.pth' in readable(work_dir)


@pytest.mark.parametrize('epoch', range(1, 1 + count(3)))
def test_images_vanish(server, config, epoch):
    command = start(server, config, config.parent / 'run')
    command.wait_for(f'Epoch(train) [{epoch}][1/3]')
    os.rename(config.parent / 'train', config.parent / 'elsewhere')
    code = command.wait(LIMIT)
    assert code == 2, command.text()
    last = command.text().splitlines()[-1]
    assert last.startswith('train.py: error: ')
    assert 'Is the storage mounted' in last or 'unreadable' in last, last
    os.rename(config.parent / 'elsewhere', config.parent / 'train')
    resumed = start(server, config, config.parent / 'run', '--resume')
    assert resumed.wait() == 0, resumed.text()
    final(config.parent / 'run')


def test_work_dir_vanishes(server, config):
    work_dir = config.parent / 'run'
    command = start(server, config, work_dir)
    command.wait_for('Epoch(train) [2][1/3]')
    shutil.rmtree(work_dir)
    code = command.wait()
    # what is saved later is whole, or the run says in a line that it cannot save
    assert code == 0 or command.text().splitlines()[-1].startswith('train.py: error: ')
    readable(work_dir)
