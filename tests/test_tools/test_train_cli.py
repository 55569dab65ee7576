import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mmebm.cli.launch import RANKS, _set_ranks, load_config
from mmebm.utils.checkpoint import load_checkpoint_safely
from tests.tools import FOREIGN, load_tool

ROOT = Path(__file__).parents[2]

# The smallest run: the model and the data are MMPretrain's
CONFIG = """
default_scope = 'mmpretrain'
custom_imports = dict(imports=['tiny_parts'], allow_failed_imports=False)
model = dict(type='TinyModel')
train_dataloader = dict(
    batch_size=2,
    dataset=dict(type='TinyData'),
    sampler=dict(type='DefaultSampler', shuffle=True),
)
train_cfg = dict(by_epoch=True, max_epochs=2)
val_dataloader = test_dataloader = None
optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='SGD', lr=0.01), clip_grad=dict(max_norm=1))
default_hooks = dict(checkpoint=dict(type='CheckpointHook', interval=1))
env_cfg = dict(dist_cfg=dict(backend='nccl', timeout=1800))
sync_bn = 'torch'
"""

PARTS = """
import torch
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmpretrain.registry import DATASETS, METRICS, MODELS
from torch import nn
from torch.utils.data import Dataset


@MODELS.register_module()
class TinyModel(BaseModel):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 1)
        self.norm = nn.BatchNorm1d(1)

    def forward(self, *images, mode):
        if mode == 'predict':
            return [self.linear(image) for image in images]
        return dict(loss=self.norm(self.linear(torch.stack(images))).square().mean())


@DATASETS.register_module()
class TinyData(Dataset):
    metainfo = {}

    def full_init(self):
        pass

    def __len__(self):
        return 8

    def __getitem__(self, index):
        return torch.ones(3) * index


@METRICS.register_module()
class TinyMetric(BaseMetric):
    def process(self, data_batch, data_samples):
        self.results.extend(float(output) for output in data_samples)

    def compute_metrics(self, results):
        return dict(highest=max(results))
"""


train = load_tool('train')
evaluate = load_tool('test')


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / 'tiny config.py'
    # MMEngine keeps one logger per name and second, and tests run in one process
    path.write_text(f'{CONFIG}experiment_name = {tmp_path.name!r}\n')
    (tmp_path / 'tiny_parts.py').write_text(PARTS)
    return str(path)


def merged(config, *arguments):
    args = train.build_parser().parse_args([config, *arguments])
    cfg = load_config(args)
    train.merge_arguments(cfg, args)
    return cfg


def error_of(tool, capsys, *arguments):
    """The error message of a tool that refuses its arguments."""
    with pytest.raises(SystemExit) as raised:
        tool.main([str(argument) for argument in arguments])
    assert raised.value.code == 2
    return capsys.readouterr().err


class TestMerging:
    def test_nothing_given_changes_only_the_launcher_and_the_work_dir(self, config):
        cfg, plain = merged(config), Config.fromfile(config)
        assert cfg.pop('work_dir') == os.path.join('work_dirs', 'tiny config')
        assert cfg.pop('launcher') == 'none'
        assert cfg.to_dict() == plain.to_dict()

    def test_work_dir(self, config):
        assert merged(config, '--work-dir', 'here').work_dir == 'here'
        Path(config).write_text(CONFIG + "work_dir = 'of the config'\n")
        assert merged(config).work_dir == 'of the config'

    def test_resume(self, config):
        assert merged(config).get('resume') is None
        for arguments in (['--resume'], ['--resume', 'auto']):
            cfg = merged(config, *arguments, '--cfg-options', 'load_from=other.pth')
            assert cfg.resume is True
            assert cfg.load_from is None
        cfg = merged(config, '--resume', 'epoch_1.pth')
        assert (cfg.resume, cfg.load_from) == (True, 'epoch_1.pth')

    @pytest.mark.parametrize(
        'before', ['OptimWrapper', 'AmpOptimWrapper', 'mmpretrain.MixedPrecisionOptimWrapper']
    )
    def test_amp_keeps_the_other_keys(self, config, before):
        cfg = merged(config, '--amp', '--cfg-options', f'optim_wrapper.type={before}')
        assert cfg.optim_wrapper.to_dict() == dict(
            type='mmpretrain.MixedPrecisionOptimWrapper',
            optimizer=dict(type='SGD', lr=0.01),
            clip_grad=dict(max_norm=1),
        )

    def test_no_validate(self, config):
        cfg = merged(config, '--no-validate', '--cfg-options', 'val_cfg.fp16=False')
        assert cfg.val_cfg is None
        assert cfg.val_dataloader is None
        assert cfg.val_evaluator is None

    def test_auto_scale_lr(self, config):
        cfg = merged(config, '--auto-scale-lr', '--cfg-options', 'auto_scale_lr.base_batch_size=64')
        assert cfg.auto_scale_lr.to_dict() == dict(base_batch_size=64, enable=True)

    def test_cfg_options(self, config):
        cfg = merged(config, '--cfg-options', 'optim_wrapper.optimizer.lr=1', 'train_cfg.a.b=[1,2]')
        assert cfg.optim_wrapper.optimizer.lr == 1
        assert cfg.train_cfg.a.b == [1, 2]


