"""Whole images of any size and kind, restored in tiles."""

import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms, ImageOps

from mmebm.apis import (
    Damage,
    RestorationInferencer,
    UnreadableImageError,
    WholeImageRestorer,
    read_picture,
    restore_file,
    restore_image,
)
from mmebm.apis.whole_images import psnr_in_bands, ssim_in_bands, takes_any_size
from mmebm.evaluation.restoration_metric import ssim
from tests.zero_head import CONVNEXT, SIZE, VIT, save_network

EXIF_ORIENTATION, EXIF_MAKER = 0x0112, 0x010F


def restorer(path, **options) -> WholeImageRestorer:
    save_network(path, **options)
    return WholeImageRestorer(path, device='cpu')


@pytest.fixture(scope='module')
def untrained(tmp_path_factory):
    return restorer(tmp_path_factory.mktemp('zero') / 'zero.pth')


@pytest.fixture(scope='module')
def random(tmp_path_factory):
    return restorer(tmp_path_factory.mktemp('random') / 'random.pth', zero=False, num_steps=2)


def noise_image(mode='RGB', size=(45, 37)) -> Image.Image:
    rng = np.random.default_rng(0)
    channels = dict(RGB=3, RGBA=4, L=1, LA=2)[mode]
    pixels = rng.integers(0, 256, (*size[::-1], channels), dtype=np.uint8)
    return Image.fromarray(pixels.squeeze() if channels == 1 else pixels, mode)


@pytest.mark.parametrize('size', [(45, 37), (SIZE, SIZE), (1, 1), (3, 50), (100, 17)])
def test_zero_head_gives_back_every_byte(untrained, tmp_path, size):
    image = noise_image(size=size)
    image.save(tmp_path / 'a.png')
    restoration = restore_file(untrained, tmp_path / 'a.png', tmp_path / 'b.png')
    restored = Image.open(tmp_path / 'b.png')
    assert restored.mode == 'RGB'
    np.testing.assert_array_equal(np.asarray(restored), np.asarray(image))
    assert restoration.difference.shape == (size[1], size[0], 3)


@pytest.mark.parametrize('mode', ['RGBA', 'L', 'LA'])
def test_zero_head_keeps_grey_and_alpha(untrained, tmp_path, mode):
    image = noise_image(mode)
    image.save(tmp_path / 'a.png')
    restore_file(untrained, tmp_path / 'a.png', tmp_path / 'b.png')
    restored = Image.open(tmp_path / 'b.png')
    assert restored.mode == mode
    np.testing.assert_array_equal(np.asarray(restored), np.asarray(image))


def test_zero_head_keeps_16_bits_of_grey(untrained, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 2**16, (20, 30), dtype=np.uint16)
    Image.fromarray(pixels).save(tmp_path / 'a.png')
    restore_file(untrained, tmp_path / 'a.png', tmp_path / 'b.png')
    restored = Image.open(tmp_path / 'b.png')
    assert restored.mode == 'I;16'
    np.testing.assert_array_equal(np.asarray(restored), pixels)


@pytest.mark.parametrize('transparent', [False, True])
def test_zero_head_keeps_the_colours_of_a_palette(untrained, tmp_path, transparent):
    image = noise_image().quantize(16)
    options = dict(transparency=3) if transparent else {}
    image.save(tmp_path / 'a.png', **options)
    restore_file(untrained, tmp_path / 'a.png', tmp_path / 'b.png')
    restored = Image.open(tmp_path / 'b.png')
    mode = 'RGBA' if transparent else 'RGB'
    assert restored.mode == mode
    expected = np.asarray(Image.open(tmp_path / 'a.png').convert(mode))
    np.testing.assert_array_equal(np.asarray(restored), expected)


