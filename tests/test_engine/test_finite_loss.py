from pathlib import Path

import pytest
import torch
from mmpretrain.structures import DataSample

from mmebm.engine import FiniteLossHook
from mmebm.engine.hooks.finite_loss import _blame, _fetched

from .conftest import ToyModel

NAN, INF = float('nan'), float('inf')


class Diverging(ToyModel):
    """Returns the given losses (and, on request, a NaN gradient) from iteration 4 on."""

    def __init__(self, nan_gradient=False, **figures):
        super().__init__()
        self.iteration = 0
        self.figures = figures
        self.nan_gradient = nan_gradient

    def forward(self, noise, features, mode='tensor', **_):
        losses = super().forward(noise, features, mode)
        losses |= dict(distance_step1=torch.tensor(0.5), step_size=torch.tensor(300.0))
        self.iteration += 1
        if self.iteration >= 4:
            losses |= {name: value + 0 * losses['loss'] for name, value in self.figures.items()}
            if self.nan_gradient:
                weight = self.linear.weight
                weight.register_hook(lambda gradient: gradient * NAN)
        return losses


def checkpoints(runner):
    return sorted(path.name for path in Path(runner.work_dir).glob('*.pth'))


@pytest.mark.parametrize(
    ('figures', 'where'),
    [
        (dict(loss=NAN), 'distances of all descent steps are finite'),
        (dict(loss=INF, distance_step1=INF, distance_step2=NAN), 'Descent step 1 is where'),
        (dict(loss=NAN, distance_step10=NAN, distance_step9=NAN), 'Descent step 9 is where'),
        (dict(loss=NAN, distance_step0=NAN, distance_step1=NAN), 'corrupted input itself'),
        (dict(energy_step0=NAN), 'distances of all descent steps are finite'),
    ],
)
def test_run_stops_at_the_iteration_and_saves_nothing_of_it(make_runner, figures, where):
    # By iterations, so that the checkpoint is due at the iteration that fails.
    runner = make_runner(
        [FiniteLossHook()],
        model=Diverging(**figures),
        train_cfg=dict(by_epoch=False, max_iters=6),
        default_hooks=dict(
            checkpoint=dict(type='CheckpointHook', interval=1, by_epoch=False, max_keep_ckpts=1)
        ),
        loader=dict(sampler=dict(type='InfiniteSampler')),
    )
    with pytest.raises(FloatingPointError) as error:
        runner.train()
    message = str(error.value)
    assert message.startswith('Not finite at iteration 4 (epoch 1): ')
    assert where in message
    assert 'step_size=300.0' in message
    assert all(f'{name}={value}' in message for name, value in figures.items())
    assert 'lower learning rate' in message
    assert 'bf16' in message
    assert checkpoints(runner) == ['iter_3.pth']


def test_epoch_that_diverges_leaves_the_checkpoint_before_it(make_runner):
    runner = make_runner([FiniteLossHook()], model=Diverging(loss=NAN))
    with pytest.raises(FloatingPointError, match=r'iteration 4 \(epoch 2\)'):
        runner.train()
    assert checkpoints(runner) == ['epoch_1.pth']


@pytest.mark.parametrize('by_epoch', [True, False])
def test_weights_spoilt_under_a_finite_loss_are_not_saved(make_runner, by_epoch):
    options = {}
    if not by_epoch:
        options = dict(
            train_cfg=dict(by_epoch=False, max_iters=6),
            loader=dict(sampler=dict(type='InfiniteSampler')),
        )
    checkpoint = dict(
        type='CheckpointHook', interval=1 if by_epoch else 2, by_epoch=by_epoch, max_keep_ckpts=1
    )
    runner = make_runner(
        [FiniteLossHook()],
        model=Diverging(nan_gradient=True),
        default_hooks=dict(checkpoint=checkpoint),
        **options,
    )
    with pytest.raises(FloatingPointError) as error:
        runner.train()
    assert 'after iteration 4' in str(error.value)
    assert 'linear.weight' in str(error.value)
    assert checkpoints(runner) == ['epoch_1.pth' if by_epoch else 'iter_2.pth']


def test_model_without_distances_and_step_size(make_runner):
    class Other(Diverging):
        def forward(self, *args, **kwargs):
            return dict(loss=super().forward(*args, **kwargs)['loss'])

    runner = make_runner([FiniteLossHook()], model=Other(loss=INF))
    with pytest.raises(FloatingPointError, match='no distance per descent step; step_size=not'):
        runner.train()


def test_finite_run_goes_through(make_runner):
    runner = make_runner([FiniteLossHook()], model=Diverging(distance_step2=1e30))
    runner.train()
    assert checkpoints(runner) == ['epoch_1.pth', 'epoch_2.pth']


class TestBlame:
    """Which images a batch is stopped for."""

    def of(self, inputs, *paths):
        samples = [DataSample(metainfo=dict(img_path=path) if path else {}) for path in paths]
        return _blame(dict(inputs=inputs, data_samples=samples))

    @pytest.fixture
    def views(self):
        return [torch.zeros(4, 3, 2, 2), torch.zeros(4, 3, 2, 2)]

    def test_the_images_that_are_not_finite(self, views):
        views[0][1, 0, 0, 0] = NAN
        views[1][3, 2, 1, 1] = INF
        assert self.of(views, *'abcd') == 'Not finite as they come from the data: b, d. '
        assert self.of(views[1], *'abcd') == 'Not finite as they come from the data: d. '
        assert self.of(list(views[1]), *'abcd') == 'Not finite as they come from the data: d. '

    def test_a_batch_of_three_images_of_three_channels(self, views):
        views[1][2] = NAN
        images = list(views[1][:3])
        assert self.of(images, *'abc') == 'Not finite as they come from the data: c. '

    def test_the_batch_if_all_are_finite(self, views):
        assert self.of(views, *'abcd') == 'The batch: a, b, c, .... '
        assert self.of(views, 'a', 'b', None, None) == 'The batch: a, b, None, .... '

    def test_a_batch_without_names(self, views):
        assert self.of(views, None, None, None, None) == ''
        assert _blame(dict(noise=views[0])) == ''
        assert _blame(views) == ''
        assert _blame(None) == ''


def test_figures_are_fetched_at_once(monkeypatch):
    """Each wait for a GPU is time in which it gets nothing to do."""
    waits, tolist = [], torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, 'tolist', lambda x: waits.append(x) or tolist(x))
    monkeypatch.setattr(torch.Tensor, 'item', lambda x: pytest.fail('one at a time'))
    found = dict(
        loss=torch.tensor(0.5, requires_grad=True),
        distance=torch.tensor([1e300], dtype=torch.float64),
    )
    assert _fetched(found | dict(lr=2.0)) == dict(loss=0.5, distance=1e300, lr=2.0)
    assert len(waits) == 1
    assert _fetched(dict(lr=2.0)) == dict(lr=2.0)
