"""The comparison on small images: equal terms, choices on a validation split, one whole run."""

import copy
import csv
import json
import re
import shutil
from contextlib import redirect_stderr, redirect_stdout
from math import nan
from pathlib import Path
from types import SimpleNamespace

import mmpretrain
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.optim import build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS, init_default_scope
from mmpretrain.registry import DATASETS, MODELS
from PIL import Image
from torch import nn

from mmebm.backbones import sincos_position_embedding
from mmebm.backbones.weights import load_backbone
from mmebm.benchmark import comparison, training
from mmebm.benchmark.comparison import Benchmark
from mmebm.benchmark.configs import find_configs, set_length, stage_config, write_start
from mmebm.benchmark.measuring import batches, classifier, frozen_accuracy, layer_features
from mmebm.benchmark.options import BenchmarkOptions
from mmebm.benchmark.results import choose, draw_results, result_table, summarised
from mmebm.benchmark.training import SecondsHook, Stage
from mmebm.cli.main import main
from mmebm.utils import UserError
from tests.test_configs.common import HUE_FAILS
from tests.tools import exit_code, load_tool, write_noise

BACKBONES = 'vit-micro-p4', 'swin-micro-p2', 'convnext-micro-p2'


def options(folder, out='out', **more):
    return BenchmarkOptions(data_root=str(folder), out=str(out), **dict(workers=0) | more)


METHODS = {
    backbone: {k: v for k, v in find_configs(options('.', backbone=backbone))[0].items() if v}
    for backbone in BACKBONES
}


def read(folder):
    with open(folder / 'results.csv', newline='') as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    """Dark and light noise, 40 training and 8 test images each."""
    folder = tmp_path_factory.mktemp('images')
    classes = dict(dark=(0, 100), light=(120, 220))
    for seed, (part, count) in enumerate((('train', 40), ('test', 8))):
        write_noise(folder / part, classes, count, seed=seed)
    return folder


@pytest.fixture
def trained(monkeypatch, tool_process):
    """Train tiny networks in this process, in small batches; the files that were trained."""
    files, make = [], comparison.stage_config

    def run(file, folder):
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

    def small(*args, **kwargs):
        config = make(*args, **kwargs)
        arch = config.model.backbone.arch
        arch.update(embed_dims=12, num_layers=2, feedforward_channels=24)
        if config.model.type == 'MAE':
            config.model.neck.update(embed_dim=12, decoder_embed_dim=12, decoder_depth=1)
        else:
            config.model.head.in_channels = 12
        config.train_dataloader.batch_size = 30
        return config

    monkeypatch.setattr(training, 'run_training', run)
    monkeypatch.setattr(comparison, 'stage_config', small)
    return files


def test_methods_are_names_and_files():
    assert not {'scratch', 'finetune', 'linear', 'beit'} & set(METHODS['vit-micro-p4'])
    assert 'simmim' in METHODS['swin-micro-p2']
    found, finetuning = find_configs(options('.', methods=['scratch', 'a/b.py'], backbone='c.py'))
    assert {k: str(v) for k, v in found.items()} == {'scratch': 'None', 'b': 'a/b.py'}
    assert str(finetuning) == 'c.py'


@pytest.fixture(scope='module')
def lists(images, tmp_path_factory):
    """The lists of images of a comparison."""
    return Benchmark(options(images, tmp_path_factory.mktemp('out') / 'out')).files


@pytest.fixture(scope='module')
def finetuning(images, lists):
    """Backbone → the config that finetunes it."""
    found = {}
    for backbone in BACKBONES:
        asked = options(images, backbone=backbone)
        values = 2, lists['labelled'], 2
        found[backbone] = stage_config(find_configs(asked)[1], asked, *values)
    return found


