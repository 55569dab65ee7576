"""``mmebm pretrain`` on the command line."""

import multiprocessing
import os
import socket
import subprocess

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from mmebm.apis import pretraining
from mmebm.cli import pretrain_worker
from mmebm.cli.main import main


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(12):
        pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        (tmp_path / 'photos').mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / 'photos' / f'{i}.png')
    return tmp_path / 'photos'


def test_options_are_handed_on(monkeypatch):
    got = {}
    monkeypatch.setattr(pretraining, 'pretrain', lambda *args, **options: got.update(options))
    command = 'pretrain a b --backbone timm/resnet18 --out out'
    assert main(command.split()) == 0
    assert got.pop('train') is None
    assert callable(got.pop('say'))
    chosen = dict(corruption='mixed', num_steps=1, keep_batch_norm=False, seed=0, processes=1)
    assert {name: value for name, value in got.items() if value is not None} == chosen
    given = {
        '--hours 2': dict(hours=2.0),
        '--start w.pth': dict(start='w.pth'),
        '--image-size 64': dict(image_size=64),
        '--corruption masking': dict(corruption='masking'),
        '--steps 2': dict(num_steps=2),
        '--seed 1': dict(seed=1),
        '--keep-batch-norm': dict(keep_batch_norm=True),
        '--held-out 9': dict(held_out=9),
        '--batch-size 8': dict(batch_size=8),
        '--lr 0.1': dict(learning_rate=0.1),
        '--precision float32': dict(precision='float32'),
        '--workers 0': dict(workers=0),
        '--no-compile': dict(compile_step=False),
        '--gpus 2 --nnodes 3 --rendezvous host:1': dict(processes=6),
    }
    expected = dict(epochs=None, iterations=None)
    for options, values in given.items():
        command += f' {options}'
        expected |= values
    assert main(command.split()) == 0
    assert callable(got.pop('train'))
    got.pop('say')
    assert got == expected


@pytest.mark.parametrize(
    ('options', 'expected'),
    [
        ('--gpus 0', '--gpus must be'),
        ('--nnodes 2', '--nnodes needs --rendezvous HOST:PORT'),
        ('--hours 1 --epochs 1', 'not allowed with argument'),
        ('--hours -1', 'hours must be a finite number > 0, got -1.0'),
        ('--corruption blur', "invalid choice: 'blur'"),
        ('--batchsize 3', 'the nearest is --batch-size'),
    ],
)
def test_mistakes_are_one_line(photos, tmp_path, capsys, options, expected):
    command = ['pretrain', str(photos), '--backbone', 'timm/test_vit', '--out', str(tmp_path / 'o')]
    with pytest.raises(SystemExit) as ended:
        main([*command, *options.split()])
    assert ended.value.code == 2
    line = capsys.readouterr().err.strip()
    assert expected in line
    assert len(line.splitlines()) == 1
    assert not (tmp_path / 'o').exists()


def test_more_gpus_than_there_are(photos, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 1)
    with pytest.raises(SystemExit) as ended:
        main(f'pretrain {photos} --backbone timm/test_vit --out o --gpus 2'.split())
    assert ended.value.code == 2
    assert '--gpus 2: this machine has 1' in capsys.readouterr().err


def fork_workers(command, env, run=subprocess.run):
    """What torchrun does, without starting Python anew: that takes ten seconds per process."""
    assert command[1:3] == ['-m', 'torch.distributed.run']
    number = int(command[command.index('--nproc-per-node') + 1])
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        address = dict(MASTER_ADDR='127.0.0.1', MASTER_PORT=str(free.getsockname()[1]))

    def work(rank):
        ranks = dict(RANK=rank, LOCAL_RANK=rank, WORLD_SIZE=number, LOCAL_WORLD_SIZE=number)
        os.environ.update(env, **address, **{name: str(value) for name, value in ranks.items()})
        torch.set_num_threads(1)
        subprocess.run = run
        pretrain_worker.main(command[-1])

    context = multiprocessing.get_context('fork')
    workers = [context.Process(target=work, args=(rank,)) for rank in range(number)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return subprocess.CompletedProcess(command, max(abs(worker.exitcode) for worker in workers))


@pytest.mark.slow
def test_two_processes(photos, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(subprocess, 'run', fork_workers)
    command = f'pretrain {photos} --backbone timm/test_vit --image-size 32 --out {tmp_path}/out'
    command += ' --iterations 2 --batch-size 4 --workers 0 --gpus 2'
    assert main(command.split()) == 0
    assert '4 × 2 processes' in capsys.readouterr().err
    options = dict(img_size=32, num_classes=0, global_pool='')
    timm.create_model('test_vit', checkpoint_path=f'{tmp_path}/out/backbone.safetensors', **options)
    assert (tmp_path / 'out/report.html').is_file()
