"""tools/train.py and tools/test.py: a mistake of the user is one line and the exit code 2."""

import errno
import os
import pickle
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import CheckpointLoader, Runner
from mmpretrain.registry import HOOKS, MODELS
from PIL import Image
from torch.utils.data import DataLoader

from mmebm.cli.config_check import check_config, option_names
from mmebm.cli.errors import mistake, one_line_errors
from mmebm.models import EnergyRestorationAlgorithm
from tests.tools import load_tool

train, evaluate = load_tool('train'), load_tool('test')

VIT = dict(
    type='VisionTransformer',
    arch=dict(embed_dims=16, num_layers=1, num_heads=2, feedforward_channels=16),
    img_size=8,
    patch_size=4,
    out_type='avg_featmap',
)
RESNET = dict(type='ResNet', depth=18, base_channels=4, stem_channels=4)


def config_text(folder, **changes):
    """A small run of our method on the images in ``folder``."""
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='Resize', scale=(8, 8)),
        dict(type='GriddedMask', patch_size=4, ratio=0.5),
        dict(type='PackInputs'),
    ]
    loader = dict(
        batch_size=2,
        drop_last=True,
        collate_fn=dict(type='default_collate'),
        sampler=dict(type='DefaultSampler', shuffle=False),
        dataset=dict(type='ImageFolder', data_root=str(folder), pipeline=pipeline),
    )
    config = dict(
        default_scope='mmpretrain',
        custom_imports=dict(imports=['mmebm'], allow_failed_imports=False),
        folder=str(folder),
        model=dict(
            type='EnergyRestorationAlgorithm',
            backbone=VIT,
            head=dict(type='EnergyHead', in_channels=16),
            data_preprocessor=dict(type='SelfSupDataPreprocessor', mean=[0] * 3, std=[255] * 3),
        ),
        train_dataloader=loader,
        train_cfg=dict(by_epoch=True, max_epochs=1),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)),
        param_scheduler=[dict(type='LinearLR', end=1, convert_to_iter_based=True)],
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1)),
        test_dataloader=loader,
        test_cfg=dict(),
        test_evaluator=dict(type='EnergyMetric'),
        experiment_name=Path(folder).parent.name,
    )
    return ''.join(f'{name} = {value!r}\n' for name, value in (config | changes).items())


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.setenv('LOCAL_RANK', '0')
    monkeypatch.setattr(CheckpointLoader, '_schemes', CheckpointLoader._schemes.copy())
    monkeypatch.setattr(Runner, '_log_env', lambda self, env_cfg: None)  # it runs compilers


@pytest.fixture
def config(tmp_path):
    images = tmp_path / 'images'
    images.mkdir()
    for name in 'abcd':
        Image.fromarray(np.full((8, 8, 3), 99, np.uint8)).save(images / f'{name}.png')
    (tmp_path / 'empty').mkdir()
    path = tmp_path / 'config.py'
    path.write_text(config_text(images))
    return path