@pytest.mark.parametrize('backbone', BACKBONES)
def test_all_methods_begin_and_go_on_with_the_same_weights(backbone, finetuning, tmp_path):
    """The start fits every pretraining network, and what that has learnt fits finetuning."""
    config = copy.deepcopy(finetuning[backbone])
    shallow = dict(num_layers=2) if 'vit' in backbone else {}
    config.model.backbone.arch.update(shallow)
    write_start(config, seed=3, file=tmp_path / 'start.pth')
    start = torch.load(tmp_path / 'start.pth')['state_dict']
    for path in METHODS[backbone].values():
        pretrained = Config.fromfile(path).model.backbone
        pretrained.arch.update(shallow)
        encoder = MODELS.build(pretrained)
        load_backbone(encoder, tmp_path / 'start.pth')
        weights = {f'backbone.{name}': value for name, value in encoder.state_dict().items()}
        torch.save(dict(state_dict=weights), tmp_path / 'file.pth')
        network = MODELS.build(config.model.backbone)
        assert load_backbone(network, tmp_path / 'file.pth').share >= 0.9
        for name, value in network.state_dict().items():
            if f'backbone.{name}' in start:
                assert torch.equal(value, start[f'backbone.{name}']), (path, name)


def test_the_start_is_xavier_and_seeded(finetuning, tmp_path):
    files = [tmp_path / name for name in 'abc']
    for file, seed in zip(files, (0, 0, 1), strict=True):
        write_start(finetuning['vit-micro-p4'], seed, file)
    first, again, other = (torch.load(file)['state_dict'] for file in files)
    assert 'backbone.pos_embed' not in first
    for name in ('layers.0.ffn.layers.0.0', 'patch_embed.projection'):
        weight = first[f'backbone.{name}.weight']
        assert torch.equal(weight, again[f'backbone.{name}.weight'])
        assert not torch.equal(weight, other[f'backbone.{name}.weight'])
        limit = (6 / sum(weight.flatten(1).shape)) ** 0.5
        assert 0.99 * limit < weight.abs().max() <= limit
        assert first[f'backbone.{name}.bias'].abs().max() == 0


def test_pretraining_is_on_equal_terms(images, lists):
    for methods in METHODS.values():
        configs = [
            stage_config(path, options(images), 7, lists['unlabelled'], seed=5, lr=0.02)
            for path in methods.values()
        ]
        for config in configs:
            assert config.optim_wrapper.optimizer == configs[0].optim_wrapper.optimizer
            assert config.optim_wrapper.optimizer.lr == 0.02
            assert config.param_scheduler == configs[0].param_scheduler
            assert config.randomness.seed == 5
            loader, first = config.train_dataloader, configs[0].train_dataloader
            assert loader.batch_size == first.batch_size
            assert loader.dataset.pipeline[:3] == first.dataset.pipeline[:3]
            assert loader.dataset.ann_file == str(lists['unlabelled'])
            assert config.val_dataloader is None


def test_mmpretrains_own_configs(images, lists):
    """A pretraining and a finetuning config as MMPretrain ships them."""
    init_default_scope('mmpretrain')
    folder = Path(mmpretrain.__file__).parent / '.mim/configs'
    asked = options(images)
    path = folder / 'simsiam/simsiam_resnet50_8xb32-coslr-100e_in1k.py'
    simsiam = stage_config(path, asked, 3, lists['unlabelled'], lr=0.02)
    if not HUE_FAILS:
        sample = DATASETS.build(simsiam.train_dataloader.dataset)[0]
        assert [view.shape for view in sample['inputs']] == [(3, 224, 224)] * 2
    assert simsiam.optim_wrapper.optimizer.lr == 0.02
    path = folder / 'resnet/resnet18_8xb32_in1k.py'
    model = classifier(stage_config(path, asked, 3, lists['labelled'], 2))
    assert model.head.num_classes == 2
    assert model.data_preprocessor.mean is not None


