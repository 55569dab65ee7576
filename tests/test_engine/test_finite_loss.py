from pathlib import Path

import pytest
import torch

from mmebm.engine.hooks import FiniteLossHook

from .conftest import ToyModel

NAN, INF = float('nan'), float('inf')
BY_ITERATION = dict(
    train_cfg=dict(by_epoch=False, max_iters=6), loader=dict(sampler=dict(type='InfiniteSampler'))
)


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
                self.linear.weight.register_hook(lambda gradient: gradient * NAN)
        return losses


def checkpoints(runner):
    return sorted(path.name for path in Path(runner.work_dir).glob('*.pth'))


@pytest.mark.parametrize(
    'figures', [dict(loss=NAN), dict(loss=INF, distance_step1=NAN), dict(energy_step0=NAN)]
)
def test_run_stops_at_the_iteration_and_saves_nothing_of_it(make_runner, figures):
    checkpoint = dict(type='CheckpointHook', interval=1, by_epoch=False, max_keep_ckpts=1)
    runner = make_runner(
        [FiniteLossHook()],
        model=Diverging(**figures),
        default_hooks=dict(checkpoint=checkpoint),
        **BY_ITERATION,
    )
    with pytest.raises(FloatingPointError, match='iteration 4 ') as error:
        runner.train()
    assert 'step_size=300.0' in str(error.value)
    assert all(f'{name}={value}' in str(error.value) for name, value in figures.items())
    assert checkpoints(runner) == ['iter_3.pth']


@pytest.mark.parametrize('by_epoch', [True, False])
def test_weights_spoilt_under_a_finite_loss_are_not_saved(make_runner, by_epoch):
    checkpoint = dict(
        type='CheckpointHook', interval=1 if by_epoch else 2, by_epoch=by_epoch, max_keep_ckpts=1
    )
    runner = make_runner(
        [FiniteLossHook()],
        model=Diverging(nan_gradient=True),
        default_hooks=dict(checkpoint=checkpoint),
        **({} if by_epoch else BY_ITERATION),
    )
    with pytest.raises(FloatingPointError, match=r'after iteration 4 .*linear\.weight'):
        runner.train()
    assert checkpoints(runner) == ['epoch_1.pth' if by_epoch else 'iter_2.pth']


def test_finite_run_goes_through(make_runner):
    runner = make_runner([FiniteLossHook()], model=Diverging(distance_step2=1e30))
    runner.train()
    assert checkpoints(runner) == ['epoch_1.pth', 'epoch_2.pth']
