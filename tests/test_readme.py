"""The examples of the README and of docs/ run verbatim, and what they name exists."""

import re
import shlex
from pathlib import Path

import mmpretrain
import numpy as np
import pytest
import timm
import torch
from mmengine.config import Config
from mmengine.runner import Runner

from mmebm.cli.main import build_parser
from tests.tools import write_noise

ROOT = Path(__file__).parent.parent
PAGES = [*ROOT.glob('*.md'), *ROOT.glob('docs/*.md')]
NAMES = sorted(page.relative_to(ROOT).as_posix() for page in PAGES)


def blocks(name: str, language: str) -> list[str]:
    """The examples of a page in one language."""
    fenced = re.findall(
        r'^```(\w*)\n(.*?)^```', (ROOT / name).read_text(), re.DOTALL | re.MULTILINE
    )
    return [code for found, code in fenced if found == language]


def commands(name: str) -> list[str]:
    """The lines of a page's shell examples, continued lines joined."""
    return re.sub(r'\\\n\s*', ' ', ''.join(blocks(name, 'bash'))).splitlines()


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_noise(tmp_path / 'data/photos', dict(cats=(0, 256)), 2, (40, 48))
    return tmp_path


def plain_pytorch() -> dict:
    """What docs/plain_pytorch.md defines."""
    names = {}
    exec('\n'.join(blocks('docs/plain_pytorch.md', 'python')), names)
    return names


def test_the_loop_trains_and_timm_loads_its_backbone():
    names = plain_pytorch()
    torch.manual_seed(0)
    clean = torch.randn(2, 3, 32, 32)
    zeroed = names['masked'](clean) == 0
    assert 0 < zeroed.float().mean() < 1
    cells = zeroed.unfold(2, 16, 16).unfold(3, 16, 16).flatten(4).float().mean(-1)
    assert set(cells.unique().tolist()) == {0.0, 1.0}
    model, optimizer = names['build'](img_size=32, depth=1)
    loss = names['train'](model, optimizer, [clean] * 3, device='cpu')
    assert torch.isfinite(loss)
    assert model.head.fc.weight.abs().max() > 0  # it began at zero
    assert model.step_size.item() != pytest.approx(1000, abs=0.1)
    fresh = timm.create_model('vit_small_patch16_224', num_classes=0, img_size=32, depth=1)
    fresh.load_state_dict(model.backbone.state_dict())
    torch.testing.assert_close(fresh.eval()(clean), model.backbone.eval()(clean))


def test_the_distributed_loop_trains(tmp_path):
    names = plain_pytorch()
    model, optimizer = names['build'](img_size=32, depth=1)
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{tmp_path}/store', rank=0, world_size=1
    )
    try:
        loss = names['train_distributed'](model, optimizer, [torch.randn(2, 3, 32, 32)] * 2)
    finally:
        torch.distributed.destroy_process_group()
    assert torch.isfinite(loss)
    assert model.head.fc.weight.abs().max() > 0


def test_the_config_trains(photos):
    bundled = Path(mmpretrain.__file__).parent / '.mim/configs/_base_'
    (code,) = (c for c in blocks('README.md', 'python') if '_base_ =' in c)
    assert code.count("'../_base_/") == 2
    path = photos / 'mine.py'
    path.write_text(code.replace("'../_base_/", f"'{bundled}/"))
    config = Config.fromfile(path)
    for step in config.pipeline:
        if step.type == 'RandomResizedCrop':
            step.scale = 64
    loader = config.train_dataloader
    loader.update(batch_size=2, num_workers=0, persistent_workers=False)
    loader.dataset = dict(
        type='ImageFolder', data_root=str(photos / 'data/photos'), pipeline=config.pipeline
    )
    config.model.backbone.arch = dict(depths=[1, 1, 1, 1], channels=[8, 8, 8, 768])
    config.train_cfg.max_epochs = 2
    config.merge_from_dict({'work_dir': 'work', 'default_hooks.checkpoint': None})
    runner = Runner.from_cfg(config)
    runner.train()
    model = runner.model
    assert torch.isfinite(torch.cat([p.flatten() for p in model.parameters()])).all()
    assert model.head.fc.weight.abs().max() > 0
    # log α moves by its learning rate, ten times that of the network, in an update of AdamW
    assert abs(model.log_step_size.item() - np.log(1000)) > 5e-4


