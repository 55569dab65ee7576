"""The comparison on small images: equal terms, choices on a validation split, one whole run."""

import copy
import csv
import dataclasses
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import threading
from contextlib import redirect_stderr, redirect_stdout
from math import nan
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.runner import Runner
from mmpretrain.registry import MODELS, TRANSFORMS
from mmpretrain.structures import DataSample
from PIL import Image

from mmebm.apis import FeatureExtractor
from mmebm.apis.benchmark import Benchmark, BenchmarkOptions, compute, measuring, runs
from mmebm.apis.benchmark import comparison as tool
from mmebm.apis.benchmark.compute import SecondsHook
from mmebm.apis.benchmark.configs import (
    backbones,
    finetuning_config,
    methods_for,
    pretraining_configs,
    shorten,
    stage_config,
)
from mmebm.apis.benchmark.measuring import layer_features, split_training_images
from mmebm.apis.benchmark.network import as_mmpretrain, find_backbone
from mmebm.apis.benchmark.runs import Processes, Stage
from mmebm.backbones import sincos_position_embedding
from mmebm.backbones.weights import load_backbone
from mmebm.cli.main import build_parser, main
from tests.tools import exit_code, load_tool

METHODS = pretraining_configs()
SINCOS = sincos_position_embedding((8, 8), 12)


def options(folder, out='out', **more):
    return BenchmarkOptions(str(folder), str(out), **dict(width=12, depth=2, workers=0) | more)


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


@pytest.fixture
def trained(monkeypatch, tool_process):
    """Train in this process, in small batches; the files that were trained."""
    files, make = [], tool.stage_config

    def run(self, file, folder):
        files.append(str(file))
        name = re.sub(r'\W', '_', str(file))  # MMEngine keeps one logger and visualizer for each
        arguments = [str(file), '--resume', '--cfg-options', f'experiment_name={name}']
        with (
            open(folder / 'output.txt', 'w') as output,
            redirect_stdout(output),
            redirect_stderr(output),
        ):
            load_tool('train').main(arguments)
        return 0

    def small_batches(*args, **kwargs):
        config = make(*args, **kwargs)
        config.train_dataloader.batch_size = 30
        config.default_hooks.logger.interval = 1
        return config

    monkeypatch.setattr(Processes, 'run', run)
    monkeypatch.setattr(tool, 'stage_config', small_batches)
    return files


def test_every_method_of_the_folder_is_offered():
    assert {'mae', 'beit', 'ae-denoising', 'ae-sorting', 'energy-mixed', 'energy-sorting'} < set(
        METHODS
    )
    assert not {'scratch', 'finetune', 'linear'} & set(METHODS)


