"""BEiT's tokenizer: how tools/train.py checks its weights before it builds anything."""

from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from mmengine.config import Config
from mmpretrain.registry import MODELS

from mmebm.cli.launch import check_tokenizer
from tests.tools import load_tool

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / 'configs/small/beit_vit-micro-p4_1xb128-amp-coslr-40e_small32.py'
OPTION = '--cfg-options model.target_generator.init_cfg.checkpoint=PATH'
SMALL = dict(type='DALL-E', n_hid=8, n_blk_per_group=1)
URL = 'https://example.org/folder/dalle.pth'


def config(checkpoint):
    init_cfg = dict(type='Pretrained', checkpoint=str(checkpoint))
    return Config(dict(model=dict(type='BEiT', target_generator=dict(SMALL, init_cfg=init_cfg))))


@pytest.fixture
def weights():
    torch.manual_seed(0)
    return MODELS.build(SMALL).state_dict()


@pytest.fixture
def hub(tmp_path, monkeypatch):
    monkeypatch.setattr('torch.hub.get_dir', lambda: str(tmp_path / 'hub'))
    return tmp_path / 'hub' / 'checkpoints'


def test_a_config_without_tokenizer_is_left_alone():
    check_tokenizer(Config(dict(model=dict(type='MaskFeat', target_generator=dict(type='HOG')))))


def test_weights_in_a_file_are_accepted_and_used(tmp_path, weights):
    for state in (weights, dict(state_dict=weights)):
        torch.save(state, tmp_path / 'dalle.pth')
        cfg = config(tmp_path / 'dalle.pth')
        check_tokenizer(cfg)
        tokenizer = MODELS.build(cfg.model.target_generator)
        tokenizer.init_weights()
        for name, value in tokenizer.state_dict().items():
            torch.testing.assert_close(value, weights[name], rtol=0, atol=0)


@pytest.mark.parametrize(
    ('saved', 'words'),
    [
        (None, r'Download https://.*dalle_encoder\.pth'),
        (lambda weights: dict(list(weights.items())[1:]), '1 missing in the file: blocks'),
        (lambda weights: torch.nn.Linear(1, 1), 'is refused'),  # code, as in its authors' file
    ],
)
def test_other_files_are_refused(saved, words, tmp_path, weights):
    if saved is not None:
        torch.save(saved(weights), tmp_path / 'dalle.pth')
    with pytest.raises(ValueError, match=words):
        check_tokenizer(config(tmp_path / 'dalle.pth'))


def test_a_url_is_downloaded_once(hub, weights, monkeypatch):
    calls = []

    def download(url, path):
        calls.append(url)
        torch.save(weights, path)

    monkeypatch.setattr('torch.hub.download_url_to_file', download)
    for _ in range(2):
        cfg = config(URL)
        check_tokenizer(cfg)
        assert cfg.model.target_generator.init_cfg.checkpoint == str(hub / 'dalle.pth')
    assert calls == [URL]


def test_without_network_the_tool_ends_with_what_to_fetch(hub, monkeypatch, capsys, tmp_path):
    def download(url, path):
        raise URLError('no network')

    monkeypatch.setattr('torch.hub.download_url_to_file', download)
    tool = load_tool('train')
    with pytest.raises(SystemExit) as exit_:
        tool.main([str(CONFIG), '--work-dir', str(tmp_path / 'work')])
    assert exit_.value.code == 2
    error = capsys.readouterr().err
    assert 'no network' in error
    url = Config.fromfile(CONFIG).model.target_generator.init_cfg.checkpoint
    assert f'Download {url} on a machine with internet access' in error
    assert OPTION in error
    assert not (tmp_path / 'work').exists()
