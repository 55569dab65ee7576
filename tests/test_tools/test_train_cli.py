import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mmebm.cli.launch import load_config
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

TEST_SET = """
test_cfg = dict()
test_evaluator = dict(type='TinyMetric')
test_dataloader = dict(
    batch_size=2,
    dataset=dict(type='TinyData'),
    sampler=dict(type='DefaultSampler', shuffle=False),
)
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


@pytest.mark.parametrize(
    ('arguments', 'text'),
    [
        (['--cfg-options', 'test_dataloader.batch_size=2'], '--cfg-options'),
        (['--auto-scale-lr'], 'base_batch_size'),
        (['--amp', '--cfg-options', 'optim_wrapper.type=ApexOptimWrapper'], 'ApexOptimWrapper'),
        (['--resume', 'gone.pth'], 'gone.pth does not exist'),
        (['--resume', '--work-dir', '{folder}'], 'epoch_7.pth does not exist'),
    ],
)
def test_arguments_that_do_not_fit(config, tmp_path, capsys, tool_process, arguments, text):
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_7.pth'))
    work_dir = [] if '--work-dir' in arguments else ['--work-dir', str(tmp_path / 'out')]
    arguments = [argument.format(folder=tmp_path) for argument in arguments]
    assert text in error_of(train, capsys, config, *work_dir, *arguments)


@pytest.mark.parametrize('by', ['resume', 'auto resume', 'load_from', 'test'])
def test_a_pickle_is_refused_without_running(config, tmp_path, capsys, tool_process, by):
    class Payload:
        def __reduce__(self):
            return os.system, (f'touch "{tmp_path}/pwned"',)

    checkpoint = tmp_path / 'bad.pth'
    torch.save(dict(state_dict={}, meta=Payload()), checkpoint)
    (tmp_path / 'last_checkpoint').write_text(str(checkpoint))
    with Path(config).open('a') as file:
        file.write(TEST_SET)
    tool, *arguments = {
        'resume': (train, '--resume', checkpoint),
        'auto resume': (train, '--resume'),
        'load_from': (train, '--cfg-options', f'load_from={checkpoint}'),
        'test': (evaluate, checkpoint),
    }[by]
    line = error_of(tool, capsys, config, '--work-dir', tmp_path, *arguments)
    assert 'bad.pth is refused' in line
    assert not (tmp_path / 'pwned').exists()


def run(*command, cwd=None, **environment):
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
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


def test_test_runs_the_weights_of_the_checkpoint(config, tmp_path, capsys, tool_process):
    assert 'no test set' in error_of(evaluate, capsys, config, 'any.pth')
    with Path(config).open('a') as file:
        file.write(TEST_SET)
    weights = {'linear.weight': torch.ones(1, 3), 'linear.bias': torch.tensor([0.5])}
    weights |= {f'norm.{k}': v for k, v in torch.nn.BatchNorm1d(1).state_dict().items()}
    torch.save(dict(state_dict=weights), tmp_path / 'weights.pth')
    evaluate.main([config, str(tmp_path / 'weights.pth'), '--work-dir', str(tmp_path / 'out')])
    assert 'highest: 21.5000' in capsys.readouterr().out  # image 7: three pixels of 7, plus 0.5


@pytest.mark.parametrize(
    ('script', 'arguments', 'expected'),
    [
        ('dist_train.sh', 'c.py 2 --amp', 'train.py c.py --launcher pytorch --amp'),
        ('dist_test.sh', 'c.py x.pth 2 --amp', 'test.py c.py x.pth --launcher pytorch --amp'),
        ('slurm_train.sh', 'part job c.py out --amp', 'c.py --work-dir out --launcher slurm --amp'),
        ('slurm_test.sh', 'part job c.py x.pth --amp', 'test.py c.py x.pth --launcher slurm --amp'),
    ],
)
def test_scripts_pass_everything_on(tmp_path, script, arguments, expected):
    said = tmp_path / 'said'
    for name in ('srun', 'python'):
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\necho "$MASTER_PORT $@" > {said}\n')
        program.chmod(0o755)
    environment = dict(PATH=f'{tmp_path}:{os.environ["PATH"]}', PYTHON='python', PORT='12345')
    environment |= dict(GPUS='4', SRUN_ARGS='--time=1:00 --qos=x')
    usage = run('bash', ROOT / 'tools' / script)
    assert usage.returncode == 2
    assert usage.stdout.startswith('usage: ')
    assert run('bash', ROOT / 'tools' / script, *arguments.split(), **environment).returncode == 0
    line = said.read_text()
    assert line.endswith(f'{expected}\n')
    options = '--nproc-per-node=2 --master-port=12345'
    if script.startswith('slurm'):
        options = '12345 --partition=part --job-name=job --gres=gpu:4 --ntasks=4 --qos=x'
    assert set(options.split()) <= set(line.split())
