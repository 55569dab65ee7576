"""Both auto-encoders against an independent reference: MMPretrain's layers, one by one, float64."""

import copy

import pytest
import torch
from mmengine.runner import load_checkpoint
from mmpretrain.registry import MODELS

from mmebm import RestorationAutoEncoder, SortingAutoEncoder
from mmebm.models.sorting_augmentation import mask_patch_edges
from tests.derivatives import assert_gradients_equal
from tests.pretrained import ARCH, DECODER, L2

SIZE, PATCH, DIM = 24, 6, ARCH['embed_dims']  # 4 × 4 patches
L = (SIZE // PATCH) ** 2
VIT = dict(type='VisionTransformer', arch=ARCH, img_size=SIZE, patch_size=PATCH, out_type='raw')
PIXELS = dict(
    backbone=VIT,
    neck=dict(type='MAEPretrainDecoder', num_patches=L, patch_size=PATCH, **DECODER),
    head=dict(type='MAEPretrainHead', patch_size=PATCH, loss=L2),
    data_preprocessor=dict(mean=[10.0, 20.0, 30.0], std=[2.0, 3.0, 4.0]),
)
SORTING = dict(backbone=VIT, neck=dict(type='PositionDecoder', num_positions=L, **DECODER))


def build(kind, options, **changed):
    torch.manual_seed(0)
    model = kind(**copy.deepcopy({**options, **changed}))
    model.init_weights()
    return model.double()


def images(count, batch=2):
    generator = torch.Generator().manual_seed(1)
    made = torch.randn(count, batch, 3, SIZE, SIZE, dtype=torch.float64, generator=generator)
    return list(made)


def patchify(x):
    """(B, C, H, W) → (B, L, p, p, C), row by row."""
    rows = [
        x[:, :, i : i + PATCH, j : j + PATCH]
        for i in range(0, SIZE, PATCH)
        for j in range(0, SIZE, PATCH)
    ]
    return torch.stack(rows, 1).permute(0, 1, 3, 4, 2)


def encode(model, x, positions, kept=None):
    vit = model.backbone
    first, tokens = vit.cls_token, vit.patch_embed.projection(x).flatten(2).mT
    if positions:
        first, tokens = first + vit.pos_embed[:, :1], tokens + vit.pos_embed[:, 1:]
    if kept is not None:
        tokens = torch.stack([t[k] for t, k in zip(tokens, kept, strict=True)])
    x = torch.cat([first.expand(len(x), -1, -1), tokens], 1)
    for layer in vit.layers:
        x = layer(x)
    return vit.ln1(x)


def decode(model, x, positions):
    neck = model.neck
    x = neck.decoder_embed(x)
    if positions:
        x = x + neck.decoder_pos_embed
    for block in neck.decoder_blocks:
        x = block(x)
    return neck.decoder_pred(neck.decoder_norm(x))[:, 1:]


def gradients(model, loss):
    """Of every trained parameter; None where it has no influence."""
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    found = torch.autograd.grad(loss, list(trained.values()), allow_unused=True)
    return dict(zip(trained, found, strict=True))


def test_restoration_loss_and_every_gradient_equal_the_reference():
    model = build(RestorationAutoEncoder, PIXELS)
    corrupted, clean = images(2)
    predicted = decode(model, encode(model, corrupted, positions=True), positions=True)
    loss = (predicted - patchify(clean).flatten(2)).square().mean()
    expected = gradients(model, loss)
    outputs = model([corrupted, clean], mode='loss')
    outputs['loss'].backward()
    torch.testing.assert_close(outputs['loss'], loss, rtol=1e-12, atol=0)
    # MAE's token for masked patches, of which there are none: its gradient must be zeros, not None,
    # or distributed training stops
    assert expected['neck.mask_token'] is None
    assert_gradients_equal(model, expected)


def test_restored_images_stand_in_the_samples_in_pixel_units():
    model = build(RestorationAutoEncoder, PIXELS).eval()
    corrupted, clean = images(2)
    with torch.no_grad():
        mse = model.loss([corrupted, clean])['loss'].item()
    samples = model([corrupted, clean], mode='predict')
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ([10.0, 20, 30], [2.0, 3, 4]))
    errors = []
    for i, sample in enumerate(samples):
        torch.testing.assert_close(sample.clean, clean[i] * std + mean)
        torch.testing.assert_close(sample.corrupted, corrupted[i] * std + mean)
        errors.append((((sample.restored - sample.clean) / std) ** 2).mean().item())
    assert sum(errors) / len(errors) == pytest.approx(mse, rel=1e-5)


def test_a_prediction_that_is_no_image_is_refused():
    model = build(RestorationAutoEncoder, PIXELS, head=dict(PIXELS['head'], norm_pix=True))
    assert torch.isfinite(model(images(2), mode='loss')['loss'])
    with pytest.raises(ValueError, match='norm_pix=True'):
        model(images(2), mode='predict')


def test_a_missing_corruption_is_named():
    with pytest.raises(TypeError, match='corruption missing'):
        build(RestorationAutoEncoder, PIXELS)(images(1)[0], mode='loss')
    with pytest.raises(TypeError, match='corruption in the pipeline'):
        build(SortingAutoEncoder, SORTING)(images(2), mode='loss')


