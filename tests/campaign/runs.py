"""The smallest runs that have all parts of a real one, as processes, and what they leave."""

import gc
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path

import torch
import yapf.yapflib.yapf_api

from mmebm.cli.main import main as mmebm
from mmebm.utils.checkpoint import load_checkpoint_safely
from tests.backbones import NORMALISATION, VIT
from tests.processes import CONTEXT
from tests.tools import load_tool

from .sabotage import prepare

ROOT = Path(__file__).parents[2]
EPOCHS = 3
ITERATIONS = 3  # per epoch
LIMIT = 60  # seconds within which a run that was stopped has to be over
PATIENCE = 300  # seconds for a run that nothing disturbs

CORRUPTIONS = [
    dict(type='GriddedMask', patch_size=8, ratio=0.5),
    dict(type='SuperResolution', scale=4),
    dict(type='GaussianNoise', gamma_range=(0.0, 1.0)),
    dict(type='Colorization'),
]
# those of configs/_base_/default_runtime.py but for pictures, which take longer than the rest
HOOKS = [
    dict(type=f'{name}Hook') for name in ('ReproducibleEpochs', 'UnreadableImages', 'FiniteLoss')
]
PACK = dict(type='PackInputs', meta_keys=('sample_idx', 'img_path', 'corruption'))


def loader(folder: Path, pipeline: list, train: bool) -> dict:
    return dict(
        batch_size=4,
        num_workers=2 if train else 0,
        persistent_workers=train,
        drop_last=train,
        sampler=dict(type='DefaultSampler', shuffle=train),
        collate_fn=dict(type='default_collate'),
        dataset=dict(
            type='ImageFolder',
            data_root=str(folder),
            pipeline=pipeline,
            test_mode=not train,
        ),
    )


def mixed(folder: Path, held_out: Path, epochs: int = EPOCHS) -> dict:
    """Our method on all corruptions."""
    load = [dict(type='LoadImageFromFile')]
    crop = dict(type='RandomResizedCrop', scale=32, crop_ratio_range=(0.25, 1.0))
    corruption = dict(type='MixedCorruption', corruptions=CORRUPTIONS)
    validate = [*load, dict(type='ResizeEdge', scale=32), dict(corruption, seed=0), PACK]
    held_out, metrics = loader(held_out, validate, train=False), [dict(type='RestorationMetric')]
    return dict(
        model=dict(
            type='EnergyRestorationAlgorithm',
            backbone=dict(VIT, drop_path_rate=0.2),
            head=dict(type='EnergyHead', in_channels=32),
            num_steps=2,
            data_preprocessor=dict(NORMALISATION, type='SelfSupDataPreprocessor'),
        ),
        train_dataloader=loader(folder, [*load, crop, corruption, PACK], train=True),
        val_dataloader=held_out,
        val_evaluator=metrics,
        test_dataloader=held_out,
        test_evaluator=metrics,
        test_cfg=dict(),
        custom_hooks=HOOKS,
        default_hooks=dict(logger=dict(interval=1)),
        optim_wrapper=dict(
            type='OptimWrapper',
            optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
            clip_grad=dict(max_norm=1.0),
        ),
        param_scheduler=[
            dict(type='CosineAnnealingLR', T_max=epochs, by_epoch=True, convert_to_iter_based=True)
        ],
        train_cfg=dict(by_epoch=True, max_epochs=epochs, val_interval=1),
        val_cfg=dict(),
    )


def write_config(path: Path, config: dict) -> Path:
    """A text config on top of ours."""
    base = ROOT / 'configs/_base_/default_runtime.py'
    lines = [f'{name} = {value!r}\n' for name, value in config.items()]
    path.write_text(f'_base_ = {str(base)!r}\n' + ''.join(lines))
    return path


class Command:
    """A command in a process of its own, with its own group, which starts at once."""

    def __init__(self, tool: str, arguments: list, output: Path, kill=(), **environment: str):
        """Start ``tools/train.py ARGUMENTS`` and the like; what it prints is added to ``output``.

        ``kill`` is a moment of sabotage.py and its number.
        """
        self.output = Path(output)
        self.output.touch()
        arguments = [str(argument) for argument in arguments]
        given = (tool, arguments, str(output), kill, environment)
        self.process = CONTEXT.Process(target=_become, args=given)
        self.process.start()

    def wait(self, seconds: float = PATIENCE) -> int:
        """Its exit code, negative for a signal; nothing that it started may be left."""
        self.process.join(seconds)
        code, end = self.process.exitcode, time.monotonic() + LIMIT
        while _lives(self.process.pid) and code is not None and time.monotonic() < end:
            time.sleep(0.02)
        if _lives(self.process.pid):
            os.killpg(self.process.pid, signal.SIGKILL)
            raise TimeoutError(f'{"not all" if code is not None else "not"} ended:\n{self.text()}')
        return code

    def wait_for(self, text: str) -> None:
        """Wait until it has printed a text."""
        end = time.monotonic() + PATIENCE
        while text not in self.text():
            if time.monotonic() > end or self.process.exitcode is not None:
                raise TimeoutError(f'has not printed {text!r}:\n{self.text()}')
            time.sleep(0.02)

    def text(self) -> str:
        return self.output.read_text()

    def signal(self, number: int, group: bool = False) -> None:
        (os.killpg if group else os.kill)(self.process.pid, number)


