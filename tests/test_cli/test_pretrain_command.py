"""``mmebm pretrain`` on the command line."""

import os
import signal
import time
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
from mmengine.hooks import Hook
from PIL import Image

from mmebm.apis import pretraining
from mmebm.cli import launch, pretrain_command, pretrain_worker
from mmebm.cli.main import build_parser, main
from mmebm.cli.pretrain_command import machines, workers
from tests.processes import CONTEXT


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
    chosen = dict(energy='restoration', num_steps=1, keep_batch_norm=False, seed=0, processes=1)
    assert {name: value for name, value in got.items() if value is not None} == chosen
    given = {
        '--hours 2': dict(hours=2.0),
        '--start w.pth': dict(start='w.pth'),
        '--image-size 64': dict(image_size=64),
        '--energy inpainting': dict(energy='inpainting'),
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


def asked(options, **environment):
    command = ['pretrain', 'a', '--backbone', 'b', '--out', 'o', *options.split()]
    return machines(build_parser().parse_args(command), environment)


def test_several_machines(monkeypatch):
    assert asked('') == (1, 1, 0, None, '')
    one = workers(asked('--gpus 4'))
    assert [each['RANK'] for each in one] == [each['LOCAL_RANK'] for each in one] == list('0123')
    assert {each['MASTER_ADDR'] for each in one} == {'127.0.0.1'}
    assert len({each['MASTER_PORT'] for each in one}) == 1
    two = workers(asked('--gpus 4 --nnodes 2 --node-rank 1 --rendezvous host:123'))
    assert [each['RANK'] for each in two] == list('4567')
    assert two[3] == dict(
        RANK='7', LOCAL_RANK='3', WORLD_SIZE='8', LOCAL_WORLD_SIZE='4', MASTER_ADDR='host',
        MASTER_PORT='123',
    )  # fmt: skip
    with pytest.raises(ValueError, match='--node-rank must be below --nnodes 2, got 2'):
        asked('--nnodes 2 --node-rank 2 --rendezvous host')
    slurm = dict(
        SLURM_STEP_NUM_NODES='3', SLURM_STEP_NUM_TASKS='3', SLURM_NODEID='2',
        SLURM_GPUS_ON_NODE='8', SLURM_STEP_NODELIST='n[1-3]', SLURM_JOB_ID='7',
    )  # fmt: skip
    monkeypatch.setattr(launch, 'first_host', dict({'n[1-3]': 'n1'}).__getitem__)
    assert asked('', **slurm) == (8, 3, 2, 'n1:29500', '7.0.0')
    assert asked('--gpus 2', **slurm) == (2, 3, 2, 'n1:29500', '7.0.0')
    with pytest.raises(ValueError, match='srun starts 24 tasks on 3 machines'):
        asked('', **slurm | dict(SLURM_STEP_NUM_TASKS='24'))


def test_other_machines_wait_for_the_first_one(tmp_path):
    trained, waited, said = [], [], []
    out = tmp_path / 'out'
    out.mkdir()
    (out / 'config.py').write_text('train_cfg = dict(max_epochs=3)')
    (out / 'options.json').write_text('{}')  # of an earlier start, as the next file
    (out / 'first_machine_trains').write_text('earlier')

    def starts(seconds):
        waited.append(seconds)
        if len(waited) == 3:
            lead.__enter__()

    lead = pretraining.lead(out, 'this')
    pretraining.follow(out, trained.append, said.append, 'this', sleep=starts)
    assert [config.train_cfg.max_epochs for config in trained] == [3]
    assert len(waited) == 3
    lead.__exit__(None, None, None)
    with pytest.raises(TimeoutError, match=r'no first_machine_trains after 2 s'):
        pretraining.follow(out, print, said.append, patience=2, sleep=lambda seconds: None)
    (out / 'checkpoint.pth').touch()
    pretraining.follow(out, trained.append, said.append, patience=0)
    assert len(trained) == 1
    assert said[-1] == f'{out}: this run is finished'


def test_the_first_machine_lets_the_others_in(tmp_path, monkeypatch):
    entered = []
    monkeypatch.setattr(
        pretrain_command,
        '_train_together',
        lambda config, together: entered.append((tmp_path / 'first_machine_trains').read_text()),
    )
    config = SimpleNamespace(work_dir=str(tmp_path))
    monkeypatch.setattr(pretraining, 'pretrain', lambda *args, train, **options: train(config))
    monkeypatch.setattr(torch, 'set_num_threads', entered.append)
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    slurm = dict(STEP_NUM_NODES=2, STEP_NUM_TASKS=2, NODEID=0, JOB_ID=7, STEP_ID=1)
    for name, value in slurm.items():
        monkeypatch.setenv(f'SLURM_{name}', str(value))
    command = f'pretrain a --backbone b --out {tmp_path} --rendezvous host'
    assert main(command.split()) == 0
    assert entered == [1, '7.1.0']  # threads for the trial, as those who train have
    assert list(tmp_path.iterdir()) == []


def test_more_gpus_than_there_are(photos, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 1)
    with pytest.raises(SystemExit) as ended:
        main(f'pretrain {photos} --backbone timm/test_vit --out o --gpus 2'.split())
    assert ended.value.code == 2
    assert '--gpus 2: this machine has 1' in capsys.readouterr().err


class Tells(Hook):
    """Tell the command to stop, and train on when its answer is here."""

    def __init__(self, command, number, iteration):
        self.command, self.number, self.iteration = command, number, iteration

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter != self.iteration:
            return
        before = signal.getsignal(self.number)
        os.kill(self.command, self.number)
        while signal.getsignal(self.number) is before:
            time.sleep(0.01)


def work(out, variables, said, tells):
    os.setsid()
    # not where the server of forks prints, which depends on the test that started it
    file = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(file, stream)
    os.environ.update(variables, OMP_NUM_THREADS='1')
    torch.set_num_threads(1)
    if tells and variables['RANK'] == '1':
        build = pretrain_worker.build_runner

        def build_runner(config, rank):
            runner = build(config, rank)
            runner.register_hook(Tells(*tells))
            return runner

        pretrain_worker.build_runner = build_runner
    pretrain_worker.main(out)


class Forked:
    """As a Popen, without starting Python anew: that takes ten seconds per process."""

    def __init__(self, *arguments):
        self.process = CONTEXT.Process(target=work, args=arguments)
        self.process.start()
        self.pid = self.process.pid

    def poll(self):
        return self.process.exitcode

    def send_signal(self, number):
        os.kill(self.pid, number)

    def wait(self):
        self.process.join()
        return self.process.exitcode


def start_forked(said, *tells):
    return lambda out, variables: Forked(out, variables, said, tells)


@pytest.mark.slow
def test_two_processes_stop_together_and_go_on(photos, tmp_path, capfd, monkeypatch):
    """tests/campaign/test_together.py has both signals, and the command as it is started."""
    out = tmp_path / 'out'
    command = f'pretrain {photos} --backbone timm/test_vit --image-size 32 --out {out}'
    command += ' --iterations 3 --batch-size 4 --workers 0 --gpus 2'
    printed = tmp_path / 'printed'
    start = start_forked(printed, os.getpid(), signal.SIGINT, 1)
    monkeypatch.setattr(pretrain_command, 'start_worker', start)
    with pytest.raises(SystemExit) as ended:
        main(command.split())
    assert ended.value.code == 130
    assert '4 × 2 processes' in capfd.readouterr().err
    last = printed.read_text().strip().splitlines()[-1]
    assert last == 'mmebm pretrain: interrupted; run the same command again to continue'
    assert (out / 'last_checkpoint').read_text().endswith('epoch_2.pth')  # rounds of an iteration
    monkeypatch.setattr(pretrain_command, 'start_worker', start_forked(printed))
    assert main(command.split()) == 0
    assert (out / '.dist_test').is_dir()  # MMEngine's, and not where the command was started
    assert ' - INFO - ' not in ''.join(capfd.readouterr()) + printed.read_text()
    options = dict(img_size=32, num_classes=0, global_pool='')
    timm.create_model('test_vit', checkpoint_path=out / 'backbone.safetensors', **options)
    assert (out / 'report.html').is_file()
