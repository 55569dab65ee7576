"""The comparison on small images: equal terms, choices on a validation split, one whole run."""

import copy
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
from mmengine.runner import Runner
from mmpretrain.registry import MODELS
from PIL import Image

from mmebm.backbones import sincos_position_embedding
from mmebm.backbones.weights import load_backbone
from tests.tools import load_tool

tool = load_tool('benchmarks/compare_small')
METHODS = tool.pretraining_configs()
SINCOS = sincos_position_embedding((8, 8), 12)


def options(folder, *more):
    return tool.parse_args([str(folder), '--width', '12', '--depth', '2', '--workers', '0', *more])


def read(folder):
    with open(folder / 'results.csv', newline='') as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    """Dark and light noise, 40 training and 8 test images each."""
    folder = tmp_path_factory.mktemp('images')
    rng = np.random.default_rng(0)
    for part, count in (('train', 40), ('test', 8)):
        for name, level in (('dark', 0), ('light', 120)):
            (folder / part / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(level, level + 100, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / part / name / f'{i:02d}.png')
    return folder


def in_this_process(command, stdout, stderr):
    """Run the command of a training run in this process, without importing everything again."""
    python, script, *arguments = command
    assert (python, Path(script).name) == (sys.executable, 'train.py')
    with redirect_stdout(stdout), redirect_stderr(stdout):
        name = re.sub(r'\W', '_', arguments[0])  # MMEngine keeps one logger and visualizer for each
        load_tool('train').main([*arguments, '--cfg-options', f'experiment_name={name}'])
    return 0


@pytest.fixture
def trained(monkeypatch, tool_process):
    """Train in this process, in small batches; the files that were trained."""
    files, make = [], tool.stage_config

    def call(command, **kwargs):
        files.append(command[2])
        return in_this_process(command, **kwargs)

    def small_batches(*args, **kwargs):
        config = make(*args, **kwargs)
        config.train_dataloader.batch_size = 30
        return config

    monkeypatch.setattr(tool.subprocess, 'call', call)
    monkeypatch.setattr(tool, 'stage_config', small_batches)
    return files


def test_every_method_of_the_folder_is_offered():
    assert {'mae', 'beit', 'ae-denoising', 'ae-sorting', 'energy-mixed', 'energy-sorting'} < set(
        METHODS
    )
    assert not {'scratch', 'finetune', 'linear'} & set(METHODS)


@pytest.mark.parametrize('method', METHODS)
def test_pretrained_backbone_of_any_size_fits_finetuning(method, images, tmp_path):
    args = options(images, '--num-steps', '1')
    pretraining = tool.stage_config(METHODS[method], args, seed=3, epochs=7, lr=0.02)
    backbone = MODELS.build(pretraining.model.backbone)
    weights = {f'backbone.{name}': value for name, value in backbone.state_dict().items()}
    torch.save(dict(state_dict=weights), tmp_path / 'file.pth')
    evaluation = tool.stage_config(
        tool.finetuning_config(method), args, seed=3, epochs=7, lr=0.02, layer_decay=0.5
    )
    classifier = MODELS.build(evaluation.model)
    assert load_backbone(classifier.backbone, tmp_path / 'file.pth').share >= 0.9
    assert classifier.backbone.embed_dims == 12
    assert classifier.backbone.num_layers == 2
    assert classifier.head.fc.in_features == 12
    assert evaluation.optim_wrapper.paramwise_cfg.layer_decay_rate == 0.5
    assert pretraining.model.get('num_steps', 1) == 1
    for config in (pretraining, evaluation):
        assert config.optim_wrapper.optimizer.lr == 0.02
        assert config.train_cfg.max_epochs == 7
        assert config.randomness.seed == 3
        assert [s.end for s in config.param_scheduler] == [1, 7]
        assert config.param_scheduler[1].begin == 1
        assert config.param_scheduler[1].T_max == 6
        assert config.val_dataloader is None


def test_pretraining_is_on_equal_terms_and_of_full_length():
    mae = Config.fromfile(METHODS['mae'])
    for method, path in METHODS.items():
        config = Config.fromfile(path)
        assert config.optim_wrapper.optimizer == mae.optim_wrapper.optimizer
        assert config.optim_wrapper.type == mae.optim_wrapper.type
        assert config.param_scheduler == mae.param_scheduler
        assert config.train_dataloader.batch_size == mae.train_dataloader.batch_size
        pipeline = config.train_dataloader.dataset.pipeline
        assert pipeline[:3] == mae.train_dataloader.dataset.pipeline[:3]
        # the same position embedding, fixed; these have none, or set it themselves
        assert config.optim_wrapper.paramwise_cfg.custom_keys.pos_embed.lr_mult == 0
        by_itself = method in ('beit', 'mae', 'ae-sorting', 'energy-sorting')
        assert by_itself == (config.default_hooks.get('position_embedding') is None)
        before = copy.deepcopy(config)
        tool.shorten(config, 40)
        assert config.param_scheduler == before.param_scheduler
        assert config.train_cfg.max_epochs == before.train_cfg.max_epochs


def test_finetuning_starts_every_method_at_the_same_embedding(images, tmp_path):
    """The sorting auto-encoder would bring zeros."""
    start = tool.Stage('ae-sorting', 'pretraining', 2, tmp_path / 'ae-sorting/seed0/pre_lr1')
    comparison = tool.Comparison(options(images, '--work-dir', str(tmp_path)))
    config = comparison.classifier_config(start, 0, 0.1, 0.75)
    zeros = {k: 0 * v for k, v in MODELS.build(config.model.backbone).state_dict().items()}
    start.folder.mkdir(parents=True)
    torch.save(dict(state_dict={f'backbone.{k}': v for k, v in zeros.items()}), start.checkpoint)
    config.work_dir = str(tmp_path / 'run')
    runner = Runner.from_cfg(config)
    for hook in runner.hooks:
        if 'Backbone' in type(hook).__name__ or 'Position' in type(hook).__name__:
            hook.before_train(runner)
    assert torch.equal(runner.model.backbone.pos_embed[0, 1:], SINCOS)
    assert runner.model.backbone.patch_embed.projection.weight.abs().max() == 0


def test_the_split_is_seeded_disjoint_and_of_the_training_images(images, tmp_path):
    def lists(folder, **more):
        files = tool.split_training_images(images, tmp_path / folder, share=0.1, **more)
        return {name: file.read_text().splitlines() for name, file in files.items()}

    split, again = lists('a', seed=1), lists('b', seed=1)
    assert split == again != lists('c', seed=2)
    val = [line.split()[0] for line in split['val']]
    labelled = [line.split()[0] for line in split['labelled']]
    assert len(val) == 8
    assert sorted(labelled) == sorted(split['unlabelled'])
    everything = [f'{name}/{i:02d}.png' for name in ('dark', 'light') for i in range(40)]
    assert sorted(val + labelled) == everything
    for line in split['val'] + split['labelled']:
        assert line[-1] == str(['dark', 'light'].index(line.split('/')[0]))
    fewer = lists('d', seed=1, per_class=3)
    assert fewer['val'] == split['val']
    assert fewer['unlabelled'] == split['unlabelled']
    assert len(fewer['labelled']) == 6
    assert set(fewer['labelled']) < set(split['labelled'])
    with pytest.raises(ValueError, match=r'--labels-per-class 37 is more than the 36 images of'):
        lists('e', seed=1, per_class=37)


def row(protocol, accuracy, pretraining_lr, **more):
    return dict(protocol=protocol, accuracy=accuracy, pretraining_lr=pretraining_lr, **more)


def test_the_first_protocol_chooses_the_learning_rate_of_pretraining():
    rows = [
        row('finetune', 50.0, 1e-3, lr=1), row('finetune', 60.0, 1e-3, lr=2),
        row('finetune', 59.0, 3e-3, lr=1), row('finetune', 60.0, 3e-3, lr=2),
        row('probe', 30.0, 1e-3, layer=1), row('probe', 31.0, 1e-3, layer=2),
        row('probe', 40.0, 3e-3, layer=1), row('probe', 39.0, 3e-3, layer=2),
    ]  # fmt: skip
    assert tool.choose(rows, ['finetune', 'probe']) == dict(finetune=rows[1], probe=rows[5])
    assert tool.choose(rows, ['probe', 'finetune']) == dict(probe=rows[6], finetune=rows[3])


def test_final_runs_take_what_was_chosen(images, tmp_path, monkeypatch):
    comparison = tool.Comparison(options(images, '--work-dir', str(tmp_path)))
    monkeypatch.setattr(comparison, 'pretrain', lambda *a: ('pretrained', *a))
    monkeypatch.setattr(comparison, 'finetune', lambda *a, split: (*a, split))
    layers = [row('probe', 10.0, 2.0, layer=1), row('probe', 20.0, 2.0, layer=2)]
    monkeypatch.setattr(comparison, 'frozen', lambda *a: layers)
    chosen = dict(finetune=row('finetune', 9.0, 2.0, lr=3.0, layer_decay=4.0), probe=layers[0])
    comparison.final('mae', seed=5, epochs=20, chosen=chosen)
    start = ('pretrained', 'mae', 5, 20, 2.0)
    assert comparison.rows == [layers[0], (start, 5, 3.0, 4.0, 'test')]


def test_report_averages_the_seeds_of_the_test_images(tmp_path):
    keys = 'method', 'seed', 'split', 'protocol', 'accuracy', 'pretraining_epochs'
    rows = [
        dict(zip(keys, values, strict=True), pretraining_cpu_s=seconds)
        for *values, seconds in [
            ('scratch', 0, 'val', 'finetune', 99.0, 0, 0.0),
            ('scratch', 0, 'test', 'finetune', 50.0, 0, 0.0),
            ('scratch', 1, 'test', 'finetune', 52.0, 0, 0.0),
            ('mae', 0, 'test', 'finetune', 60.04, 20, 3600.0),
            ('mae', 0, 'test', 'probe', 30.0, 20, 3600.0),
            ('mae', 0, 'test', 'probe', 35.0, 40, 7200.0),
        ]
    ]
    assert tool.report(rows, tmp_path).splitlines() == [
        '| method | epochs | CPU hours | finetune | probe |',
        '| --- | ---: | ---: | ---: | ---: |',
        '| scratch | 0 | 0.00 | 51.0 ± 1.0 |  |',  # the deviation is √2
        '| mae | 20 | 1.00 | 60.0 | 30.0 |',
        '| mae | 40 | 2.00 |  | 35.0 |',
    ]
    assert len(read(tmp_path)) == 6
    assert Image.open(tmp_path / 'results.png').size[0] > 500


def test_the_time_left_is_estimated_from_finished_runs(tmp_path):
    def stage(method, kind, epochs, seconds=None):
        folder = tmp_path / f'{method}-{kind}-{epochs}'
        found = tool.Stage(method, kind, epochs, folder)
        if seconds is not None:
            folder.mkdir()
            (folder / 'seconds.txt').write_text(f'{seconds / 2} 1\n{seconds / 2} 1\n')
            found.checkpoint.touch()
        return found

    stages = [stage('mae', 'pretraining', 10, seconds=3600.0), stage('mae', 'finetune', 2)]
    assert tool.what_is_left(stages) == (
        '1 of 2 training runs left, about 0.0 h without 1 of a kind that has not run yet'
    )
    stages[1:] = [stage('mae', 'pretraining', 20), tool.Stage('ours', 'pretraining', 5)]
    assert tool.what_is_left(stages) == '2 of 3 training runs left, about 2.5 h at the speed so far'
    assert tool.what_is_left(stages[:1]) == '0 of 1 training runs left'


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--epochs', '1'], '--epochs must be ≥ 2, got 1'),
        (['--pretraining-epochs', '40', '1'], '--pretraining-epochs must be ≥ 2, got 1'),
        (['--lrs', '0'], '--lrs must be > 0, got 0.0'),
        (['--val-share', '1'], '--val-share must be in (0, 1), got 1.0'),
        (['--methods', 'simclr'], "invalid choice: 'simclr'"),
    ],
)
def test_wrong_arguments_are_named(arguments, message, images, capsys):
    with pytest.raises(SystemExit):
        tool.parse_args([str(images), *arguments])
    assert message in capsys.readouterr().err