@pytest.mark.parametrize('method', METHODS)
def test_pretrained_backbone_of_any_size_fits_finetuning(method, images, tmp_path):
    args = options(images, num_steps=1)
    pretraining = stage_config(METHODS[method], args, seed=3, epochs=7, lr=0.02)
    backbone = MODELS.build(pretraining.model.backbone)
    weights = {f'backbone.{name}': value for name, value in backbone.state_dict().items()}
    torch.save(dict(state_dict=weights), tmp_path / 'file.pth')
    evaluation = stage_config(
        finetuning_config(method), args, seed=3, epochs=7, lr=0.02, layer_decay=0.5
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
        by_itself = method in ('beit', 'mae', 'mae-shallow', 'ae-sorting', 'energy-sorting')
        assert by_itself == (config.default_hooks.get('position_embedding') is None)
        before = copy.deepcopy(config)
        shorten(config, 40)
        assert config.param_scheduler == before.param_scheduler
        assert config.train_cfg.max_epochs == before.train_cfg.max_epochs


def test_finetuning_starts_every_method_at_the_same_embedding(images, tmp_path):
    """The sorting auto-encoder would bring zeros."""
    start = Stage('ae-sorting', 'pretraining', 2, tmp_path / 'ae-sorting/seed0/pre_lr1')
    comparison = Benchmark(options(images, tmp_path))
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
    def lists(**more):
        found = split_training_images(images, share=0.1, **more)
        return {name: text.splitlines() for name, text in found.items()}

    split, again = lists(seed=1), lists(seed=1)
    assert split == again != lists(seed=2)
    val = [line.split()[0] for line in split['val']]
    labelled = [line.split()[0] for line in split['labelled']]
    assert len(val) == 8
    assert sorted(labelled) == sorted(split['unlabelled'])
    everything = [f'{name}/{i:02d}.png' for name in ('dark', 'light') for i in range(40)]
    assert sorted(val + labelled) == everything
    for line in split['val'] + split['labelled']:
        assert line[-1] == str(['dark', 'light'].index(line.split('/')[0]))
    fewer = lists(seed=1, per_class=3)
    assert fewer['val'] == split['val']
    assert fewer['unlabelled'] == split['unlabelled']
    assert len(fewer['labelled']) == 6
    assert set(fewer['labelled']) < set(split['labelled'])
    with pytest.raises(ValueError, match=r'labels_per_class 37 is more than the 36 images of'):
        lists(seed=1, per_class=37)


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
    failed = [dict(r, accuracy=nan, failed='diverged') for r in rows if r['protocol'] == 'finetune']
    probes = rows[4:]
    assert tool.choose(failed[:1] + rows[1:], ['finetune'])['finetune'] == rows[1]
    assert tool.choose([*failed, *probes], ['finetune', 'probe']) == dict(probe=rows[6])
    assert tool.choose(failed, ['finetune', 'probe']) == {}


def test_final_runs_take_what_was_chosen(images, tmp_path, monkeypatch):
    comparison = Benchmark(options(images, tmp_path))
    monkeypatch.setattr(comparison, 'pretrain', lambda *a: ('pretrained', *a))
    monkeypatch.setattr(comparison, 'finetune', lambda *a, split: (*a, split))
    layers = [row('probe', 10.0, 2.0, layer=1), row('probe', 20.0, 2.0, layer=2)]
    monkeypatch.setattr(comparison, 'frozen', lambda *a: layers)
    chosen = dict(finetune=row('finetune', 9.0, 2.0, lr=3.0, layer_decay=4.0), probe=layers[0])
    rows = comparison.final('mae', seed=5, epochs=20, chosen=chosen)
    start = ('pretrained', 'mae', 5, 20, 2.0)
    last = dict(layers[1], protocol='probe-last')  # beside the best one on validation images
    assert rows == [layers[0], last, (start, 5, 3.0, 4.0, 'test')]


def test_the_time_left_is_estimated_from_finished_runs(tmp_path):
    def stage(method, kind, epochs, seconds=None):
        folder = tmp_path / f'{method}-{kind}-{epochs}'
        found = Stage(method, kind, epochs, folder)
        if seconds is not None:
            folder.mkdir()
            (folder / 'seconds.txt').write_text(f'{seconds / 2} 1\n{seconds / 2} 1\n')
            found.checkpoint.touch()
        return found

    stages = [stage('mae', 'pretraining', 10, seconds=3600.0), stage('mae', 'finetune', 2)]
    assert tool.what_is_left(stages) == (
        '1 of 2 training runs left, about 0.0 h without 1 of a kind that has not run yet'
    )
    stages[1:] = [stage('mae', 'pretraining', 20), Stage('ours', 'pretraining', 5)]
    assert tool.what_is_left(stages) == '2 of 3 training runs left, about 2.5 h at the speed so far'
    assert tool.what_is_left(stages, jobs=2).endswith('about 1.2 h at the speed so far')
    assert tool.plan_table(stages) == [
        ('mae', '1 of 2', '0 of 0', '2.0'), ('ours', '1 of 1', '0 of 0', '0.5')
    ]  # fmt: skip
    assert tool.what_is_left(stages[:1]) == '0 of 1 training runs left'


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--epochs', '1'], 'epochs must be an integer ≥ 2, got 1'),
        (['--pretraining-epochs', '40', '1'], 'pretraining_epochs must be an integer ≥ 2, got 1'),
        (['--lrs', '0'], 'lrs must be a finite number > 0, got 0.0'),
        (['--val-share', '1'], 'val_share must be a finite number'),
        (['--seeds', '1', '1'], 'seeds must be different values, at least one, got [1, 1]'),
        (['--jobs', '0'], 'jobs must be an integer ≥ 1, got 0'),
        (['--protocols', 'segment'], 'protocols must be of finetune, probe, knn, got segment'),
        (['--methods', 'simclr'], 'with vit-micro-p4, got simclr'),
        (['--methods', 'mae', '--backbone', 'swin-micro-p2'], 'with swin-micro-p2, got mae'),
        (['--backbone', 'vit'], 'vit-micro-p4), timm/NAME, mmpretrain/NAME or a config file, got'),
        (['--backbone', 'timm/resnet81'], 'timm has no resnet81; the nearest are'),
        (['--image-size', '4'], 'image_size must be an integer ≥ 8, got 4'),
        (['--width', '16', '--methods', 'scratch'], 'multiple of the 3 heads, got 16'),
        (
            ['--width', '16', '--methods', 'scratch', '--backbone', 'convnext-micro-p2'],
            'width and depth can be set for a ViT only, got ConvNeXt',
        ),
    ],
)
def test_mistakes_are_one_line_and_exit_with_2(arguments, message, images, tmp_path, capsys):
    argv = ['benchmark', str(images), '--out', str(tmp_path / 'out'), *arguments]
    assert exit_code(main, argv) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith('mmebm benchmark: error: ')
    assert message in lines[0]


def picture(path, size=32):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', (size, size)).save(path)


