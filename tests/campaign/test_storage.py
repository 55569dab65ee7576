"""Disks that are full, and folders that vanish."""

import os
import shutil
import subprocess
import time

import pytest

from mmebm.utils.checkpoint import load_checkpoint_safely
from tests.tools import write_images

from . import count, long
from .runs import EPOCHS, LIMIT, Command, mixed, write_config

pytestmark = long


@pytest.fixture
def config(tmp_path):
    write_images(tmp_path / 'train', 12)
    write_images(tmp_path / 'held_out', 4)
    return write_config(tmp_path / 'mixed.py', mixed(tmp_path / 'train', tmp_path / 'held_out'))


def start(config, work_dir):
    return Command('train', [config, '--work-dir', work_dir, '--resume'], f'{config}.txt')


def check_goes_on(config, work_dir):
    """After each checkpoint that is there has been read."""
    for file in work_dir.glob('*.pth'):
        load_checkpoint_safely(file)
    resumed = start(config, work_dir)
    assert resumed.wait() == 0, resumed.text()
    load_checkpoint_safely(work_dir / f'epoch_{EPOCHS}.pth')


@pytest.mark.parametrize('left', [8, 200, 500])  # kB, once there is a checkpoint, of about 350
def test_full_disk(config, left):
    disk = config.parent / 'disk'
    disk.mkdir()
    mount = ['mount', '-t', 'tmpfs', '-o', 'size=40000k', 'tmpfs', str(disk)]
    if subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip('mounting needs root')
    try:
        command = start(config, disk / 'run')
        while not (disk / 'run' / 'last_checkpoint').exists():
            time.sleep(0.01)
        used = (shutil.disk_usage(disk).used + left * 1000) // 1024
        subprocess.run(['mount', '-o', f'remount,size={used}k', disk], check=True)
        assert command.wait() == 2, command.text()
        assert 'Traceback' not in command.text()
        assert (disk / 'run' / 'epoch_1.pth').is_file()
        subprocess.run(['mount', '-o', 'remount,size=40000k', disk], check=True)
        check_goes_on(config, disk / 'run')
    finally:
        subprocess.run(['umount', '-l', disk], check=True)


@pytest.mark.parametrize('epoch', range(1, 1 + count(3)))
@pytest.mark.parametrize('what', ['train', 'run'])
def test_a_folder_vanishes(config, what, epoch):
    """The images, or the work dir."""
    command = start(config, config.parent / 'run')
    command.wait_for(f'Epoch(train) [{epoch}][1/3]')
    os.rename(config.parent / what, config.parent / 'elsewhere')
    code = command.wait(LIMIT)
    assert 'Traceback' not in command.text()
    assert code == 2 or (what == 'run' and code == 0), command.text()
    shutil.rmtree(config.parent / what, ignore_errors=True)
    os.rename(config.parent / 'elsewhere', config.parent / what)
    check_goes_on(config, config.parent / 'run')