def test_width_must_be_a_multiple_of_the_heads(images, tmp_path, capsys):
    arguments = ['--work-dir', str(tmp_path), '--width', '16', '--methods', 'scratch']
    assert tool.main([str(images), *arguments]) == 2
    assert '--width must be a multiple of the 3 heads, got 16' in capsys.readouterr().err


@pytest.mark.slow
def test_chooses_then_tests_and_runs_nothing_twice(images, tmp_path, capsys, trained, monkeypatch):
    arguments = [
        str(images), '--work-dir', str(tmp_path), '--methods', 'energy-mixed',
        '--pretraining-epochs', '2', '--epochs', '2', '--width', '12', '--depth', '1',
        '--num-steps', '1', '--workers', '0', '--labels-per-class', '15',
        '--pretraining-lrs', '1e-3', '--lrs', '1e-3', '--layer-decays', '0.75',
    ]  # fmt: skip
    before = dict(os.environ)
    assert tool.main([*arguments, '--plan']) == 0
    assert capsys.readouterr().out.startswith('2 of 2 training runs left')
    assert trained == []

    assert tool.main(arguments) == 0
    assert os.environ == before
    assert len(trained) == 2
    rows = read(tmp_path)
    assert [(r['split'], r['protocol']) for r in rows] == [
        ('val', 'finetune'), ('val', 'probe'), ('val', 'knn'),
        ('test', 'probe'), ('test', 'knn'), ('test', 'finetune'),
    ]  # fmt: skip
    assert all(0 <= float(r['accuracy']) <= 100 for r in rows)
    # Light against dark is in every feature: a probe that read other images would miss it.
    assert [r['accuracy'] for r in rows if r['protocol'] == 'probe'] == ['100.0', '100.0']

    folder = tmp_path / 'energy-mixed/seed0/pretraining_2e_lr0.001'
    pretrained = torch.load(folder / 'epoch_2.pth', weights_only=False)['state_dict']
    finetuned = folder.with_name(f'{folder.name}_finetune_2e_lr0.001_decay0.75')
    weights = torch.load(finetuned / 'epoch_2.pth', weights_only=False)['state_dict']
    assert torch.equal(pretrained['backbone.pos_embed'][0, 1:], SINCOS)  # fixed
    assert not torch.equal(weights['backbone.pos_embed'][0, 1:], SINCOS)  # trained
    assert len((tmp_path / 'split/labelled.txt').read_text().splitlines()) == 30

    capsys.readouterr()
    measured = read(tmp_path)
    monkeypatch.setattr(tool, 'accuracy', lambda *a: pytest.fail('measured again'))
    monkeypatch.setattr(tool, 'frozen_accuracy', lambda *a: pytest.fail('measured again'))
    assert tool.main(arguments) == 0
    assert len(trained) == 2
    assert read(tmp_path) == measured
    assert capsys.readouterr().out.startswith('0 of 2 training runs left')
    arguments[arguments.index('12')] = '24'  # another width: not the existing run
    assert tool.main(arguments) == 2
    assert 'holds a run with other options: name another --work-dir' in capsys.readouterr().err


def test_failed_training_is_reported_and_its_time_counts(images, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(tool.subprocess, 'call', lambda *a, **k: 1)
    arguments = ['--work-dir', str(tmp_path), '--methods', 'mae']
    assert tool.main([str(images), *arguments]) == 2
    assert 'output.txt' in capsys.readouterr().err
    (attempts,) = tmp_path.rglob('seconds.txt')
    assert len(attempts.read_text().splitlines()) == 1