def test_what_the_folder_must_hold(images, tmp_path):
    with pytest.raises(FileNotFoundError, match='has no sub-folder train'):
        Benchmark(options(tmp_path, tmp_path / 'out'))
    for part, names in (('train', 'ab'), ('test', 'ac')):
        for name in names:
            picture(tmp_path / part / name / '0.png')
    with pytest.raises(ValueError, match='only one of them has b, c'):
        Benchmark(options(tmp_path, tmp_path / 'out'))
    (tmp_path / 'test/c').rename(tmp_path / 'test/b')
    picture(tmp_path / 'test/b/0.png', size=224)
    with pytest.raises(ValueError, match=r'32 × 32 pixels.*/test/b/0\.png has 224 × 224'):
        Benchmark(options(tmp_path, tmp_path / 'out'))
    with pytest.raises(ValueError, match='holds something else'):
        Benchmark(options(images, tmp_path))
    written = Benchmark(options(images, tmp_path / 'out')).files
    assert len(written['labelled'].read_text().splitlines()) == 72
    with pytest.raises(ValueError, match='another split, other labels or other data'):
        Benchmark(options(images, tmp_path / 'out', split_seed=1))


def test_methods_of_a_backbone():
    assert backbones() == ['convnext-micro-p2', 'swin-micro-p2', 'vit-micro-p4']
    assert list(pretraining_configs('convnext-micro-p2')) == ['energy-mixed']
    assert list(pretraining_configs('swin-micro-p2')) == ['energy-mixed', 'simmim']
    asked = options('data', backbone='swin-micro-p2')
    found = tool.configs_of(asked, None)
    assert tool.chosen_methods(asked, *found) == ['scratch', 'energy-mixed', 'simmim']
    plain = options('data')
    assert 'beit' not in tool.chosen_methods(plain, *tool.configs_of(plain, None))


VIT = """
model = dict(
    backbone=dict(
        type='VisionTransformer',
        arch=dict(embed_dims=24, num_layers=2, num_heads=3, feedforward_channels=48),
        patch_size=8,
    )
)
"""
SWIN = """
model = dict(
    backbone=dict(
        type='SwinTransformer',
        arch=dict(embed_dims=8, depths=[1, 1], num_heads=[1, 2]),
        window_size=4,
        out_indices=(1,),
    )
)
"""


def found(text, tmp_path, image_size):
    (tmp_path / 'network.py').write_text(text)
    return find_backbone(str(tmp_path / 'network.py'), image_size)


def step(config, size):
    """The loss of a training step of two images; the first patch is masked where that is a task."""
    clean = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    corrupted = clean.clone()
    corrupted[:, :, :8, :8] = 0
    plain = len(config.train_dataloader.dataset.pipeline) == 4  # no corruption
    model = MODELS.build(config.model)
    return model.loss(clean if plain else [corrupted, clean], None)['loss']


@pytest.mark.slow
def test_every_method_takes_another_vit_at_another_size_on_equal_terms(images, tmp_path):
    vit = found(VIT, tmp_path, 48)
    methods, against = methods_for(vit)
    assert list(against) == ['simmim']
    names = {m.replace('4-', '8-').replace('sr4', 'sr8') for m in METHODS}  # masks of a patch
    assert set(methods) == names
    asked = options(images, width=None, depth=None)
    configs = {
        name: stage_config(path, asked, 0, 2, 0.1, backbone=vit) for name, path in methods.items()
    }
    mae = configs['mae']
    assert mae.model.type == 'MAE'
    assert mae.model.neck.decoder_depth == 4
    assert configs['mae-shallow'].model.neck.decoder_depth == 2
    described = configs['energy-inpainting8-75-hog'].model
    assert (described.target_generator.patch_size, described.target_generator.pool) == (8, 4)
    assert described.head.extra_values == 3 * 9 * 4
    for name, config in configs.items():
        assert name == 'beit' or step(config, 48).isfinite()
        assert config.model.backbone.arch == mae.model.backbone.arch
        assert config.optim_wrapper.optimizer == mae.optim_wrapper.optimizer
        assert config.param_scheduler == mae.param_scheduler
        assert config.optim_wrapper.paramwise_cfg.custom_keys.pos_embed.lr_mult == 0
        pipeline = config.train_dataloader.dataset.pipeline
        assert pipeline[:3] == mae.train_dataloader.dataset.pipeline[:3]
        assert pipeline[1].type == 'RandomResizedCrop'
        assert pipeline[1].scale == 48
    mixed = configs['energy-mixed'].train_dataloader.dataset.pipeline[3].corruptions
    single = configs['energy-gridded8-50'].train_dataloader.dataset.pipeline[3]
    assert mixed[0].patch_size == single.patch_size == 8
    assert mixed[1].scale == configs['ae-sr8'].train_dataloader.dataset.pipeline[3].scale == 8
    beit = configs['beit'].train_dataloader.dataset.pipeline
    assert beit[3].second_size == 48  # a token for each patch
    assert beit[4].input_size == (6, 6)
    evaluation = stage_config(
        finetuning_config('mae'), asked, 0, 2, 0.1, layer_decay=0.5, backbone=vit
    )
    assert evaluation.model.backbone.drop_path_rate == 0.1
    assert evaluation.optim_wrapper.paramwise_cfg.layer_decay_rate == 0.5
    assert MODELS.build(evaluation.model)(torch.zeros(2, 3, 48, 48)).shape == (2, 10)
    types = [t.type for t in evaluation.test_dataloader.dataset.pipeline]
    assert types[1:3] == ['ResizeEdge', 'CenterCrop']