@pytest.mark.parametrize('orientation', [3, 6, 7])
def test_turned_photographs_come_out_upright_with_their_exif(untrained, tmp_path, orientation):
    exif = Image.Exif()
    exif[EXIF_ORIENTATION], exif[EXIF_MAKER] = orientation, 'maker'
    noise_image().save(tmp_path / 'a.jpg', exif=exif)
    restore_file(untrained, tmp_path / 'a.jpg', tmp_path / 'b.png')
    upright = ImageOps.exif_transpose(Image.open(tmp_path / 'a.jpg'))
    restored = Image.open(tmp_path / 'b.png')
    np.testing.assert_array_equal(np.asarray(restored), np.asarray(upright))
    assert restored.getexif().get(EXIF_ORIENTATION, 1) == 1
    assert restored.getexif()[EXIF_MAKER] == 'maker'


def test_colour_profile_and_resolution_are_kept(untrained, tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()
    noise_image().save(tmp_path / 'a.jpg', icc_profile=profile, dpi=(300, 300))
    restore_file(untrained, tmp_path / 'a.jpg', tmp_path / 'b.png')
    restored = Image.open(tmp_path / 'b.png')
    assert restored.info['icc_profile'] == profile
    assert restored.info['dpi'] == pytest.approx((300, 300), abs=0.1)


def test_cmyk_loses_its_profile(untrained, tmp_path):
    noise_image('RGBA').convert('RGB').convert('CMYK').save(
        tmp_path / 'a.jpg', icc_profile=b'of cmyk'
    )
    assert read_picture(tmp_path / 'a.jpg').icc_profile is None


@pytest.mark.parametrize('to_rgb', [True, False])
def test_one_tile_is_restored_as_by_the_inferencer(tmp_path, to_rgb):
    """A 16² image is restored as by the algorithm: same normalisation, channels, steps."""
    whole = restorer(tmp_path / 'a.pth', zero=False, to_rgb=to_rgb, num_steps=2)
    image = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    difference, energies = whole(image)
    chain = RestorationInferencer(tmp_path / 'a.pth', device='cpu')(image, corruption=None)
    expected = chain.images[-1] - chain.images[0]
    expected = expected[..., ::-1] if to_rgb else expected
    assert np.abs(expected).max() > 1
    np.testing.assert_allclose(difference, expected, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(energies, chain.energies[:-1], rtol=1e-4)


def test_number_of_steps(random):
    image = np.zeros((20, 40, 3), np.uint8)
    seen = []
    difference, energies = random(image, 3, on_step=lambda n, x, d: seen.append((n, d.copy())))
    assert [n for n, _ in seen] == [0, 1, 2, 3]
    assert (seen[0][1] == 0).all()
    np.testing.assert_array_equal(seen[-1][1], difference)
    assert len(energies) == 3
    assert energies[1] == pytest.approx(random.energy(image + seen[1][1]), rel=1e-4)
    assert (random(image, 0)[0] == 0).all()
    with pytest.raises(ValueError, match='num_steps'):
        random(image, -1)


def test_batches_of_tiles_change_nothing(random, tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (40, 70, 3), dtype=np.uint8)
    save_network(tmp_path / 'a.pth', zero=False, num_steps=2)
    single = WholeImageRestorer(tmp_path / 'a.pth', device='cpu', batch_size=1)
    expected, found = single(image)[0], random(image)[0]
    # Float32 through a network that amplifies: errors are of the largest change, not of each one.
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def pixel_energy(images):
    """The mean of f(pixel): its gradient is the same function of the pixel at every place."""
    return (images.sin() + images**2).mean((1, 2, 3))


@pytest.mark.parametrize('any_size', [False, True])
@pytest.mark.parametrize('size', [(40, 61), (7, 9)])
def test_position_independent_descent_has_no_seams(random, any_size, size, monkeypatch):
    """Tiles of 16² and the whole image give the same; the step does not shrink with size."""
    monkeypatch.setattr(random.model, 'energy', pixel_energy)
    monkeypatch.setattr(random, 'any_size', any_size)
    monkeypatch.setattr(random, '_align', 32 if any_size else 4)
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    difference, _ = random(image, 2)
    x = start = random.to_network(image[None])[0].double()
    alpha = random.model.step_size.double()
    for _ in range(2):
        x = x - alpha * (x.cos() + 2 * x) / (3 * SIZE * SIZE)
    std = random.model.data_preprocessor.std.double()
    expected = ((x - start) * std).flip(0).permute(1, 2, 0).numpy()
    np.testing.assert_allclose(difference, expected, rtol=1e-4, atol=1e-3)


def test_networks_of_any_size_get_the_whole_image(tmp_path):
    network = restorer(tmp_path / 'a.pth', backbone=CONVNEXT)
    assert network.any_size
    assert len(network.tiling(100, 301)) == 1
    assert len(network.tiling(600, 301)) == 2
    assert network.tiling(600, 301).tile == (512, 320)
    image = np.random.default_rng(0).integers(0, 256, (33, 50, 3), dtype=np.uint8)
    difference, _ = network(image)
    assert difference.shape == image.shape
    assert (difference == 0).all()


def test_a_vision_transformer_works_in_tiles_of_its_size(untrained):
    assert not takes_any_size(untrained.model.backbone)
    tiling = untrained.tiling(40, 100)
    assert tiling.tile == (VIT['img_size'],) * 2
    assert tiling.align == VIT['patch_size']
    assert len(tiling) == untrained.num_tiles(40, 100, 1) > 1


def test_mask_changes_only_masked_pixels(random, untrained):
    picture = read_picture_of(noise_image())
    mask = np.zeros((37, 45), bool)
    mask[5:20, 30:44] = True
    restoration = restore_image(random, picture, Damage(mask=mask))
    result = restoration.start.pixels + restoration.difference
    np.testing.assert_array_equal(result[~mask], picture.pixels[~mask])
    assert np.abs(restoration.difference[mask]).max() > 0.1
    # an untrained network leaves the blank pixels of its training, here RGB 10 20 30
    restoration = restore_image(untrained, picture, Damage(mask=mask))
    assert (restoration.start.pixels[mask] == (30, 20, 10)).all()


def test_mask_of_another_size_is_refused(untrained):
    with pytest.raises(ValueError, match='45 × 37'):
        restore_image(
            untrained, read_picture_of(noise_image()), Damage(mask=np.ones((45, 37), bool))
        )


def test_upscale_enlarges_in_blocks(untrained):
    image = noise_image('RGBA', (20, 11))
    start = restore_image(untrained, read_picture_of(image), Damage(upscale=3)).start
    assert start.pixels.shape == (33, 60, 3)
    assert start.alpha.shape == (33, 60)
    np.testing.assert_array_equal(start.pixels[::3, ::3], read_picture_of(image).pixels)
    np.testing.assert_array_equal(start.pixels[2::3, 1::3], start.pixels[::3, ::3])


def test_upscaling_beyond_the_limit_is_refused(untrained):
    with pytest.raises(UnreadableImageError, match='limit'):
        restore_image(untrained, read_picture_of(noise_image()), Damage(upscale=1000))


def test_a_line_of_pixels_is_not_blown_up_to_a_wide_tile(untrained, monkeypatch):
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 10_000)
    assert (untrained(np.zeros((1, 500, 3), np.uint8))[0] == 0).all()
    with pytest.raises(UnreadableImageError, match='limit'):
        untrained(np.zeros((1, 1000, 3), np.uint8))


def test_colorize_starts_from_grey_and_ends_in_colour(random):
    picture = read_picture_of(noise_image('L'))
    restoration = restore_image(random, picture, Damage(colorize=True))
    assert not restoration.start.grey
    np.testing.assert_array_equal(restoration.start.pixels, picture.pixels)
    grey = restore_image(random, read_picture_of(noise_image()), Damage(colorize=True)).start.pixels
    assert (grey == grey[..., :1]).all()


def test_corruption_of_a_clean_image_has_figures(untrained):
    picture = read_picture_of(noise_image())
    damage = Damage(corruption='config', seed=1)
    restoration = restore_image(untrained, picture, damage)
    again = restore_image(untrained, picture, damage)
    assert restoration.corruption == 'GriddedMask'
    np.testing.assert_array_equal(restoration.start.pixels, again.start.pixels)
    assert (restoration.start.pixels != picture.pixels).any()
    figures = restoration.figures()
    assert figures['psnr'] == figures['psnr_corrupted'] < 30
    assert figures['ssim'] == figures['ssim_corrupted'] < 0.9
    noisy = restore_image(untrained, picture, Damage(corruption=dict(type='GaussianNoise')))
    assert noisy.start.pixels.dtype == np.float32


def test_one_damage_at_a_time():
    with pytest.raises(ValueError, match='one kind of damage at a time'):
        Damage(upscale=2, colorize=True)


@pytest.mark.parametrize('size', [(300, 40), (600, 30), (37, 45), (700, 15)])
def test_figures_in_bands_are_those_of_the_whole(size):
    rng = np.random.default_rng(0)
    clean = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    clean = np.clip(clean // 4 + np.linspace(0, 190, size[0])[:, None, None], 0, 255).astype('u1')
    difference = rng.normal(scale=np.linspace(1, 40, size[0])[:, None, None], size=(*size, 3))
    image = (clean + difference).astype(np.float32)
    tensors = (torch.from_numpy(x.astype(np.float32)).permute(2, 0, 1) for x in (image, clean))
    assert ssim_in_bands(clean, clean, difference, 100) == pytest.approx(ssim(*tensors), abs=1e-5)
    error = np.square(image.astype(np.float64) - clean).mean()
    expected = 10 * np.log10(255**2 / error)
    assert psnr_in_bands(clean, clean, difference, 100) == pytest.approx(expected, abs=1e-4)


def write_bomb(path):
    # a few bytes whose header promises 40000 × 40000 pixels
    data = bytearray(b'P6 40000 40000 255\n')
    path.write_bytes(bytes(data) + b'\0' * 100)


def test_files_that_are_not_a_single_picture_are_refused(tmp_path):
    broken = tmp_path / 'broken.jpg'
    broken.write_bytes(b'no picture')
    with pytest.raises(UnreadableImageError, match='cannot be read'):
        read_picture(broken)
    noise_image(size=(200, 200)).save(tmp_path / 'whole.png')
    cut = (tmp_path / 'whole.png').read_bytes()[:2000]
    (tmp_path / 'cut.png').write_bytes(cut)
    with pytest.raises(UnreadableImageError, match='cannot be read'):
        read_picture(tmp_path / 'cut.png')
    write_bomb(tmp_path / 'bomb.ppm')
    with pytest.raises(UnreadableImageError, match='exceeds limit'):
        read_picture(tmp_path / 'bomb.ppm')
    frames = [noise_image('L'), noise_image('L').rotate(180)]
    frames[0].save(tmp_path / 'moving.gif', save_all=True, append_images=frames[1:])
    with pytest.raises(UnreadableImageError, match='2 pictures'):
        read_picture(tmp_path / 'moving.gif')
    (tmp_path / 'program.png').write_bytes(b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n')
    with pytest.raises(UnreadableImageError, match='cannot be read'):
        read_picture(tmp_path / 'program.png')
    with pytest.raises(FileNotFoundError):
        read_picture(tmp_path / 'none.png')


def test_memory_beside_the_image_does_not_grow_with_the_tiles(untrained):
    """An image twice as high takes memory for itself and the difference, not for its tiles."""
    import tracemalloc

    def peak(height):
        image = np.zeros((height, 128, 3), np.uint8)
        tracemalloc.start()
        untrained(image, 1)
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return highest - 4 * image.size  # the difference, float32

    assert peak(1024) < 1.1 * peak(256) + 20_000


def read_picture_of(image):
    file = io.BytesIO()
    image.save(file, format='PNG')
    from mmebm.apis.picture_files import _decode

    return _decode(Image.open(file))
