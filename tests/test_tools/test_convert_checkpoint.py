"""Conversions by the tool: outputs of both libraries compared, and every refusal."""

from pathlib import Path

import pytest
import timm
import torch
from mmengine.config import Config
from mmengine.model.weight_init import initialize
from mmpretrain.registry import MODELS
from safetensors import safe_open
from safetensors.torch import save_file
from timm.data import resolve_model_data_config

from mmebm.backbones import load_backbone
from tests.pretrained import ARCH, build_pretraining, save_pretrained
from tests.tools import exit_code, load_tool

MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]

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


def save_run(model: dict, path: Path) -> torch.nn.Module:
    """A checkpoint of a run, with its config in it; returns its model."""
    pixels = dict(type='SelfSupDataPreprocessor', mean=MEAN, std=STD, to_rgb=True)
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


def images_for(backbone: dict, batch: int = 2) -> torch.Tensor:
    side = backbone.get('img_size', 64)
    return torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(1))


def created(out: str) -> torch.nn.Module:
    """The network that the printed line of Python creates."""
    line = next(line for line in out.splitlines() if 'timm.create_model' in line)
    return eval(line, dict(timm=timm)).eval()


@torch.no_grad()
def features_of(backbone: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    backbone.eval()  # not chained: MMPretrain's returns None
    features = backbone(images)[-1]
    return features.mean((2, 3)) if features.dim() == 4 else features


@pytest.mark.parametrize('name', NETWORKS)
def test_pretrained_to_timm_computes_the_same(name, convert, tmp_path, capsys):
    backbone, channels, timm_model = NETWORKS[name]
    ours = save_run(energy(backbone, channels), tmp_path / 'a.pth')
    out = str(tmp_path / 'a.safetensors')
    assert convert([str(tmp_path / 'a.pth'), out, '--to', 'timm', *timm_model]) == 0
    printed = capsys.readouterr().out
    theirs = created(printed)
    images = images_for(backbone)
    with torch.no_grad():
        torch.testing.assert_close(
            theirs(images), features_of(ours.backbone, images), atol=1e-5, rtol=1e-5
        )
    left = next(line for line in printed.splitlines() if line.startswith('left behind'))
    assert 'log_step_size' in left
    assert 'head.fc.weight' in left
    assert ('relative_position_index' in left) == (name == 'swin')
    with safe_open(out, 'pt') as file:
        assert file.metadata() == {'format': 'pt'}
    data = resolve_model_data_config(theirs)
    assert [round(255 * x, 3) for x in data['mean']] == MEAN
    if 'img_size' in backbone:
        assert data['input_size'] == (3, backbone['img_size'], backbone['img_size'])


@pytest.mark.parametrize(
    ('name', 'neck'),
    [
        ('vit', None),
        ('vit', dict(type='ClsBatchNormNeck', input_features=16)),
        ('convnext', None),
        ('convnext-map', dict(type='GlobalAveragePooling')),
        ('swin', dict(type='GlobalAveragePooling')),
    ],
)
def test_a_linear_classifier_goes_to_timm_and_back(name, neck, convert, tmp_path, capsys):
    backbone, channels, timm_model = NETWORKS[name]
    ours = save_run(classifier(backbone, channels, neck), tmp_path / 'a.pth')
    out, back = str(tmp_path / 'a.safetensors'), str(tmp_path / 'back.pth')
    assert convert([str(tmp_path / 'a.pth'), out, '--to', 'timm', *timm_model]) == 0
    printed = capsys.readouterr().out
    assert '7 classes' in printed
    assert ('left behind: neck.bn.' in printed) == ('BatchNorm' in str(neck))
    images = images_for(backbone)
    with torch.no_grad():
        expected = ours(images, mode='tensor')
        theirs = created(printed)(images)
    assert expected.abs().max() > 0.5
    torch.testing.assert_close(theirs, expected, atol=1e-5, rtol=1e-5)

    kwargs = [*timm_model, f'img_size={backbone["img_size"]}'] if 'img_size' in backbone else []
    kwargs += ['global_pool=avg'] if name == 'vit' else []
    kwargs = kwargs or [*timm_model]
    kwargs += ['head_norm_first=True'] if name == 'convnext-map' else []
    assert convert([out, back, '--from', 'timm', *kwargs]) == 0
    file = torch.load(back, weights_only=True)
    network = MODELS.build(Config.fromstring(file['meta']['cfg'], '.py').model)
    network.load_state_dict(file['state_dict'])
    with torch.no_grad():
        torch.testing.assert_close(
            network.eval()(images, mode='tensor'), expected, atol=1e-5, rtol=1e-5
        )


@pytest.mark.parametrize(
    ('name', 'suffix'),
    [
        ('vit', '.safetensors'),
        ('vit-class-token', '.pth'),
        ('vit-variant', '.pth'),
        ('convnext-v2', '.safetensors'),
        ('swin', '.safetensors'),
    ],
)
def test_timm_to_ours_computes_the_same(name, suffix, convert, tmp_path, capsys):
    backbone, _, timm_model = NETWORKS[name]
    kwargs = [f'img_size={backbone["img_size"]}'] if 'img_size' in backbone else []
    kwargs += ['global_pool=avg'] if backbone.get('out_type') else []
    model = dict(pair.split('=') for pair in [*timm_model[3:], *kwargs])
    theirs = timm.create_model(timm_model[1], num_classes=0, **_parsed(model))
    randomised(theirs)
    path, out = tmp_path / f'theirs{suffix}', tmp_path / 'ours.pth'
    if suffix == '.pth':  # a file of timm's training script
        state = {f'module.{k}': v for k, v in theirs.state_dict().items()}
        torch.save(dict(epoch=1, state_dict=state), path)
    else:
        save_file(theirs.state_dict(), path)
    argv = [str(path), str(out), '--from', 'timm', *timm_model, *kwargs]
    assert convert(argv) == 0
    assert 'left behind: nothing' in capsys.readouterr().out
    images = images_for(backbone)
    with torch.no_grad():
        expected = theirs(images)
    ours = MODELS.build(backbone)
    load_backbone(ours, out)
    torch.testing.assert_close(features_of(ours, images), expected, atol=1e-5, rtol=1e-5)


def _parsed(kwargs: dict[str, str]) -> dict:
    values = {'True': True, 'False': False, 'None': None, 'avg': 'avg'}
    return {
        k: values[v] if v in values else eval(f'[{v}]') if ',' in v else float(v) % 1 or int(v)
        for k, v in kwargs.items()
    }


def test_mmpretrain_loads_the_clean_file_by_init_cfg(convert, tmp_path, capsys):
    ours = save_run(energy(AVERAGED, 16), tmp_path / 'a.pth')
    out = tmp_path / 'clean.pth'
    assert convert([str(tmp_path / 'a.pth'), str(out)]) == 0
    printed = capsys.readouterr().out
    assert 'left behind: log_step_size, head.fc.weight' in printed
    line = next(line for line in printed.splitlines() if 'init_cfg' in line).strip()
    backbone = MODELS.build(AVERAGED)
    initialize(backbone, eval(line.removeprefix('init_cfg=')))
    for name, value in ours.backbone.state_dict().items():
        assert torch.equal(backbone.state_dict()[name], value), name
    file = torch.load(out, weights_only=True)
    assert set(file) == {'meta', 'state_dict'}
    assert all(name.startswith('backbone.') for name in file['state_dict'])
    assert 'secret' not in file['meta']['cfg']
    # the clean file can itself be converted, without naming a config
    assert convert([str(out), str(tmp_path / 'a.safetensors'), '--to', 'timm', *VIT_TIMM]) == 0


@pytest.mark.parametrize('method', ['mae', 'beit'])
def test_other_methods_pretrained_backbones(method, convert, tmp_path, capsys):
    save_pretrained(method, tmp_path / 'a.pth')
    config = tmp_path / 'config.py'
    kind = dict(mae='MAEViT', beit='BEiTPretrainViT')[method]
    config.write_text(f'model = dict(backbone={dict(VIT, type=kind)!r})')
    argv = [str(tmp_path / 'a.pth'), str(tmp_path / 'clean.pth'), '--config', str(config)]
    assert convert(argv) == 0
    printed = capsys.readouterr().out
    assert 'left behind: ' in printed
    argv[1:2] = [str(tmp_path / 'a.safetensors'), '--to', 'timm', *VIT_TIMM]
    code = exit_code(convert, argv)
    captured = capsys.readouterr()
    if method == 'mae':
        assert code == 0
        left = next(line for line in captured.out.splitlines() if line.startswith('left'))
        names = build_pretraining('mae').state_dict()
        assert set(left.removeprefix('left behind: ').split(', ')) == {
            name for name in names if not name.startswith('backbone.')
        }
    else:
        assert code == 2
        assert 'BEiTPretrainViT is not supported' in captured.err


TIMM = {
    'vit_tiny_patch16_224': dict(img_size=32, patch_size=8, depth=1, embed_dim=16, num_heads=2),
    'test_vit2': dict(img_size=32),  # its last norm comes after pooling
    'resnet18': {},
}


@pytest.mark.slow
@pytest.mark.parametrize('model', TIMM)
def test_a_network_of_timm_goes_back_to_timm(model, convert, tmp_path, capsys):
    backbone = dict(type='TIMMBackbone', model_name=model, **TIMM[model])
    channels = dict(vit_tiny_patch16_224=16, test_vit2=64, resnet18=512)[model]
    ours = save_run(energy(backbone, channels), tmp_path / 'a.pth')
    argv = [tmp_path / 'a.pth', tmp_path / 'a.safetensors', '--to', 'timm']
    argv = [str(arg) for arg in argv]
    assert exit_code(convert, [*argv, '--model', 'convnext_tiny']) == 2
    assert f'holds {model} of timm' in capsys.readouterr().err
    assert convert(argv) == 0
    printed = capsys.readouterr().out
    assert 'left behind: log_step_size, head.fc.weight\n' in printed
    images = images_for(TIMM[model])
    with torch.no_grad():
        torch.testing.assert_close(created(printed)(images), ours.backbone(images)[-1])


def test_a_name_of_timm_alone(convert, tmp_path, capsys):
    """A class that has the size of its name needs no ``--model-kwargs``."""
    backbone = dict(AVERAGED, arch='deit-tiny', img_size=224, patch_size=16)
    ours = MODELS.build(backbone)
    randomised(ours)
    torch.save(ours.state_dict(), tmp_path / 'bare.pth')
    (tmp_path / 'config.py').write_text(f'model = dict(backbone={backbone!r})')
    argv = [str(tmp_path / 'bare.pth'), str(tmp_path / 'a.safetensors'), '--to', 'timm']
    argv += ['--config', str(tmp_path / 'config.py')]
    assert convert([*argv, '--model', 'vit_tiny_patch16_224']) == 0
    images = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        theirs = created(capsys.readouterr().out)(images)
    torch.testing.assert_close(theirs, features_of(ours, images), atol=1e-4, rtol=1e-4)


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp('run') / 'a.pth'
    save_run(energy(AVERAGED, 16), path)
    save_pretrained('energy', path.with_name('bare.pth'))
    theirs = timm.create_model('vit_tiny_patch16_224', num_classes=0, img_size=64, depth=1)
    torch.save(theirs.state_dict(), path.with_name('theirs.pth'))
    return path


TO_TIMM = ['--to', 'timm', '--model']
FROM_TIMM = ['--from', 'timm', '--model', 'vit_tiny_patch16_224', '--model-kwargs', 'depth=1']
REFUSED = {
    'overwriting': (['RUN', 'OLD.pth'], 'exists'),
    'missing folder': (['RUN', 'none/a.pth'], 'none'),
    'missing file': (['none.pth', 'a.pth'], 'none.pth does not exist'),
    'suffix': (['RUN', 'a.safetensors'], 'must end in .pth'),
    'suffix of timm': (['RUN', 'a.pth', *TO_TIMM, 'resnet18'], 'end in .safetensors'),
    'missing config': (['RUN', 'a.pth', '--config', 'no.py'], 'no.py does not exist'),
    'no config': (['BARE', 'a.pth'], 'no config'),
    'no name': (['RUN', 'a.safetensors', '--to', 'timm'], '--model'),
    'unknown name': (['RUN', 'a.safetensors', *TO_TIMM, 'vit_smal'], "no model 'vit_smal'"),
    'hub': (['RUN', 'a.safetensors', *TO_TIMM, 'hf-hub:timm/resnet18'], 'no model'),
    'another family': (['RUN', 'a.safetensors', *TO_TIMM, 'convnext_atto'], 'fails'),
    'another size': (['RUN', 'a.safetensors', *TO_TIMM, VIT_TIMM[1]], 'missing in the file'),
    'image size': (['RUN', 'a.safetensors', '--to', 'timm', *VIT_TIMM, 'img_size=64'], 'pos_embed'),
    'option': (['RUN', 'a.safetensors', '--to', 'timm', *VIT_TIMM, 'colour=1'], 'colour'),
    'more parts': (['RUN', 'a.safetensors', '--to', 'timm', *VIT_TIMM, 'qk_norm=True'], 'q_norm'),
    'from timm without name': (['THEIRS', 'a.pth', '--from', 'timm'], '--model'),
    'other parts': (['THEIRS', 'a.pth', *FROM_TIMM, 'img_size=64', 'global_pool=avg'], 'fc_norm'),
    'other depth': (['THEIRS', 'a.pth', *FROM_TIMM, 'img_size=64', 'depth=2'], 'blocks.1.'),
    'unknown family': (
        ['THEIRS', 'a.pth', '--from', 'timm', '--model', 'resnet18'],
        'not supported',
    ),
    'both timm': (['RUN', 'a.pth', '--from', 'timm', '--to', 'timm'], 'converts nothing'),
    'name for MMPretrain': (['RUN', 'a.pth', '--model', 'resnet18'], '--to timm'),
}


@pytest.mark.parametrize('kind', REFUSED)
def test_refusals(kind, convert, run, tmp_path, capsys, monkeypatch):
    """Exit code 2, a line that says why, and no file."""
    monkeypatch.chdir(tmp_path)
    Path('OLD.pth').write_text('precious')
    files = dict(RUN=run, BARE=run.with_name('bare.pth'), THEIRS=run.with_name('theirs.pth'))
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
        (dict(img_size=48), 'pos_embed is (1, 17, 16)'),
        (dict(arch=dict(ARCH, num_layers=3)), '12 missing in the file'),
        (CONVNEXT, 'another network than ConvNeXt'),
    ],
)
def test_refuses_a_config_of_another_network(change, words, convert, run, tmp_path, capsys):
    backbone = change if 'type' in change else dict(AVERAGED, **change)
    (tmp_path / 'config.py').write_text(f'model = dict(backbone={backbone!r})')
    argv = [str(run), str(tmp_path / 'b.pth'), '--config', str(tmp_path / 'config.py')]
    assert exit_code(convert, argv) == 2
    assert words in capsys.readouterr().err


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


