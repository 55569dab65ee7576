"""Every config, read once; shared by the tests of configs."""

import re
from contextlib import contextmanager
from copy import deepcopy
from functools import cache
from pathlib import Path
from unittest.mock import patch

import mmcv
import numpy as np
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

import mmebm  # noqa: F401  registers what the configs name

ROOT = Path(__file__).parents[2]
CONFIGS = sorted(
    path.relative_to(ROOT).as_posix()
    for path in ROOT.glob('configs/*/*.py')
    if '_base_' not in path.parts
)
SEGMENTATION = [path for path in CONFIGS if '/upernet_' in path]
CLASSIFICATION = [
    path
    for path in CONFIGS
    if Path(path).name.startswith(('finetune_', 'linear_', 'scratch_')) and '-mini' not in path
]
# there it adds Python's negative integers to uint8, where a hue is changed by Pillow
HUE_FAILS = mmcv.__version__ < '2.2' and np.__version__ >= '2'
# the arms of the comparison have a test of their own, test_mini.py
PRETRAINING = [
    path for path in CONFIGS if path not in SEGMENTATION + CLASSIFICATION and '-mini' not in path
]


@cache
def _read(path: str) -> Config:
    return Config.fromfile(ROOT / path, import_custom_modules=False)  # mmseg may be missing


def read(path: str) -> Config:
    """A copy of a config, as it is without environment variables."""
    return deepcopy(_read(path))


def types(node):
    """The names of the classes that a config builds, nested like it."""
    if isinstance(node, dict):
        inner = ((key, types(value)) for key, value in sorted(node.items()) if key != 'type')
        return (node.get('type'), *((key, found) for key, found in inner if found != (None,)))
    if isinstance(node, (list, tuple)):
        return tuple(found for found in map(types, node) if found != (None,)) or (None,)
    return (None,)


def structure(path: str) -> tuple:
    """The classes of a run. Configs that share them differ in numbers and pipelines only."""
    config = _read(path)
    keys = ('model', 'optim_wrapper', 'param_scheduler', 'default_hooks', 'custom_hooks')
    parts = [types(config.get(key)) for key in (*keys, 'val_evaluator')]
    return *parts, config.train_dataloader.dataset.type


def one_of_each(paths: list[str]) -> list[str]:
    """The first config of each method, network and schedule, by name.

    A test compares their :func:`structure` with those of all others; reading those here would slow
    down the collection of tests by seconds.
    """
    first = {}
    for path in paths:
        method, network, schedule = Path(path).name.split('_')[:3]
        if not method.endswith('-sorting'):
            method = method.split('-')[0]
        first.setdefault((method, network.split('-')[0], re.sub(r'\d', '', schedule)), path)
    return list(first.values())


@contextmanager
def without_memory():
    """Build networks of any size: shapes without numbers."""
    linspace = torch.linspace  # Swin and ConvNeXt read its values while they are built
    with (
        patch('torch.linspace', lambda *args, **options: linspace(*args, device='cpu', **options)),
        torch.device('meta'),
    ):
        yield


def shorten(config: Config, folder: Path, work_dir: Path, sizes=None, **loader) -> None:
    """Train in this process on the few images of a folder; ``sizes`` of steps of the pipelines."""
    loader |= dict(num_workers=0, persistent_workers=False, pin_memory=False)
    parts = (config.get(f'{part}_dataloader') for part in ('train', 'val', 'test'))
    for part in filter(None, parts):
        part.update(loader)
        part.dataset.data_root = str(folder)
        for step in part.dataset.pipeline:
            step.update((sizes or {}).get(step.type, {}))
    config.work_dir = str(work_dir)
    config.experiment_name = config.visualizer.name = str(work_dir).replace('/', '_')


class StartHook(Hook):
    """Keep the weights that the first iteration starts from."""

    priority = 'LOWEST'
    state = None

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if self.state is None:
            self.state = {k: v.clone() for k, v in runner.model.state_dict().items()}


def train(config: Config) -> tuple[Runner, dict, dict]:
    """Train as configured; return the runner, and the weights before and after."""
    runner, start = Runner.from_cfg(config), StartHook()
    runner.register_hook(start)
    runner.train()
    after = runner.model.state_dict()
    for name, value in after.items():
        assert torch.isfinite(value).all(), name
    return runner, start.state, after