class TestErrors:
    def test_missing_config(self, tmp_path, capsys):
        path = tmp_path / 'gone.py'
        assert f'error: config {path} does not exist' in error_of(train, capsys, path)

    def test_missing_base_config(self, config, capsys):
        Path(config).write_text("_base_ = 'gone.py'\n")
        assert 'gone.py' in error_of(train, capsys, config)

    def test_cfg_options_that_do_not_fit(self, config, capsys):
        assert 'does not fit the config' in error_of(
            train, capsys, config, '--cfg-options', 'test_dataloader.batch_size=2'
        )

    def test_auto_scale_lr_without_base(self, config, capsys):
        assert 'auto_scale_lr = dict(base_batch_size=' in error_of(
            train, capsys, config, '--auto-scale-lr'
        )

    def test_amp_with_another_wrapper(self, config, capsys):
        arguments = ['--amp', '--cfg-options', 'optim_wrapper.type=ApexOptimWrapper']
        assert 'ApexOptimWrapper' in error_of(train, capsys, config, *arguments)

    def test_resume_from_a_missing_file(self, config, capsys):
        assert 'gone.pth does not exist' in error_of(train, capsys, config, '--resume', 'gone.pth')

    def test_resume_where_the_last_checkpoint_is_gone(self, config, tmp_path, capsys):
        (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_7.pth'))
        assert 'epoch_7.pth does not exist' in error_of(
            train, capsys, config, '--resume', '--work-dir', tmp_path
        )

    @pytest.mark.parametrize('by', ['resume', 'auto resume', 'load_from', 'test'])
    def test_a_pickle_is_refused_without_running(self, config, tmp_path, capsys, by):
        class Payload:
            def __reduce__(self):
                return os.system, (f'touch "{tmp_path}/pwned"',)

        checkpoint = tmp_path / 'bad.pth'
        torch.save(dict(state_dict={}, meta=Payload()), checkpoint)
        (tmp_path / 'last_checkpoint').write_text(str(checkpoint))
        tool, *arguments = {
            'resume': (train, config, '--resume', checkpoint),
            'auto resume': (train, config, '--resume', '--work-dir', tmp_path),
            'load_from': (train, config, '--cfg-options', f'load_from={checkpoint}'),
            'test': (evaluate, config, checkpoint, '--cfg-options', 'test_dataloader=1'),
        }[by]
        assert 'bad.pth is refused: it is a pickle' in error_of(tool, capsys, *arguments)
        assert not (tmp_path / 'pwned').exists()

    def test_test_without_test_set(self, config, capsys):
        assert 'has no test set' in error_of(evaluate, capsys, config, 'any.pth')


def run(*command, cwd=None, **environment):
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=3600,
        env={**os.environ, 'PYTHON': sys.executable, 'PYTHONPATH': str(ROOT), **environment},
    )


def free_port():
    with socket.socket() as server:
        server.bind(('127.0.0.1', 0))
        return str(server.getsockname()[1])


@pytest.mark.slow
def test_two_nodes_train_and_one_process_resumes(config, tmp_path, monkeypatch, tool_process):
    """tools/dist_train.sh as on two nodes without GPUs, then tools/train.py on their checkpoint."""
    environment = dict(
        PYTHONPATH=f'{ROOT}{os.pathsep}{tmp_path}',
        OMP_NUM_THREADS='1',
        NNODES='2',
        PORT=free_port(),
        CUDA_VISIBLE_DEVICES='',
    )
    options = ['auto_scale_lr.base_batch_size=16', 'optim_wrapper.accumulative_counts=2']
    command = ['bash', ROOT / 'tools' / 'dist_train.sh', config, 1, '--work-dir', 'out', '--amp']
    command += ['--auto-scale-lr', '--cfg-options', *options]
    with ThreadPoolExecutor() as nodes:
        done = list(
            nodes.map(lambda i: run(*command, cwd=tmp_path, NODE_RANK=i, **environment), '01')
        )
    output = ''.join(node.stdout for node in done)
    assert [node.returncode for node in done] == [0, 0], output
    assert output.count('over gloo') == 1
    for foreign in FOREIGN:
        assert foreign not in output
    out = tmp_path / 'out'
    assert (out / 'last_checkpoint').read_text().strip().endswith('epoch_2.pth')
    checkpoint = load_checkpoint_safely(out / 'epoch_2.pth')
    assert checkpoint['meta']['iter'] == 4  # 8 images, 2 × 2 each
    # scaled by processes × batch / base; gradient accumulation does not matter
    (group,) = checkpoint['optimizer']['param_groups']
    assert group['lr'] == pytest.approx(0.01 * 2 * 2 / 16)

    monkeypatch.chdir(tmp_path)
    more = ['--resume', '--amp', '--cfg-options', 'train_cfg.max_epochs=3']
    train.main([config, '--work-dir', 'out', *more])
    assert load_checkpoint_safely(out / 'epoch_3.pth')['meta']['iter'] == 4 + 4