def _lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def _become(tool: str, arguments: list[str], output: str, kill: tuple, environment: dict) -> None:
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    file = os.open(output, os.O_WRONLY | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.stdout, sys.stderr = os.fdopen(1, 'w', buffering=1), os.fdopen(2, 'w', buffering=1)
    os.environ.update(dict(LOCAL_RANK='0'), **environment)
    sys.argv[:] = [f'{tool}.py', *arguments]
    torch.set_num_threads(1)
    gc.freeze()  # each dataset collects garbage: what is there already stays
    # a run writes its config with each checkpoint: unformatted it is valid Python all the same
    yapf.yapflib.yapf_api.FormatCode = lambda text, **options: (text, True)
    if kill:
        prepare(*kill)
    sys.exit((mmebm if tool == 'mmebm' else load_tool(tool).main)(arguments))


class Runs:
    """Runs of one config, in one process or several, and what an undisturbed one leaves."""

    def __init__(self, folder: Path, config: Path, processes: int = 1):
        self.folder, self.config, self.processes = folder, config, processes
        assert self.run('whole') == [0] * processes, self.text('whole')
        self.expected = final(folder / 'whole')

    def start(self, name: str, kill=(), killed_rank: int = 0) -> list[Command]:
        environment, arguments = {}, ['--work-dir', self.folder / name]
        if self.processes > 1:
            with socket.socket() as free:
                free.bind(('127.0.0.1', 0))
                port = str(free.getsockname()[1])
            size = str(self.processes)
            environment = dict(MASTER_ADDR='127.0.0.1', MASTER_PORT=port, WORLD_SIZE=size)
            arguments += ['--launcher', 'pytorch']
        return [
            Command(
                'train',
                [self.config, '--resume', *arguments],
                self.folder / f'{name}.{rank}.txt',
                kill=kill if rank == killed_rank else (),
                **environment | dict(RANK=str(rank), LOCAL_RANK=str(rank)),
            )
            for rank in range(self.processes)
        ]

    def run(self, name: str, kill=(), killed_rank: int = 0) -> list[int]:
        return [command.wait() for command in self.start(name, kill, killed_rank)]

    def text(self, name: str) -> str:
        return '\n'.join(p.read_text() for p in sorted(self.folder.glob(f'{name}.*.txt')))

    def check_resumed(self, name: str) -> None:
        """The same command again ends as if nothing had happened, bit for bit."""
        for file in (self.folder / name).glob('*.pth'):
            load_checkpoint_safely(file)  # there is none that cannot be read
        assert self.run(name) == [0] * self.processes, self.text(name)
        got = final(self.folder / name)
        assert self.expected.keys() == got.keys()
        assert not [k for k, v in self.expected.items() if not torch.equal(v, got[k])]


def final(work_dir: Path) -> dict:
    """What a run has learnt and logged: tensors by name, losses and metrics by iteration."""
    found = {}
    for path in [work_dir / f'epoch_{EPOCHS}.pth', *work_dir.glob('best_*.pth')]:
        checkpoint = load_checkpoint_safely(path)
        found |= {f'{path.name} {k}': v for k, v in checkpoint['state_dict'].items()}
        for parameter, state in checkpoint.get('optimizer', dict(state={}))['state'].items():
            found |= {f'{path.name} optimizer {parameter} {k}': v for k, v in state.items()}
    ignored = ('time', 'data_time', 'memory')  # of the machine
    for file in sorted(work_dir.glob('*/vis_data/scalars.json')):
        for line in file.read_text().splitlines():
            values = json.loads(line)  # the last word on each iteration counts
            step = f'iteration {values["iter"]}' if 'loss' in values else f'step {values["step"]}'
            for name, value in values.items():
                if name not in ignored:
                    found[f'{step} {name}'] = torch.tensor(value)
    return found
