"""``mmebm.pretrain``: from a folder of images to a backbone that timm and MMPretrain load."""

import html
import json
import math
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import mmengine
import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from mmengine.hooks import Hook
from mmpretrain.registry import MODELS
from PIL import Image

import mmebm
from mmebm.cli.main import main
from mmebm.pretraining import plan
from mmebm.pretraining import run as module
from mmebm.utils.checkpoint import load_checkpoint_safely
from tests.processes import exit_codes
from tests.test_readme import blocks
from tests.tools import load_tool, write_images

from .conftest import SHORT, VIT

pytestmark = pytest.mark.slow


def pixels():
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def trained_backbone(run):
    """The backbone inside the checkpoint, in the class that the run trained."""
    backbone = MODELS.build(mmengine.Config.fromfile(run.config).model.backbone)
    prefix = 'backbone.'
    state = {k.removeprefix(prefix): v for k, v in weights(run).items() if k.startswith(prefix)}
    backbone.load_state_dict(state)
    backbone.eval()
    return backbone


def loaded_by(run, **given):
    """The network after the lines that the run printed."""
    exec('\n'.join(run.usage), given)
    return given['network'].eval()


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


def logged(out, name):
    lines = [file.read_text().splitlines() for file in sorted(out.glob('*/vis_data/scalars.json'))]
    records = [json.loads(line) for part in lines for line in part]
    return [record[name] for record in records if name in record]


def test_a_timm_vit_is_loaded_by_timm(pretrain, photos, tmp_path, said, capsys):
    out = tmp_path / 'out'
    run = pretrain('timm/test_vit', out, iterations=4, held_out=20)
    assert 'held-out gain' in capsys.readouterr().err
    loaded = loaded_by(run)
    assert torch.equal(loaded(pixels()), last(trained_backbone(run)(pixels())))
    assert {path.name for path in out.iterdir() if path.is_file()} == {
        *('backbone.safetensors', 'checkpoint.pth', 'config.py', 'report.html'),
        *('train.txt', 'held_out.txt', 'options.json', 'log.txt', '.lock', '.started.py'),
    }
    modes = {path.stat().st_mode for path in out.iterdir() if path.is_file() and path.suffix}
    assert len(modes) == 1  # what one can read, all can
    assert len((out / 'train.txt').read_text().splitlines()) == 40
    assert 0 <= logged(out, 'knn/accuracy')[-1] <= 1
    page = Path(run.report).read_text()
    assert 'Finished: ' in page
    assert page.count(html.escape('\n'.join(run.usage))) == 1
    assert ' DEBUG ' not in (out / 'log.txt').read_text()
    # the same call again has nothing left to do, other options are refused
    before = Path(run.checkpoint).stat().st_mtime_ns
    assert pretrain('timm/test_vit', out, iterations=4, held_out=20) == run
    assert Path(run.checkpoint).stat().st_mtime_ns == before
    for change in (dict(held_out=7), dict(seed=4), dict(corruption='denoising')):
        ((name, value),) = change.items()
        with pytest.raises(ValueError, match=f'other options .*{name} was .* is {value!r}'):
            pretrain('timm/test_vit', out, **dict(iterations=4, held_out=20) | change)
    with pytest.raises(ValueError, match='holds 4 finished iterations, 3 are no more'):
        pretrain('timm/test_vit', out, iterations=3, held_out=20)


def test_a_timm_convnext_and_the_other_commands(pretrain, photos, tmp_path):
    out = tmp_path / 'out'
    out.mkdir()
    (out / 'config.py').write_text('half of a')  # ended while it wrote the files of a new run
    run = pretrain('timm/test_convnext', out)
    loaded = loaded_by(run)
    torch.testing.assert_close(loaded(pixels()), last(trained_backbone(run)(pixels())))
    assert 'torch.zeros(1, 3, 32, 32)' in run.usage[-1]
    (code,) = (c for c in blocks('docs/pretrain.md', 'python') if 'reset_classifier' in c)
    names, code = {}, code.replace('convnext_atto', 'test_convnext')
    exec(code.replace('out/photos/backbone.safetensors', run.backbone), names)
    assert names['network'].pretrained_cfg == loaded.pretrained_cfg  # and normalisation
    assert names['network'](pixels()).shape == (2, 10)
    features = (network.forward_features(pixels()) for network in (names['network'], loaded))
    assert torch.equal(*features)
    dark, restored = str(photos / 'dark'), out / 'restored'
    assert main(['restore', run.checkpoint, dark, '--out', str(restored)]) == 0
    assert len(list(restored.glob('*.restored.png'))) == 30