@pytest.mark.slow
def test_a_vit_of_another_kind_gives_its_tokens_to_inpainting(images, tmp_path):
    vit = found(VIT.replace('type=', 'pre_norm=True, type='), tmp_path, 48)
    assert not vit.is_vit
    methods, _ = methods_for(vit)
    config = stage_config(
        methods['energy-inpainting8-75-hog'], options(images), 0, 2, 0.1, backbone=vit
    )
    assert config.model.backbone.out_type == 'raw'
    assert step(config, 48).isfinite()


@pytest.mark.slow
def test_a_swin_is_trained_by_simmim_too(images, tmp_path):
    swin = found(SWIN, tmp_path, 32)
    methods, against = methods_for(swin)
    assert set(methods) >= {'simmim', 'energy-mixed', 'energy-denoising'}
    assert {'mae', 'energy-sorting', 'energy-inpainting4-75'} <= set(against)
    config = stage_config(methods['simmim'], options(images), 0, 2, 0.1, backbone=swin)
    mask = config.train_dataloader.dataset.pipeline[4]
    masks = torch.as_tensor(TRANSFORMS.build(mask)(dict(img=None))['mask'])[None]
    model = MODELS.build(config.model)
    samples = [DataSample(mask=masks[0]) for _ in range(2)]
    assert model.loss(torch.randn(2, 3, 32, 32), samples)['loss'].isfinite()
    ours, theirs = (MODELS.build(c) for c in (swin.config, config.model.backbone))
    assert set(ours.state_dict()) <= set(theirs.state_dict())


@pytest.mark.slow
def test_a_network_with_batch_norm_has_fewer_methods(images, tmp_path):
    asked = options(images, tmp_path, backbone='timm/test_resnet', image_size=48, width=None)
    asked = dataclasses.replace(asked, depth=None)
    benchmark = Benchmark(asked)
    assert benchmark.methods == [
        'scratch', 'energy-colorization', 'energy-denoising', 'energy-gridded4-50',
        'energy-mixed', 'energy-sr8',
    ]  # fmt: skip
    first, second, third = benchmark.notes
    assert '48 × 48, 15 batch norms as group norms' in first
    assert "beit, mae-shallow, mae (needs MMPretrain's VisionTransformer)" in second
    assert second.startswith("left out: simmim (needs MMPretrain's SwinTransformer)")
    assert third.startswith('no layer-wise decay')
    assert benchmark.grid() == [(1e-3, 1.0), (3e-3, 1.0)]
    with pytest.raises(ValueError, match=r'methods: mae needs .*, not timm/test_resnet'):
        Benchmark(dataclasses.replace(asked, methods=['mae']))
    config = benchmark.classifier_config(None, 0, 0.1, 1.0)
    assert config.train_dataloader.batch_size == 72  # no more than there are
    assert 'constructor' not in config.optim_wrapper
    extractor = FeatureExtractor(config, device='cpu')
    features, targets = layer_features(extractor, config, 'val', benchmark.files)
    assert [len(x) for x in features] == [len(targets)] * 5
    assert len({x.shape[1] for x in features}) > 2
    assert extractor.model(torch.zeros(2, 3, 48, 48)).shape == (2, 2)


@pytest.mark.parametrize(
    ('name', 'kind'),
    [
        ('test_vit', 'VisionTransformer'),
        ('test_convnext', 'ConvNeXt'),
        ('test_vit3', None),  # register tokens, layer scales
        ('test_resnet', None),
    ],
)
def test_networks_of_timm_that_mmpretrain_has(name, kind):
    config = as_mmpretrain(name, 64)
    assert (config and config['type']) == kind


@pytest.mark.parametrize('backbone', ['convnext-micro-p2', 'swin-micro-p2'])
def test_features_after_every_stage(backbone, images, tmp_path):
    benchmark = Benchmark(options(images, tmp_path, backbone=backbone, width=None, depth=None))
    config = benchmark.classifier_config(None, 0, 0.1, 1.0)
    extractor = FeatureExtractor(config, device='cpu')
    features, targets = layer_features(extractor, config, 'val', benchmark.files)
    assert len(features) == len(extractor.model.backbone.stages) >= 3
    assert {len(x) for x in features} == {len(targets)} == {8}
    assert all(x.dim() == 2 and x.isfinite().all() for x in features)
    assert features[-1].shape[1] > features[0].shape[1]


def test_jobs_run_at_the_same_time():
    """Each of two waits for the other one."""
    processes, meeting = Processes(2), threading.Barrier(2, timeout=20)

    def meet(item):
        meeting.wait()
        return 10 * item

    assert dict(processes.each(meet, [1, 2, 3, 4])) == {1: 10, 2: 20, 3: 30, 4: 40}


