"""Conversions by the tool: outputs of both libraries compared, and every refusal."""

import json
import re
import sys
from pathlib import Path
from textwrap import dedent

import pytest
import timm
import torch
from mmengine.config import Config
from mmpretrain.registry import MODELS
from timm.data import resolve_model_data_config

from mmebm.backbones import load_backbone
from tests import reference_vit
from tests.pretrained import ARCH, build_pretraining, save_pretrained
from tests.tools import exit_code, load_tool
from tests.zero_head import MEAN, STD

VIT = dict(type='VisionTransformer', arch=ARCH, img_size=32, patch_size=8)
AVERAGED = dict(VIT, out_type='avg_featmap', final_norm=False)
CONVNEXT = dict(type='ConvNeXt', arch=dict(depths=[1, 1, 2, 1], channels=[4, 6, 8, 10]))
SWIN = dict(
    type='SwinTransformer',
    arch=dict(embed_dims=8, depths=[2, 2, 1, 1], num_heads=[1, 2, 2, 4]),
    img_size=64,
    window_size=2,
)
VIT_KWARGS = ['patch_size=8', 'embed_dim=16', 'depth=2', 'num_heads=2', 'mlp_ratio=2']
VIT_TIMM = ['--model', 'vit_tiny_patch16_224', '--model-kwargs', *VIT_KWARGS]
CONVNEXT_TIMM = ['--model', 'convnext_tiny', '--model-kwargs', 'depths=1,1,2,1', 'dims=4,6,8,10']
SWIN_TIMM = ['--model', 'swin_tiny_patch4_window7_224', '--model-kwargs', 'embed_dim=8']
SWIN_TIMM += ['depths=2,2,1,1', 'num_heads=1,2,2,4', 'window_size=2']

NETWORKS = {
    'vit': (AVERAGED, 16, VIT_TIMM),
    'vit-class-token': (VIT, 16, VIT_TIMM),
    'vit-map': (dict(VIT, out_type='featmap'), 16, VIT_TIMM),
    'vit-tokens': (dict(VIT, out_type='raw'), 16, VIT_TIMM),
    'vit-variant': (
        dict(AVERAGED, layer_scale_init_value=0.1, qkv_bias=False, with_cls_token=False),
        16,
        [*VIT_TIMM, 'init_values=0.1', 'qkv_bias=False', 'class_token=False', 'global_pool=avg'],
    ),
    'vit-pre-norm': (dict(AVERAGED, pre_norm=True), 16, [*VIT_TIMM, 'pre_norm=True']),
    'convnext': (CONVNEXT, 10, CONVNEXT_TIMM),
    'convnext-map': (dict(CONVNEXT, gap_before_final_norm=False), 10, CONVNEXT_TIMM),
    'convnext-v2': (
        dict(CONVNEXT, use_grn=True, layer_scale_init_value=0.0),
        10,
        ['--model', 'convnextv2_tiny', *CONVNEXT_TIMM[2:]],
    ),
    'swin': (SWIN, 64, SWIN_TIMM),
    'resnet': (dict(type='TIMMBackbone', model_name='resnet10t'), 512, []),
    'timm ViT': (dict(type='TIMMBackbone', model_name='test_vit', img_size=32), 64, []),
    # its last norm comes after pooling
    'fc_norm': (dict(type='TIMMBackbone', model_name='test_vit2', img_size=32), 64, []),
}


@pytest.fixture(scope='module')
def convert():
    return load_tool('model_converters/convert_checkpoint').main


