"""Files from anywhere: never executed, refused by name, and in less than 2 GB of memory."""

import io
import os
import pickle
import struct
import zipfile
import zlib
from pathlib import Path

import pytest
import torch
from PIL import Image

from .runs import EPOCHS, mixed, write_config, write_images
from .test_damaged_images import HTML, header_of

MEMORY = 2_000_000_000  # bytes


class Payload:
    """Unpickling it makes a file."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f'touch "{self.mark}"',)


def repacked(source: bytes, change) -> bytes:
    """A zip file whose entries went through ``change(name, data)`` → data and compression."""
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(source)) as old, zipfile.ZipFile(target, 'w') as new:
        for item in old.infolist():
            name, data, how = change(item.filename, old.read(item))
            new.writestr(name, data, how)
    return target.getvalue()


def saved(content: object, **options) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


def bomb(folder: Path) -> bytes:
    """4 MB that unpack to 4 GB."""
    zeros = folder / 'zeros'
    with zeros.open('wb') as file:
        file.truncate(4 << 30)
    target = folder / 'bomb'
    empty = io.BytesIO(saved(dict(state_dict={})))
    packed = zipfile.ZipFile(target, 'w', zipfile.ZIP_DEFLATED, compresslevel=1)
    with zipfile.ZipFile(empty) as old, packed as new:
        for item in old.infolist():
            new.writestr(item.filename, old.read(item))
        new.write(zeros, 'archive/data/0')
    zeros.unlink()
    return target.read_bytes()


def checkpoints(folder: Path, good: dict) -> dict[str, tuple[bytes, str]]:
    """Name → content, and a part of the message; those that ``good`` is changed into."""
    mark = folder / 'executed'
    payload = Payload(mark)
    weights = dict(state_dict=good['state_dict'])
    config = f'import os\nos.system("touch {mark}")\n'
    called = f'model = dict(type=__import__("os").system("touch {mark}"))\n'
    imported = good['meta']['cfg'].replace("type='EnergyRestorationAlgorithm'", "type='os.system'")
    outside = repacked(
        saved(weights),
        lambda name, data: (name.replace('/data/', '/../../../'), data, zipfile.ZIP_STORED),
    )
    nested = 'model = ' + '-' * 100_000 + '1\n'
    return {
        'zip.pth': (saved(dict(weights, meta=payload)), 'could run code'),
        'old_layout.pth': (
            saved(dict(weights, meta=payload), _use_new_zipfile_serialization=False),
            'could run code',
        ),
        'plain.pth': (pickle.dumps(payload), 'could run code'),
        'text.pth': (pickle.dumps(payload, protocol=0), 'could run code'),
        'in_weights.pth': (saved(dict(state_dict=dict(w=payload))), 'could run code'),
        'module.pth': (saved(torch.nn.Linear(2, 2)), 'could run code'),
        'bomb.pth': (bomb(folder), 'unpack to'),
        'traversal.pth': (outside, 'damaged'),
        'html.pth': (HTML, 'damaged'),
        'statement.pth': (saved(dict(weights, meta=dict(cfg=config))), 'code that is not run'),
        'call.pth': (saved(dict(weights, meta=dict(cfg=called))), 'code that is not run'),
        'type.pth': (saved(dict(weights, meta=dict(cfg=imported))), 'an import'),
        'nested.pth': (saved(dict(weights, meta=dict(cfg=nested))), 'not readable'),
    }


def limited(server, tool: str, arguments: list, output: Path) -> tuple[int, str, int]:
    """Run a command: exit code, what it prints, and the most memory that it held, in bytes."""
    command = server.start(tool, arguments, output)
    code = command.wait()
    return code, command.text(), command.cost()[0]


@pytest.fixture(scope='module')
def trained(server, tmp_path_factory):
    folder = tmp_path_factory.mktemp('untrusted')
    write_images(folder / 'train', 12)
    write_images(folder / 'held_out', 4)
    config = write_config(folder / 'mixed.py', mixed(folder / 'train', folder / 'held_out'))
    command = server.start('train', [config, '--work-dir', folder / 'run'], folder / 'run.txt')
    assert command.wait() == 0, command.text()
    return folder


def test_checkpoints(server, trained, tmp_path, figure):
    good = torch.load(trained / 'run' / f'epoch_{EPOCHS}.pth', weights_only=False)
    mark, most = tmp_path / 'executed', 0
    files = checkpoints(tmp_path, good)
    for name, (content, message) in files.items():
        path = tmp_path / name
        path.write_bytes(content)
        config = trained / 'mixed.py'
        uses = {
            'restore': ('mmebm', ['restore', path, trained / 'held_out', '--out', tmp_path / 'out'])
        }
        if message not in ('code that is not run', 'an import', 'not readable'):
            # where the config is given, the one inside is not read
            uses['test'] = 'test', [config, path, '--work-dir', tmp_path / 'out']
            uses['resume'] = 'train', [config, '--resume', path, '--work-dir', tmp_path / 'out']
        for use, (tool, arguments) in uses.items():
            output = tmp_path / f'{name}.{use}.txt'
            code, text, memory = limited(server, tool, arguments, output)
            most = max(most, memory)
            assert code == 2, (name, use, text)
            assert text.count('\n') == 1, (name, use, text)
            assert name in text, (name, use, text)
            assert message in text, (name, use, text)
            assert memory < MEMORY, (name, use, memory)
            assert not mark.exists(), (name, use)
    assert not (tmp_path / 'out').exists()
    pickle.loads(files['plain.pth'][0])  # the payload does work where it is let run
    assert mark.exists()
    figure(f'{len(files)} files, at most {most / 1e9:.2f} GB')


def png(side: int) -> bytes:
    """A whole PNG of ``side``² black pixels of one bit, some kB of it."""
    row = bytes(1 + (side + 7) // 8)
    packer = zlib.compressobj(1)
    data = b''.join(packer.compress(row) for _ in range(side)) + packer.flush()

    def chunk(kind: bytes, content: bytes) -> bytes:
        crc = zlib.crc32(kind + content)
        return struct.pack('>I', len(content)) + kind + content + struct.pack('>I', crc)

    header = struct.pack('>IIBBBBB', side, side, 1, 0, 0, 0, 0)
    parts = chunk(b'IHDR', header) + chunk(b'IDAT', data) + chunk(b'IEND', b'')
    return b'\x89PNG\r\n\x1a\n' + parts


def jpeg_header(side: int) -> bytes:
    file = io.BytesIO()
    Image.new('RGB', (8, 8)).save(file, 'JPEG')
    content = bytearray(file.getvalue())
    start = content.index(b'\xff\xc0') + 5
    content[start : start + 4] = struct.pack('>HH', side, side)
    return bytes(content)


IMAGES = {
    'html.jpg': HTML,
    'svg.jpg': b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>',
    'postscript.jpg': b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) (w) file\n',
    'header.png': header_of(60_000),
    'whole.png': None,  # png(60_000)
    'large.png': None,  # png(30_000), which OpenCV alone would read into 2.7 GB
    'header.jpg': jpeg_header(60_000),
}


def test_images(server, trained, tmp_path, figure):
    content = IMAGES | {'whole.png': png(60_000), 'large.png': png(30_000)}
    folder = tmp_path / 'images'
    write_images(folder, 12)
    for name, data in content.items():
        (folder / name).write_bytes(data)
    config = mixed(folder, trained / 'held_out', epochs=1)
    config['custom_hooks'] = [dict(type='UnreadableImagesHook', max_share=1.0)]
    config['train_dataloader'].update(num_workers=0, persistent_workers=False, batch_size=1)
    config = write_config(tmp_path / 'mixed.py', config)
    checkpoint = trained / 'run' / f'epoch_{EPOCHS}.pth'
    most = 0
    for tool, arguments in (
        ('train', [config, '--work-dir', tmp_path / 'run']),
        ('mmebm', ['restore', checkpoint, folder, '--out', tmp_path / 'restored']),
        ('mmebm', ['score', checkpoint, folder, '--out', tmp_path / 'scored']),
    ):
        output = tmp_path / f'{arguments[0]}.txt' if tool == 'mmebm' else tmp_path / 'train.txt'
        code, text, memory = limited(server, tool, arguments, output)
        most = max(most, memory)
        assert code == 0, text
        assert memory < MEMORY, (tool, memory)
        assert all(name in text for name in content), text
    named = (tmp_path / 'run' / 'unreadable_images.txt').read_text().splitlines()
    assert sorted(Path(path).name for path in named) == sorted(content)
    figure(f'{len(content)} files, at most {most / 1e9:.2f} GB')