def test_the_first_failure_ends_the_other_jobs():
    """The second job, and the one that takes the place of the first, end once they are told to."""
    processes, begun = Processes(2), []

    def work(item):
        begun.append(item)
        if item == 0:
            raise RuntimeError('0 failed')
        assert processes._stopped.wait(20)

    with pytest.raises(RuntimeError, match='0 failed'):
        list(processes.each(work, range(50)))
    assert len(begun) <= 3


def process_of(monkeypatch, tmp_path, code):
    script = tmp_path / 'script.py'
    script.write_text(code)
    monkeypatch.setattr(runs, 'shipped', lambda name: script)


def test_exit_code_and_output_of_a_process(monkeypatch, tmp_path):
    process_of(monkeypatch, tmp_path, 'import sys; print(sys.argv); sys.exit(3)')
    assert Processes(1).run(tmp_path / 'config.py', tmp_path) == 3
    assert "config.py', '--resume']" in (tmp_path / 'output.txt').read_text()


def interrupt_waiting(monkeypatch, interruption):
    """Have ``interruption(process)`` called where a process is waited for, the first time only."""
    wait = subprocess.Popen.wait

    def interrupted(process):
        monkeypatch.setattr(subprocess.Popen, 'wait', wait)
        interruption(process)
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess.Popen, 'wait', interrupted)


def test_ctrl_c_ends_the_process(monkeypatch, tmp_path):
    process_of(monkeypatch, tmp_path, 'import time; time.sleep(60)')
    processes, seen = Processes(1), []
    interrupt_waiting(monkeypatch, seen.append)
    with pytest.raises(KeyboardInterrupt):
        processes.run(tmp_path / 'config.py', tmp_path)
    assert seen[0].returncode is not None
    assert not processes._running


def test_two_do_not_train_in_one_folder(monkeypatch, tmp_path):
    """The lock is the process's, also once the comparison that started it is gone."""
    process_of(monkeypatch, tmp_path, 'import time; time.sleep(60)')
    monkeypatch.setattr(runs, 'LOADERS_END', 0)
    refused = []

    def start_another(process):
        with pytest.raises(RuntimeError, match=f'{tmp_path} is being trained by another process'):
            Processes(1).run(tmp_path / 'config.py', tmp_path)
        refused.append(True)

    interrupt_waiting(monkeypatch, start_another)
    with pytest.raises(KeyboardInterrupt):
        Processes(1).run(tmp_path / 'config.py', tmp_path)
    assert refused
    process_of(monkeypatch, tmp_path, '')
    assert Processes(1).run(tmp_path / 'config.py', tmp_path) == 0  # free again


def test_jobs_that_share_a_gpu():
    assert runs.gpus_shared(2, 0) == runs.gpus_shared(2, 2) == ''
    assert runs.gpus_shared(3, 1).startswith('3 jobs share 1 GPU: GPU hours are wall time')


def test_jobs_take_the_gpus_that_they_may_see_in_turn(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '4,6')
    found = [Processes(3)._environment(slot)['CUDA_VISIBLE_DEVICES'] for slot in range(3)]
    assert found == ['4', '6', '4']
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES')
    assert Processes(2)._environment(1)['CUDA_VISIBLE_DEVICES'] == '1'


class Run:
    """What SecondsHook needs of a runner: one that starts anew, or goes on from a checkpoint."""

    def __init__(self, folder, start=None):
        self.work_dir, self.iter = folder, 0 if start is None else 1
        self.message_hub = MessageHub.get_instance(str(id(self)))
        if start is not None:
            self.message_hub.load_state_dict(start)
        self.hook = SecondsHook()
        self.hook.before_train(self)

    def epoch(self):
        """Its checkpoint, as far as it concerns time."""
        self.hook.after_train_epoch(self)
        return copy.deepcopy(self.message_hub.state_dict())


def test_what_a_resumed_run_repeats_counts_once(monkeypatch, tmp_path):
    times = iter([
        [11, 21], [12, 22],  # epochs, after 10 and 20 s to start; the second one is lost
        [10, 20], [13, 25],  # another process that starts, and does the second again
        [5, 5], [6, 7],
    ])  # fmt: skip
    monkeypatch.setattr(compute, '_clocks', lambda: np.array(next(times), float))
    run = Run(tmp_path)
    start = run.epoch()
    run.epoch()
    assert tool.seconds_spent(tmp_path) == (12, 22)
    again = Run(tmp_path, start)
    end = again.epoch()
    assert tool.seconds_spent(tmp_path) == (11 + 3, 21 + 5)
    # a run of an earlier version, which wrote a line per start
    end['runtime_info'].clear()
    (tmp_path / 'seconds.txt').write_text('30.0 3.0\n10.0 1.0\n')
    old = Run(tmp_path, end)
    old.epoch()
    assert tool.seconds_spent(tmp_path) == (40 + 1, 4 + 2)


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='read from /proc')
def test_cpu_time_of_data_loading_processes(monkeypatch):
    """This process stands in for one that loads images."""
    one = compute._clocks()[1]
    worker = SimpleNamespace(pid=os.getpid())
    monkeypatch.setattr(multiprocessing, 'active_children', lambda: [worker])
    assert compute._clocks()[1] == pytest.approx(one + sum(os.times()[:2]), rel=0.05)


