"""``mmebm.pretrain``: from a folder of images to a backbone that timm and MMPretrain load."""

import json
import os
import signal
import sys
import types
from functools import partial
from pathlib import Path

import mmengine
import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmpretrain.registry import MODELS
from PIL import Image

import mmebm
from mmebm.apis.pretraining import hub, plan, trial
from mmebm.apis.pretraining import images as lists
from mmebm.apis.pretraining import network as networks
from mmebm.apis.pretraining import run as module
from mmebm.apis.pretraining.plan import CORRUPTIONS, Speed, corruption_of, length_of
from mmebm.apis.pretraining.run import train_with
from mmebm.apis.pretraining.trial import choose, largest_batch
from mmebm.cli.main import main
from mmebm.utils.checkpoint import load_checkpoint_safely
from tests.browser import assert_sound, look_at
from tests.processes import exit_codes
from tests.tools import load_tool

SHORT = dict(image_size=32, batch_size=8, workers=0, say=lambda line: None)
VIT = """
model = dict(
    backbone=dict(
        type='VisionTransformer',
        arch=dict(embed_dims=16, num_layers=1, num_heads=2, feedforward_channels=16),
        patch_size=8,
        drop_path_rate=0.2,
    )
)
"""


@pytest.fixture(autouse=True)
def _no_trial(monkeypatch, tool_process):
    monkeypatch.setattr(module, 'TRIAL_SECONDS', 0.0)


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
    """Two classes of images, light and dark."""
    folder = tmp_path_factory.mktemp('photos')
    rng = np.random.default_rng(0)
    for number, name in enumerate(('dark', 'light')):
        (folder / name).mkdir()
        for i in range(30):
            pixels = rng.integers(120 * number, 120 * number + 120, (36, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f'{i} of {name}.png')
    return folder


@pytest.fixture
def vit(tmp_path):
    path = tmp_path / 'vit.py'
    path.write_text(VIT)
    return str(path)


def pixels():
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def trained_backbone(run):
    """The backbone inside the checkpoint, in the class that the run trained."""
    backbone = MODELS.build(mmengine.Config.fromfile(run.config).model.backbone)
    state = load_checkpoint_safely(run.checkpoint)['state_dict']
    prefix = 'backbone.'
    own = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    backbone.load_state_dict(own)
    backbone.eval()
    return backbone


def last(features):
    while isinstance(features, tuple | list):
        features = features[-1]
    return features


def weights(run):
    return load_checkpoint_safely(run.checkpoint)['state_dict']


def assert_equal(first, second):
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


def scalars(out):
    lines = [file.read_text().splitlines() for file in sorted(out.glob('*/vis_data/scalars.json'))]
    return [json.loads(line) for part in lines for line in part]


@pytest.mark.slow
def test_a_timm_vit_is_loaded_by_timm(photos, tmp_path):
    said = []
    options = SHORT | dict(say=said.append, held_out=20)
    run = mmebm.pretrain(photos, 'timm/test_vit', tmp_path / 'out', iterations=4, **options)
    loaded = timm.create_model(
        'test_vit', img_size=32, num_classes=0, global_pool='', checkpoint_path=run.backbone
    ).eval()
    assert torch.equal(loaded(pixels()), last(trained_backbone(run)(pixels())))
    overlay = dict(file=run.backbone, num_classes=0)
    classifier = timm.create_model(
        'test_vit', img_size=32, pretrained=True, num_classes=3, pretrained_cfg_overlay=overlay
    )
    classifier.reset_classifier(0, '')
    assert torch.equal(classifier.eval()(pixels()), loaded(pixels()))
    text = '\n'.join(map(str, said))
    assert '40 to train on, 20 held out; kNN accuracy over 2 classes' in text
    assert f'checkpoint_path={run.backbone!r}' in text
    files = {path.name for path in (tmp_path / 'out').iterdir() if path.is_file()}
    assert files == {
        *('backbone.safetensors', 'checkpoint.pth', 'config.py', 'report.html'),
        *('train.txt', 'held_out.txt', 'options.json', 'log.txt'),
    }
    accuracies = [s['knn/accuracy'] for s in scalars(tmp_path / 'out') if 'knn/accuracy' in s]
    assert accuracies
    assert 0 <= accuracies[-1] <= 1
    page = Path(run.report).read_text()
    assert 'borrows its mean' not in page
    assert 'Nearest neighbours' in page
    assert 'Finished: 0.8 of 0.8 epochs' in page  # 4 × 8 of 40 images, in rounds of one iteration
    # the same call again has nothing left to do
    before = Path(run.checkpoint).stat().st_mtime_ns
    again = mmebm.pretrain(photos, 'timm/test_vit', tmp_path / 'out', iterations=4, **options)
    assert again == run
    assert Path(run.checkpoint).stat().st_mtime_ns == before
    assert 'this run is finished' in said[-4]


@pytest.mark.slow
def test_a_timm_convnext_is_loaded_by_timm(photos, tmp_path):
    out = tmp_path / 'out'
    out.mkdir()
    (out / module.UNFINISHED).touch()  # ended while it wrote the files of a new run
    (out / 'config.py').write_text('half of a')
    run = mmebm.pretrain(photos, 'timm/test_convnext', out, iterations=2, **SHORT)
    loaded = eval(run.usage[0], dict(timm=timm)).eval()
    expected = last(trained_backbone(run)(pixels()))  # (B, C, 1, 1)
    torch.testing.assert_close(loaded(pixels()), expected)
    assert_sound(look_at(Path(run.report)))
    # and the other commands take its checkpoint
    dark, restored, ranked = (str(p) for p in (photos / 'dark', out / 'restored', out / 'ranked'))
    assert main(['restore', run.checkpoint, dark, '--out', restored]) == 0
    assert len(list(Path(restored).glob('*.restored.png'))) == 30
    assert main(['score', run.checkpoint, dark, '--out', ranked, '--corruptions', '1']) == 0
    assert len(Path(ranked, 'scores.csv').read_text().splitlines()) == 31


@pytest.mark.slow
@pytest.mark.parametrize('keep', [False, True])
def test_a_network_with_batch_norm(photos, tmp_path, keep):
    said = []
    run = mmebm.pretrain(
        [photos / 'dark', photos / 'light'],
        'timm/test_resnet',
        tmp_path / 'out',
        iterations=2,
        keep_batch_norm=keep,
        corruption='masking',
        **SHORT | dict(say=said.append),
    )
    replaced = [line for line in said if 'replaced by group norms' in line]
    assert len(replaced) == (0 if keep else 1)
    expected = last(trained_backbone(run)(pixels()))  # (B, C, H, W)
    names = dict(timm=timm, mmebm=mmebm, safetensors=safetensors)
    if keep:
        network = eval(run.usage[0], names)
    else:
        exec('\n'.join(run.usage), names)
        network = names['network']
    found = network.eval()(pixels())
    torch.testing.assert_close(found, expected if keep else expected.mean((2, 3)))
    state = network.state_dict()
    inside = trained_backbone(run).timm_model.state_dict()
    assert all(torch.equal(tensor, inside[name]) for name, tensor in state.items())


@pytest.mark.slow
def test_inpainting_leaves_a_vit_that_timm_loads(photos, tmp_path):
    said, options = [], dict(iterations=3, energy='inpainting', num_steps=2, held_out=20)
    options |= SHORT
    image_size, out = 32, tmp_path / 'out'
    run = mmebm.pretrain(photos, 'timm/test_vit', out, **options | dict(say=said.append))
    assert 'masked patches and their edges, 75% of the patches of 16 × 16' in '\n'.join(said)
    network = eval(run.usage[0], dict(timm=timm)).eval()
    assert torch.equal(network(pixels()), last(trained_backbone(run)(pixels())))
    start = mmebm.backbones.sincos_position_embedding((2, 2), 64)
    assert torch.equal(network.pos_embed[0, 1:], start)  # fixed
    model = MODELS.build(mmengine.Config.fromfile(run.config).model)
    model.load_state_dict(load_checkpoint_safely(run.checkpoint)['state_dict'])
    assert (model.num_steps, model.num_patches) == (2, (image_size // 16) ** 2)
    assert isinstance(model, mmebm.EnergyInpaintingAlgorithm)
    assert 'borrows its mean and variance from the original' in Path(run.report).read_text()
    accuracies = [s['knn/accuracy'] for s in scalars(out) if 'knn/accuracy' in s]
    assert 0 <= accuracies[-1] <= 1
    with pytest.raises(ValueError, match='trained with --energy inpainting'):
        mmebm.Restorer(run.checkpoint)
    # options of a run that was started before there was a choice of energies
    file = out / 'options.json'
    kept = json.loads(file.read_text())
    del kept['energy']
    file.write_text(json.dumps(kept))
    refused("energy was 'restoration', is 'inpainting'", photos, 'timm/test_vit', out, **options)
    file.write_text(json.dumps(kept | dict(corruption='mixed')))
    assert mmebm.pretrain(photos, 'timm/test_vit', out, **options | dict(energy='restoration'))


@pytest.mark.slow
def test_inpainting_goes_on_with_the_weights_of_a_module(photos, tmp_path):
    options = SHORT | dict(iterations=3, energy='inpainting')  # the first leaves the backbone
    network = timm.create_model('test_vit', img_size=32, num_classes=0, global_pool='')
    run = mmebm.pretrain(photos, network, tmp_path / 'module', **options)
    loaded = safetensors.torch.load_file(run.backbone)
    assert loaded.keys() == network.state_dict().keys()
    assert not torch.equal(loaded['pos_embed'], network.pos_embed)  # random, and so trained
    # from a file, of a network that ends as this one does while it is trained
    (tmp_path / 'vit.py').write_text(VIT)
    first = mmebm.pretrain(photos, tmp_path / 'vit.py', tmp_path / 'first', **options)
    state = mmebm.pretrain(
        photos, tmp_path / 'vit.py', tmp_path / 'second', start=first.backbone, **options
    )
    assert 'start.safetensors' in Path(state.config).read_text()
    log = ''.join(path.read_text() for path in (tmp_path / 'second').rglob('*.log'))
    assert 'start.safetensors' in log


@pytest.mark.parametrize(
    'name',
    [
        'small/energy-inpainting4-75-hog_vit-micro-p4_1xb128-amp-coslr-40e_small32',
        'recipe/energy-inpainting16-75-hog_vit-small-p16_8xb512-amp-coslr-100e_in1k',
        'recipe/energy-inpainting16-75-hog_vit-base-p16_8xb512-amp-coslr-400e_in1k',
    ],
)
def test_inpainting_is_that_of_the_configs(name):
    path = Path(__file__).parents[2] / f'configs/{name}.py'
    expected = mmengine.Config.fromfile(path)
    backbone, size = networks.config_of(str(path))  # built nowhere here: ViT-B takes long
    network = networks.Network(
        name, backbone, size, expected.model.head.in_channels, 'features', pooled=True,
        group_norm=0, sincos=True, patch_size=backbone['patch_size'], parameters=0,
    )  # fmt: skip
    choices = plan.Choices(
        energy='inpainting', corruption=None, num_steps=1, batch_size=8, processes=1,
        learning_rate=1e-3, precision='float32', workers=0, seed=0, start=None,
        compile_step=expected.model.compile_step,
    )  # fmt: skip
    images = lists.Images(Path('.'), ['a.png'], ['b.png'], [], [], [])
    found = plan.config_of(Path('.'), images, network, choices, length_of(Speed(1, 0), 1))
    assert found.model.to_dict() == expected.model.to_dict()
    masks = [
        next(t for t in c.train_dataloader.dataset.pipeline if t['type'] == 'GriddedMask')
        for c in (found, expected)
    ]
    assert masks[0] == masks[1]
    keys = [c.optim_wrapper.paramwise_cfg.custom_keys.pos_embed for c in (found, expected)]
    assert keys[0]['lr_mult'] == keys[1]['lr_mult'] == 0.0


class Interrupts(Hook):
    def __init__(self, number, iteration):
        self.number, self.iteration = number, iteration

    def after_train_iter(self, runner, *args, **kwargs):
        if runner.iter == self.iteration:
            signal.raise_signal(self.number)


def train_with_hook(config, hook):
    def build(config):
        runner = Runner.from_cfg(config)
        runner.register_hook(hook)
        return runner

    train_with(config, build)


def pretrain_until_killed(photos, vit, out, options):
    torch.set_num_threads(1)
    module.TRIAL_SECONDS = plan.SAVE_SECONDS = 0.0
    kill = partial(train_with_hook, hook=Interrupts(signal.SIGKILL, 4))
    mmebm.pretrain(photos, vit, out, train=kill, **options)


@pytest.mark.slow
def test_interrupted_killed_resumed_and_repeated_by_its_config(
    photos, tmp_path, vit, capsys, monkeypatch
):
    options = SHORT | dict(iterations=6, learning_rate=1e-3, seed=3)
    whole = mmebm.pretrain(photos, vit, tmp_path / 'whole', **options)
    backbone = MODELS.build(mmengine.Config.fromfile(whole.config).model.backbone)
    mmebm.load_backbone(backbone, whole.backbone)

    interrupt = partial(train_with_hook, hook=Interrupts(signal.SIGINT, 3))
    out = tmp_path / 'interrupted'
    with pytest.raises(KeyboardInterrupt):
        mmebm.pretrain(photos, vit, out, train=interrupt, **options)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert [path.name for path in out.glob('epoch_*.pth')] == ['epoch_4.pth']
    for change in (dict(iterations=7), dict(seed=4), dict(corruption='denoising')):
        ((name, value),) = change.items()
        with pytest.raises(ValueError, match=f'other options .*{name} was .* is {value!r}'):
            mmebm.pretrain(photos, vit, out, **options | change)
    resumed = mmebm.pretrain(photos, vit, out, **options)
    assert_equal(weights(whole), weights(resumed))

    monkeypatch.setattr(plan, 'SAVE_SECONDS', 0.0)  # after each round
    out = tmp_path / 'killed'

    asked = {name: value for name, value in options.items() if name != 'say'}
    assert exit_codes(pretrain_until_killed, (photos, vit, out, asked)) == [-signal.SIGKILL]
    assert {path.name for path in out.glob('*.pth')} == {'epoch_3.pth', 'epoch_4.pth'}
    said = []
    resumed = mmebm.pretrain(photos, vit, out, **options | dict(say=said.append))
    assert 'continuing the run that is there' in said[0]
    assert_equal(weights(whole), weights(resumed))
    # killed between the last checkpoint and the report
    os.replace(resumed.checkpoint, out / 'epoch_6.pth')
    Path(resumed.report).unlink()
    assert mmebm.pretrain(photos, vit, out, **options) == resumed
    assert 'Finished: 1 of 1 epochs' in Path(resumed.report).read_text()
    assert_equal(weights(whole), weights(resumed))

    argv = [whole.config, '--work-dir', str(tmp_path / 'repeated')]
    load_tool('train').main([*argv, '--cfg-options', 'experiment_name=repeated'])
    repeated = load_checkpoint_safely(tmp_path / 'repeated/epoch_6.pth')['state_dict']
    assert_equal(weights(whole), repeated)

    start = mmebm.pretrain(photos, vit, tmp_path / 'more', start=whole.backbone, **options)
    log = ''.join(path.read_text() for path in (tmp_path / 'more').rglob('*.log'))
    assert 'start.safetensors' in log
    assert weights(start).keys() == weights(whole).keys()


@pytest.mark.slow
def test_a_module_starts_with_its_own_weights(photos, tmp_path):
    torch.manual_seed(1)
    module = timm.create_model('test_vit', img_size=32, num_classes=0)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    run = mmebm.pretrain(
        photos, module, tmp_path / 'out', iterations=1, learning_rate=1e-9, **SHORT
    )
    assert_equal(before, module.state_dict())  # a copy was trained
    loaded = safetensors.torch.load_file(run.backbone)
    assert loaded.keys() == before.keys()
    for name, tensor in before.items():
        torch.testing.assert_close(loaded[name], tensor, atol=1e-6, rtol=1e-4)
    module.load_state_dict(loaded)
    assert 'Epoch(train)' in (tmp_path / 'out/log.txt').read_text()


@pytest.mark.slow
def test_a_module_with_batch_norm_is_loaded_as_printed(photos, tmp_path):
    module = timm.create_model('test_resnet', num_classes=0)
    run = mmebm.pretrain(photos, module, tmp_path / 'out', iterations=1, **SHORT)
    exec('\n'.join(run.usage), dict(network=module, mmebm=mmebm, safetensors=safetensors))
    assert_equal(module.state_dict(), safetensors.torch.load_file(run.backbone))


def refused(match, *args, kind=ValueError, **options):
    with pytest.raises(kind, match=match):
        mmebm.pretrain(*args, **SHORT | dict(iterations=1) | options)


@pytest.mark.slow
def test_what_cannot_be_pretrained_is_refused_and_nothing_written(photos, tmp_path):
    out = tmp_path / 'out'
    ours = 'timm/test_vit'
    refused('timm has no resnet81; the nearest are .*resnet18', photos, 'timm/resnet81', out)
    refused(
        'MMPretrain has no ConvNexT2; the nearest .*ConvNeXt', photos, 'mmpretrain/ConvNexT2', out
    )
    refused('timm/NAME, mmpretrain/NAME or a config file', photos, 'resnet18', out)
    refused('config no.py does not exist', photos, 'no.py', out, kind=FileNotFoundError)
    refused('cannot be pretrained on images of 32 × 32', photos, 'mmpretrain/LeNet5', out)
    name = 'deit_tiny_distilled_patch16_224'  # has two class tokens
    refused(f'{name} cannot be written for timm', photos, f'timm/{name}', out)
    refused('no such folder or list', tmp_path / 'no', ours, out, kind=FileNotFoundError)
    refused('is a single image', photos / 'dark/0 of dark.png', ours, out)
    refused('only one of hours, epochs and iterations', photos, ours, out, hours=1.0)
    refused('hours must be', photos, ours, out, iterations=None, hours=0.0)
    refused('image_size must be', photos, ours, out, image_size=0)
    refused('corruption must be one of mixed', photos, ours, out, corruption='blur')
    refused("energy must be one of restoration, inpainting, got 'x'", photos, ours, out, energy='x')
    new = dict(energy='inpainting')
    refused("'mixed' is for energy restoration", photos, ours, out, corruption='mixed', **new)
    why = '{} on images of {}.* it needs a vision transformer'.format
    refused(why('test_resnet', 32), photos, 'timm/test_resnet', out, **new)
    refused(why('test_vit', 16), photos, ours, out, image_size=16, **new)  # a single patch
    rectangular = VIT.replace('patch_size=8', 'patch_size=(8, 16)')
    for text, size in ((VIT, 28), (rectangular, 32), (VIT.replace('=16', '=18'), 32)):
        (tmp_path / 'vit.py').write_text(text)
        refused(why('vit.py', size), photos, str(tmp_path / 'vit.py'), out, image_size=size, **new)
    pooled = timm.create_model('test_vit', img_size=32, num_classes=0)
    refused("inpainting cannot train .*global_pool=''", photos, pooled, out, **new)
    refused('held_out must be below', photos, ours, out, held_out=60)
    refused('start: no such file', photos, ours, out, start='no.pth', kind=FileNotFoundError)
    (tmp_path / 'empty').mkdir()
    refused('no image below', tmp_path / 'empty', ours, out, kind=FileNotFoundError)
    (tmp_path / 'one').mkdir()
    Image.new('RGB', (32, 32)).save(tmp_path / 'one/a.png')
    refused('data holds 1 image: at least 2', tmp_path / 'one', ours, out)
    assert not out.exists()
    out.mkdir()
    (out / 'mine.txt').write_text('mine')
    refused('holds other files: give a new folder', photos, ours, out)
    refused('is a file, but must be a folder', photos, ours, out / 'mine.txt')
    refused('mine.txt is a file, but must be', photos, ours, out / 'mine.txt/out')
    assert [path.name for path in out.iterdir()] == ['mine.txt']


@pytest.mark.slow
def test_a_full_disk_is_refused_before_the_start(photos, tmp_path, vit, monkeypatch):
    usage = type('Usage', (), dict(free=1000))
    monkeypatch.setattr(module.shutil, 'disk_usage', lambda path: usage)
    refused('checkpoints take .* MB are missing', photos, vit, tmp_path / 'out', kind=OSError)
    assert not (tmp_path / 'out').exists()


def test_two_processes_do_not_train_in_one_folder(photos, tmp_path):
    out = tmp_path / 'new/out'
    with module.alone(out):
        refused('another process is training in .*out', photos, 'timm/test_vit', out)
        assert out.is_dir()
    assert not out.parent.exists()  # nothing was written
    (tmp_path / '.lock').touch()  # of a process that was killed
    with module.alone(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_several_processes_need_what_starts_them(photos, tmp_path):
    refused('processes 2 needs train, .* --gpus 2', photos, 'b', tmp_path / 'o', processes=2)
    assert not (tmp_path / 'o').exists()


def test_an_older_checkpoint_than_the_last_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(module, 'export', lambda checkpoint, config, out: (out, []))
    (tmp_path / 'config.py').write_text('train_cfg = dict(max_epochs=3)')
    torch.save({}, tmp_path / 'epoch_1.pth')
    (tmp_path / 'epoch_2.pth').write_bytes(b'damaged')
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_2.pth'))
    said, trained = [], []

    def train(config):
        trained.append(config.load_from)
        torch.save({}, tmp_path / 'epoch_3.pth')

    module.finish(tmp_path, train, said.append)
    assert trained == [str(tmp_path / 'epoch_1.pth')]
    assert said[0].startswith(f'going on from {trained[0]}: {tmp_path / "epoch_2.pth"} is damaged')


def test_processes_share_a_validation(photos, tmp_path, vit, monkeypatch):
    speeds = []

    def length(speed, *args, **kwargs):
        speeds.append(speed)
        return length_of(speed, *args, **kwargs)

    def tried(draft, *args):
        return trial.Choice(draft, Speed(1.0, 8.0, 0.0), {})

    monkeypatch.setattr(module, 'choose', tried)
    monkeypatch.setattr(module, 'length_of', length)
    options = SHORT | dict(processes=2, train=lambda config: sys.exit())
    with pytest.raises(SystemExit):
        mmebm.pretrain(photos, vit, tmp_path / 'out', **options)
    assert speeds[-1].validation == 4.0


class TestImages:
    def test_held_out_images_are_not_trained_on_and_drawn_by_the_seed(self, photos):
        first, again, other = (lists.find(photos, 20, seed) for seed in (0, 0, 1))
        assert first == again
        assert set(first.held_out) != set(other.held_out)
        assert not set(first.train) & set(first.held_out)
        assert len(first.train) == 40
        assert len(first.held_out) == 20
        assert all((first.root / name).is_file() for name in first.train + first.held_out)
        assert first.classes == ['dark', 'light']
        assert [first.classes[i] for i in first.labels] == [n.split('/')[0] for n in first.held_out]

    @pytest.mark.parametrize(
        ('total', 'held_out'), [(2, 1), (20, 4), (100, 16), (1000, 50), (100_000, 1024)]
    )
    def test_number_held_out(self, total, held_out):
        assert lists._number_held_out(total, None) == held_out

    def test_a_list_of_paths(self, photos, tmp_path):
        names = sorted(str(path) for path in (photos / 'dark').iterdir())
        (tmp_path / 'list.txt').write_text('\n'.join(names) + '\n\n')
        found = lists.find(tmp_path / 'list.txt', None, 0)
        assert sorted(found.train + found.held_out) == sorted(Path(n).name for n in names)
        assert found.classes == []
        (tmp_path / 'list.txt').write_text('gone.png\n')
        with pytest.raises(FileNotFoundError, match='1 of 1 files that do not exist'):
            lists.find(tmp_path / 'list.txt', None, 0)
        (tmp_path / 'binary').write_bytes(b'\xff\xfe\x00')
        with pytest.raises(ValueError, match='neither a folder nor a text file'):
            lists.find(tmp_path / 'binary', None, 0)

    def test_too_few_of_a_class_make_no_classes(self, photos):
        found = lists.find(photos, 6, 0)
        assert found.classes == []
        assert len(found.held_out) == 6
        (note,) = found.notes
        assert 'no kNN accuracy: it needs 5 held-out images of each of the 2 classes' in note

    def test_enough_of_each_class_are_held_out(self, tmp_path):
        for i in range(60):
            path = tmp_path / f'class {min(i // 5, 6)}' / f'{i}.png'  # six of 5, one of 30
            path.parent.mkdir(exist_ok=True)
            path.touch()
        counts = [0] * 7
        found = lists.find(tmp_path, 35, 0)
        for label in found.labels:
            counts[label] += 1
        assert min(counts) == 5
        assert len(found.held_out) == 35
        assert found.notes == []
        # a fifth of the images is less than 5 of each
        assert len(lists.find(tmp_path, None, 0).held_out) == 12
        assert lists.find(tmp_path, None, 0).classes == []
        for i in range(60, 180):
            (tmp_path / f'class 6/{i}.png').touch()
        assert len(lists.find(tmp_path, None, 0).held_out) == 35
        assert len(lists.find(tmp_path, None, 0).classes) == 7

    def test_names_that_a_list_cannot_hold(self, tmp_path):
        for name in (b'1.png', b'2.png', b'3.png', b'a\nb.png', b'\xff.png'):
            Path(os.fsdecode(bytes(tmp_path) + b'/' + name)).touch()
        found = lists.find(tmp_path, 1, 0)
        assert sorted(found.train + found.held_out) == ['1.png', '2.png', '3.png']
        assert '2 left out, whose names are no UTF-8 or hold a line break' in found.notes[0]


class Image_:
    """A feature of a data set; its class's name is what is looked at."""

    def __init__(self, decode=True):
        self.decode = decode


class StandInDataset:
    """As much of ``datasets.Dataset`` as is used."""

    _fingerprint = 'abc'

    def __init__(self, rows, features, decode=True):
        self.rows, self.features, self.decode = rows, features, decode

    def cast_column(self, column, feature):
        return StandInDataset(self.rows, self.features, feature.decode)

    def __len__(self):
        return len(self.rows)

    def __iter__(self):
        assert not self.decode
        return iter(self.rows)


class TestHuggingFace:
    @pytest.fixture
    def dataset(self, monkeypatch, photos):
        """With bytes, and with paths as for images that lie on the disk."""
        image = type('Image', (Image_,), {})
        label = type('ClassLabel', (), dict(int2str=staticmethod(['a dog', 'cat'].__getitem__)))
        files = sorted((photos / 'dark').iterdir())[:6]
        rows = [dict(image=dict(bytes=f.read_bytes(), path=None), kind=0) for f in files[:3]]
        rows += [dict(image=dict(bytes=None, path=str(f)), kind=1) for f in files[3:]]
        found = StandInDataset(rows, dict(image=image(), kind=label()))
        monkeypatch.setitem(sys.modules, 'datasets', types.SimpleNamespace(
            Image=image, load_dataset=lambda name, split: dict(a=found)[name] if split else None
        ))  # fmt: skip
        return found

    @pytest.mark.parametrize('by_name', [False, True])
    def test_images_are_written_once_into_class_folders(self, dataset, tmp_path, by_name):
        said, source = [], 'hf:a:train' if by_name else dataset
        assert hub.is_hub(source)
        assert not hub.is_hub(tmp_path)
        hub.write(source, tmp_path, said.append)
        folder = hub.folder_of(hub.name_of(source), tmp_path)
        found = lists.find(folder, 2, 0)
        assert {name.split('/')[0] for name in found.train + found.held_out} == {'a-dog', 'cat'}
        assert len(found.train) == 4
        assert said == [f'images      6 of {hub.name_of(source)}, written to {folder}']
        file = folder / 'cat/00000003.png'
        assert file.read_bytes() == Path(dataset.rows[3]['image']['path']).read_bytes()
        file.write_bytes(b'mine')
        hub.write(source, tmp_path, said.append)
        assert file.read_bytes() == b'mine'

    def test_a_run_of_a_dataset(self, dataset, tmp_path, monkeypatch):
        def stop(out, options, say, began):
            assert options['data'] == ['hf:abc']
            assert len(lists.find(hub.folder_of('hf:abc', out), 2, 0).train) == 4
            raise KeyboardInterrupt

        monkeypatch.setattr(module, 'prepare', stop)
        for _ in range(2):  # what is written does not stand in the way
            with pytest.raises(KeyboardInterrupt):
                mmebm.pretrain(dataset, 'timm/test_vit', tmp_path / 'out', **SHORT)

    def test_what_cannot_be_read(self, dataset, tmp_path, monkeypatch):
        dataset.features.pop('image')
        with pytest.raises(ValueError, match='data hf:abc has no column of images, only kind'):
            hub.write(dataset, tmp_path, print)
        with pytest.raises(ValueError, match="data hf:gone: KeyError: 'gone'"):
            hub.write('hf:gone', tmp_path, print)
        monkeypatch.setitem(sys.modules, 'datasets', None)
        with pytest.raises(ValueError, match='datasets, which is not installed: pip install dat'):
            mmebm.pretrain('hf:a', 'timm/test_vit', tmp_path / 'out', **SHORT)
        assert not (tmp_path / 'out').exists()


class TestLength:
    @pytest.mark.parametrize('hours', [1 / 60, 0.1, 2, 100])
    @pytest.mark.parametrize('iteration', [0.01, 0.3, 4.0])
    @pytest.mark.parametrize('validation', [0.05, 3.0])
    def test_hours_end_on_time(self, hours, iteration, validation):
        """By a clock that only these durations move."""
        speed = Speed(iteration, validation, start=0.1 * 60)
        length = length_of(speed, seconds=hours * 3600)
        taken = speed.start + length.iterations * iteration
        taken += -(-length.rounds // length.validation_interval) * validation
        step = length.per_round * iteration + validation  # nothing shorter can be left out
        assert abs(taken - hours * 3600) <= max(0.05 * hours * 3600, step)

    def test_iterations_are_kept(self):
        for iterations in (1, 7, 31, 100, 101, 4000, 12_000):
            length = length_of(Speed(0.2, 1.0), iterations=iterations)
            assert length.iterations == iterations
            assert length.save_interval <= length.rounds
        prime = length_of(Speed(0.2, 1.0), iterations=4001)
        assert abs(prime.iterations - 4001) <= 0.03 * 4001
        # an interrupted run waits for the end of its round
        assert length.per_round * 0.2 <= 30

    @pytest.mark.slow
    def test_hours_are_measured(self, photos, tmp_path, vit, monkeypatch):
        now = iter(range(1_000_000))  # each look at the clock is a second later

        def measure(config, seconds, clock):
            assert seconds == 36 / 40
            return Speed(0.5, 0.1, start=2.0)

        monkeypatch.setattr(trial, 'measure', measure)
        options = dict.fromkeys(('iterations', 'epochs', 'batch_size', 'learning_rate', 'start'))
        options |= dict.fromkeys(('held_out', 'compile_step', 'precision', 'image_size'))
        options |= dict(data=[str(photos)], backbone=vit, hours=0.01, corruption='mixed', workers=0)
        options['energy'] = 'restoration'
        options |= dict(num_steps=1, seed=0, processes=1, keep_batch_norm=False)
        module.prepare(tmp_path / 'out', options, lambda line: None, clock=lambda: next(now))
        config = mmengine.Config.fromfile(tmp_path / 'out/config.py')
        loader = config.train_dataloader
        per_round = loader.sampler.round_size // loader.batch_size
        iterations = config.train_cfg.max_epochs * per_round
        # 36 s, less 1 s by the clock, 2 s to start again, and validations
        assert 0.95 * 36 <= 3 + 0.5 * iterations + 0.1 * 20 <= 1.05 * 36


def test_the_batch_is_halved_until_it_fits(monkeypatch, photos):
    tried = []

    def measure(config, seconds, clock):
        tried.append(config.train_dataloader.batch_size)
        if tried[-1] > 8:
            raise MemoryError
        return Speed(1.0, 1.0)

    monkeypatch.setattr(trial, 'measure', measure)
    loader = dict(batch_size=1, sampler=dict(round_size=1), dataset=dict(repeats=1))
    config = mmengine.Config(dict(train_dataloader=loader, val_dataloader=dict(batch_size=1)))
    fitting, _ = largest_batch(config, 32, 1.0)
    assert tried == [32, 16, 8]
    assert fitting.train_dataloader.batch_size == fitting.val_dataloader.batch_size == 8
    monkeypatch.setattr(trial, 'measure', lambda *_: (_ for _ in ()).throw(MemoryError))
    with pytest.raises(MemoryError, match='one image does not fit'):
        largest_batch(config, 4, 1.0)


class TestChoices:
    """By speeds that are given instead of measured."""

    DRAFT = mmengine.Config(
        dict(
            train_dataloader=dict(
                batch_size=32, sampler=dict(round_size=1), dataset=dict(repeats=1)
            ),
            val_dataloader=dict(batch_size=32),
            optim_wrapper=dict(dtype='bfloat16'),
            model=dict(compile_step=False),
        )
    )
    NONE = dict.fromkeys(('batch_size', 'precision', 'compile_step'))

    def choose(self, monkeypatch, iteration, seconds, start=lambda config: 1.0, **asked):
        tried = []

        def measure(config, seconds, clock):
            tried.append((config.optim_wrapper.dtype, config.model.compile_step))
            return Speed(iteration(config), 0.1, start(config))

        monkeypatch.setattr(trial, 'measure', measure)
        found = choose(self.DRAFT, self.NONE | asked, lambda speed, batch: seconds, 1.0)
        taken = found.config.optim_wrapper.dtype, found.config.model.compile_step
        assert found.speed.iteration == iteration(found.config)
        return taken, tried, found.reasons

    @pytest.mark.parametrize(
        ('half', 'full', 'taken'),
        [(1.0, 3.0, 'bfloat16'), (3.0, 1.0, 'float32'), (1.0, 1.01, 'float32')],
    )
    def test_the_faster_precision(self, monkeypatch, half, full, taken):
        times = dict(bfloat16=half, float32=full)
        found, tried, reasons = self.choose(
            monkeypatch, lambda config: times[config.optim_wrapper.dtype], 1000.0
        )
        assert found == (taken, False)
        assert tried == [('bfloat16', False), ('float32', False)]
        assert f'{1000 * half:.0f} ms in bfloat16, {1000 * full:.0f} ms in' in reasons['precision']
        assert 'too short to win back' in reasons['compile']

    @pytest.mark.parametrize(
        ('compiling', 'iteration', 'taken'),
        [(100.0, 0.5, True), (100.0, 1.1, False), (5000.0, 0.5, False)],
    )
    def test_compiled_if_that_ends_first(self, monkeypatch, compiling, iteration, taken):
        """In 7,200 s without it, at 1 s an iteration."""
        found, tried, reasons = self.choose(
            monkeypatch,
            lambda config: iteration if config.model.compile_step else 1.0,
            7200.0,
            lambda config: 1.0 + compiling if config.model.compile_step else 1.0,
            precision='bfloat16',
        )
        assert found == ('bfloat16', taken)
        assert tried == [('bfloat16', False), ('bfloat16', True)]
        assert f'takes {compiling:.0f} s, and an iteration then' in reasons['compile']

    def test_short_runs_and_what_is_asked_for_are_not_tried(self, monkeypatch):
        found, tried, reasons = self.choose(monkeypatch, lambda config: 1.0, 10.0)
        assert (found, len(tried)) == (('bfloat16', False), 1)
        assert 'too short to try another' in reasons['precision']
        asked = dict(batch_size=32, precision='bfloat16', compile_step=False)
        found, tried, reasons = self.choose(monkeypatch, lambda config: 1.0, 1e6, **asked)
        assert (found, len(tried), reasons) == (('bfloat16', False), 1, {})


@pytest.mark.parametrize('kind', CORRUPTIONS)
@pytest.mark.parametrize('size', [8, 32, 224])
def test_corruptions_suit_the_image_size(kind, size):
    from mmpretrain.registry import TRANSFORMS

    image = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    corrupted, clean = TRANSFORMS.build(corruption_of(kind, size))(dict(img=image))['img']
    assert corrupted.shape == clean.shape == image.shape


@pytest.mark.slow
def test_names_of_mmpretrain(vit):
    found = networks.find('mmpretrain/ShuffleNetV2', 32, False)
    assert found.group_norm > 0
    assert found.config['type'] == 'GroupNormBackbone'
    found = networks.find(vit, 32, False)
    assert found.config['out_type'] == 'avg_featmap'
    assert found.sincos
    assert found.in_channels == 16