def test_batch_norm_stays_and_the_printed_lines_load_it(pretrain, photos, tmp_path):
    sources = [photos / 'dark', photos / 'light']
    run = pretrain('timm/test_resnet', tmp_path / 'out', corruption='masking', data=sources)
    expected = last(trained_backbone(run)(pixels()))  # (B, C, H, W)
    network = loaded_by(run)
    assert any(isinstance(m, torch.nn.BatchNorm2d) for m in network.modules())
    torch.testing.assert_close(network(pixels()).flatten(1), expected.flatten(1))
    lines, file = '\n'.join(run.usage), tmp_path / 'features.pt'
    code = f'{lines}\ntorch.save(features, {str(file)!r})'  # the lines import all that they need
    subprocess.run([sys.executable, '-c', code], check=True)
    exec(lines, given := {})
    torch.testing.assert_close(torch.load(file), given['features'])


def test_inpainting_leaves_a_vit_that_timm_loads(pretrain, tmp_path, capsys):
    out, options = tmp_path / 'out', dict(energy='inpainting', num_steps=2, held_out=20)
    run = pretrain('timm/test_vit', out, **options)
    assert 'gain' not in capsys.readouterr().err  # PSNR would be borrowed from the originals
    network = loaded_by(run)
    assert torch.equal(network(pixels()), last(trained_backbone(run)(pixels())))
    start = mmebm.backbones.sincos_position_embedding((2, 2), 64)
    assert torch.equal(network.pos_embed[0, 1:], start)  # fixed
    model = MODELS.build(mmengine.Config.fromfile(run.config).model)
    model.load_state_dict(weights(run))
    assert (type(model), model.num_steps) == (mmebm.EnergyInpaintingAlgorithm, 2)
    # options of a run that was started before there was a choice of energies
    kept = json.loads((out / 'options.json').read_text())
    del kept['energy']
    (out / 'options.json').write_text(json.dumps(kept))
    with pytest.raises(ValueError, match="energy was 'restoration', is 'inpainting'"):
        pretrain('timm/test_vit', out, **options)


@pytest.mark.parametrize('given', [False, True])
def test_a_start_keeps_batch_norms_and_their_statistics(pretrain, tmp_path, given):
    source = timm.create_model('test_resnet', num_classes=0)
    for _ in range(20):
        source.train()(torch.randn(8, 3, 64, 64) + 1)  # statistics
    state = {name: tensor.clone() for name, tensor in source.state_dict().items()}
    safetensors.torch.save_file(state, tmp_path / 'timm.safetensors')
    options = dict(learning_rate=1e-2, image_size=64, iterations=3)
    if given:
        run = pretrain(source, tmp_path / 'out', **options)
        assert_equal(state, source.state_dict())  # a copy was trained
        assert loaded_by(run, network=source) is source
    else:
        start = tmp_path / 'timm.safetensors'
        run = pretrain('timm/test_resnet', tmp_path / 'out', start=start, **options)
    loaded = safetensors.torch.load_file(run.backbone)
    timm.create_model('test_resnet', num_classes=0).load_state_dict(loaded)
    for name, tensor in loaded.items():
        if not name.endswith('bias'):  # with ReLU no gradient of an energy depends on it
            assert torch.equal(tensor, state[name]) != name.endswith('weight'), name


class Signals(Hook):
    """Send this process a signal."""

    def __init__(self, number, iteration):
        self.number, self.iteration = number, iteration

    def after_train_iter(self, runner, *args, **kwargs):
        if runner.iter == self.iteration:
            signal.raise_signal(self.number)


def with_hook(hook):
    def build(config):
        runner = mmebm.engine.runner_of(config)
        runner.register_hook(hook)
        return runner

    return build


def pretrain_until_killed(photos, vit, out, options):
    torch.set_num_threads(1)
    module.TRIAL_SECONDS = plan.SAVE_SECONDS = 0.0
    module.runner_of = with_hook(Signals(signal.SIGKILL, 4))
    mmebm.pretrain(photos, vit, out, **options)


class Failure(Hook):
    def before_train_iter(self, runner, batch_idx, data_batch=None):
        raise LookupError('of somebody')