def test_refuses_files_that_would_run_code(convert, tmp_path, capsys):
    torch.save(dict(state_dict=dict(cls_token=print)), tmp_path / 'a.pth')
    assert exit_code(convert, [str(tmp_path / 'a.pth'), str(tmp_path / 'b.pth')]) == 2
    assert 'is refused' in capsys.readouterr().err


def test_original_names_of_swin_go_through_timms_own_filter(convert, tmp_path):
    """Older files have patch merging at the end of a stage, and buffers."""
    kwargs = dict(img_size=64, embed_dim=8, depths=[2, 2, 1, 1], num_heads=[1, 2, 2, 4])
    theirs = timm.create_model(SWIN_TIMM[1], num_classes=3, window_size=2, **kwargs)
    randomised(theirs)
    old = {'layers.0.blocks.0.attn.relative_position_index': torch.zeros(4, 4, dtype=torch.long)}
    for name, value in theirs.state_dict().items():
        if '.downsample.' in name:
            name = f'layers.{int(name.split(".")[1]) - 1}.{name.split(".", 2)[2]}'
        old[name.replace('head.fc.', 'head.')] = value
    torch.save(dict(model=old), tmp_path / 'old.pth')
    out = tmp_path / 'ours.pth'
    argv = [str(tmp_path / 'old.pth'), str(out), '--from', 'timm', *SWIN_TIMM, 'img_size=64']
    assert convert(argv) == 0
    ours = MODELS.build(SWIN)
    load_backbone(ours, out)
    images = images_for(SWIN)
    with torch.no_grad():
        expected = theirs.forward_head(theirs.forward_features(images), pre_logits=True)
    torch.testing.assert_close(features_of(ours, images), expected, atol=1e-5, rtol=1e-5)