def randomised(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """With weights that are never zero, one or equal, so that every tensor matters."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if 'running_var' in name or (tensor.dim() == 1 and name.endswith(('weight', 'gamma'))):
                tensor.uniform_(0.5, 1.5)
            elif tensor.is_floating_point():
                tensor.normal_(0, 0.2)
    return model.eval()


def save_run(model: dict, path: Path, to_rgb: bool = True) -> torch.nn.Module:
    """A checkpoint of a run, with its config in it; returns its model."""
    pixels = dict(type='SelfSupDataPreprocessor', mean=MEAN, std=STD, to_rgb=to_rgb)
    if model['type'] == 'ImageClassifier':
        pixels['type'] = 'ClsDataPreprocessor'
    config = Config(dict(model=dict(model, data_preprocessor=pixels), work_dir='/secret/folder'))
    network = randomised(MODELS.build(config.model))
    meta = dict(cfg=config.pretty_text, epoch=3)
    torch.save(dict(meta=meta, state_dict=network.state_dict(), optimizer={}), path)
    return network


def energy(backbone: dict, channels: int) -> dict:
    head = dict(type='EnergyHead', in_channels=channels)
    return dict(type='EnergyRestorationAlgorithm', backbone=backbone, head=head)


def classifier(backbone: dict, channels: int, neck: dict | None = None) -> dict:
    head = dict(type='LinearClsHead', num_classes=7, in_channels=channels)
    return dict(type='ImageClassifier', backbone=backbone, neck=neck, head=head)


def images_for(backbone: dict) -> torch.Tensor:
    side = backbone.get('img_size', 64)
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))


def created(out: str) -> torch.nn.Module:
    """The network that the printed lines of Python create."""
    names = {}
    exec(dedent(out.split('to load it:\n')[1]), names)
    assert names['features'].dim() == 2
    return names['network']


@torch.no_grad()
def features_of(backbone: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    backbone.eval()  # not chained: MMPretrain's returns None
    features = backbone(images)[-1]
    return features.mean((2, 3)) if features.dim() == 4 else features


@pytest.mark.parametrize('number', range(len(NETWORKS)), ids=NETWORKS)
def test_features_of_images_there_and_back(number, convert, tmp_path, capsys):
    """Whatever the run's order of channels, timm's network gets RGB, as timm normalises it."""
    to_rgb = number % 2 == 0
    backbone, channels, timm_model = [*NETWORKS.values()][number]
    ours = save_run(energy(backbone, channels), tmp_path / 'a.pth', to_rgb)
    out = str(tmp_path / 'a.safetensors')
    assert convert([str(tmp_path / 'a.pth'), out, '--to', 'timm', *timm_model]) == 0
    assert Path(out).stat().st_mode == (tmp_path / 'a.pth').stat().st_mode  # others may read it
    printed = capsys.readouterr().out
    theirs, data = created(printed), resolve_model_data_config(created(printed))
    left = re.search('left behind: (.*)', printed)[1]
    assert left.startswith('log_step_size, head.fc.weight')
    assert ('relative_position_index' in left) == (backbone is SWIN)
    if 'img_size' in backbone:
        assert data['input_size'] == (3, backbone['img_size'], backbone['img_size'])
    shape = 2, 3, *([backbone.get('img_size', 64)] * 2)
    rgb = torch.randint(256, shape, generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    bgr = rgb.flip(1)
    inputs = ((rgb if to_rgb else bgr) - mean) / std  # as MMPretrain's preprocessor
    expected = features_of(ours.backbone, inputs)
    mean, std = (torch.tensor(data[key])[:, None, None] for key in ('mean', 'std'))
    inputs = (rgb / 255 - mean) / std
    with torch.no_grad():
        found = theirs(inputs)
        found = found.mean((2, 3)) if found.dim() == 4 else found
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-3)

    again = MODELS.build(backbone)
    assert load_backbone(again, out).share == 1  # of timm's names
    torch.testing.assert_close(features_of(again, inputs), expected, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize(
    ('name', 'neck'),
    [
        ('vit', None),
        ('vit', dict(type='ClsBatchNormNeck', input_features=16)),  # a linear probe's
        ('convnext', None),
        ('convnext-map', dict(type='GlobalAveragePooling')),
        ('swin', dict(type='GlobalAveragePooling')),
    ],
)
def test_a_linear_classifier_goes_to_timm(name, neck, convert, tmp_path, capsys):
    backbone, channels, timm_model = NETWORKS[name]
    ours = save_run(classifier(backbone, channels, neck), tmp_path / 'a.pth')
    out = str(tmp_path / 'a.safetensors')
    assert convert([str(tmp_path / 'a.pth'), out, '--to', 'timm', *timm_model]) == 0
    printed = capsys.readouterr().out
    assert '7 classes' in printed
    images = images_for(backbone)
    with torch.no_grad():
        expected = ours(images, mode='tensor')
        theirs = created(printed)(images)
    assert expected.abs().max() > 0.5
    torch.testing.assert_close(theirs, expected, atol=1e-5, rtol=1e-5)


def test_mmpretrain_loads_the_clean_file_by_init_cfg(convert, tmp_path, capsys):
    ours = save_run(energy(AVERAGED, 16), tmp_path / 'a.pth')
    out = tmp_path / 'clean.pth'
    assert convert([str(tmp_path / 'a.pth'), str(out)]) == 0
    printed = capsys.readouterr().out
    assert 'left behind: log_step_size, head.fc.weight' in printed
    backbone = created(printed)
    for name, value in ours.backbone.state_dict().items():
        assert torch.equal(backbone.state_dict()[name], value), name
    file = torch.load(out, weights_only=True)
    assert set(file) == {'meta', 'state_dict'}
    assert all(name.startswith('backbone.') for name in file['state_dict'])
    assert 'secret' not in file['meta']['cfg']
    # the clean file can itself be converted, without naming a config
    assert convert([str(out), str(tmp_path / 'a.safetensors'), '--to', 'timm', *VIT_TIMM]) == 0


def test_the_decoder_of_mae_is_left_behind(convert, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_pretrained('mae', tmp_path / 'a.pth')
    Path('config.py').write_text(f'model = dict(backbone={dict(VIT, type="MAEViT")!r})')
    argv = ['a.pth', 'a.safetensors', '--to', 'timm', *VIT_TIMM, '--config', 'config.py']
    assert convert(argv) == 0
    printed = capsys.readouterr().out
    left = re.search('left behind: (.*)', printed)[1]
    names = build_pretraining('mae').state_dict()
    assert left.split(', ') == [name for name in names if not name.startswith('backbone.')]
    created(printed)


@pytest.fixture(params=['reference', 'real'])
def transformers(request, monkeypatch):
    """What is imported as transformers: the names and a ViT of the tests, or the package."""
    if request.param == 'real':
        return pytest.importorskip('transformers')
    monkeypatch.setitem(sys.modules, 'transformers', reference_vit)
    return reference_vit


@pytest.mark.parametrize('number', range(6))
def test_features_by_transformers(number, transformers, convert, tmp_path, capsys):
    names = ['vit', 'vit-class-token', 'vit-map', 'vit-tokens', 'timm ViT', 'convnext']
    backbone, channels, _ = NETWORKS[names[number]]
    ours = save_run(energy(backbone, channels), tmp_path / 'a.pth', to_rgb=number % 2 == 0)
    argv = [str(tmp_path / 'a.pth'), str(tmp_path / 'vit'), '--to', 'transformers']
    if names[number] == 'convnext':
        assert exit_code(convert, argv) == 2
        assert "transformers' ViT has no" in capsys.readouterr().err
        return
    assert convert(argv) == 0
    lines = dedent(capsys.readouterr().out.split('to load it:\n')[1])
    rgb = torch.randint(256, (2, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    inputs = ((rgb if number % 2 == 0 else rgb.flip(1)) - mean) / std
    expected = features_of(ours.backbone, inputs)
    expected = expected.mean(1) if expected.dim() == 3 else expected
    prepared = json.loads((tmp_path / 'vit/preprocessor_config.json').read_text())
    mean, std = (torch.tensor(prepared[f'image_{k}'])[:, None, None] for k in ('mean', 'std'))
    names = dict(images=(rgb / 255 - mean) / std)
    exec(lines.replace('torch.zeros(1, 3, 32, 32)', 'images'), names)
    torch.testing.assert_close(names['features'], expected, atol=1e-5, rtol=1e-3)
    assert exit_code(convert, argv) == 2
    assert 'vit exists' in capsys.readouterr().err


@pytest.mark.parametrize('kind', ['convnext', 'resnet'])
def test_maps_of_all_stages(kind, convert, tmp_path, capsys):
    """``features_only`` of timm and MMSegmentation's ``TIMMBackbone`` start from the export."""
    seg = pytest.importorskip('mmseg.models', exc_type=ImportError)
    backbone, channels, timm_model = NETWORKS[kind]
    save_run(energy(backbone, channels), tmp_path / 'a.pth')
    argv = [str(tmp_path / 'a.pth'), str(tmp_path / 'a.safetensors'), '--to', 'timm', *timm_model]
    assert convert(argv) == 0
    printed = capsys.readouterr().out
    network = created(printed)
    call = re.search(r'network = (timm\.create_model\(.*)\)', printed)[1]
    maps = eval(f'{call}, features_only=True)', dict(timm=timm))
    arguments = eval(call.replace('timm.create_model(', 'dict(model_name=') + ')')
    images = images_for(backbone)
    with torch.no_grad():
        expected = network.forward_intermediates(images, intermediates_only=True)
        for found in (maps.eval()(images), seg.TIMMBackbone(**arguments).eval()(images)):
            torch.testing.assert_close(found[-1], expected[-1])
            torch.testing.assert_close(found[0], expected[-len(found)])


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp('run') / 'run.pth'
    save_run(energy(AVERAGED, 16), path)
    torch.save(dict(state_dict=dict(cls_token=print)), path.with_name('code.pth'))
    return path


TO_TIMM = ['--to', 'timm', '--model']
REFUSED = {
    'overwriting': (['RUN', 'OLD.pth'], 'exists'),
    'code': (['CODE', 'a.pth'], 'is refused'),
    'another config': (['RUN', 'a.pth', '--config', 'other.py'], '12 missing in the file'),
    'no name': (['RUN', 'a.safetensors', '--to', 'timm'], '--model'),
    'unknown name': (['RUN', 'a.safetensors', *TO_TIMM, 'vit_smal'], "no model 'vit_smal'"),
    'another family': (['RUN', 'a.safetensors', *TO_TIMM, 'convnext_atto'], 'fails'),
    'image size': (['RUN', 'a.safetensors', '--to', 'timm', *VIT_TIMM, 'img_size=64'], 'pos_embed'),
    'option': (['RUN', 'a.safetensors', '--to', 'timm', *VIT_TIMM, 'colour=1'], 'colour'),
}


@pytest.mark.parametrize('kind', REFUSED)
def test_refusals(kind, convert, run, tmp_path, capsys, monkeypatch):
    """Exit code 2, a line that says why, and no file."""
    monkeypatch.chdir(tmp_path)
    Path('OLD.pth').write_text('precious')
    other = dict(AVERAGED, arch=dict(ARCH, num_layers=3))
    Path('other.py').write_text(f'model = dict(backbone={other!r})')
    files = {n: run.with_name(f'{n.lower()}.pth') for n in ('RUN', 'CODE')}
    before = sorted(tmp_path.iterdir())
    argv, words = REFUSED[kind]
    assert exit_code(convert, [str(files.get(arg, arg)) for arg in argv]) == 2
    error = capsys.readouterr().err
    assert error.count('\n') == 1
    assert words in error
    assert sorted(tmp_path.iterdir()) == before
    assert Path('OLD.pth').read_text() == 'precious'


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (dict(final_norm=True), "out_type='avg_featmap', final_norm=True"),
        (dict(norm_cfg=dict(type='LN', eps=1e-3)), 'No file is written'),
        # another activation has no tensors, so only the outputs differ
        (dict(layer_cfgs=dict(act_cfg=dict(type='ReLU'))), 'outputs of both networks differ by'),
    ],
)
def test_refuses_what_timm_does_not_compute(change, words, convert, tmp_path, capsys):
    save_run(energy(dict(AVERAGED, **change), 16), tmp_path / 'a.pth')
    out = tmp_path / 'a.safetensors'
    assert exit_code(convert, [str(tmp_path / 'a.pth'), str(out), '--to', 'timm', *VIT_TIMM]) == 2
    assert words in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ['a.pth']


def test_first_names_of_swin(tmp_path):
    """Swin's first files merge patches at the end of a stage, timm at the beginning of the next."""
    kwargs = dict(img_size=64, embed_dim=8, depths=[2, 2, 1, 1], num_heads=[1, 2, 2, 4])
    theirs = randomised(timm.create_model(SWIN_TIMM[1], window_size=2, **kwargs))
    first = {
        re.sub(r'(\d)(?=\.downsample)', lambda m: str(int(m[1]) - 1), name): tensor
        for name, tensor in theirs.state_dict().items()
    }
    torch.save(dict(model=first), tmp_path / 'first.pth')
    ours, images = MODELS.build(SWIN), images_for(SWIN)
    assert load_backbone(ours, tmp_path / 'first.pth').share == 1
    with torch.no_grad():
        expected = theirs.forward_head(theirs.forward_features(images), pre_logits=True)
    torch.testing.assert_close(features_of(ours, images), expected, atol=1e-5, rtol=1e-5)
