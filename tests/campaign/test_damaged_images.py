"""A folder of 10,000 files, 500 of them damaged in 12 ways: one epoch with two workers."""

import io
import random
import re
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from .conftest import count
from .runs import PACK, mixed, write_config

SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><rect width="9" height="9"/></svg>'
HTML = b'<!DOCTYPE html><html><body><script>alert(1)</script></body></html>'


def header_of(side: int) -> bytes:
    """The first bytes of a PNG that says it has ``side``² pixels."""
    file = io.BytesIO()
    Image.new('RGB', (1, 1)).save(file, 'PNG')
    content = bytearray(file.getvalue())
    content[16:24] = side.to_bytes(4, 'big') * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, 'big')
    return bytes(content)


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    'empty': lambda data: b'',
    'ten bytes': lambda data: data[:10],
    'half': lambda data: data[: len(data) // 2],
    'nearly whole': lambda data: data[: len(data) * 9 // 10],
    'zeros': lambda data: bytes(len(data)),
    'no beginning': lambda data: data[100:],
    'beginning overwritten': lambda data: b'\0' * 200 + data[200:],
    'noise': lambda data: random.Random(len(data)).randbytes(len(data)),
    'HTML': lambda data: HTML,
    'SVG': lambda data: SVG,
    'text': lambda data: b'see the other folder\n',
    '60,000 x 60,000': lambda data: header_of(60_000),
}


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
    """A clean folder and the same with one file in twenty damaged; the names of those."""
    root, total = tmp_path_factory.mktemp('images'), count(10_000)
    rng, noise = random.Random(0), np.random.default_rng(0)
    damaged = set(rng.sample(range(total), total // 20))
    for name in ('clean', 'damaged'):
        (root / name).mkdir()
    images = []
    for _ in range(50):
        file = io.BytesIO()
        coarse = Image.fromarray(noise.integers(0, 256, (12, 12, 3), dtype=np.uint8))
        # the usual size of a photograph in ImageNet
        coarse.resize((500, 375), Image.Resampling.BICUBIC).save(file, 'JPEG', quality=90)
        images.append(file.getvalue())
    kinds = list(DAMAGE.values())
    for index in range(total):
        data = images[index % len(images)]
        (root / 'clean' / f'{index:05d}.jpg').write_bytes(data)
        if index in damaged:
            data = kinds[index % len(kinds)](data)
        (root / 'damaged' / f'{index:05d}.jpg').write_bytes(data)
    return root, [str(root / 'damaged' / f'{index:05d}.jpg') for index in sorted(damaged)]


def epoch(server, root: Path, name: str) -> tuple[str, Path, float]:
    """Train an epoch: what it prints, the work dir, and the CPU seconds it takes."""
    config = mixed(root / name, root / 'clean', epochs=1)
    load = dict(type='LoadImageFromFile')
    crop = dict(type='RandomResizedCrop', scale=224)
    mask = dict(type='GriddedMask', patch_size=16, ratio=0.5)
    shrink = dict(type='Resize', scale=(32, 32))
    config['train_dataloader']['dataset']['pipeline'] = [load, crop, shrink, mask, PACK]
    config['train_dataloader'].update(batch_size=50)
    config.update(val_dataloader=None, val_cfg=None, val_evaluator=None)
    config['default_hooks']['checkpoint'] = dict(save_best=None)
    config['default_hooks']['logger'] = dict(interval=50)
    config['custom_hooks'] = [
        dict(type='UnreadableImagesHook', max_share=0.06),
        dict(type='FiniteLossHook'),
    ]
    work_dir = root / f'{name} run {time.monotonic_ns()}'
    config = write_config(root / f'{name}.py', config)
    output = root / f'{work_dir.name}.txt'
    command = server.start('train', [config, '--work-dir', work_dir], output)
    assert command.wait(1200) == 0, command.text()
    return command.text(), work_dir, command.cost()[1]


def test_damaged_images(server, folders, figure):
    root, damaged = folders
    times = {'clean': [], 'damaged': []}
    for name in 3 * ('clean', 'damaged'):
        text, work_dir, seconds = epoch(server, root, name)
        times[name].append(seconds)
        found = work_dir / 'unreadable_images.txt'
        if name == 'clean':
            assert not found.exists()
            continue
        assert found.read_text().splitlines() == damaged
        total = 20 * len(damaged)
        assert re.search(rf'iteration \d+: {len(damaged)} of {total} training images', text)
    # other programs only add to the CPU seconds, by emptying caches
    ratio = min(times['damaged']) / min(times['clean'])
    total = 20 * len(damaged)
    figure(f'{len(damaged)} of {total} named; {ratio:.3f} times the CPU time of clean images')
    assert ratio < 1.05