def line_of(tool, capsys, *arguments):
    """The one line with which a tool refuses its arguments."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as raised:
        tool.main([str(argument) for argument in arguments])
    assert raised.value.code == 2
    error = capsys.readouterr().err
    assert error.count('\n') == 1, error
    assert ': error: ' in error
    return error


def work_dir_of(config):
    return config.parent / 'out'


@pytest.mark.parametrize(
    ('options', 'expected'),
    [
        # keys that no code reads
        (['model.num_stepz=3'], ['model.num_stepz', 'the nearest is num_steps;', 'neck']),
        (['model.head.in_channel=3'], ['model.head.in_channel', 'the nearest is in_channels;']),
        (['model.backbone.patchsize=4'], ['model.backbone.patchsize', 'nearest is patch_size;']),
        (['train_dataloader.batchsize=3'], ['train_dataloader.batchsize', 'batch_size', 'num_w']),
        (['train_dataloader.dataset.repeat=3'], ['dataset.repeat', 'ImageFolder', 'repeats;']),
        (
            ['train_dataloader.dataset.pipeline.2.patchsize=3'],
            ['train_dataloader.dataset.pipeline.2.patchsize', 'GriddedMask', 'patch_size;'],
        ),
        (['optim_wrapper.optimizer.lrr=1'], ['optim_wrapper.optimizer.lrr', 'SGD', 'is lr;']),
        (['optim_wrapper.clip_grads=1'], ['optim_wrapper.clip_grads', 'clip_grad;']),
        (
            ['optim_wrapper.paramwise_cfg.norm_decay_mul=0'],
            ['optim_wrapper.paramwise_cfg.norm_decay_mul', 'the nearest is norm_decay_mult;'],
        ),
        (['param_scheduler.0.start_facto=1'], ['param_scheduler.0.start_facto', 'start_factor;']),
        (['train_cfg.max_epoch=3'], ['train_cfg.max_epoch', 'the nearest is max_epochs;']),
        (['default_hooks.chekpoint.interval=3'], ['default_hooks.chekpoint', 'is checkpoint']),
        (['default_hooks.checkpoint.intervall=3'], ['checkpoint.intervall', 'interval;']),
        (['randomness.sede=3'], ['randomness.sede', 'the nearest is seed;']),
        (['env_cfg.cudnn_benchmrk=1'], ['env_cfg.cudnn_benchmrk', 'cudnn_benchmark;']),
        (['trian_dataloader.batch_size=3'], ['trian_dataloader.batch_size', 'train_dataloader']),
        (['folder=elsewhere'], ['folder is a variable', 'train_dataloader.dataset.data_root']),
        (['novel'], ['--cfg-options', 'KEY=VALUE', 'novel']),
        # unknown types
        (['model.type=EnergyRestoration'], ['model.type', 'EnergyRestorationAlgorithm']),
        (['model.backbone.type=VisionTransfomer'], ['backbone.type', 'is VisionTransformer']),
        (['train_dataloader.dataset.type=ImageFoldr'], ['dataset.type', 'ImageFolder']),
        # bad values
        (['model.num_steps=-1'], ['num_steps must be an integer ≥ 0, got -1', '.log)']),
        (['model.step_size=nan'], ['step_size must be a finite number > 0', 'got nan']),
        (['model.restoration_loss.type=HuberLos'], ['restoration_loss', 'HuberLoss', "'HuberLos'"]),
        (['model.head.in_channels=17'], ['in_channels=17', 'set in_channels=16', '.log)']),
        (['train_dataloader.dataset.pipeline.2.patch_size=0'], ['GriddedMask', 'patch_size']),
        (['optim_wrapper.optimizer.lr=-1'], ['learning rate', '-1']),
        (['optim_wrapper.optimizer.lr=abc'], ["SGD(lr='abc')", 'str']),
        (['train_dataloader.batch_size=0'], ['batch_size', '0']),
        (['model=3'], ['model must be a dict']),
        (
            ['model.restoration_loss.type=L1Loss', 'model.restoration_loss.betta=1'],
            ['restoration_loss L1Loss: ', "unexpected keyword argument 'betta'", '.log)'],
        ),
        (['model.backbone.patch_size=0'], ['VisionTransformer(', 'patch_size=0', '.log)']),
        (['model.data_preprocessor.type=SelfSupPreprocessor'], ['is SelfSupDataPreprocessor']),
        (['train_cfg.max_epochs=0'], ['train_cfg.max_epochs must be an integer ≥ 1, got 0']),
        (['train_cfg.max_epochs=x'], ["train_cfg.max_epochs must be an integer ≥ 1, got 'x'"]),
        (['optim_wrapper.optimizer.lr=nan'], ['optimizer.lr must be a finite number, got nan']),
        (['randomness.seed=x'], ['randomness.seed must be an integer in 0..4294967295']),
        (['custom_hooks=3'], ['custom_hooks must be a list of dicts with a type, got 3']),
        (['default_scope=mmpretrian'], ['no package mmpretrian, the nearest is mmpretrain']),
        (['train_cfg=None'], ['train_cfg must be set, because train_dataloader and optim_wra']),
        # data
        (['train_dataloader.dataset.data_root=gone'], ['does not exist', 'gone', 'data_root']),
        (['train_dataloader.dataset.data_root={empty}'], ['No image below', 'empty']),
        (
            ['train_dataloader.batch_size=5'],
            ['images holds 4 images, fewer than one batch of 5', 'at most 4', 'repeats=2'],
        ),
    ],
    ids=lambda value: value[0] if '=' in value[0] else None,
)
def test_a_mistake_in_an_option(config, capsys, options, expected):
    options = [o.format(empty=config.parent / 'empty') if '{' in o else o for o in options]
    work_dir = work_dir_of(config)
    line = line_of(train, capsys, config, '--work-dir', work_dir, '--cfg-options', *options)
    for text in expected:
        assert text in line
    if '.log)' in expected[-1]:  # the trace is in the log
        (log,) = work_dir.glob('*/*.log')
        assert str(log) in line
        assert 'Traceback (most recent call last)' in log.read_text()
    assert not list(work_dir.glob('*.pth'))


@pytest.mark.parametrize('tool', [train, evaluate])
def test_a_misspelt_argument(config, capsys, tool):
    arguments = [config] if tool is train else [config, 'any.pth']
    line = line_of(tool, capsys, *arguments, '--wrok-dir', 'x')
    assert '--wrok-dir' in line
    assert 'the nearest is --work-dir' in line


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        ('model = dict(', ['SyntaxError', 'config.py']),
        ('x = undefined', ['NameError', 'undefined']),
        ("custom_imports = dict(imports=['no_such_module'])", ['ImportError', 'no_such_module']),
        ('trian_cfgs = train_dataloaders = dict()', ['train_dataloaders', 'train_dataloader']),
        ('train_dataloader = None', ['config.py', 'nothing to train on']),
    ],
)
def test_a_mistake_in_the_config_file(config, capsys, text, expected):
    config.write_text(config.read_text() + text + '\n')
    line = line_of(train, capsys, config)
    assert all(part in line for part in expected), line


def test_a_work_dir_that_cannot_be_created(config, capsys, monkeypatch):
    assert 'work_dir is empty' in line_of(train, capsys, config, '--work-dir', '')
    line = line_of(train, capsys, config, '--work-dir', config / 'below' / 'a file')
    assert f'{config} is not a folder' in line
    monkeypatch.setattr(os, 'access', lambda path, mode: Path(path) != config.parent)
    line = line_of(train, capsys, config, '--work-dir', config.parent / 'new')
    assert f'no permission in {config.parent}' in line
    assert not (config.parent / 'new').exists()


@pytest.fixture
def checkpoint(config):
    """Of one epoch."""
    train.main([str(config), '--work-dir', str(work_dir_of(config))])
    return work_dir_of(config) / 'epoch_1.pth'


@pytest.mark.slow
def test_a_checkpoint_of_another_network(config, checkpoint, capsys):
    evaluate.main([str(config), str(checkpoint), '--work-dir', str(work_dir_of(config))])
    images = config.parent / 'images'
    model = Config.fromfile(config).model
    other = config.with_name('resnet.py')
    head = dict(type='EnergyHead', in_channels=32)
    other.write_text(config_text(images, model=dict(model, backbone=RESNET, head=head)))
    wider = config.with_name('wider.py')
    backbone = dict(VIT, arch=dict(VIT['arch'], feedforward_channels=32))
    wider.write_text(config_text(images, model=dict(model, backbone=backbone)))
    names = [
        'another network (EnergyRestorationAlgorithm with VisionTransformer)',
        'than that of the config (EnergyRestorationAlgorithm with ResNet)',
    ]
    work_dir = ['--work-dir', config.parent / 'other']
    for line in (
        line_of(evaluate, capsys, other, checkpoint, *work_dir),
        line_of(train, capsys, other, *work_dir, '--cfg-options', f'load_from={checkpoint}'),
        line_of(train, capsys, other, *work_dir, '--resume', checkpoint),
    ):
        assert all(name in line for name in [*names, 'backbone.', 'missing in the file'])
    line = line_of(train, capsys, wider, '--resume', '--work-dir', checkpoint.parent)
    assert "VisionTransformer(arch={'embed_dims': 16" in line
    assert "'feedforward_channels': 32" in line
    # with another image size or head it is still the same backbone
    line = 'model.backbone.img_size=16', 'train_dataloader.dataset.pipeline.1.scale=(16,16)'
    options = [*line, f'load_from={checkpoint}']
    train.main([str(config), *map(str, work_dir), '--cfg-options', *options])


def test_a_plain_pickle_is_refused_as_code(config, capsys):
    path = config.with_name('weights.pkl')
    path.write_bytes(pickle.dumps(dict(state_dict=os.getcwd), protocol=2))
    assert 'weights.pkl is refused: it is a pickle that names' in line_of(
        evaluate, capsys, config, path
    )


def test_a_mistake_that_a_worker_finds(config, capsys):
    second = dict(type='GriddedMask', patch_size=4, ratio=0.5)
    with config.open('a') as file:
        file.write(f"train_dataloader['dataset']['pipeline'].insert(2, {second})\n")
    for workers in 0, 1:
        options = ['--cfg-options', f'train_dataloader.num_workers={workers}']
        line = line_of(train, capsys, config, '--work-dir', work_dir_of(config), *options)
        assert "GriddedMask expects results['img'] as (H, W, 3) uint8, got list" in line
        assert 'Traceback' not in line


@MODELS.register_module()
class DefectiveWhenBuilt(EnergyRestorationAlgorithm):
    def __init__(self, **options):
        super().__init__(**options)
        self.nothing + 1


@HOOKS.register_module()
class DefectiveHook(Hook):
    def before_train_iter(self, runner, **batch):
        raise ValueError('by a class that is not ours')


@pytest.mark.parametrize(
    ('option', 'expected'),
    [
        ('model.type=DefectiveWhenBuilt', AttributeError),
        pytest.param(
            'default_hooks.defective.type=DefectiveHook', ValueError, marks=pytest.mark.slow
        ),
    ],
)
def test_a_defect_keeps_its_trace(config, option, expected):
    with pytest.raises(expected):
        train.main([str(config), '--work-dir', str(work_dir_of(config)), '--cfg-options', option])


ROOT = Path(__file__).parents[2]
FILES = sorted(ROOT.glob('configs/[a-z]*/*.py'))
CONFIGS = {(p.parent.name, p.name.split('_')[0]): p for p in FILES}  # one of each kind


@pytest.mark.parametrize('path', CONFIGS.values(), ids=lambda path: path.stem)
def test_no_config_is_refused(path):
    check_config(Config.fromfile(path, import_custom_modules=False))


class TestWhatIsAMistake:
    def of(self, function, *arguments):
        try:
            function(*arguments)
        except Exception as error:
            return mistake(error)
        raise AssertionError('no error')

    def test_a_check(self):
        def check():
            raise ValueError(
                'x must be 1,\n'
                'got 2'
            )  # fmt: skip

        assert self.of(check) == 'x must be 1,\ngot 2'

    def test_an_operation_that_fails(self):
        assert self.of(lambda: None + 1) is None
        assert self.of(lambda: dict()['x']) is None
        assert self.of(lambda: torch.zeros(2) + torch.zeros(3)) is None
        assert self.of(lambda: torch.nn.Linear(1, 1).gone) is None  # torch raises with a statement

    def test_a_file(self, tmp_path):
        assert self.of(open, tmp_path / 'x') == f'{tmp_path / "x"}: No such file or directory'

    def test_memory(self):
        def check():
            raise MemoryError('one image does not fit')

        assert self.of(check) == 'one image does not fit'
        for text in (
            'CUDA out of memory. Tried to allocate 2 GiB',
            "DefaultCPUAllocator: can't allocate memory",
        ):
            message = mistake(RuntimeError(text))
            assert message.startswith('a batch does not fit in memory: take a smaller one')

    def test_an_empty_message(self):
        def check():
            raise ValueError

        assert self.of(check) is None

    @pytest.mark.parametrize('rank', ['0', '1'])
    def test_the_first_process_of_a_machine_prints_first(self, monkeypatch, capsys, rank):
        waited = []
        monkeypatch.setenv('LOCAL_RANK', rank)
        monkeypatch.setattr(time, 'sleep', waited.append)
        with pytest.raises(SystemExit) as raised, one_line_errors('tool.py'):
            raise ValueError('x')
        assert raised.value.code == 2
        assert len(waited) == int(rank)
        who = 'tool.py' if rank == '0' else 'tool.py, process 1'
        assert capsys.readouterr().err == f'{who}: error: x\n'


class TestInterruption:
    @pytest.mark.parametrize(
        ('number', 'code', 'what'),
        [(signal.SIGTERM, 143, 'terminated'), (signal.SIGINT, 130, 'interrupted')],
    )
    def test_a_signal_is_one_line(self, capsys, number, code, what):
        before = signal.getsignal(signal.SIGTERM)

        def wait():
            os.kill(os.getpid(), number)
            time.sleep(10)

        with pytest.raises(SystemExit) as raised, one_line_errors('tool.py', 'so it goes on'):
            wait()
        assert raised.value.code == code
        assert capsys.readouterr().err == f'tool.py: {what}; so it goes on\n'
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

    @pytest.mark.parametrize(
        'text',
        [
            'DataLoader worker (pid 71) is killed by signal: Killed. ',
            'DataLoader worker (pid(s) 71, 72) exited unexpectedly',
        ],
    )
    def test_a_killed_worker(self, text):
        message = mistake(RuntimeError(text))
        assert message.startswith('a data-loading worker was killed')
        assert message.endswith(f'({text.rstrip(". ")})')

    def test_a_worker_killed_while_it_hands_over_a_batch(self, monkeypatch):
        def end(*_, **__):
            raise EOFError

        batches = iter(DataLoader(range(8), num_workers=1))
        monkeypatch.setattr(batches._data_queue, 'get', end)
        with pytest.raises(EOFError) as raised:
            next(batches)
        message = mistake(raised.value)
        assert message.startswith('a data-loading worker was killed')
        assert message.endswith('(EOFError)')

    def end_of_a_worker(*_):
        raise RuntimeError('DataLoader worker (pid 71) is killed by signal: Killed. ')

    def test_a_worker_that_ends_while_an_error_is_reported(self, monkeypatch, capsys):
        """Torch's handler raises an error of its own, wherever the process is."""
        heard = signal.signal(signal.SIGCHLD, TestInterruption.end_of_a_worker)
        end = lambda *_: signal.raise_signal(signal.SIGCHLD)  # noqa: E731
        monkeypatch.setattr('mmebm.cli.errors._write_trace', end)
        try:
            with pytest.raises(SystemExit), one_line_errors('tool.py'):
                raise ValueError('x')
        finally:
            assert signal.signal(signal.SIGCHLD, heard) is TestInterruption.end_of_a_worker
        assert capsys.readouterr().err == 'tool.py: error: x\n'

    @pytest.mark.parametrize(
        ('first', 'code', 'line'),
        [
            (ValueError('x'), 2, 'error: x'),
            (KeyboardInterrupt(), 130, 'interrupted'),
            (AttributeError('x'), 2, 'error: a data-loading worker was killed'),
        ],
    )
    def test_a_worker_that_ends_while_an_error_is_on_its_way(self, capsys, first, code, line):
        def run():
            try:
                raise first
            finally:
                TestInterruption.end_of_a_worker()

        with pytest.raises(SystemExit) as raised, one_line_errors('tool.py'):
            run()
        assert raised.value.code == code
        assert capsys.readouterr().err.startswith(f'tool.py: {line}')

    def test_another_process_that_ended(self):
        text = '[gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:2145'
        message = mistake(RuntimeError(text))
        assert message.startswith('another process of this run has ended; the run can be continued')