def test_the_printed_command_gives_the_same_options(images):
    asked = options(images, 'a b', methods=['mae'], seeds=[0, 1], jobs=2, lrs=[0.1])
    args = vars(build_parser().parse_args(['benchmark', *tool.command_line(asked)]))
    assert BenchmarkOptions(**{name: args[name] for name in vars(asked)}) == asked


def variables():
    """Of the environment, but those that scikit-learn sets when it is imported."""
    return {k: v for k, v in os.environ.items() if not k.startswith('KMP_')}


@pytest.mark.slow
def test_chooses_then_tests_and_runs_nothing_twice(images, tmp_path, capsys, trained, monkeypatch):
    arguments = [
        'benchmark', str(images), '--out', str(tmp_path), '--methods', 'energy-mixed',
        '--pretraining-epochs', '2', '--epochs', '2', '--width', '12', '--depth', '1',
        '--num-steps', '1', '--workers', '0', '--labels-per-class', '15',
        '--pretraining-lrs', '1e-3', '--lrs', '1e-3', '--layer-decays', '0.75',
    ]  # fmt: skip
    before = variables()
    assert main([*arguments, '--plan']) == 0
    plan = capsys.readouterr().out
    assert plan.startswith('2 of 2 training runs left')
    assert re.search('energy-mixed +1 of 1 +1 of 1', plan)
    assert trained == []
    assert not list(tmp_path.iterdir())  # a plan writes nothing

    assert main(arguments) == 0
    assert variables() == before
    assert len(trained) == 2
    rows = read(tmp_path)
    assert [(r['split'], r['protocol']) for r in rows] == [
        ('val', 'finetune'), ('val', 'probe'), ('val', 'knn'),
        ('test', 'probe'), ('test', 'knn'), ('test', 'probe-last'), ('test', 'finetune'),
    ]  # fmt: skip
    assert all(0 <= float(r['accuracy']) <= 100 for r in rows)
    # Light against dark is in every feature: a probe that read other images would miss it.
    assert [r['accuracy'] for r in rows if r['protocol'] == 'probe'] == ['100.0', '100.0']

    folder = tmp_path / 'energy-mixed/seed0/pretraining_2e_lr0.001'
    pretrained = torch.load(folder / 'epoch_2.pth', weights_only=False)['state_dict']
    finetuned = folder.with_name(f'{folder.name}_finetune_2e_lr0.001_decay0.75')
    weights = torch.load(finetuned / 'epoch_2.pth', weights_only=False)['state_dict']
    assert torch.equal(pretrained['backbone.pos_embed'][0, 1:], SINCOS)  # fixed
    state = torch.load(folder / 'epoch_2.pth', weights_only=False)['message_hub']['runtime_info']
    written = (folder / 'seconds.txt').read_text().split()
    assert [f'{x:.1f}' for x in state['benchmark_seconds']] == written
    assert rows[-1]['pretraining_cpu_s'] == written[1]
    assert not torch.equal(weights['backbone.pos_embed'][0, 1:], SINCOS)  # trained
    assert len((tmp_path / 'split/labelled.txt').read_text().splitlines()) == 30

    page = (tmp_path / 'report.html').read_text()
    assert 'Linear probe against epochs' in page
    assert 'Loss while pretraining' in page
    for file in trained:  # the commands that repeat what the row stands on, elsewhere
        copy_of = file.removesuffix('.py').replace(str(tmp_path), f'{tmp_path}/repeated')
        assert f'tools/train.py {file} --work-dir {copy_of}' in page
    assert f'checkpoint={tmp_path}/repeated/energy-mixed/seed0/pretraining_2e_lr0.001/e' in page
    assert Image.open(tmp_path / 'results.png').size[0] > 500
    table = (tmp_path / 'results.md').read_text()
    assert re.search(
        r'\| energy-mixed \| 2 \| \d+\.\d\d \| 100\.0', table
    )  # trained in this process

    capsys.readouterr()
    measured = read(tmp_path)
    monkeypatch.setattr(tool, 'accuracy', lambda *a: pytest.fail('measured again'))
    monkeypatch.setattr(tool, 'frozen_accuracy', lambda *a: pytest.fail('measured again'))
    arguments[arguments.index('--workers') + 1] = '1'  # of no consequence
    assert main(arguments) == 0
    assert len(trained) == 2
    assert read(tmp_path) == measured
    assert capsys.readouterr().out.startswith('0 of 2 training runs left')
    arguments[arguments.index('12')] = '24'  # another width: not the existing run
    assert exit_code(main, arguments) == 2
    error = capsys.readouterr().err
    assert 'holds a run with other options: name another out' in error
    assert 'model.backbone.arch.embed_dims 12 → 24' in error


