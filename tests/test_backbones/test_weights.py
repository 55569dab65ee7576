"""Filling a backbone from the checkpoint of each method, by value; refusing what does not fit."""

import re

import pytest
import torch
from timm.layers import resize_rel_pos_bias_table

from mmebm.backbones import load_backbone
from tests.pretrained import (
    ARCH,
    METHODS,
    build_finetuning,
    expected_start,
    save_pretrained,
)

# name of the method → tensors of the finetuning backbone, those filled
COUNTS = {'energy': (30, 30), 'mae': (30, 28), 'beit': (37, 35), 'bare': (30, 30)}


@pytest.mark.parametrize('method', METHODS)
def test_a_checkpoint_of_each_method_fills_the_backbone(method, tmp_path):
    pretrained = save_pretrained(method, tmp_path / 'epoch_1.pth')
    backbone = build_finetuning(method)
    filled = load_backbone(backbone, tmp_path / 'epoch_1.pth')
    total, full = COUNTS[method]
    assert f'filled {full} of {total} tensors ({100 * full / total:.1f} %)' in str(filled)
    loaded = backbone.state_dict()
    expected = expected_start(method, pretrained)
    assert len(expected) == full
    for name, value in expected.items():
        assert torch.equal(loaded[name], value), name
    # MAE and BEiT normalise the tokens, finetuning normalises their average
    assert filled.missing == ([] if full == total else ['ln2.weight', 'ln2.bias'])
    for name in filled.missing:
        assert name not in pretrained
    unused = {'mae': ['ln1.weight', 'ln1.bias'], 'beit': ['mask_token', 'ln1.weight', 'ln1.bias']}
    assert sorted(filled.unused) == sorted(unused.get(method, []))


def test_a_file_with_other_names_is_refused_and_all_missing_tensors_are_named(tmp_path):
    backbone = build_finetuning('energy')
    state = backbone.state_dict()
    torch.save(dict(state_dict={f'{k}.other': v for k, v in state.items()}), tmp_path / 'a.pth')
    with pytest.raises(ValueError, match=r'another network.*filled 0 of 30 .*\(0\.0 %\)') as error:
        load_backbone(backbone, tmp_path / 'a.pth')
    assert all(name in str(error.value) for name in state)
    assert 'cls_token.other' in str(error.value)


@pytest.mark.parametrize(('dropped', 'fits'), [(3, True), (4, False)])
def test_the_limit_is_ninety_percent(tmp_path, dropped, fits):
    backbone = build_finetuning('energy')  # 30 tensors
    state = backbone.state_dict()
    lost = list(state)[-dropped:]
    torch.save({k: v for k, v in state.items() if k not in lost}, tmp_path / 'a.pth')
    if fits:
        assert load_backbone(backbone, tmp_path / 'a.pth').missing == lost
    else:
        with pytest.raises(ValueError, match=', '.join(map(re.escape, lost))):
            load_backbone(backbone, tmp_path / 'a.pth')


@pytest.mark.parametrize(
    ('arch', 'message'),
    [
        (dict(ARCH, embed_dims=32), r'do not fit: size mismatch for cls_token'),
        (dict(ARCH, feedforward_channels=64), r'6 do not fit: .*layers\.0\.ffn'),
        (dict(ARCH, num_layers=1), r'filled 18 of 30 .*layers\.1\.attn\.qkv\.weight'),
        # fills every tensor, but is not the pretrained network
        (dict(ARCH, num_layers=3), r'12 of the 42 .* no place .*layers\.2\.attn\.qkv\.weight'),
    ],
)
def test_another_architecture_is_refused(tmp_path, arch, message):
    save_pretrained('energy', tmp_path / 'a.pth', arch=arch)
    with pytest.raises(ValueError, match=message):
        load_backbone(build_finetuning('energy'), tmp_path / 'a.pth')


def test_what_is_no_checkpoint_is_refused(tmp_path):
    backbone = build_finetuning('energy')
    with pytest.raises(FileNotFoundError, match=r'nowhere\.pth does not exist'):
        load_backbone(backbone, tmp_path / 'nowhere.pth')
    with pytest.raises(ValueError, match='is a URL: download it'):
        load_backbone(backbone, 'https://example.org/a.pth')
    (tmp_path / 'image.pth').write_bytes(b'\x89PNG\r\n\x1a\n' * 20)
    with pytest.raises(ValueError, match='not a checkpoint'):
        load_backbone(backbone, tmp_path / 'image.pth')
    torch.save(dict(state_dict=dict(epoch=3)), tmp_path / 'empty.pth')
    with pytest.raises(ValueError, match='holds no tensors, but state_dict'):
        load_backbone(backbone, tmp_path / 'empty.pth')
    torch.save(dict(state_dict=dict(cls_token=print)), tmp_path / 'code.pth')
    with pytest.raises(ValueError, match='is refused: it is a pickle that names'):
        load_backbone(backbone, tmp_path / 'code.pth')


def test_counters_do_not_count(tmp_path):
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4))
    torch.save({k: v + 1 for k, v in network.state_dict().items()}, tmp_path / 'a.pth')
    assert load_backbone(network, tmp_path / 'a.pth').total == 6  # without num_batches_tracked


@pytest.mark.parametrize('method', ['beit', 'finetuned'])
def test_beit_grows_with_the_image(method, tmp_path):
    pretrained = save_pretrained('beit', tmp_path / 'a.pth')
    table = pretrained['rel_pos_bias.relative_position_bias_table']
    if method == 'finetuned':
        backbone = build_finetuning('beit')
        load_backbone(backbone, tmp_path / 'a.pth')
        torch.save(backbone.state_dict(), tmp_path / 'a.pth')
    backbone = build_finetuning('beit', img_size=64)
    load_backbone(backbone, tmp_path / 'a.pth')
    state = backbone.state_dict()
    expected = resize_rel_pos_bias_table(table, (8, 8), (15 * 15 + 3, 2))
    for layer in range(ARCH['num_layers']):
        assert torch.equal(state[f'layers.{layer}.attn.relative_position_bias_table'], expected)
    assert backbone(torch.randn(1, 3, 64, 64))[-1].isfinite().all()