@HOOKS.register_module()
class FullDiskHook(Hook):
    def __init__(self, number, folder):
        self.number, self.folder = number, folder

    def after_train_iter(self, runner, **_):
        raise OSError(self.number, os.strerror(self.number), f'{self.folder}/scalars.json')


@pytest.mark.slow
@pytest.mark.parametrize(
    ('number', 'folder', 'message'),
    [
        (errno.ENOSPC, '.', './scalars.json: No space left on device; the run can be continued'),
        (errno.ENOENT, '/gone', 'the folder /gone is gone; the run can be continued'),
        (errno.ENOENT, '.', None),  # a defect
    ],
)
def test_a_disk_under_a_run(config, capsys, number, folder, message):
    """Whoever's code was writing: MMEngine's here."""
    hook = dict(type='FullDiskHook', number=number, folder=folder)
    with config.open('a') as file:
        file.write(f'custom_hooks = [{hook}]\n')
    arguments = [config, '--work-dir', work_dir_of(config)]
    if message is None:
        with pytest.raises(FileNotFoundError):
            train.main([str(argument) for argument in arguments])
    else:
        assert message in line_of(train, capsys, *arguments)


def test_one_kept_checkpoint_is_warned_of(config, capsys):
    option = 'default_hooks.checkpoint.max_keep_ckpts=1'
    train.main([str(config), '--work-dir', str(work_dir_of(config)), '--cfg-options', option])
    assert 'Warning: with default_hooks.checkpoint.max_keep_ckpts=1' in capsys.readouterr().err


