"""The comparison on small images: same length, same backbone, and one real run of it."""

import csv
import os
import re
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmpretrain.registry import MODELS
from PIL import Image

from mmebm.backbones.weights import load_backbone
from tests.tools import load_tool

tool = load_tool('benchmarks/compare_small')
METHODS = tool.pretraining_configs()


def options(folder, *more):
    return tool.parse_args([str(folder), '--width', '12', '--depth', '2', '--workers', '0', *more])


def read(folder):
    with open(folder / 'results.csv', newline='') as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    """Dark and light noise, 32 training and 8 test images each."""
    folder = tmp_path_factory.mktemp('images')
    rng = np.random.default_rng(0)
    for part, count in (('train', 32), ('test', 8)):
        for name, level in (('dark', 0), ('light', 120)):
            (folder / part / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(level, level + 100, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / part / name / f'{i:02d}.png')
    return folder


def test_every_method_of_the_folder_is_offered():
    assert {'mae', 'beit', 'ae-denoising', 'ae-sorting', 'energy-mixed', 'energy-sorting'} < set(
        METHODS
    )
    assert not {'scratch', 'finetune', 'linear'} & set(METHODS)


@pytest.mark.parametrize(
    ('method', 'protocol'),
    [(method, 'finetune') for method in METHODS]
    + [(method, 'linear') for method in ('energy-mixed', 'beit', 'mae')],
)
def test_pretrained_backbone_of_any_size_fits_the_protocol(method, protocol, images, tmp_path):
    args = options(images)
    pretraining = tool.stage_config(METHODS[method], args, seed=3, epochs=7)
    model = MODELS.build(pretraining.model)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'file.pth')
    evaluation = tool.stage_config(tool.protocol_config(protocol, method), args, seed=3, epochs=7)
    classifier = MODELS.build(evaluation.model)
    assert load_backbone(classifier.backbone, tmp_path / 'file.pth').share >= 0.9
    assert classifier.backbone.embed_dims == 12
    assert classifier.backbone.num_layers == 2
    assert classifier.head.fc.in_features == 12
    if protocol == 'linear':
        assert not any(p.requires_grad for p in classifier.backbone.parameters())
    for config in (pretraining, evaluation):
        assert config.train_cfg.max_epochs == 7
        assert config.randomness.seed == 3
        assert [s.end for s in config.param_scheduler] == [1, 7]
        assert config.param_scheduler[1].begin == 1
        assert config.param_scheduler[1].T_max == 6


def test_full_length_is_that_of_the_config():
    for path in METHODS.values():
        config, before = Config.fromfile(path), Config.fromfile(path)
        tool.shorten(config, 40)
        assert config.param_scheduler == before.param_scheduler
        assert config.train_cfg.max_epochs == before.train_cfg.max_epochs


def test_labels_are_spread_and_name_their_class(images, tmp_path):
    file = tool.labelled_subset(images, tmp_path / 'labels.txt', per_class=3)
    assert file.read_text().splitlines() == [
        'dark/00.png 0', 'dark/16.png 0', 'dark/31.png 0',
        'light/00.png 1', 'light/16.png 1', 'light/31.png 1',
    ]  # fmt: skip
    with pytest.raises(ValueError, match=r'--labels-per-class 33 is more than the 32 of .*dark'):
        tool.labelled_subset(images, tmp_path / 'labels.txt', per_class=33)


def test_report_averages_the_seeds(tmp_path):
    rows = [
        dict(method=m, seed=s, protocol=p, accuracy=a)
        for m, s, p, a in [
            ('scratch', 0, 'finetune', 50.0),
            ('scratch', 1, 'finetune', 52.0),
            ('mae', 0, 'finetune', 60.04),
            ('mae', 0, 'linear', 30.0),
        ]
    ]
    assert tool.report(rows, tmp_path).splitlines() == [
        '| method | finetune | linear |',
        '| --- | ---: | ---: |',
        '| scratch | 51.0 ± 1.4 |  |',
        '| mae | 60.0 | 30.0 |',
    ]
    assert len(read(tmp_path)) == 4
    assert Image.open(tmp_path / 'results.png').size[0] > 500


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--epochs', '1'], '--epochs must be ≥ 2, got 1'),
        (['--methods', 'simclr'], "invalid choice: 'simclr'"),
    ],
)
def test_wrong_arguments_are_named(arguments, message, images, capsys):
    with pytest.raises(SystemExit):
        tool.parse_args([str(images), *arguments])
    assert message in capsys.readouterr().err


def test_heads_must_share_the_width(images, tmp_path, capsys):
    arguments = ['--work-dir', str(tmp_path), '--width', '16', '--methods', 'scratch']
    assert tool.main([str(images), *arguments]) == 2
    assert '--width must be a multiple of the 3 heads, got 16' in capsys.readouterr().err


def in_this_process(command, stdout, stderr):
    """What ``subprocess.call`` does with the command of a training, without importing all again."""
    python, script, *arguments = command
    assert (python, Path(script).name) == (sys.executable, 'train.py')
    with redirect_stdout(stdout), redirect_stderr(stdout):
        name = re.sub(r'\W', '_', arguments[0])  # MMEngine keeps one logger and visualizer for each
        load_tool('train').main([*arguments, '--cfg-options', f'experiment_name={name}'])
    return 0


@pytest.mark.slow
def test_compares_and_does_not_run_twice(images, tmp_path, capsys, monkeypatch, tool_process):
    arguments = [
        str(images), '--work-dir', str(tmp_path), '--methods', 'energy-mixed', '--protocols',
        'finetune', '--pretraining-epochs', '2', '--epochs', '2', '--width', '12', '--depth', '1',
        '--num-steps', '1', '--workers', '0', '--labels-per-class', '30',
    ]  # fmt: skip
    make = tool.stage_config

    def small_batches(*args, **kwargs):
        config = make(*args, **kwargs)
        config.train_dataloader.batch_size = 30
        return config

    monkeypatch.setattr(tool, 'stage_config', small_batches)
    monkeypatch.setattr(tool.subprocess, 'call', in_this_process)
    before = dict(os.environ)
    assert tool.main(arguments) == 0
    assert os.environ == before
    (row,) = read(tmp_path)
    assert (row['method'], row['seed']) == ('energy-mixed', '0')
    assert 0 <= float(row['accuracy']) <= 100
    output = (tmp_path / 'seed0/energy-mixed/finetune/output.txt').read_text()
    assert 'filled' in output  # from the checkpoint of the stage before
    assert Config.fromfile(tmp_path / 'seed0/energy-mixed/pretraining.py').model.num_steps == 1
    assert Image.open(tmp_path / 'curves.png').size[0] > 500
    monkeypatch.setattr(tool.subprocess, 'call', lambda *a, **k: pytest.fail('ran again'))
    assert tool.main(arguments) == 0
    arguments[arguments.index('12')] = '24'  # another width: not the run that is there
    assert tool.main(arguments) == 2
    assert 'pretraining holds a run with other options: name another --work-dir' in (
        capsys.readouterr().err
    )


def test_failed_training_is_reported(images, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(tool.subprocess, 'call', lambda *a, **k: 1)
    arguments = ['--work-dir', str(tmp_path), '--methods', 'mae']
    assert tool.main([str(images), *arguments]) == 2
    assert 'pretraining/output.txt' in capsys.readouterr().err