def test_sorting_loss_and_every_gradient_equal_the_reference():
    model = build(SortingAutoEncoder, SORTING, edge_widths=(1, 2), patch_drop_ratio=0.5)
    torch.manual_seed(3)
    noise = torch.rand(2, 2, L)
    patches = torch.stack([noise[b, 0].argsort()[: L // 2].sort().values for b in range(2)])
    widths = torch.where(noise[:, 1] < 0.5, 1, 2).reshape(2, 4, 4)
    (clean,) = images(1)
    masked = clean.clone()
    for b in range(2):
        for i in range(L):
            k = widths[b, i // 4, i % 4].item()
            top, left = i // 4 * PATCH, i % 4 * PATCH
            inner = clean[b, :, top + k : top + PATCH - k, left + k : left + PATCH - k]
            masked[b, :, top : top + PATCH, left : left + PATCH] = 0
            masked[b, :, top + k : top + PATCH - k, left + k : left + PATCH - k] = inner
    scores = decode(model, encode(model, masked, positions=False, kept=patches), positions=False)
    truth = torch.stack([scores[b, n, patches[b, n]] for b in range(2) for n in range(L // 2)])
    loss = (scores.exp().sum(-1).log().flatten() - truth).mean()
    expected = gradients(model, loss)
    torch.manual_seed(3)
    outputs = model(clean, mode='loss')
    outputs['loss'].backward()
    torch.testing.assert_close(outputs['loss'], loss, rtol=1e-12, atol=0)
    right = [scores[b, n].argmax() == patches[b, n] for b in range(2) for n in range(L // 2)]
    assert outputs['accuracy'].item() == pytest.approx(sum(right).item() / L)
    assert model.backbone.pos_embed.grad is None
    assert_gradients_equal(model, expected)


def test_position_embedding_stays_zero_and_fixed_whatever_is_loaded(tmp_path):
    model = build(SortingAutoEncoder, SORTING)
    assert not model.backbone.pos_embed.any()
    assert not model.backbone.pos_embed.requires_grad
    foreign = build(RestorationAutoEncoder, PIXELS).state_dict()
    assert foreign['backbone.pos_embed'].any()
    torch.save(dict(state_dict=foreign), tmp_path / 'foreign.pth')
    load_checkpoint(model, str(tmp_path / 'foreign.pth'))
    torch.testing.assert_close(model.backbone.cls_token, foreign['backbone.cls_token'])
    assert not model.backbone.pos_embed.any()


def test_finetuning_starts_from_zero_and_trains_the_position_embedding(tmp_path):
    model = build(SortingAutoEncoder, SORTING)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'sorting.pth')
    pretrained = dict(type='Pretrained', checkpoint=f'{tmp_path}/sorting.pth', prefix='backbone.')
    vit = MODELS.build(dict(VIT, out_type='avg_featmap', init_cfg=pretrained))
    vit.init_weights()
    expected = model.backbone.layers[1].attn.qkv.weight.float()
    torch.testing.assert_close(vit.layers[1].attn.qkv.weight, expected)
    assert not vit.pos_embed.any()
    assert vit.pos_embed.requires_grad


def test_validation_sees_all_patches_with_edges_that_belong_to_the_image():
    model = build(SortingAutoEncoder, SORTING, edge_widths=(1,)).eval()
    (clean,) = images(1)
    samples = model(clean, mode='predict')
    masked = mask_patch_edges(clean, torch.ones(2, L), (PATCH, PATCH))
    expected = model.predict_positions(masked, torch.arange(L).expand(2, -1)).argmax(-1)
    for sample, positions in zip(samples, expected, strict=True):
        assert sample.restored_positions.tolist() == positions.tolist()


@pytest.mark.parametrize(
    ('options', 'error', 'message'),
    [
        (dict(edge_widths=(1, 3)), ValueError, r'edge_widths must be within 0..2.*\(1, 3\)'),
        (dict(patch_drop_ratio=1.0), ValueError, 'patch_drop_ratio must be .* ≥ 0 and < 1'),
        (dict(backbone=dict(VIT, out_type='cls_token')), ValueError, "out_type='raw'.*'cls_token'"),
        (dict(backbone=dict(VIT, with_cls_token=False)), ValueError, '0 extra tokens'),
        (
            dict(backbone=dict(VIT, patch_size=12)),
            ValueError,
            'num_positions=16 .* 4 patches',
        ),
        (dict(backbone=dict(type='ResNet', depth=18)), ValueError, 'no absolute position embed'),
    ],
)
def test_bad_options_of_sorting_are_named(options, error, message):
    with pytest.raises(error, match=message):
        build(SortingAutoEncoder, SORTING, **options)


def test_a_decoder_of_another_size_is_named():
    with pytest.raises(ValueError, match='num_patches=9 must be the 16 of the backbone'):
        build(RestorationAutoEncoder, PIXELS, neck=dict(PIXELS['neck'], num_patches=9))
