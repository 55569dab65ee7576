"""Every config is in a metafile, MMPretrain's hub finds it, and the package contains it."""

import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from mmpretrain import FeatureExtractor, get_model, list_models
from mmpretrain.apis import ModelHub

from mmebm.utils.shipped_files import shipped
from tests.processes import LIMIT

ROOT = Path(__file__).parent.parent
QUICKSTART = 'energy-mixed_plain-convnet-small_1xb16-amp-coslr-20e_photos'
CONFIGS = sorted(
    path.relative_to(ROOT).as_posix()
    for path in ROOT.glob('configs/**/*.py')
    if '_base_' not in path.parts
)


def entries():
    index = yaml.safe_load((ROOT / 'model-index.yml').read_text())
    for file in index['Import']:
        content = yaml.safe_load((ROOT / file).read_text())
        (collection,) = content['Collections']
        for entry in content['Models']:
            assert entry['In Collection'] == collection['Name']
            yield entry


def test_every_config_is_in_one_metafile():
    assert sorted(entry['Config'] for entry in entries()) == CONFIGS


def test_the_metafiles_are_up_to_date():
    tool = runpy.run_path(str(ROOT / 'tools/misc/update_metafiles.py'))
    for path, text in tool['updated_files']().items():
        assert path.read_text() == text, 'run python tools/misc/update_metafiles.py'


def test_the_hub_has_every_config():
    found = set(list_models())  # fails if MMPretrain already has one of the names
    for entry in entries():
        if entry['Name'].startswith('upernet_'):  # which get_model could not build
            with pytest.raises(ValueError, match='Failed to find model'):
                get_model(entry['Name'])
            continue
        assert entry['Name'] in found
        config = ModelHub._models_dict[entry['Name']].config
        assert Path(config).samefile(ROOT / entry['Config'])


@pytest.mark.parametrize(
    ('name', 'kind'),
    [
        (QUICKSTART, 'EnergyRestorationAlgorithm'),
        ('finetune_convnext-micro-p2_1xb128-amp-coslr-40e_small32', 'ImageClassifier'),
    ],
)
def test_get_model(name, kind):
    model = get_model(name, head=dict(init_cfg=None))
    assert type(model).__name__ == kind
    assert model._metainfo.name == name


def test_mmpretrains_feature_extractor():
    image = np.zeros((40, 48, 3), np.uint8)
    given = dict(head=dict(init_cfg=None))
    name = 'finetune_convnext-micro-p2_1xb128-amp-coslr-40e_small32'
    (features,) = FeatureExtractor(name, **given)(image)
    assert features[-1].ndim == 1
    extractor = FeatureExtractor(QUICKSTART, **given)
    with pytest.raises(ValueError, match="`mmebm embed` in place of MMPretrain's FeatureExtractor"):
        extractor(image)


def test_the_package_carries_configs_tools_and_index(tmp_path, monkeypatch):
    """The contents of a wheel, laid out as OpenMIM and the hub expect."""
    command = [sys.executable, 'setup.py', '-q', 'egg_info', '-e', str(tmp_path)]
    command += ['build_py', '-d', str(tmp_path / 'lib')]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=LIMIT)
    package = tmp_path / 'lib/mmebm'
    assert (package / '.mim/tools/train.py').read_bytes() == (ROOT / 'tools/train.py').read_bytes()
    assert (package / '.mim/tools/test.py').is_file()
    assert (package / 'report/templates/page.html').is_file()
    assert not list(package.rglob('__pycache__'))

    monkeypatch.setattr('mmebm.utils.shipped_files.PACKAGE', package)
    index = shipped('model-index.yml')
    assert index == package / '.mim/model-index.yml'
    monkeypatch.setattr(ModelHub, '_models_dict', {})
    ModelHub.register_model_index(index, config_prefix=index.parent)
    paths = [Path(model.config) for model in ModelHub._models_dict.values()]
    assert sorted(path.relative_to(package / '.mim').as_posix() for path in paths) == CONFIGS
    assert all(path.is_file() for path in paths)