DIVERGED = 2, 'FloatingPointError: Not finite at iteration 3 (epoch 1): loss=nan.'
NO_MEMORY = 1, 'torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB'


@pytest.fixture
def outcomes(monkeypatch):
    """Train, measure and draw nothing. Exit code and output by a part of the folder, or success."""
    outcomes, began = {}, []
    config = dict(
        default_hooks=dict(pretrained_backbone=dict()),
        train_dataloader=dict(batch_size=8, dataset=dict()),
        custom_imports=dict(imports=[]),
    )

    def run(self, file, folder):
        began.append(folder)
        found = [outcomes[part] for part in outcomes if part in str(folder)]
        code, text = found[0] if found else (0, '')
        (folder / 'output.txt').write_text(text)
        if code == 0:
            epochs = re.findall(r'_(\d+)e_', folder.name)[-1]
            (folder / f'epoch_{epochs}.pth').touch()
        return code

    monkeypatch.setattr(Processes, 'run', run)
    monkeypatch.setattr(tool, 'accuracy', lambda *a: 50.0)
    layers = dict(probe=[30.0, 20.0], knn=[20.0, 10.0])
    monkeypatch.setattr(tool, 'frozen_accuracy', lambda *a: layers)
    monkeypatch.setattr(tool, 'stage_config', lambda *a, **k: Config(copy.deepcopy(config)))
    monkeypatch.setattr(tool, 'draw_results', lambda *a: SimpleNamespace(savefig=lambda path: None))
    outcomes['began'] = began
    return outcomes


@pytest.mark.slow
def test_what_fails_is_reported_and_the_others_go_on(images, tmp_path, outcomes):
    began = outcomes.pop('began')
    outcomes |= {
        'mae/seed0/pretraining_2e_lr0.003': DIVERGED,
        'mae/seed0/pretraining_2e_lr0.001_finetune_2e_lr0.003': DIVERGED,
        'mae/seed1/pretraining': (-9, ''),
        'ae-denoising': NO_MEMORY,
    }
    asked = options(
        images, tmp_path / 'out', methods=['ae-denoising', 'mae', 'scratch'], seeds=[0, 1],
        layer_decays=[1.0], epochs=2, pretraining_epochs=[2],
    )  # fmt: skip
    said = []
    table = Benchmark(asked).run(said.append)
    rows = read(tmp_path / 'out')
    failed = [(r['method'], r['split'], r['protocol'], r['accuracy'], r['failed']) for r in rows]
    assert [f for f in failed if f[4]] == [
        ('ae-denoising', 'val', 'pretraining', 'nan',
         'out of memory, see ae-denoising/seed0/pretraining_2e_lr0.001/output.txt'),
        ('ae-denoising', 'val', 'pretraining', 'nan',
         'out of memory, see ae-denoising/seed0/pretraining_2e_lr0.003/output.txt'),
        ('mae', 'val', 'finetune', 'nan',
         'diverged, see mae/seed0/pretraining_2e_lr0.001_finetune_2e_lr0.003_decay1/output.txt'),
        ('mae', 'val', 'pretraining', 'nan',
         'diverged, see mae/seed0/pretraining_2e_lr0.003/output.txt'),
        ('mae', 'test', 'pretraining', 'nan',
         'killed, maybe for want of memory, see mae/seed1/pretraining_2e_lr0.001/output.txt'),
    ]  # fmt: skip
    assert table.splitlines()[2:6] == [
        '| mae | 2 | 0.00 | 50.0 | 30.0 | 20.0 | 20.0 |',
        '| scratch | 0 | 0.00 | 50.0 ± 0.0 | 30.0 ± 0.0 | 20.0 ± 0.0 | 20.0 ± 0.0 |',
        '',
        'Failed:',
    ]
    assert 'ae-denoising is left out: every run failed' in table
    assert (tmp_path / 'out/results.md').read_text() == f'{table}\n'
    assert 'mae, seed 0, finetune: diverged, see mae/' in (tmp_path / 'out/report.html').read_text()
    assert 'ae-denoising, validation: every run failed' in said
    assert said[-1] == f'0 of {len(began)} training runs left, 5 failed'
    figures = load_tool('visualization/figures')
    arguments = [str(tmp_path / 'out/results.csv'), '--output', str(tmp_path / 'figure.png')]
    figures.main(['benchmark', *arguments])
    assert (tmp_path / 'figure.png').exists()

    begun = len(began)
    assert Benchmark(asked).run(said.append) == table
    assert len(began) == begun  # what failed is not repeated
    shutil.rmtree(tmp_path / 'out/mae/seed1/pretraining_2e_lr0.001')
    del outcomes['mae/seed1/pretraining']
    again = Benchmark(asked).run(said.append)
    assert [folder.name for folder in began[begun:]] == [
        'pretraining_2e_lr0.001', 'pretraining_2e_lr0.001_finetune_2e_lr0.001_decay1'
    ]  # fmt: skip
    assert '| mae | 2 | 0.00 | 50.0 ± 0.0 |' in again