def test_the_restorer_restores(photos):
    (code,) = (c for c in blocks('docs/restore.md', 'python') if 'Restorer' in c)
    checkpoint = ROOT / 'tests/data/restoration_0.1.pth'
    code = code.replace('work_dirs/quickstart/run/checkpoint.pth', str(checkpoint))
    names = {}
    exec(code.replace('photo.jpg', 'data/photos/cats/00.png'), names)
    chain = names['chain']
    assert chain.images[-1].shape == (48, 40, 3)
    assert len(chain.energies) == len(chain.images) == len(chain.psnr)
    assert chain.heat.shape == (48, 40)


def anchors(page: Path) -> set[str]:
    titles = re.findall(r'^#+ (.*)$', page.read_text(), re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', title.lower()).replace(' ', '-') for title in titles}


@pytest.mark.parametrize('name', NAMES)
def test_relative_links_lead_somewhere(name):
    page = ROOT / name
    for target in re.findall(r'\]\(([^)\s]+)\)', page.read_text()):
        if '://' in target:
            continue
        path, _, anchor = target.partition('#')
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        assert linked.is_relative_to(ROOT), target
        assert not anchor or anchor in anchors(linked), target


@pytest.mark.parametrize('name', NAMES)
def test_named_files_exist(name):
    pattern = r'(?<![\w/.])(?:tools|configs|tests|docs|mmebm|requirements)/[\w./\-]*[\w/]'
    text = (ROOT / name).read_text()
    tests = [f'tests/{path}' for path in re.findall(r'`(test_[\w/]+\.py)`', text)]
    for path in [*re.findall(pattern, text), *tests]:
        assert (ROOT / path).exists(), path


def test_the_docs_are_named_rightly():
    text = ''.join(page.read_text() for page in PAGES)
    for path in (ROOT / 'docs').rglob('*.*'):
        assert path.suffix == '.py' or path.name in text, path
    for folder in 'mmebm', 'configs', 'tools', 'tests':
        for path in (ROOT / folder).rglob('*.py'):
            for named in re.findall(r'docs/[\w/]+\.\w+', path.read_text()):
                assert (ROOT / named).exists(), (path, named)


@pytest.mark.parametrize('name', NAMES)
def test_commands_take_the_options_that_are_shown(name):
    for command in commands(name):
        if re.match(r'mmebm [a-z]', command):
            build_parser().parse_args(shlex.split(command, comments=True)[1:])
        tool = re.search(r'python (tools/\S+\.py)(.*)', command)
        if tool:
            files = tool[1], 'mmebm/cli/launch.py', 'mmebm/cli/parser.py'
            source = ''.join((ROOT / file).read_text() for file in files)
            for option in re.findall(r' (--[\w-]+)', tool[2].split(' #')[0]):
                assert f"'{option}'" in source, (command, option)
        if re.search(r'tools/(dist_)?train\.(py|sh)|mim train', command):
            assert '--work-dir ' in command, command


def test_every_config_of_the_paper_is_linked():
    page = (ROOT / 'docs/paper.md').read_text()
    linked = set(re.findall(r'\(\.\./(configs/[^)]+\.py)\)', page))
    for family in 'masking', 'restoration', 'sorting', 'mixed', 'baselines', 'autoencoder':
        for path in (ROOT / 'configs' / family).glob('*.py'):
            if not re.match('simmim_|mae_vit-small.*-100e|ae-gridded', path.name):
                assert path.relative_to(ROOT).as_posix() in linked
