from multiprocessing import active_children

import numpy as np
import pytest
import torch
from mmengine.dataset import BaseDataset, RepeatDataset

from mmebm.engine.hooks import ReproducibleEpochsHook

PERSISTENT = dict(num_workers=1, persistent_workers=True)


def trained(make_runner, hooks, max_epochs, **options):
    runner = make_runner(hooks, train_cfg=dict(by_epoch=True, max_epochs=max_epochs), **options)
    others = active_children()
    runner.train()
    assert set(active_children()) <= set(others)  # its workers have ended
    return runner


@pytest.mark.slow
@pytest.mark.parametrize('loader', [dict(num_workers=0), PERSISTENT])
def test_resumed_run_ends_bit_for_bit_as_the_uninterrupted_one(make_runner, loader):
    def uninterrupted_and_resumed(hooks):
        whole = trained(make_runner, hooks(), 3, work_dir='whole', loader=loader)
        trained(make_runner, hooks(), 1, work_dir='parts', loader=loader)
        resumed = trained(
            make_runner, hooks(), 3, work_dir='parts', loader=loader, resume=True, load_from=None
        )
        assert len(resumed.model.seen) == 16  # it did resume, at the second epoch
        return whole.model, resumed.model

    whole, resumed = uninterrupted_and_resumed(lambda: [ReproducibleEpochsHook()])
    assert resumed.seen == whole.seen[8:]
    assert len(set(whole.seen)) == 24
    assert torch.equal(resumed.linear.weight, whole.linear.weight)

    whole, resumed = uninterrupted_and_resumed(list)
    assert resumed.seen != whole.seen[8:]
    assert not torch.equal(resumed.linear.weight, whole.linear.weight)


def test_validation_shows_the_same_every_time(make_runner):
    runner = make_runner([ReproducibleEpochsHook()], val=True)
    runner.train()
    train_1, val_1, train_2, val_2 = np.split(np.array(runner.model.seen), 4)
    assert (val_1 == val_2).all()
    assert (train_1 != train_2).all()


class Unaware(BaseDataset):
    def load_data_list(self):
        return [dict(noise=torch.tensor(0.0), features=torch.zeros(3))] * 8


@pytest.mark.parametrize(
    ('dataset', 'train_cfg', 'reason'),
    [
        (lambda _: Unaware(), {}, r'Unaware has no set_epoch'),
        (lambda build: RepeatDataset(build(), 2), {}, 'more than once in an epoch'),
        (lambda build: build(), dict(by_epoch=False, max_iters=3), 'counts iterations'),
    ],
)
def test_what_cannot_be_reproduced_is_logged_once(
    make_runner, image_folder, log_of, dataset, train_cfg, reason
):
    options = dict(train_cfg=train_cfg) if train_cfg else {}
    runner = make_runner([ReproducibleEpochsHook()], dataset=dataset(image_folder), **options)
    runner.train()
    log = log_of(runner)
    assert log.count('Exact resuming is not available') == 1
    assert reason in log
    draws = [draw for draw in runner.model.seen if draw]
    assert len(set(draws)) == len(draws)  # repetitions of an image differ