def test_ctrl_c_is_the_callers_again_after_an_error(pretrain, tmp_path, vit, monkeypatch):
    monkeypatch.setattr(module, 'runner_of', with_hook(Failure()))
    with pytest.raises(LookupError, match='of somebody'):
        pretrain(vit, tmp_path / 'out')
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_interrupted_killed_resumed_and_repeated_by_its_config(
    pretrain, photos, tmp_path, vit, monkeypatch
):
    options = dict(iterations=6, learning_rate=1e-3, seed=3)
    whole = pretrain(vit, tmp_path / 'whole', **options)
    backbone = MODELS.build(mmengine.Config.fromfile(whole.config).model.backbone)
    mmebm.load_backbone(backbone, whole.backbone)

    out = tmp_path / 'interrupted'
    with monkeypatch.context() as patched:
        patched.setattr(module, 'runner_of', with_hook(Signals(signal.SIGINT, 3)))
        with pytest.raises(KeyboardInterrupt):
            pretrain(vit, out, **options)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert [path.name for path in out.glob('epoch_*.pth')] == ['epoch_4.pth']
    before = (out / 'config.py').read_text()
    assert_equal(weights(whole), weights(pretrain(vit, out, **options)))
    assert (out / 'config.py').read_text() == before  # and repeats the whole run

    monkeypatch.setattr(plan, 'SAVE_SECONDS', 0.0)  # after each round
    out = tmp_path / 'killed'
    killed = exit_codes(pretrain_until_killed, (photos, vit, out, SHORT | options))
    assert killed == [-signal.SIGKILL]
    assert {path.name for path in out.glob('*.pth')} == {'epoch_3.pth', 'epoch_4.pth'}
    (out / 'epoch_4.pth').write_bytes(b'damaged')
    resumed = pretrain(vit, out, **options)
    assert_equal(weights(whole), weights(resumed))
    # killed between the last checkpoint and the report
    os.replace(resumed.checkpoint, out / 'epoch_6.pth')
    Path(resumed.report).unlink()
    assert pretrain(vit, out, **options) == resumed
    assert 'Finished: ' in Path(resumed.report).read_text()
    assert_equal(weights(whole), weights(resumed))

    # it goes on, when it is to be longer; its config then repeats all of it
    first, options['iterations'] = weights(whole), 9
    longer = pretrain(vit, tmp_path / 'whole', **options)
    rates = [1e-3 * (1 + math.cos(math.pi * step / 3)) / 2 for step in range(3)]
    assert logged(tmp_path / 'whole', 'base_lr')[6:] == pytest.approx(rates)
    argv = [whole.config, '--work-dir', str(tmp_path / 'repeated')]
    load_tool('train').main([*argv, '--cfg-options', 'experiment_name=repeated'])
    for run, epoch in ((first, 6), (weights(longer), 9)):
        file = tmp_path / f'repeated/epoch_{epoch}.pth'
        assert_equal(run, load_checkpoint_safely(file)['state_dict'])


def test_grey_images_of_any_shape_for_a_backbone_of_one_channel(pretrain, tmp_path, said):
    for i, path in enumerate(write_images(tmp_path / 'photos', 12)):
        Image.open(path).convert('L').resize((30 + 5 * i, 70 - 5 * i)).save(path)
    size = dict(image_size=(32, 48), held_out=3, data=tmp_path / 'photos')
    run = pretrain('timm/test_vit', tmp_path / 'out', channels=1, **size)
    assert any('9 images looked at are grey: colorization is left out' in line for line in said)
    assert 'Colorization' not in Path(run.config).read_text()
    network, grey = loaded_by(run), torch.randn(2, 1, 32, 48)
    assert torch.equal(network(grey), last(trained_backbone(run)(grey)))
    assert network.pos_embed.shape == (1, 1 + 2 * 3, 64)
    assert 'torch.zeros(1, 1, 32, 48)' in run.usage[-1]
    restorer = mmebm.Restorer(run.checkpoint, device='cpu')
    restorer.model.head.fc.weight.data.normal_()
    colours = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    chain = restorer(colours)
    assert chain.images[-1].shape == (40, 60, 3)
    assert np.ptp(chain.images[-1], axis=2).max() == 0
    assert np.abs(chain.images[-1] - chain.images[0]).max() > 0
    with pytest.raises(ValueError, match='colorization changes nothing: the images are grey'):
        pretrain('timm/test_vit', tmp_path / 'new', corruption='colorization', **size)