class TestRanks:
    """slurm and Open MPI set their own variables for rank and world size."""

    VARIABLES = ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR', 'MASTER_PORT')

    @pytest.fixture(autouse=True)
    def environment(self, monkeypatch):
        for name in (*self.VARIABLES, *sum(RANKS.values(), ())):
            monkeypatch.setenv(name, '')  # so that what is set here is undone
            monkeypatch.delenv(name)

    def test_mpi(self, monkeypatch):
        for name, value in zip(RANKS['mpi'], '583', strict=True):
            monkeypatch.setenv(name, value)
        with pytest.raises(ValueError, match='mpirun -x MASTER_ADDR='):
            _set_ranks('mpi')
        monkeypatch.setenv('MASTER_ADDR', 'node1')
        monkeypatch.setenv('MASTER_PORT', '123')
        _set_ranks('mpi')
        assert [os.environ[n] for n in self.VARIABLES] == ['5', '8', '3', 'node1', '123']

    def test_slurm(self, monkeypatch, tmp_path):
        scontrol = tmp_path / 'scontrol'
        scontrol.write_text('#!/bin/sh\n[ "$*" = "show hostnames n[1-2]" ] && echo n1 n2')
        scontrol.chmod(0o755)
        monkeypatch.setenv('PATH', str(tmp_path), prepend=os.pathsep)
        monkeypatch.setenv('SLURM_NODELIST', 'n[1-2]')
        for name, value in zip(RANKS['slurm'], '120', strict=True):
            monkeypatch.setenv(name, value)
        _set_ranks('slurm')
        assert [os.environ[n] for n in self.VARIABLES] == ['1', '2', '0', 'n1', '29500']

    def test_a_process_that_the_launcher_did_not_start(self):
        with pytest.raises(ValueError, match='--launcher slurm sets SLURM_PROCID'):
            _set_ranks('slurm')


def test_test_runs_the_weights_of_the_checkpoint(config, tmp_path, capsys, tool_process):
    with Path(config).open('a') as file:
        file.write(
            'test_cfg = dict()\n'
            "test_evaluator = dict(type='TinyMetric')\n"
            "test_dataloader = dict(batch_size=2, dataset=dict(type='TinyData'),\n"
            "    sampler=dict(type='DefaultSampler', shuffle=False))\n"
        )
    weights = {'linear.weight': torch.ones(1, 3), 'linear.bias': torch.tensor([0.5])}
    weights |= {f'norm.{k}': v for k, v in torch.nn.BatchNorm1d(1).state_dict().items()}
    torch.save(dict(state_dict=weights), tmp_path / 'weights.pth')
    evaluate.main([config, str(tmp_path / 'weights.pth'), '--work-dir', str(tmp_path / 'out')])
    assert 'highest: 21.5000' in capsys.readouterr().out  # image 7: three pixels of 7, plus 0.5


@pytest.mark.parametrize('script', ['dist_train.sh', 'dist_test.sh', 'slurm_train.sh'])
def test_scripts_print_their_usage(script):
    done = run('bash', ROOT / 'tools' / script)
    assert done.returncode == 2
    assert done.stdout.startswith('usage: ')


def test_slurm_script_passes_everything_to_srun(tmp_path):
    srun = tmp_path / 'srun'
    srun.write_text('#!/bin/sh\nprintf "%s\\n" "port $MASTER_PORT" "$@"\n')
    srun.chmod(0o755)
    done = run(
        *('bash', ROOT / 'tools' / 'slurm_train.sh', 'part', 'job', 'a config.py', 'out', '--amp'),
        PATH=f'{tmp_path}:{os.environ["PATH"]}',
        GPUS='4',
        SRUN_ARGS='--time=1:00 --qos=x',
        PORT='12345',
        PYTHON='py',
    )
    assert done.stdout.splitlines() == [
        'port 12345',
        '--partition=part',
        '--job-name=job',
        '--gres=gpu:4',
        '--ntasks=4',
        '--ntasks-per-node=4',
        '--cpus-per-task=8',
        '--kill-on-bad-exit=1',
        '--time=1:00',
        '--qos=x',
        'py',
        '-u',
        str(ROOT / 'tools' / 'train.py'),
        'a config.py',
        '--work-dir',
        'out',
        '--launcher',
        'slurm',
        '--amp',
    ]
