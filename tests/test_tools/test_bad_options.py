"""Every command refuses a bad option in one line, with the exit code 2, and writes no result."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mmebm.cli.main import main as mmebm
from tests.tools import exit_code, load_tool
from tests.zero_head import save_network, save_sorting

pytestmark = pytest.mark.slow  # many cases, some seconds in all


CONFIG = next((Path(__file__).parents[2] / 'configs/quickstart').glob('*.py'))

# {images}: a folder of three; {weights}: a checkpoint without config; {config}: the quickstart's;
# {net}, {sorting}: networks; {plain}: a config without corruption; {file}: no image, no checkpoint;
# {empty}: a folder; {gone}: nothing
BAD = {
    'train': {
        '{gone}': 'gone',
        '{config} --resume {gone}': 'gone does not exist',
        '{config} --amp --cfg-options optim_wrapper.type=ApexOptimWrapper': 'ApexOptimWrapper',
        '{config} --cfg-options log_level.x=2': 'log_level',
        '{config} --resume {file}': 'file',
        '{config} --work-dir {file}/below': 'file',
    },
    'test': {'{config} {gone}': 'gone does not exist', '{config} {file}': 'file'},
    'mmebm': {
        '': 'COMMAND',
        'pretrian': 'the nearest is pretrain',
        'restore {gone} {images} --out {out}': 'gone',
        'restore {net} {gone} --out {out}': 'gone',
        'restore {net} {empty} --out {out}': 'empty',
        'restore {file} {images} --out {out}': 'file',
        'restore {weights} {images} --out {out}': 'holds no config',
        'restore {net} {images} --out {out} --steps -1': '--steps',
        'restore {net} {images} --out {out} --upscale 0': '--upscale',
        'restore {net} {images} --out {out} --mask {gone}': 'gone',
        'restore {net} {images} --out {file}/below': 'file',
        'restore {net} {images} --out {out} --config {gone}': 'gone',
        'restore {net} {images} --out {out} --device tpu': 'tpu',
        'restore {net} {images} --out {out} --stirp': 'the nearest is --strip',
        'embed {net} {images} --out a.csv': '--out must be a file .npz',
        'embed {net} {images} --out {gone}/a.npz': '--out must be a file .npz',
        'embed {net} {gone} --out a.npz': 'gone',
        'embed {gone} {images} --out a.npz': 'gone',
        'pretrain {gone} --out {out} --backbone vit': 'gone',
        'pretrain {empty} --out {out} --backbone vit': 'empty',
        'pretrain {images} --out {out} --backbone resnet-9000': 'resnet-9000',
        '{pretrain} --epochs 0': 'epochs',
        '{pretrain} --hours -1': 'hours must be a finite number > 0, got -1.0',
        '{pretrain} --hours 1 --epochs 1': 'give only one of hours, epochs',
        '{pretrain} --start {file}': 'file',
        '{pretrain} --epochs 1 --out {file}/below': 'file',
        '{pretrain} --gpus 0': '--gpus must be ≥ 1',
        '{pretrain} --nnodes 2': '--nnodes',
        '{pretrain} --image-size 4': 'image_size must be an integer ≥ 8, got 4',
        '{pretrain} --image-size 32 48 64': 'height and width, got (32, 48, 64)',
        '{pretrain} --channels 2': 'invalid choice: 2',
        '{pretrain} --energy inpainting --corruption mixed': "'mixed' is for",
        '{pretrain} --corruption blur': "invalid choice: 'blur'",
        '{pretrain} --batchsize 3': 'the nearest is --batch-size',
        '{pretrain} --precision bfloat': 'the nearest is bfloat16',
        'benchmark {gone} --out {out}': 'gone',
        'benchmark {images} --out {out} --val-share 1': 'val',
        'benchmark {labelled} --out {out} --methods dream': 'vit-micro-p4 has no method dream, but',
        'benchmark {labelled} --out {out} --backbone vit-micro': 'vit-micro-p4, vit-mini-p4 or',
        'benchmark {labelled} --out {out} --backbone swin-micro-p2 --methods mae': 'no method mae',
        'demo {net} --port 70000': '--port must be at most 65535, got 70000',
        'demo {net} --max-upload nan': '--max-upload must be a finite number > 0, got nan',
        'demo {net} --host 192.0.2.1': 'cannot listen at 192.0.2.1: ',
        'demo {net} --host nowhere.invalid': 'cannot listen at nowhere.invalid: ',
        'demo {sorting}': 'this network sorts patches',
    },
    'visualization/figures': {
        'tabel1': 'tabel1',
        '1 {weights}': 'figure 1 needs CHECKPOINT IMAGES',
        '1 {net} {gone}': 'gone',
        '3 {net} {images} --scale 0': '--scale must be > 0, got 0.0',
        'A {images}': 'no sub-folder with results',
        'B {images}': 'no TIME/vis_data/scalars.json',
        '1 {net} {images} --output {file}/below/x.png': 'file',
    },
    'visualization/browse_corruptions': {
        '{gone}': 'gone',
        '{config} --num 0': '--num must be >= 1, got 0',
        '{plain} --split val': 'has no val_dataloader',
        '{plain} --output {out}.png': 'the pipeline has no corruption',
    },
    'model_converters/convert_checkpoint': {
        '{gone} {out}.pth': 'gone does not exist',
        '{weights} {out}.onnx': 'must end in .pth',
        '{weights} {gone}/a.pth': 'gone',
        '{weights} {out}.pth': 'no config',
        '{weights} {out}.pth --config {gone}': 'gone: No such file',
        '{weights} {out}.pth --to transformers --model a': '--model-kwargs are for --to timm',
        '{weights} {out}.pth --model resnet18': '--to timm',
        '{file} {out}.pth': 'file',
    },
    'benchmarks/knn': {
        '{weights}': 'CHECKPOINT',
        '{weights} {images}': 'holds no config',
        '{weights} {weights} {images}': 'give CONFIG|CHECKPOINT',
        '{config} {gone} {images}': 'gone does not exist',
        '{net} {gone}': 'gone',
        '{config} {weights} {images}': 'weights.pth',
    },
    'benchmarks/check_backbones': {
        '--only nothing-like-it --out {out}': 'nothing-like-it',
        '--device tpu': 'tpu',
    },
    'benchmarks/benchmark_corruptions': {'{empty}': 'empty', '{images} --repeats 0': '--repeats'},
    'benchmarks/benchmark_speed': {
        '--models resnet-9000': 'resnet-9000',
        '--batch-size 0 --out {out}': '--batch-size',
        '--repeats 0': '--repeats must be ≥ 1',
    },
}
CASES = [(tool, *case) for tool, cases in BAD.items() for case in cases.items()]


@pytest.fixture(scope='module')
def tools():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(CONFIG.parents[2] / 'tools/benchmarks')  # for imports of neighbours
        return {name: mmebm if name == 'mmebm' else load_tool(name).main for name in BAD}


@pytest.fixture(scope='module')
def networks(tmp_path_factory):
    folder = tmp_path_factory.mktemp('networks')
    save_network(folder / 'net.pth')
    save_sorting(folder / 'sorting.pth')
    return {name: str(folder / f'{name}.pth') for name in ('net', 'sorting')}


@pytest.fixture
def places(networks, tmp_path, monkeypatch):
    folder = tmp_path / 'images'
    folder.mkdir()
    for name in 'abc':
        Image.fromarray(np.full((8, 8, 3), 99, np.uint8)).save(folder / f'{name}.png')
    for part in ('empty', 'labelled/train', 'labelled/test'):
        (tmp_path / part).mkdir(parents=True)
    (tmp_path / 'file').write_text('neither an image nor a checkpoint')
    torch.save(dict(state_dict=dict(weight=torch.zeros(2))), tmp_path / 'weights.pth')
    (tmp_path / 'here').mkdir()
    monkeypatch.chdir(tmp_path / 'here')
    names = ('images', 'empty', 'labelled', 'file', 'gone', 'out')
    places = {name: str(tmp_path / name) for name in names}
    data = dict(type='ImageFolder', data_root=places['images'])
    data['pipeline'] = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
    text = f"default_scope = 'mmpretrain'\ntrain_dataloader = dict(dataset={data})"
    (tmp_path / 'plain.py').write_text(text)
    files = dict(weights=tmp_path / 'weights.pth', config=CONFIG, plain=tmp_path / 'plain.py')
    files['pretrain'] = 'pretrain {images} --out {out} --backbone timm/test_vit'.format(**places)
    return places | networks | {name: str(path) for name, path in files.items()}


def contents(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob('*')}


@pytest.mark.parametrize(
    ('tool', 'arguments', 'message'), CASES, ids=[' '.join(case[:2]) for case in CASES]
)
def test_bad_option(tools, places, tmp_path, capsys, tool_process, tool, arguments, message):
    before = contents(tmp_path)
    code = exit_code(tools[tool], arguments.format(**places).split())
    error = capsys.readouterr().err
    assert code == 2, error
    assert 'error: ' in error.splitlines()[-1], error
    assert message in error.splitlines()[-1]
    assert 'Traceback' not in error
    assert contents(tmp_path) == before