@pytest.mark.slow
def test_resuming_passes_over_a_truncated_checkpoint(config, checkpoint, capsys):
    arguments = [str(config), '--work-dir', str(work_dir_of(config)), '--resume', '--cfg-options']
    train.main([*arguments, 'train_cfg.max_epochs=2'])
    assert 'Warning' not in capsys.readouterr().err
    newest = checkpoint.with_name('epoch_2.pth')
    whole = torch.load(newest, weights_only=False)['state_dict']
    newest.write_bytes(newest.read_bytes()[:1000])
    train.main([*arguments, 'train_cfg.max_epochs=2', 'experiment_name=again'])
    assert f'Warning: going on from {checkpoint}: {newest} is damaged' in capsys.readouterr().err
    for name, tensor in torch.load(newest, weights_only=False)['state_dict'].items():
        assert torch.equal(tensor, whole[name])


class TestOptionNames:
    class Base:
        def __init__(self, a, b=1):
            pass

    class HandsOn(Base):
        def __init__(self, c, **kwargs):
            super().__init__(a=1, **kwargs)

    class Reads(Base):
        def __init__(self, c, **kwargs):
            super().__init__(kwargs.pop('x'), **kwargs)

    class Skips(HandsOn):
        def __init__(self, d, **options):
            TestOptionNames.Base.__init__(self, **options)

    def test_classes(self):
        assert option_names(self.Base) == {'a', 'b'}
        assert option_names(self.HandsOn) == {'a', 'b', 'c'}
        assert option_names(self.Skips) == {'a', 'b', 'd'}
        assert option_names(self.Reads) is None

    def test_ours(self):
        names = option_names(EnergyRestorationAlgorithm)
        assert {'restoration_loss', 'num_steps', 'neck', 'init_cfg'} <= names
        assert 'options' not in names
