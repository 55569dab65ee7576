"""tools/train.py, tools/test.py and the scripts that start them in several processes."""

import os
import re
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
from tests.campaign.runs import mixed, write_config
from tests.tools import FOREIGN, exit_code, load_tool, write_images

ROOT = Path(__file__).parents[2]
train, evaluate = load_tool('train'), load_tool('test')


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.setenv('LOCAL_RANK', '0')  # else the tools set it
    write_images(tmp_path / 'images', 8)
    config = mixed(tmp_path / 'images', tmp_path / 'images', epochs=2)
    config['train_dataloader'].update(num_workers=0, persistent_workers=False, batch_size=2)
    # MMEngine keeps one logger per name and second, and tests run in one process
    return str(write_config(tmp_path / 'a config.py', config | dict(experiment_name=tmp_path.name)))


def merged(config, *arguments):
    args = train.build_parser().parse_args([config, *arguments])
    cfg = load_config(args)
    train.merge_arguments(cfg, args)
    return cfg


def test_nothing_given_changes_only_the_launcher_and_the_work_dir(config):
    cfg, plain = merged(config), Config.fromfile(config)
    assert cfg.pop('work_dir') == os.path.join('work_dirs', 'a config')
    assert cfg.pop('launcher') == 'none'
    assert cfg.to_dict() == plain.to_dict()


@pytest.mark.parametrize(
    'before', ['OptimWrapper', 'AmpOptimWrapper', 'mmpretrain.MixedPrecisionOptimWrapper']
)
def test_amp_keeps_the_other_keys(config, before):
    cfg = merged(config, '--amp', '--cfg-options', f'optim_wrapper.type={before}')
    expected = Config.fromfile(config).optim_wrapper.to_dict()
    expected['type'] = 'mmpretrain.MixedPrecisionOptimWrapper'
    assert cfg.optim_wrapper.to_dict() == expected


@pytest.mark.parametrize('by', ['resume', 'auto resume', 'load_from', 'test'])
def test_a_pickle_is_refused_without_running(config, tmp_path, capsys, tool_process, by):
    class Payload:
        def __reduce__(self):
            return os.system, (f'touch "{tmp_path}/pwned"',)

    checkpoint = tmp_path / 'bad.pth'
    torch.save(dict(state_dict={}, meta=Payload()), checkpoint)
    (tmp_path / 'last_checkpoint').write_text(str(checkpoint))
    tool, *arguments = {
        'resume': (train, '--resume', checkpoint),
        'auto resume': (train, '--resume'),
        'load_from': (train, '--cfg-options', f'load_from={checkpoint}'),
        'test': (evaluate, checkpoint),
    }[by]
    argv = [config, '--work-dir', tmp_path, *arguments]
    assert exit_code(tool.main, list(map(str, argv))) == 2
    assert 'bad.pth is refused' in capsys.readouterr().err
    assert not (tmp_path / 'pwned').exists()


def test_test_measures_what_training_did(config, tmp_path, capsys, tool_process):
    """With the weights of the checkpoint, which are not those that the config starts from."""
    train.main([config, '--work-dir', str(tmp_path / 'out')])
    first, last = re.findall(r'restoration/psnr: ([\d.]+)', capsys.readouterr().out)
    evaluate.main([config, str(tmp_path / 'out/epoch_2.pth'), '--work-dir', str(tmp_path / 'test')])
    assert re.findall(r'restoration/psnr: ([\d.]+)', capsys.readouterr().out) == [last]
    assert first != last
    with Path(config).open('a') as file:
        file.write('test_dataloader = None\n')
    assert exit_code(evaluate.main, [config, 'any.pth']) == 2
    assert 'no test set' in capsys.readouterr().err


def test_a_base_of_mmpretrain(config, tmp_path, tool_process):
    """Its collate_fn comes with a _scope_, which the function would refuse."""
    path, name = Path(config), 'mmpretrain::_base_/datasets/imagenet_bs512_mae.py'
    first, *rest = path.read_text().splitlines()
    base = first.removeprefix('_base_ = ')
    rest.append("train_dataloader['dataset']['_delete_'] = True")
    path.write_text('\n'.join([f'_base_ = [{base}, {name!r}]', *rest]))
    train.main([config, '--work-dir', str(tmp_path / 'out'), '--no-validate'])
    assert (tmp_path / 'out' / 'epoch_2.pth').is_file()


def run(*command, cwd=None, timeout=300, **environment):
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        env={**os.environ, 'PYTHON': sys.executable, 'PYTHONPATH': str(ROOT), **environment},
    )


@pytest.mark.slow
def test_two_nodes_train_and_one_process_resumes(config, tmp_path, monkeypatch, tool_process):
    """tools/dist_train.sh as on two nodes without GPUs, then tools/train.py on their checkpoint."""
    with socket.socket() as server:
        server.bind(('127.0.0.1', 0))
        port = str(server.getsockname()[1])
    environment = dict(OMP_NUM_THREADS='1', NNODES='2', PORT=port, CUDA_VISIBLE_DEVICES='')
    environment['LOGLEVEL'] = 'INFO'  # the launcher tells when its processes have ended well
    options = ['auto_scale_lr.base_batch_size=16', 'optim_wrapper.accumulative_counts=2']
    command = ['bash', ROOT / 'tools' / 'dist_train.sh', config, 1, '--work-dir', 'out', '--amp']
    command += ['--no-validate', '--auto-scale-lr', '--cfg-options', 'param_scheduler=[]', *options]

    def node(rank):
        try:
            return run(*command, cwd=tmp_path, timeout=150, NODE_RANK=rank, **environment)
        except subprocess.TimeoutExpired as late:  # launchers miss each other: pytorch issue 69520
            ended = b'(WorkerState.SUCCEEDED). Waiting' in late.stdout
            return subprocess.CompletedProcess(command, not ended, str(late.stdout))

    with ThreadPoolExecutor() as nodes:
        done = list(nodes.map(node, '01'))
    output = ''.join(node.stdout for node in done)
    assert [node.returncode for node in done] == [0, 0], output
    assert output.count('over gloo') == 1
    assert not any(foreign in output for foreign in FOREIGN)
    checkpoint = load_checkpoint_safely(tmp_path / 'out' / 'epoch_2.pth')
    assert checkpoint['meta']['iter'] == 4  # 8 images, 2 × 2 each
    # scaled by processes × batch / base; gradient accumulation does not matter
    assert checkpoint['optimizer']['param_groups'][0]['lr'] == pytest.approx(1e-3 * 2 * 2 / 16)

    more = ['--resume', '--amp', '--no-validate', '--cfg-options', 'train_cfg.max_epochs=3']
    train.main([config, '--work-dir', str(tmp_path / 'out'), *more])
    assert load_checkpoint_safely(tmp_path / 'out' / 'epoch_3.pth')['meta']['iter'] == 4 + 4


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
