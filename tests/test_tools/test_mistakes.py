"""tools/train.py: a mistake of the user is one line and exit code 2, a defect a stack trace."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmpretrain.registry import HOOKS, MODELS
from torch.utils.data import DataLoader

from mmebm.cli.errors import mistake, one_line_errors
from mmebm.cli.launch import check_keys
from mmebm.models import EnergyRestorationAlgorithm
from mmebm.utils import UserError
from tests.campaign.runs import mixed, write_config
from tests.tools import exit_code, load_tool, write_images

ROOT = Path(__file__).parents[2]
train, evaluate = load_tool('train'), load_tool('test')


@pytest.fixture(autouse=True)
def environment(monkeypatch, tool_process):
    monkeypatch.setattr(Runner, '_log_env', lambda self, env_cfg: None)  # it runs compilers


@pytest.fixture
def config(tmp_path):
    """A small run of our method on four images."""
    write_images(tmp_path / 'images', 4)
    (tmp_path / 'empty').mkdir()
    config = mixed(tmp_path / 'images', tmp_path / 'images', epochs=1)
    config['train_dataloader'].update(num_workers=0, persistent_workers=False, batch_size=2)
    config.update(val_dataloader=None, val_cfg=None, val_evaluator=None)
    config.update(folder=str(tmp_path / 'images'), experiment_name=tmp_path.name)
    return write_config(tmp_path / 'config.py', config)


def line_of(tool, capsys, *arguments):
    """The one line with which a tool refuses its arguments."""
    capsys.readouterr()
    assert exit_code(tool.main, list(map(str, arguments))) == 2
    error = capsys.readouterr().err
    assert error.count('\n') == 1, error
    assert ': error: ' in error
    return error


# options, what the line names, and whether the stack trace is in a log by then
OPTIONS = [
    # keys that MMEngine would ignore
    ('trian_dataloader.batch_size=3', ['train_dataloader'], False),
    ('folder=elsewhere', ['folder'], False),
    ('novel', ['--cfg-options', 'novel'], False),
    ('model=dict(a=1,b=2)', ['--cfg-options', 'dict'], False),
    # what constructors refuse
    ('model.num_stepz=3', ['num_stepz'], True),
    ('model.backbone.patchsize=4', ['VisionTransformer', 'patchsize'], True),
    ('model.backbone.patch_size=0', ['model', 'ZeroDivisionError'], True),
    ('model.head.in_channels=17', ['in_channels=17', 'in_channels=32'], True),
    ('model.type=EnergyRestoration', ['EnergyRestoration is not in'], True),
    ('train_dataloader.batchsize=3', ['dataloader', 'batchsize'], True),
    ('train_dataloader.dataset.pipeline.2.probz=3', ['MixedCorruption', 'probz'], True),
    ('train_dataloader.dataset.data_root={empty}', ['No image below', 'empty'], True),
    ('train_dataloader.batch_size=5', ['4 training images'], True),
    ('optim_wrapper.optimizer.lrr=1', ['optim wrapper', 'AdamW', 'lrr'], True),
    ('param_scheduler.0.eta_mim=1', ['param scheduler', 'eta_mim'], True),
    ('train_cfg.max_epoch=3', ['train loop', 'max_epoch'], True),
    ('randomness.sede=3', ['sede'], False),
    ('train_cfg=None', ['train_cfg'], False),
    ('resume=True load_from=gone.pth', ['gone.pth does not exist'], False),
]


@pytest.mark.parametrize(('options', 'expected', 'logged'), OPTIONS, ids=[o[0] for o in OPTIONS])
def test_a_mistake_in_an_option(config, capsys, options, expected, logged):
    options, work_dir = options.format(empty=config.parent / 'empty').split(), config.parent / 'out'
    line = line_of(train, capsys, config, '--work-dir', work_dir, '--cfg-options', *options)
    assert all(text in line for text in expected), line
    logs = list(work_dir.glob('*/*.log'))
    assert bool(logs) == logged
    if logged:
        assert str(logs[0]) in line
        assert 'Traceback (most recent call last)' in logs[0].read_text()


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        ('model = dict(', 'SyntaxError'),
        ('x = undefined', 'NameError'),
        ("custom_imports = dict(imports=['no_such_module'])", 'no_such_module'),
        ('train_dataloaders = dict()', 'train_dataloader'),
        ('train_dataloader = None', 'config.py'),
    ],
)
def test_a_mistake_in_the_config_file(config, capsys, text, expected):
    config.write_text(config.read_text() + text + '\n')
    assert expected in line_of(train, capsys, config)


def test_the_trace_is_printed_on_demand(config, capsys, monkeypatch):
    arguments = [str(config), '--cfg-options', 'trian_cfg=3', '--traceback']
    monkeypatch.setattr(sys, 'argv', ['train.py', *arguments])
    with pytest.raises(SystemExit):
        train.main(arguments)
    assert 'Traceback (most recent call last)' in capsys.readouterr().err


def test_a_checkpoint_of_another_network(config, capsys):
    out = ['--work-dir', str(config.parent / 'out')]
    train.main([str(config), *out])
    checkpoint = config.parent / 'out' / 'epoch_1.pth'
    resnet = dict(type='ResNet', depth=18, base_channels=4, stem_channels=4)
    head = dict(type='EnergyHead', in_channels=32)
    other = config.with_name('resnet.py')
    model = dict(backbone=dict(resnet, _delete_=True), head=head)
    other.write_text(f"_base_ = 'config.py'\nmodel = {model}\nexperiment_name = 'resnet'\n")
    for tool, *arguments in (
        (evaluate, checkpoint),
        (train, '--cfg-options', f'load_from={checkpoint}'),
        (train, '--resume', checkpoint),
    ):
        line = line_of(tool, capsys, other, *arguments, '--work-dir', config.parent / 'other')
        assert f'{checkpoint} belongs to another network' in line
    # with another image size it is still the same backbone
    options = ['model.backbone.img_size=16', f'load_from={checkpoint}']
    options += ['train_dataloader.dataset.pipeline.1.scale=16', 'experiment_name=larger']
    train.main([str(config), *out, '--cfg-options', *options])


@pytest.mark.parametrize('workers', [0, 1])
def test_a_mistake_in_the_data(config, capsys, workers):
    """Found by our code at the first iteration, in a worker, whose error comes as text."""
    second = dict(type='GriddedMask', patch_size=4, ratio=0.5)
    with config.open('a') as file:
        file.write(f"train_dataloader['dataset']['pipeline'].insert(2, {second})\n")
    options = ['--cfg-options', f'train_dataloader.num_workers={workers}']
    line = line_of(train, capsys, config, '--work-dir', config.parent / 'out', *options)
    assert 'uint8' in line
    assert 'Traceback' not in line


@MODELS.register_module()
class RefusesWhenCalled(EnergyRestorationAlgorithm):
    def loss(self, *_, **__):
        raise ValueError('by a class that is not ours')


@HOOKS.register_module()
class FullDiskHook(Hook):
    def after_train_iter(self, runner, **_):
        Path('/dev/null/file').read_text()  # a system error in code that is not ours


def test_from_the_first_iteration_a_defect_keeps_its_trace(config):
    options = ['--cfg-options', 'model.type=RefusesWhenCalled']
    with pytest.raises(ValueError, match='not ours'):
        train.main([str(config), '--work-dir', str(config.parent / 'out'), *options])


def test_from_the_first_iteration_a_file_that_cannot_be_opened_is_one_line(config, capsys):
    options = ['--cfg-options', 'default_hooks.disk.type=FullDiskHook']
    line = line_of(train, capsys, config, '--work-dir', config.parent / 'out', *options)
    assert '/dev/null/file' in line


FILES = sorted(ROOT.glob('configs/[a-z]*/*.py'))


@pytest.mark.parametrize('folder', sorted({path.parent.name for path in FILES}))
def test_no_config_is_refused(folder):
    path = next(path for path in FILES if path.parent.name == folder)
    check_keys(Config.fromfile(path, import_custom_modules=False))


MPS = "The operator 'aten::x.out' is not currently implemented for the MPS device. If you want..."


def raised(error):
    raise error


@pytest.mark.parametrize(
    ('function', 'expected'),
    [
        (lambda: raised(UserError('x\nis wrong')), 'x\nis wrong'),
        (lambda: raised(ValueError('of the tests')), None),
        (lambda: MODELS.build(dict(type='Gone')), 'Gone'),
        (lambda: Path('/gone/x').read_text(), '/gone/x'),
        (lambda: None + 1, None),
        (lambda: torch.zeros(2) + torch.zeros(3), None),
        (lambda: raised(RuntimeError('CUDA out of memory. Tried to ...')), 'smaller batch'),
        (lambda: raised(RuntimeError('worker:\nout of shared memory (shm)\n')), '--shm-size'),
        (lambda: raised(RuntimeError('DataLoader worker (pid 7) is killed by signal')), 'worker'),
        (lambda: raised(NotImplementedError(MPS)), 'PYTORCH_ENABLE_MPS_FALLBACK=1'),
        (lambda: raised(RuntimeError('pair.cc:5 Connection closed by peer')), 'another process'),
    ],
)
def test_the_rule(function, expected):
    with pytest.raises(Exception) as caught:  # noqa: PT011  any
        function()
    message = mistake(caught.value)
    assert message is None if expected is None else expected in message


class TestInterruption:
    @pytest.mark.parametrize(('number', 'code'), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
    @pytest.mark.parametrize('how', ['comes', 'is replaced'])
    def test_a_signal_is_one_line(self, capsys, number, code, how):
        """Also where a library turns it into an error of its own, or torch misses a worker."""
        before = signal.getsignal(signal.SIGTERM)

        def stop():
            try:
                os.kill(os.getpid(), number)
                time.sleep(10)
            except BaseException:
                if how == 'comes':
                    raise
                raise SyntaxError('Failed to format the config file')  # noqa: B904  as MMEngine

        with pytest.raises(SystemExit) as raised, one_line_errors('tool.py', 'so it goes on'):
            stop()
        assert raised.value.code == code
        line = capsys.readouterr().err
        assert line.count('\n') == 1
        assert line.endswith('so it goes on\n')
        assert signal.getsignal(signal.SIGTERM) is before

    def test_workers_are_ended(self):
        """Else they print a stack trace each, seconds later."""
        started = []

        def load():
            started.append(iter(DataLoader(range(8), num_workers=2, persistent_workers=True)))
            next(started[0])
            raise KeyboardInterrupt

        with pytest.raises(SystemExit), one_line_errors('tool.py'):
            load()
        assert not any(worker.is_alive() for worker in started[0]._workers)