@pytest.mark.parametrize('warm_up', [0, 1, 2, 5])
@pytest.mark.parametrize('epochs', [1, 2, 6, 12])
@pytest.mark.parametrize('iterations', [1, 2, 3, 20])
def test_the_rate_that_was_asked_for_is_reached(warm_up, epochs, iterations):
    ramp = dict(type='LinearLR', end=warm_up)
    config = Config(dict(param_scheduler=[ramp, dict(type='CosineAnnealingLR', eta_min=1e-6)]))
    set_length(config, epochs, iterations)
    wrapper = dict(optimizer=dict(type='SGD', lr=1.0))
    optimizer = build_optim_wrapper(nn.Linear(1, 1), wrapper).optimizer
    schedulers = [
        PARAM_SCHEDULERS.build(dict(s, optimizer=optimizer)) for s in config.param_scheduler
    ]
    rates = []
    for _ in range(epochs * iterations):
        rates.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    assert max(rates) == pytest.approx(1.0)
    assert rates.index(max(rates)) <= max(1, epochs // 5) * iterations


def test_finetuning_starts_every_method_at_the_same_embedding(images, tmp_path, trained):
    """The sorting auto-encoder would bring zeros."""
    benchmark = Benchmark(options(images, tmp_path / 'out', epochs=1))
    benchmark.say = print
    start = Stage('ae-sorting', 0, tmp_path / 'out/ae-sorting/start', 1, 0.1)
    config = benchmark.classifier()
    zeros = {k: 0 * v for k, v in MODELS.build(config.model.backbone).state_dict().items()}
    start.folder.mkdir(parents=True)
    torch.save(dict(state_dict={f'backbone.{k}': v for k, v in zeros.items()}), start.checkpoint)
    row = benchmark.finetune(start, 1e-9, 1.0, 'val')
    assert 0 <= row['accuracy'] <= 100
    found = torch.load(next(start.folder.parent.glob('*finetune*/epoch_1.pth')), weights_only=False)
    embedding = found['state_dict']['backbone.pos_embed'][0, 1:]
    torch.testing.assert_close(embedding, sincos_position_embedding((8, 8), 12), atol=1e-6, rtol=0)
    assert found['state_dict']['backbone.patch_embed.projection.weight'].abs().max() < 1e-6


def test_the_split_is_disjoint_and_of_the_training_images(images, tmp_path):
    def lists(name, **more):
        found = Benchmark(options(images, tmp_path / name, **more)).files
        return {name: file.read_text().splitlines() for name, file in found.items()}

    split, fewer = lists('a'), lists('b', labels_per_class=3)
    val = [line.split()[0] for line in split['val']]
    labelled = [line.split()[0] for line in split['labelled']]
    assert len(val) == 8
    assert sorted(labelled) == sorted(split['unlabelled'])
    everything = [f'{name}/{i:02d}.png' for name in ('dark', 'light') for i in range(40)]
    assert sorted(val + labelled) == everything
    for line in split['val'] + split['labelled']:
        assert line[-1] == str(['dark', 'light'].index(line.split('/')[0]))
    assert (fewer['val'], fewer['unlabelled']) == (split['val'], split['unlabelled'])
    assert len(fewer['labelled']) == 6
    assert set(fewer['labelled']) < set(split['labelled'])


def row(protocol, accuracy, pretraining_lr, **more):
    return dict(
        protocol=protocol,
        accuracy=accuracy,
        pretraining_lr=pretraining_lr,
        **dict(failed='') | more,
    )


def test_the_first_protocol_chooses_the_learning_rate_of_pretraining():
    rows = [
        row('finetune', 50.0, 1e-3, lr=1), row('finetune', 60.0, 1e-3, lr=2),
        row('finetune', 59.0, 3e-3, lr=1), row('finetune', 60.0, 3e-3, lr=2),
        row('probe', 30.0, 1e-3, layer=1), row('probe', 31.0, 1e-3, layer=2),
        row('probe', 40.0, 3e-3, layer=1), row('probe', 39.0, 3e-3, layer=2),
    ]  # fmt: skip
    assert choose(rows, ['finetune', 'probe']) == dict(finetune=rows[1], probe=rows[5])
    assert choose(rows, ['probe', 'finetune']) == dict(probe=rows[6], finetune=rows[3])
    failed = [dict(r, accuracy=nan, failed='diverged') for r in rows if r['protocol'] == 'finetune']
    assert choose(failed[:1] + rows[1:], ['finetune'])['finetune'] == rows[1]
    assert choose([*failed, *rows[4:]], ['finetune', 'probe']) == dict(probe=rows[6])
    assert choose(failed, ['finetune', 'probe']) == {}


def test_what_the_folders_must_hold(images, tmp_path):
    for part, names in (('train', 'ab'), ('test', 'ac')):
        for name in names:
            (tmp_path / part / name).mkdir(parents=True)
            Image.new('RGB', (224, 224)).save(tmp_path / part / name / '0.png')
    with pytest.raises(ValueError, match='need the same classes'):
        Benchmark(options(tmp_path, tmp_path / 'out'))
    (tmp_path / 'test/c').rename(tmp_path / 'test/b')
    with pytest.raises(ValueError, match='takes images of 32 × 32, got'):
        Benchmark(options(tmp_path, tmp_path / 'out'))
    Benchmark(options(images, tmp_path / 'out'))
    with pytest.raises(ValueError, match='dark has only 36 images that are not for validation'):
        Benchmark(options(images, tmp_path / 'more', labels_per_class=37))
    with pytest.raises(ValueError, match='lists other images'):
        Benchmark(options(images, tmp_path / 'out', labels_per_class=3))


@pytest.mark.parametrize('backbone', BACKBONES)
def test_features_of_every_layer(backbone, finetuning, lists):
    """The last ones are those that the classifier gets, before its norm."""
    config = finetuning[backbone]
    model = classifier(config)
    features, labels = layer_features(model, config, 'test', lists)
    assert labels.tolist() == [0] * 8 + [1] * 8
    count = {'vit-micro-p4': 6, 'swin-micro-p2': 3, 'convnext-micro-p2': 4}[backbone]
    assert [len(x) for x in features] == [16] * count
    ((images, _),) = batches(model, config, 'test', lists)
    with torch.no_grad():
        (pooled,) = model.extract_feat(images)
    expected = nn.functional.layer_norm(features[-1], features[-1].shape[1:])
    if backbone != 'swin-micro-p2':  # which normalises each position
        torch.testing.assert_close(pooled, expected, atol=1e-3, rtol=1e-3)


def test_probes_of_random_weights(finetuning, lists, tmp_path):
    """Light against dark is in every feature; features that are not finite have no accuracy."""
    config = copy.deepcopy(finetuning['vit-micro-p4'])
    config.model.backbone.arch.update(embed_dims=12, num_layers=2, feedforward_channels=24)
    config.model.head.in_channels = 12
    write_start(config, 0, tmp_path / 'start.pth')
    found = frozen_accuracy(config, tmp_path / 'start.pth', 'test', lists)
    assert found['probe'] == found['knn'] == [100.0, 100.0]
    assert all(0 < x < 2 for x in found['contrast'])
    start = torch.load(tmp_path / 'start.pth')
    start['state_dict']['backbone.layers.1.ln1.weight'] *= nan
    torch.save(start, tmp_path / 'start.pth')
    found = frozen_accuracy(config, tmp_path / 'start.pth', 'test', lists)
    assert np.isnan(found['probe']).tolist() == np.isnan(found['knn']).tolist() == [False, True]


def test_what_a_resumed_run_repeats_counts_once(tmp_path):
    """It goes on from the seconds in its checkpoint, whatever was written after that."""
    hub = MessageHub.get_instance('seconds')
    hub.update_info('benchmark_seconds', [1000.0, 2000.0])
    (tmp_path / 'seconds.txt').write_text('5000.0 5000.0\n')
    run, hook = SimpleNamespace(work_dir=tmp_path, iter=1, message_hub=hub), SecondsHook()
    hook.before_train(run)
    hook.after_train_epoch(run)
    stage = Stage('mae', 0, tmp_path)
    cpu, wall = stage.seconds
    assert 1000 <= wall < 1060
    assert 2000 <= cpu < 2060
    assert Stage('mae', 0, tmp_path / 'none').seconds == [0, 0]


@pytest.mark.slow
def test_chooses_then_tests_and_runs_nothing_twice(images, tmp_path, capsys, trained, monkeypatch):
    arguments = [
        'benchmark', str(images), '--out', str(tmp_path), '--methods', 'mae',
        '--pretraining-epochs', '1', '2', '--epochs', '2', '--workers', '0', '--labels-per-class',
        '15', '--pretraining-lrs', '1e-3', '--lrs', '1e-3', '--layer-decays', '0.75',
    ]  # fmt: skip
    assert main(arguments) == 0
    assert len(trained) == 2 * 2
    rows = read(tmp_path)
    found = [(r['split'], r['protocol'], r['pretraining_epochs'], r['layer']) for r in rows]
    layers = [(p, layer) for p in ('probe', 'knn', 'contrast') for layer in '12']
    assert [f[:2] + f[3:] for f in found if f[2] == '2' and f[0] == 'val'] == [
        ('val', *layer) for layer in layers
    ]
    assert [f[1:3] for f in found if f[0] == 'test'] == [
        (protocol, epochs)
        for epochs in '12'
        for protocol in ('finetune', 'probe', 'knn', 'probe-last', 'contrast')
    ]
    assert all(0 <= float(r['accuracy']) <= 100 for r in rows)
    assert {r['accuracy'] for r in rows if r['protocol'] == 'probe'} == {'100.0'}

    folder = tmp_path / 'mae/seed0/pretraining_2e_lr0.001'
    pretrained = torch.load(folder / 'epoch_2.pth', weights_only=False)
    start = tmp_path / 'scratch/seed0/start/epoch_0.pth'
    assert pretrained['meta']['pretrained_backbone']['checkpoint'] == str(start)
    written = (folder / 'seconds.txt').read_text().split()
    seconds = pretrained['message_hub']['runtime_info']['benchmark_seconds']
    assert [f'{x:.1f}' for x in seconds] == written
    assert rows[-1]['pretraining_cpu_s'] == written[1]
    assert rows[-1]['device'].endswith(torch.backends.cpu.get_cpu_capability())
    weights = [
        torch.load(path, weights_only=False)['state_dict']['backbone.pos_embed'][0, 1:]
        for path in (
            folder / 'epoch_2.pth',
            folder.with_name(f'{folder.name}_finetune_2e_lr0.001_decay0.75') / 'epoch_2.pth',
        )
    ]
    sincos = sincos_position_embedding((8, 8), 12)
    assert [torch.equal(w, sincos) for w in weights] == [True, False]  # fixed, then trained
    assert Image.open(tmp_path / 'results.png').size[0] > 500
    assert re.search(r'\| mae \| 2 \| 1 \| ', (tmp_path / 'results.md').read_text())

    capsys.readouterr()
    measured = read(tmp_path)
    for name in ('accuracy', 'frozen_accuracy'):
        monkeypatch.setattr(comparison, name, lambda *a: pytest.fail('measured again'))
    assert main(arguments) == 0
    assert len(trained) == 4
    assert read(tmp_path) == measured
    options_of = next((tmp_path / 'mae/seed0').glob('*finetune*.json'))
    changed = json.loads(options_of.read_text())
    changed['randomness'] = dict(seed=9)
    options_of.write_text(json.dumps(changed))
    assert exit_code(main, arguments) == 2
    assert 'holds a run with another randomness: choose another out' in capsys.readouterr().err


DIVERGED = 2, 'First line\ntrain.py: error: Not finite at iteration 3\n'
NO_MEMORY = 1, 'RuntimeError: no memory'


@pytest.fixture
def outcomes(monkeypatch):
    """Train and measure nothing. Exit code and output by a part of the folder, or success."""
    outcomes, began = {}, []

    def run(file, folder):
        began.append(folder)
        found = [outcomes[part] for part in outcomes if part in str(folder)]
        code, text = found[0] if found else (0, '')
        (folder / 'output.txt').write_text(text)
        if code == 0:
            epochs = re.findall(r'_(\d+)e_', folder.name)[-1]
            (folder / f'epoch_{epochs}.pth').touch()
        return code

    monkeypatch.setattr(training, 'run_training', run)
    monkeypatch.setattr(comparison, 'accuracy', lambda *a: 50.0)
    layers = dict(probe=[30.0, nan], knn=[20.0, nan], contrast=[0.4, nan])
    monkeypatch.setattr(comparison, 'frozen_accuracy', lambda *a: layers)
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
    failed = [r for r in read(tmp_path / 'out') if r['failed'] and not r['layer']]
    assert all(r['accuracy'] == 'nan' for r in failed)
    first = 'mae/seed0/pretraining_2e_lr0.001'
    diverged, memory = 'Not finite at iteration 3, see ', 'RuntimeError: no memory, see '
    assert [(r['method'], r['split'], r['protocol'], r['failed']) for r in failed] == [
        ('ae-denoising', 'val', 'pretraining', f'{memory}ae-denoising{first[3:]}/output.txt'),
        ('ae-denoising', 'val', 'pretraining', f'{memory}ae-denoising{first[3:-1]}3/output.txt'),
        ('mae', 'val', 'finetune', f'{diverged}{first}_finetune_2e_lr0.003_decay1/output.txt'),
        ('mae', 'val', 'pretraining', f'{diverged}{first[:-1]}3/output.txt'),
        ('mae', 'test', 'pretraining',
         'killed, probably out of memory, see mae/seed1/pretraining_2e_lr0.001/output.txt'),
    ]  # fmt: skip
    assert table.splitlines()[2:4] == [
        '| mae | 2 | 1 | 0 | 50.0 | 30.0 | 20.0 |',
        '| scratch | 0 | 2 | 0 | 50.0 ± 0.0 | 30.0 ± 0.0 | 20.0 ± 0.0 |',
    ]
    assert table.count('scratch, seed 0, probe: features not finite') == 1
    assert (tmp_path / 'out/results.md').read_text() == f'{table}\n'
    assert 'ae-denoising, validation: every run failed' in said

    begun = len(began)
    assert Benchmark(asked).run(said.append) == table
    assert len(began) == begun  # what failed is not repeated
    shutil.rmtree(tmp_path / 'out/mae/seed1/pretraining_2e_lr0.001')
    del outcomes['mae/seed1/pretraining']
    again = Benchmark(asked).run(said.append)
    assert [folder.name for folder in began[begun:]] == [
        'pretraining_2e_lr0.001', 'pretraining_2e_lr0.001_finetune_2e_lr0.001_decay1'
    ]  # fmt: skip
    assert '| mae | 2 | 2 | 0 | 50.0 ± 0.0 |' in again


@pytest.mark.parametrize('outcome', [(143, ''), (-1, ''), (2, 'error: No space left on device')])
def test_an_interrupted_run_is_none_that_failed(outcome, images, tmp_path, outcomes):
    outcomes['scratch'] = outcome
    benchmark = Benchmark(options(images, tmp_path / 'out', methods=['scratch']))
    with pytest.raises(UserError, match=r'was interrupted, see .*output\.txt'):
        benchmark.run()
    assert len(outcomes['began']) == 1
    assert not list(tmp_path.rglob('failed.txt'))


def test_table_and_figure_of_several_seeds():
    rows = [
        dict(method=method, seed=seed, split='test', protocol='knn', accuracy=f'{40 + 2 * seed}',
             pretraining_epochs=f'{epochs}', pretraining_cpu_s=3600.0 * epochs, failed='')
        for method, epochs in (('scratch', 0), ('mae', 4), ('mae', 8))
        for seed in (0, 1)
    ]  # fmt: skip
    rows.append(dict(rows[-1], method='other', protocol='probe'))  # and not by kNN
    results = summarised(rows)
    assert list(results) == [('scratch', 0), ('mae', 4), ('mae', 8), ('other', 8)]
    assert result_table(results, 'CPU hours')[3] == ['mae', '4', '2', '4', '', '41.0 ± 1.0']
    _, axes = draw_results({'vit': results}, 'CPU hours').axes
    assert axes.get_legend_handles_labels()[1] == ['scratch', 'mae']
    assert axes.lines[0].get_ydata()[0] == 41.0
    assert (np.ptp(axes.get_ylim()), axes.patches[0].get_height()) == pytest.approx((10, 2))
    np.testing.assert_array_equal(axes.containers[0][0].get_xdata(), [4, 8])
