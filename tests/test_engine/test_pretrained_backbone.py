"""The hook on runs of a tiny classifier: what a run starts from, and when it refuses to start.

Resuming and work dirs: tests/test_tools/test_pretrained_start.py.
"""

import pytest
import torch
from safetensors.torch import save_file

from mmebm.engine.hooks import PretrainedBackboneHook
from mmebm.engine.hooks.pretrained_backbone import backbone_fingerprint
from tests.pretrained import ARCH, CLASSIFIER, save_pretrained
from tests.test_configs.common import StartHook
from tests.tools import write_noise


@pytest.fixture
def train(make_runner, tmp_path):
    write_noise(tmp_path / 'classes', dict(a=(0, 256), b=(0, 256)), 4)

    def run(checkpoint, **options):
        start = StartHook()
        runner = make_runner(
            [PretrainedBackboneHook(checkpoint), start],
            model=CLASSIFIER,
            dataset=dict(
                type='ImageFolder',
                data_root=str(tmp_path / 'classes'),
                with_label=True,
                pipeline=[dict(type='LoadImageFromFile'), dict(type='PackInputs')],
            ),
            train_cfg=dict(by_epoch=True, max_epochs=1),
            **options,
        )
        try:
            runner.train()
        finally:
            run.start = start
        return runner

    return run


@pytest.mark.parametrize('file', ['a.pth', 'a.safetensors'])
def test_training_starts_from_the_checkpoint_and_says_so(train, tmp_path, log_of, file):
    pretrained = save_pretrained('energy', tmp_path / 'a.pth')
    save_file(pretrained, tmp_path / 'a.safetensors')
    runner = train(str(tmp_path / file))
    assert all(torch.equal(train.start.state[f'backbone.{k}'], v) for k, v in pretrained.items())
    name = 'layers.0.attn.qkv.weight'  # and goes on from there
    assert not torch.equal(runner.model.backbone.state_dict()[name], pretrained[name])
    assert f'{file}: filled 30 of 30 tensors (100.0 %)' in log_of(runner)


@pytest.mark.parametrize('checkpoint', [None, '', 'none', 'other.pth', 'load_from'])
def test_what_it_does_not_start_from(train, tmp_path, checkpoint):
    options, match = {}, 'PRETRAINED=FILE'
    if checkpoint == 'other.pth':
        checkpoint = str(tmp_path / checkpoint)
        save_pretrained('energy', tmp_path / 'other.pth', arch=dict(ARCH, num_layers=1))
        match = r'filled 18 of 30 .*layers\.1\.ln1\.weight'
    elif checkpoint == 'load_from':
        save_pretrained('energy', tmp_path / 'a.pth')
        options, match = dict(load_from=str(tmp_path / 'a.pth')), 'load_from is set'
    with pytest.raises(ValueError, match=match):
        train(checkpoint, **options)
    assert train.start.state is None


def test_the_fingerprint_is_of_names_types_shapes_and_values(tmp_path):
    def of(state):
        torch.save(state, tmp_path / 'a.pth')
        return backbone_fingerprint(str(tmp_path / 'a.pth'))

    x = torch.arange(6.0)
    states = [
        dict(x=x),
        dict(y=x),
        dict(x=x.view(2, 3)),
        dict(x=x.view(torch.int32)),
        dict(x=x + torch.eye(6)[5]),
        dict(x=x, y=x),
        dict(x=x.bfloat16(), y=torch.tensor(True), z=torch.zeros(0)),
    ]
    assert len({of(state) for state in states}) == len(states)
    # the same, whatever else is in the file
    weights = {'backbone.y': x, 'backbone.x': x, 'head.weight': x}
    assert of(dict(x=x, y=x)) == of(dict(meta=dict(epoch=3), state_dict=weights))
    assert of(dict(x=x.view(2, 3).T)) == of(dict(x=x.view(2, 3).T.contiguous()))  # strided