def one_of_two(rank, port, photos, vit, out, options):
    torch.set_num_threads(1)
    os.environ |= dict(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE='2', LOCAL_WORLD_SIZE='2',
        MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port), TORCHELASTIC_RUN_ID='a',
    )  # fmt: skip
    module.TRIAL_SECONDS = 0.0
    assert (mmebm.pretrain(photos, vit, out, **options) is None) == (rank == 1)


def test_two_processes_learn_what_one_does(pretrain, photos, tmp_path):
    (tmp_path / 'vit.py').write_text(VIT.replace('drop_path_rate=0.2', 'drop_path_rate=0.0'))
    vit, out = str(tmp_path / 'vit.py'), tmp_path / 'two'
    options = SHORT | dict(iterations=3, learning_rate=1e-3, precision='float32')
    for options['iterations'] in (3, 5):  # then it goes on
        with socket.socket() as free:
            free.bind(('127.0.0.1', 0))
            port = free.getsockname()[1]
        both = [(rank, port, photos, vit, out, options) for rank in range(2)]
        assert exit_codes(one_of_two, *both) == [0, 0]
        one = pretrain(vit, tmp_path / 'one', **options | dict(batch_size=16))
        two = load_checkpoint_safely(out / 'checkpoint.pth')['state_dict']
        for name, tensor in weights(one).items():
            torch.testing.assert_close(two[name], tensor, atol=2e-5, rtol=1e-4)
    assert len(logged(out, 'base_lr')) == 5
    assert (out / 'backbone.pth').is_file()
    with pytest.raises(ValueError, match='processes was 2, is 1'):
        pretrain(vit, out, **options)


def test_what_cannot_be_pretrained_is_refused_and_nothing_written(pretrain, photos, tmp_path):
    out, vit = tmp_path / 'out', tmp_path / 'vit.py'

    def refused(match, backbone='timm/test_vit', out=out, kind=ValueError, **options):
        with pytest.raises(kind, match=match):
            pretrain(backbone, out, **options)

    refused('timm has no resnet81, the nearest is resnet', 'timm/resnet81')
    refused('MMPretrain has no ConvNexT2, the nearest is ConvNeXt', 'mmpretrain/ConvNexT2')
    refused('timm/NAME, mmpretrain/NAME or an existing config', 'resnet18')
    refused(r'an existing config file, got .no\.py', 'no.py')
    refused('cannot be pretrained on images of 32 × 32', 'mmpretrain/LeNet5')
    name = 'deit_tiny_distilled_patch16_224'  # has two class tokens
    refused(f'builds no {name}', f'timm/{name}')
    refused('no such image or folder', data=tmp_path / 'no', kind=FileNotFoundError)
    new = dict(energy='inpainting')
    why = '{} on images of {}.* it needs a vision transformer'.format
    refused(why('test_resnet', 32), 'timm/test_resnet', **new)
    refused(why('test_vit', 16), image_size=16, **new)  # a single patch
    rectangular = VIT.replace('patch_size=8', 'patch_size=(8, 16)')
    for text, size in ((VIT, 28), (rectangular, 32), (VIT.replace('=16', '=18'), 32)):
        vit.write_text(text)
        refused(why('vit.py', size), str(vit), image_size=size, **new)
    pooled = timm.create_model('test_vit', img_size=32, num_classes=0)
    refused("cannot be pretrained .*global_pool=''", pooled, **new)
    refused('start: not allowed with a module', pooled, start='x.pth')
    refused('no.pth does not exist', start='no.pth', kind=FileNotFoundError)
    (tmp_path / 'one').mkdir()
    Image.new('RGB', (32, 32)).save(tmp_path / 'one/a.png')
    refused('1 of 1 images cannot be held out', data=tmp_path / 'one')
    assert not out.exists()
    out.mkdir()
    (out / 'mine.txt').write_text('mine')
    refused('holds other files: choose a new folder')
    refused('mine.txt', out=out / 'mine.txt', kind=NotADirectoryError)
    refused('mine.txt', out=out / 'mine.txt/out', kind=NotADirectoryError)
    assert [path.name for path in out.iterdir()] == ['mine.txt']


def test_two_processes_do_not_write_into_one_folder(pretrain, tmp_path):
    out = tmp_path / 'new/out'
    with module.locked(out):
        with pytest.raises(ValueError, match='another process is training in '):
            pretrain('timm/test_vit', out)
        assert [path.name for path in out.iterdir()] == [module.LOCK]
    with module.locked(out):  # the file stays, the lock does not
        pass
