"""Every command refuses a bad option in one line, with the exit code 2, and writes no result."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mmebm.cli.main import main as mmebm
from tests.tools import exit_code, load_tool

pytestmark = pytest.mark.slow  # many cases, some seconds in all


CONFIG = next((Path(__file__).parents[2] / 'configs/quickstart').glob('*.py'))

# {images}: a folder of two; {weights}: a checkpoint without config; {config}: the quickstart's;
# {file}: no image, no checkpoint; {empty}: a folder; {gone}: nothing
BAD = {
    'train': [
        '{gone}',
        '{config} --cfg-options novel',
        '{config} --resume {gone}',
        '{config} --amp --cfg-options optim_wrapper.type=ApexOptimWrapper',
        '{config} --cfg-options log_level.x=2',
        '{config} --resume {file}',
        '{config} --work-dir {file}/below',
    ],
    'test': [
        '{config} {gone}',
        '{config} {file}',
    ],
    'mmebm': [
        '',
        'restore {gone} {images} --out {out}',
        'restore {weights} {gone} --out {out}',
        'restore {weights} {empty} --out {out}',
        'restore {file} {images} --out {out}',
        'restore {weights} {images} --out {out}',
        'restore {weights} {images} --out {out} --steps -1',
        'restore {weights} {images} --out {out} --upscale 0',
        'restore {weights} {images} --out {out} --mask {gone}',
        'restore {weights} {images} --out {file}/below',
        'restore {weights} {images} --out {out} --config {gone}',
        'restore {weights} {images} --out {out} --config {config} --device tpu',
        'score {gone} {images} --out {out}',
        'score {weights} {images} --out {out} --threshold 2',
        'score {weights} {images} --out {out} --reference {gone}',
        'score {weights} {images} --out {file}/below',
        'pretrain {gone} --out {out}',
        'pretrain {empty} --out {out}',
        'pretrain {images} --out {out} --backbone resnet-9000',
        'pretrain {images} --out {out} --epochs 0',
        'pretrain {images} --out {out} --hours -1',
        'pretrain {images} --out {out} --start {file}',
        'pretrain {images} --out {file}/below',
        'benchmark {gone} --out {out}',
        'benchmark {images} --out {out} --val-share 1',
        'benchmark {images} --out {out} --methods dream',
        'demo {weights} --port 70000',
        'demo {weights} --max-upload nan',
    ],
    'visualization/figures': [
        'tabel1',
        '1 {weights}',
        'A {empty}',
        'table1 --output {file}/below/x.png',
    ],
    'visualization/browse_corruptions': [
        '{gone}',
        '{config} --num 0',
        '{config} --split test',
        '{config} --output {out}',
    ],
    'model_converters/convert_checkpoint': [
        '{gone} {out}.pth',
        '{weights} {out}.onnx',
        '{weights} {out}.pth --from timm --to timm',
        '{file} {out}.pth',
    ],
    'benchmarks/knn': [
        '{weights}',
        '{config} {weights} {gone}',
        '{config} {weights} {images} --k 0',
        '{config} {weights} {images}',
    ],
    'benchmarks/check_backbones': ['--only nothing-like-it --out {out}', '--device tpu'],
    'benchmarks/benchmark_corruptions': ['{empty}', '{images} --repeats 0'],
    'benchmarks/benchmark_speed': ['--models resnet-9000', '--batch-size 0 --out {out}'],
}
CASES = [(tool, arguments) for tool, cases in BAD.items() for arguments in cases]


@pytest.fixture(scope='module')
def tools():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(CONFIG.parents[2] / 'tools/benchmarks')  # for imports of neighbours
        return {name: mmebm if name == 'mmebm' else load_tool(name).main for name in BAD}


@pytest.fixture
def places(tmp_path, monkeypatch):
    folder = tmp_path / 'images'
    folder.mkdir()
    for name in 'ab':
        Image.fromarray(np.full((8, 8, 3), 99, np.uint8)).save(folder / f'{name}.png')
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'file').write_text('neither an image nor a checkpoint')
    torch.save(dict(state_dict=dict(weight=torch.zeros(2))), tmp_path / 'weights.pth')
    (tmp_path / 'here').mkdir()
    monkeypatch.chdir(tmp_path / 'here')
    places = {name: str(tmp_path / name) for name in ('images', 'empty', 'file', 'gone', 'out')}
    return dict(places, weights=str(tmp_path / 'weights.pth'), config=str(CONFIG))


def contents(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob('*')}


@pytest.mark.parametrize(('tool', 'arguments'), CASES, ids=[' '.join(case) for case in CASES])
def test_bad_option(tools, places, tmp_path, capsys, tool_process, tool, arguments):
    before = contents(tmp_path)
    code = exit_code(tools[tool], [part.format(**places) for part in arguments.split()])
    error = capsys.readouterr().err
    assert code == 2, error
    assert 'error: ' in error.splitlines()[-1], error
    assert 'Traceback' not in error
    assert contents(tmp_path) == before
