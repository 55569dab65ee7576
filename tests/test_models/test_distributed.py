"""Two processes with half the batch each end with the weights of one with all of it."""

import os

import pytest
import torch
import torch.multiprocessing as mp
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper

from tests.backbones import build_algorithm

STEPS, BATCH = 3, 8


def batches():
    generator = torch.Generator().manual_seed(3)
    for _ in range(STEPS):
        yield [torch.randint(0, 256, (BATCH, 3, 32, 32), generator=generator) for _ in range(2)]


def train(rank: int, world_size: int, accumulate: int, num_steps: int, path: str) -> None:
    torch.set_num_threads(1)
    model = build_algorithm(num_steps=num_steps, step_size=20.0)
    if world_size > 1:
        os.environ.update(
            RANK=str(rank), WORLD_SIZE=str(world_size), LOCAL_RANK=str(rank),
            MASTER_ADDR='127.0.0.1', MASTER_PORT=os.environ['TEST_PORT'],
        )  # fmt: skip
        torch.distributed.init_process_group('gloo')
        model = MMDistributedDataParallel(model)
    # eps: the bias of the keys has no influence (softmax), and Adam must not blow its rounding
    # errors up to steps of lr.
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05, eps=1e-5)
    wrapper = OptimWrapper(optimizer, accumulative_counts=accumulate)
    wrapper.initialize_count_status(model, 0, STEPS * accumulate)
    for batch in batches():
        for part in range(accumulate):
            share = BATCH // accumulate // world_size
            start = (part * world_size + rank) * share
            inputs = [x[start : start + share] for x in batch]
            model.train_step(dict(inputs=inputs, data_samples=None), wrapper)
    if rank == 0:
        module = model.module if world_size > 1 else model
        torch.save(module.state_dict(), path)
    if world_size > 1:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize(('accumulate', 'num_steps'), [(1, 2), (2, 2), (1, 0)])
def test_two_processes_equal_one(tmp_path, monkeypatch, accumulate, num_steps):
    port = torch.distributed.TCPStore('127.0.0.1', 0, is_master=True, wait_for_workers=False).port
    monkeypatch.setenv('TEST_PORT', str(port))
    paths = [str(tmp_path / f'{n}.pth') for n in (1, 2)]
    train(0, 1, accumulate, num_steps, paths[0])
    mp.spawn(train, (2, accumulate, num_steps, paths[1]), nprocs=2)
    one, two = (torch.load(path, weights_only=True) for path in paths)
    start = build_algorithm(num_steps=num_steps, step_size=20.0).state_dict()
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, rtol=0, atol=1e-5, msg=lambda m, k=key: k + m)
    moved = [key for key in start if not torch.equal(start[key], one[key])]
    assert len(moved) > len(start) / 2
