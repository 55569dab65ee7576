"""Damaged and hostile images: skipped by name by all commands, in less than 2 GB of memory."""

import io
import random
import struct
import zlib
from pathlib import Path

from PIL import Image

from . import long
from .runs import Command, mixed, write_config, write_images

pytestmark = long


def png(side: int, whole: bool) -> bytes:
    """A PNG of ``side``² black pixels of one bit, some kB of it, or its header alone."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        crc = zlib.crc32(kind + content)
        return struct.pack('>I', len(content)) + kind + content + struct.pack('>I', crc)

    row, packer = bytes(1 + (side + 7) // 8), zlib.compressobj(1)
    data = b''.join(packer.compress(row) for _ in range(side if whole else 1)) + packer.flush()
    header = struct.pack('>IIBBBBB', side, side, 1, 0, 0, 0, 0)
    parts = chunk(b'IHDR', header), chunk(b'IDAT', data), chunk(b'IEND', b'')
    return b'\x89PNG\r\n\x1a\n' + b''.join(parts)


def jpeg() -> bytes:
    file = io.BytesIO()
    noise = random.Random(0).randbytes(3 * 40 * 40)
    Image.frombytes('RGB', (40, 40), noise).save(file, 'JPEG')
    return file.getvalue()


FILES = {
    'html.jpg': b'<!DOCTYPE html><html><body><script>alert(1)</script></body></html>',
    'svg.jpg': b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>',
    'postscript.jpg': b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) (w) file\n',
    'header.png': png(60_000, whole=False),
    'empty.jpg': b'',
    'zeros.jpg': bytes(9_000),
    'noise.jpg': random.Random(1).randbytes(9_000),
    'ten_bytes.jpg': jpeg()[:10],
    'half.jpg': jpeg()[:1_000],
    'no_beginning.jpg': jpeg()[100:],
    'overwritten.jpg': bytes(200) + jpeg()[200:],
    'large_header.jpg': jpeg().replace(b'\0\x28\0\x28', b'\xea\x60\xea\x60'),
}


def test_images(tmp_path):
    # OpenCV alone would read the second into 2.7 GB
    files = FILES | {'whole.png': png(60_000, True), 'large.png': png(30_000, True)}
    folder = tmp_path / 'images'
    write_images(tmp_path / 'held_out', 4)
    write_images(folder, 16)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    config = mixed(folder, tmp_path / 'held_out', epochs=1)
    config['custom_hooks'] = [dict(type='UnreadableImagesHook', max_share=1.0)]
    config['train_dataloader'].update(batch_size=1)
    config = write_config(tmp_path / 'mixed.py', config)
    checkpoint = tmp_path / 'run' / 'epoch_1.pth'
    for tool, *arguments in (
        ('train', config, '--work-dir', tmp_path / 'run'),
        ('mmebm', 'restore', checkpoint, folder, '--out', tmp_path / 'restored'),
        ('mmebm', 'score', checkpoint, folder, '--out', tmp_path / 'scored'),
    ):
        command = Command(tool, arguments, tmp_path / f'{tool} {Path(arguments[0]).stem}.txt')
        assert command.wait() == 0, command.text()
        assert command.memory() < 2_000_000_000
        missing = [name for name in files if name not in command.text()]
        assert not missing, (missing, command.text())
    named = (tmp_path / 'run' / 'unreadable_images.txt').read_text().splitlines()
    assert sorted(Path(path).name for path in named) == sorted(files)
