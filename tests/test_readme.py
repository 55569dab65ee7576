"""The examples of the README run verbatim, and what the docs name exists."""

import re
from functools import partial
from pathlib import Path

import mmpretrain
import numpy as np
import pytest
import timm
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from PIL import Image

ROOT = Path(__file__).parent.parent
README = (ROOT / 'README.md').read_text()
PAGES = sorted(
    [*ROOT.glob('*.md'), *(ROOT / 'docs').rglob('*.md')], key=lambda path: path.as_posix()
)
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]


def example(marker: str) -> str:
    """The README's Python example that holds ``marker``."""
    (code,) = (c for c in re.findall(r'```python\n(.*?)```', README, re.DOTALL) if marker in c)
    return code


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'data/photos/cats').mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(2):
        pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((40, 48)).save(tmp_path / f'data/photos/cats/{i}.png')
    return tmp_path


def test_the_pytorch_loop_trains_and_timm_loads_its_backbone(photos, monkeypatch):
    create = partial(timm.create_model, depth=1, img_size=32)
    monkeypatch.setattr(timm, 'create_model', create)
    code = example('timm.create_model')
    assert code.count('1, 14, 14') == 1
    code = code.replace('1, 14, 14', '1, 2, 2')
    torch.manual_seed(0)
    names = dict(loader=[(torch.randn(2, 3, 32, 32), torch.zeros(2))] * 2)
    exec(code, names)
    model = names['model']
    assert torch.isfinite(names['loss'])
    assert model.head.fc.weight.abs().max() > 0  # it began at zero
    # In the first iteration a head of zeros gives the step size no gradient.
    assert model.step_size.item() != pytest.approx(1000, abs=0.1)
    fresh = timm.create_model('vit_small_patch16_224', num_classes=0).eval()
    fresh.load_state_dict(torch.load(photos / 'backbone.pth', weights_only=True))
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(fresh(images), model.backbone.eval()(images))


def plain_pytorch() -> dict:
    """The names that the code of docs/plain_pytorch.md defines."""
    page = (ROOT / 'docs/plain_pytorch.md').read_text()
    names = {}
    for marker, code in re.findall(r'(<!-- not run -->\n)?```python\n(.*?)```', page, re.DOTALL):
        compile(code, 'docs/plain_pytorch.md', 'exec')
        if not marker:
            exec(code, names)
    return names


def test_the_loop_without_mmengine_trains():
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
    assert model.head.fc.weight.abs().max() > 0
    assert model.step_size.item() != pytest.approx(1000, abs=0.1)


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
    code = example('_base_ =')
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
    config.work_dir = str(photos / 'work')
    config.default_hooks.checkpoint = None
    runner = Runner.from_cfg(config)
    runner.train()
    assert runner.iter == 2
    model = runner.model
    assert model.data_preprocessor._enable_normalize
    assert torch.isfinite(torch.cat([p.flatten() for p in model.parameters()])).all()
    assert model.head.fc.weight.abs().max() > 0
    # log α moves by its learning rate, ten times that of the network, in an update of AdamW
    assert abs(model.log_step_size.item() - np.log(1000)) > 5e-4


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub writes them."""
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
    for path in re.findall(pattern, (ROOT / name).read_text()):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize('name', NAMES)
def test_every_command_that_trains_names_its_work_dir(name):
    text = (ROOT / name).read_text()
    blocks = re.findall(r'```(?:bash)?\n(.*?)```', text, re.DOTALL)
    commands = [c for b in blocks for c in re.sub(r'\\\n\s*', ' ', b).splitlines()]
    for command in commands:
        if re.search(r'tools/(dist_)?train\.(py|sh)|mim train', command):
            assert '--work-dir ' in command, command


def test_rows_of_the_paper_share_a_folder_only_with_themselves():
    """A folder of docs/paper.md belongs to one pair of configs, and a pair to one folder."""
    page = (ROOT / 'docs/paper.md').read_text()
    rows = re.findall(r'^\| [^|]+\| `(\w+/[\w\-]+)` \| ([^|]+) \| (\[[^|]+) \|', page, re.M)
    assert len(rows) > 50
    runs = dict.fromkeys(rows)
    for part in (0, slice(1, 3)):
        seen = [row[part] for row in runs]
        assert len(set(seen)) == len(seen)
    pretrained = {folder for folder, pretraining, _ in rows if pretraining.startswith('[')}
    named = re.findall(r'\| from `([^`]+)`', page)
    assert named
    assert set(named) <= pretrained
