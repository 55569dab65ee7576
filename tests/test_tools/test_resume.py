"""A run killed in mid-epoch and resumed is bit-identical to an uninterrupted one."""

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.processes import exit_codes
from tests.tools import load_tool

ROOT = Path(__file__).parent.parent.parent
QUICKSTART = next((ROOT / 'configs/quickstart').glob('*.py'))
KILL_HOOK = """
import os, signal
from mmengine.hooks import Hook
from mmpretrain.registry import HOOKS

@HOOKS.register_module()
class KillHook(Hook):
    def after_train_iter(self, runner, **kwargs):
        if runner.iter == int(os.environ.get('KILL_AT', -1)):
            os.kill(os.getpid(), signal.SIGKILL)
"""
CONFIG = """
_base_ = {base!r}
custom_imports = dict(imports=['mmebm', 'kill_hook'], allow_failed_imports=False)
custom_hooks = [*_base_.custom_hooks, dict(type='KillHook')]
model = dict(
    backbone=dict(
        arch=dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=16),
        drop_path_rate=0.2,
    ),
    head=dict(in_channels=16),
)
train_dataloader = dict(batch_size=4, num_workers=2, dataset=dict(data_root={data!r}))
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(data_root={data!r}))
train_cfg = dict(max_epochs=3)
default_hooks = dict(logger=dict(interval=1))
"""


def train_until_killed(arguments: list[str], kill_at: int) -> None:
    torch.set_num_threads(1)
    os.environ['KILL_AT'] = str(kill_at)
    load_tool('train').main(arguments)


def losses(work_dir: Path) -> dict[int, float]:
    """Iteration → its last loss, over all runs in a work dir."""
    found = {}
    for file in sorted(work_dir.glob('*/vis_data/scalars.json')):
        for line in file.read_text().splitlines():
            values = json.loads(line)
            if 'loss' in values:
                found[values['iter']] = values['loss']
    return found


@pytest.mark.slow
def test_sigkill_and_resume(tmp_path, monkeypatch, tool_process):
    rng = np.random.default_rng(0)
    for part in ('train', 'held_out'):
        (tmp_path / 'data' / part).mkdir(parents=True)
        for i in range(12 if part == 'train' else 2):
            pixels = rng.integers(0, 256, (60, 50, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / 'data' / part / f'{i}.png')
    (tmp_path / 'kill_hook.py').write_text(KILL_HOOK)
    config = tmp_path / 'config.py'
    config.write_text(CONFIG.format(base=str(QUICKSTART), data=str(tmp_path / 'data')))

    monkeypatch.syspath_prepend(tmp_path)
    train = load_tool('train').main
    name = '--cfg-options', f'experiment_name={tmp_path.name}'  # MMEngine keeps a logger for each
    whole, killed = tmp_path / 'whole', tmp_path / 'killed'
    train([str(config), '--work-dir', str(whole), *name])
    # 3 iterations per epoch: iteration 4 is the middle of the second epoch
    arguments = [str(config), '--work-dir', str(killed), *name[:1], f'{name[1]}_killed']
    assert exit_codes(train_until_killed, (arguments, 4)) == [-signal.SIGKILL]
    assert (killed / 'last_checkpoint').read_text().endswith('epoch_1.pth')
    train([str(config), '--work-dir', str(killed), '--resume', *name[:1], f'{name[1]}_resumed'])

    expected, got = (
        torch.load(folder / 'epoch_3.pth', weights_only=False) for folder in (whole, killed)
    )
    assert expected['state_dict'].keys() == got['state_dict'].keys()
    for key, value in expected['state_dict'].items():
        assert torch.equal(value, got['state_dict'][key]), key
    moments = expected['optimizer']['state'], got['optimizer']['state']
    for parameter, values in moments[0].items():
        for name, value in values.items():
            assert torch.equal(value, moments[1][parameter][name])
    assert losses(whole) == losses(killed)
    assert len(losses(whole)) == 9