def test_nothing_is_left_of_a_comparison(images, tmp_path, outcomes, capsys):
    began = outcomes.pop('began')
    outcomes['mae'] = DIVERGED
    arguments = ['benchmark', str(images), '--out', str(tmp_path / 'out'), '--methods', 'mae']
    assert exit_code(main, arguments) == 2
    error = capsys.readouterr().err
    assert error.count('\n') == 1
    assert 'every training run failed. mae, seed 0, pretraining: diverged, see mae/seed0/' in error
    assert len(began) == 2
    assert 'mae is left out' in (tmp_path / 'out/results.md').read_text()


@pytest.mark.parametrize(
    ('code', 'output'),
    [(143, ''), (-1, ''), (2, 'error: x.pth: No space left on device; 3.2 MB are needed')],
)
def test_an_interrupted_run_is_none_that_failed(code, output, images, tmp_path, outcomes):
    outcomes['scratch'] = code, output
    benchmark = Benchmark(options(images, tmp_path / 'out', methods=['scratch']))
    with pytest.raises(RuntimeError, match=r'was interrupted, see .*output\.txt'):
        benchmark.run()
    assert len(outcomes['began']) == 1
    assert not list(tmp_path.rglob('failed.txt'))


@pytest.mark.parametrize(
    ('code', 'output', 'reason'),
    [
        (*DIVERGED, 'diverged'),
        (2, 'Weights not finite after iteration 9 (epoch 1)', 'diverged'),
        (*NO_MEMORY, 'out of memory'),
        (1, "RuntimeError: DefaultCPUAllocator: can't allocate memory", 'out of memory'),
        (2, 'a data-loading worker was killed, usually because memory ran out', 'out of memory'),
        (1, 'KeyError: 3', 'failed'),
    ],
)
def test_reasons_of_failure(code, output, reason):
    assert runs.reason(code, output) == reason


def test_a_run_that_another_job_has_ended_is_none_that_failed(images, tmp_path, outcomes):
    """Its data-loading processes may be ended first, which looks like want of memory."""
    outcomes['scratch'] = 2, 'a data-loading worker was killed, usually because memory ran out'
    benchmark = Benchmark(options(images, tmp_path / 'out', methods=['scratch']))
    benchmark.processes._stopped.set()
    with pytest.raises(RuntimeError, match='was interrupted'):
        benchmark.run()
    assert not list(tmp_path.rglob('failed.txt'))


def test_features_that_are_not_finite(images, tmp_path, outcomes, monkeypatch):
    """Sound weights may give such; other layers and protocols count."""
    del outcomes['began']
    found = dict(probe=[30.0, nan, nan], knn=[20.0, nan, nan])
    monkeypatch.setattr(tool, 'frozen_accuracy', lambda *a: found)
    asked = options(images, tmp_path / 'out', methods=['scratch'], protocols=['probe', 'knn'])
    table = Benchmark(asked).run(lambda text: None)
    assert '| scratch | 0 | 0.00 | 30.0 | 20.0 |' in table
    assert table.count('scratch, seed 0, probe: features not finite') == 1


def test_layers_with_features_that_are_not_finite_are_not_measured(images, tmp_path, monkeypatch):
    benchmark = Benchmark(options(images, tmp_path / 'out'))
    config = benchmark.classifier_config(None, 0, 0.1, 1.0)
    features, targets = torch.randn(4, 3), torch.tensor([0, 1, 0, 1])
    monkeypatch.setattr(measuring, 'FeatureExtractor', lambda *a, **k: None)
    layers = iter([[features, features], [features, features * torch.inf]])
    monkeypatch.setattr(measuring, 'layer_features', lambda *a: (next(layers), targets))
    config.default_hooks.position_embedding = None
    found = measuring.frozen_accuracy(config, None, 0, 'val', {})
    assert np.isnan(found['probe']).tolist() == np.isnan(found['knn']).tolist() == [False, True]


def test_changed_options_are_named():
    old = dict(model=dict(depth=2, heads=[1, 2]), train_dataloader=dict(num_workers=2), lr=1e-3)
    new = copy.deepcopy(old)
    new['train_dataloader']['num_workers'] = 0
    assert runs.changes(old, new, runs.LOADING) == ''
    new['model'] = dict(depth='2', heads=[1, 3], kind='a')
    assert runs.changes(old, new, runs.LOADING) == (
        'model.depth 2 → "2", model.heads.1 2 → 3, model.kind – → "a"'
    )
    del new['lr']
    assert runs.changes(old, new, runs.LOADING).endswith(
        'model.heads.1 2 → 3, lr 0.001 → – and 1 more'
    )
