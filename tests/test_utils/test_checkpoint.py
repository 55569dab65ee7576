import os
import pickle
import zipfile

import numpy as np
import pytest
import torch
from mmengine.dataset import BaseDataset
from mmengine.logging import HistoryBuffer
from mmengine.model import BaseModel
from mmengine.runner import CheckpointLoader, Runner
from torch import nn

from mmebm.utils.checkpoint import (
    DamagedCheckpointError,
    load_checkpoint_safely,
    load_from_url,
    newest_sound_checkpoint,
    register_safe_loader,
)


class Payload:
    """Unpickling it writes a file."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.system, (f'touch {self.target}',)


class Ones(BaseDataset):
    def load_data_list(self):
        return [dict(value=1.0)] * 4

    def __getitem__(self, index):
        return torch.ones(3)


class Toy(BaseModel):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 1)

    def forward(self, *images, mode):
        return dict(loss=self.linear(torch.stack(images)).square().mean())


@pytest.fixture
def pwned(tmp_path):
    return tmp_path / 'pwned'


@pytest.fixture(scope='module')
def runner_checkpoint(tmp_path_factory):
    """A checkpoint of a training run, with all that MMEngine keeps for resuming."""
    work_dir = tmp_path_factory.mktemp('run')
    runner = Runner(
        model=Toy(),
        work_dir=str(work_dir),
        train_dataloader=dict(
            dataset=Ones(), batch_size=2, sampler=dict(type='DefaultSampler', shuffle=True)
        ),
        train_cfg=dict(by_epoch=True, max_epochs=2),
        optim_wrapper=dict(
            optimizer=dict(type='AdamW', lr=1e-3), accumulative_counts=2, clip_grad=dict(max_norm=1)
        ),
        param_scheduler=dict(type='CosineAnnealingLR', T_max=2, convert_to_iter_based=True),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1)),
        default_scope='mmpretrain',
        experiment_name='test_checkpoint',
    )
    runner.message_hub.update_info('best', np.float32(1.5))
    runner.message_hub.update_info('array', np.arange(3, dtype=np.uint8))
    runner.message_hub.update_info('flag', np.bool_(True))
    runner.train()
    return work_dir / 'epoch_2.pth'


@pytest.mark.parametrize('mmap', [False, True])
def test_what_mmengine_writes_is_loaded(runner_checkpoint, mmap):
    checkpoint = load_checkpoint_safely(runner_checkpoint, mmap=mmap)
    assert set(checkpoint['state_dict']) == {'linear.weight', 'linear.bias'}
    assert set(checkpoint['optimizer']['state']) == {0, 1}
    assert checkpoint['param_schedulers']
    hub = checkpoint['message_hub']
    assert isinstance(hub['log_scalars']['train/loss'], HistoryBuffer)
    assert hub['log_scalars']['train/loss'].mean() > 0
    assert hub['runtime_info']['best'] == np.float32(1.5)
    assert hub['runtime_info']['array'].tolist() == [0, 1, 2]


@pytest.mark.filterwarnings('ignore:Detected pickle protocol')
@pytest.mark.parametrize('form', ['zip', 'old', 'pickle 0', 'pickle 2', 'pickle 4'])
def test_a_file_that_would_run_code_is_refused(tmp_path, pwned, form):
    path, content = tmp_path / 'bad.pth', dict(w=torch.zeros(2), meta=Payload(pwned))
    if form.startswith('pickle'):
        path.write_bytes(pickle.dumps(content, protocol=int(form[-1])))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == 'zip')
    for mmap in (False, True):
        with pytest.raises(ValueError, match=r'bad\.pth is (refused|damaged)') as raised:
            load_checkpoint_safely(path, mmap=mmap)
    assert not pwned.exists()
    if form == 'zip':
        assert 'posix.system' in str(raised.value)
        torch.load(path, weights_only=False)  # the payload works if it is allowed to run
        assert pwned.exists()


@pytest.mark.parametrize('share', [0, 0.02, 0.5, 0.99])
@pytest.mark.parametrize('old', [False, True])
def test_a_truncated_file_is_damaged(tmp_path, runner_checkpoint, share, old):
    path, whole = tmp_path / 'half.pth', runner_checkpoint
    if old:
        whole = tmp_path / 'old.pth'
        torch.save(dict(a=torch.ones(100)), whole, _use_new_zipfile_serialization=False)
    path.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * share)])
    with pytest.raises(DamagedCheckpointError, match=r'half\.pth is damaged, incomplete or not'):
        load_checkpoint_safely(path, mmap=not old)


@pytest.mark.parametrize('data', [b'<html>404</html>', b'\x89PNG\r\n\x1a\n', b'weights of old'])
def test_other_files(tmp_path, data):
    (tmp_path / 'other').write_bytes(data)
    with pytest.raises(DamagedCheckpointError, match='other is damaged') as raised:
        load_checkpoint_safely(tmp_path / 'other')
    assert 'weights_only' not in str(raised.value)  # torch's advice
    torch.save(torch.zeros(2), tmp_path / 'tensor.pth')
    with pytest.raises(DamagedCheckpointError, match='it holds a Tensor'):
        load_checkpoint_safely(tmp_path / 'tensor.pth')
    with pytest.raises(FileNotFoundError, match=r'gone\.pth does not exist'):
        load_checkpoint_safely(tmp_path / 'gone.pth')


def test_a_url_is_downloaded_once_and_loaded_safely(tmp_path, pwned, monkeypatch):
    monkeypatch.setattr(CheckpointLoader, '_schemes', CheckpointLoader._schemes.copy())
    monkeypatch.setattr('torch.hub.get_dir', lambda: str(tmp_path / 'hub'))
    register_safe_loader()
    assert CheckpointLoader._get_checkpoint_loader('https://x/y.pth') is load_from_url
    for name, content in (('good', dict(a=1)), ('bad', dict(a=Payload(pwned)))):
        torch.save(content, tmp_path / f'{name}.pth')
    for _ in range(2):
        assert load_from_url(f'file://{tmp_path}/good.pth', None) == dict(a=1)
        (tmp_path / 'good.pth').unlink(missing_ok=True)
    with pytest.raises(ValueError, match=r'bad\.pth is refused'):
        load_from_url(f'file://{tmp_path}/bad.pth', None)
    with pytest.raises(ValueError, match=r'gone\.pth cannot be downloaded'):
        load_from_url(f'file://{tmp_path}/gone.pth', None)
    assert not pwned.exists()


def test_a_zip_file_that_unpacks_to_more_than_itself_is_refused(tmp_path):
    torch.save({}, tmp_path / 'bomb.pth')
    with zipfile.ZipFile(tmp_path / 'bomb.pth', 'a', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('archive/data/0', bytes(1_000_000))
    with pytest.raises(ValueError, match=r'bomb\.pth is refused: .* unpack to'):
        load_checkpoint_safely(tmp_path / 'bomb.pth')


def exploit_with_getattr(target) -> bytes:
    """Runs code through functions that MMEngine's loader allows: getattr and HistoryBuffer.

    ``getattr.__self__`` is builtins, which has ``exec``. A HistoryBuffer with it as ``array``
    replaces numpy in the module of HistoryBuffer, whose constructor calls ``np.array`` with the
    arguments in the file.
    """
    getattr_ = b'cbuiltins\ngetattr\n'
    buffer = b'cmmengine.logging.history_buffer\nHistoryBuffer\n'

    def text(value):
        return b'X' + len(value).to_bytes(4, 'little') + value.encode()

    def attribute(owner, name):
        return getattr_ + owner + text(name) + b'\x86R'

    exec_ = attribute(attribute(getattr_, '__self__'), 'exec')
    fake_numpy = buffer + b')\x81' + b'}' + text('array') + exec_ + b's' + b'b'
    module = attribute(attribute(buffer, '__init__'), '__globals__')
    code = text(f'open({str(target)!r}, "w")')
    # module['np'] = fake_numpy; HistoryBuffer(code, code)
    return b'\x80\x02' + module + text('np') + fake_numpy + b's' + buffer + code * 2 + b'\x86R.'


def repack(source, target, pickled):
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, 'w') as new:
        for item in old.infolist():
            data = pickled if item.filename.endswith('/data.pkl') else old.read(item)
            new.writestr(item.filename, data)


def test_getattr_reaches_nothing_but_history_buffers(tmp_path, pwned):
    path = tmp_path / 'bad.pth'
    torch.save({}, tmp_path / 'empty.pth')
    repack(tmp_path / 'empty.pth', path, exploit_with_getattr(pwned))
    with pytest.raises(ValueError, match=r'is refused: .*getattr\(.*__'):
        load_checkpoint_safely(path)
    assert not pwned.exists()


def test_files_of_either_numpy_are_loaded(tmp_path):
    torch.save(dict(a=np.arange(3.0), b=np.float64(2)), tmp_path / 'new.pth')
    with zipfile.ZipFile(tmp_path / 'new.pth') as file:
        pickled = file.read('new/data.pkl')
    for name in (b'numpy.core.multiarray', b'numpy._core.multiarray'):
        other = pickled.replace(b'numpy._core.multiarray', b'numpy.core.multiarray')
        other = other.replace(b'numpy.core.multiarray', name)
        repack(tmp_path / 'new.pth', tmp_path / 'other.pth', other)
        checkpoint = load_checkpoint_safely(tmp_path / 'other.pth')
        assert checkpoint['a'].tolist() == [0, 1, 2]
        assert checkpoint['b'] == 2


def test_safe_loader_replaces_mmengines(tmp_path, pwned, monkeypatch, runner_checkpoint):
    monkeypatch.setattr(CheckpointLoader, '_schemes', CheckpointLoader._schemes.copy())
    register_safe_loader()
    torch.save(dict(meta=Payload(pwned)), tmp_path / 'bad.pth')
    with pytest.raises(ValueError, match='is refused'):
        CheckpointLoader.load_checkpoint(str(tmp_path / 'bad.pth'), 'cpu')
    assert not pwned.exists()
    assert 'optimizer' in CheckpointLoader.load_checkpoint(str(runner_checkpoint), 'cpu')


@pytest.mark.parametrize('spoil', ['nothing', 'truncate', 'remove', 'pointer', 'code'])
def test_newest_sound_checkpoint(tmp_path, pwned, spoil):
    assert newest_sound_checkpoint(tmp_path / 'gone') == (None, [])
    for epoch in (2, 9, 10):
        torch.save(dict(epoch=epoch), tmp_path / f'epoch_{epoch}.pth')
    torch.save({}, tmp_path / 'best_metric_epoch_9.pth')
    path, pointer = tmp_path / 'epoch_10.pth', tmp_path / 'last_checkpoint'
    pointer.write_text(str(path))
    if spoil == 'code':
        torch.save(dict(meta=Payload(pwned)), path)
        with pytest.raises(ValueError, match=r'epoch_10\.pth is refused'):  # and not passed over
            newest_sound_checkpoint(tmp_path)
        return
    if spoil == 'truncate':
        path.write_bytes(path.read_bytes()[:100])
    elif spoil == 'remove':
        path.unlink()
    elif spoil == 'pointer':
        pointer.write_text('')
    found, reasons = newest_sound_checkpoint(tmp_path)
    passed_over = spoil in ('truncate', 'remove')
    assert found == str(tmp_path / f'epoch_{9 if passed_over else 10}.pth')
    assert [str(path) in reason for reason in reasons] == [True] * passed_over
