from pathlib import Path

import pytest

from mmebm.engine.hooks import UnreadableImagesHook
from mmebm.utils import UserError

from .conftest import Nothing


def spoil(folder, *numbers):
    for number in numbers:
        (folder / f'{number}.png').write_bytes(b'no image')
    return [str(folder / f'{number}.png') for number in numbers]


def test_readable_set_is_reported_and_leaves_no_file(make_runner, log_of):
    runner = make_runner([UnreadableImagesHook()])
    runner.train()
    for iteration in (2, 4):
        report = f'INFO - Unreadable until iteration {iteration}: 0 of 8 training images (0.00%)'
        assert report in log_of(runner)
    assert not (Path(runner.work_dir) / 'unreadable_images.txt').exists()


@pytest.mark.slow
@pytest.mark.parametrize('workers', [0, 2])
def test_paths_and_share_are_reported_each_epoch(make_runner, folder, log_of, workers):
    paths = spoil(folder, 5, 2)
    loader = dict(num_workers=workers, persistent_workers=workers > 0)
    runner = make_runner([UnreadableImagesHook(max_share=0.25)], val=True, loader=loader)
    runner.train()
    file = Path(runner.work_dir) / 'unreadable_images.txt'
    assert file.read_text().splitlines() == sorted(paths)
    log = log_of(runner)
    for iteration in (2, 4):
        for name in ('training', 'validation'):
            report = f'Unreadable until iteration {iteration}: 2 of 8 {name} images (25.00%)'
            level = 'WARNING' if iteration == 2 else 'INFO'  # a warning where they are new
            assert f'{level} - {report}' in log
    assert str(file) in log


def test_a_test_needs_no_training_data(make_runner, folder, log_of, image_folder):
    """tools/test.py on a disk that holds the test images only."""
    spoil(folder, 5)
    loader = dict(batch_size=4, num_workers=0, sampler=dict(type='DefaultSampler'))
    runner = make_runner(
        [UnreadableImagesHook()],
        dataset=dict(type='ImageFolder', data_root=str(folder / 'gone')),
        test_dataloader=dict(dataset=image_folder(), **loader),
        test_cfg=dict(),
        test_evaluator=[Nothing()],
    )
    runner.test()
    assert 'Unreadable: 1 of 8 test images (12.50%)' in log_of(runner)
    assert '1 × no image of a known format' in log_of(runner)


def test_too_many_stop_the_run_after_the_checkpoint(make_runner, folder):
    spoil(folder, 1, 2, 6)
    runner = make_runner([UnreadableImagesHook(max_share=0.3)])
    with pytest.raises(UserError) as error:
        runner.train()
    work_dir = Path(runner.work_dir)
    assert '3 of 8 training images (37.50%)' in str(error.value)
    assert 'max_share=30.00%' in str(error.value)
    assert str(work_dir / 'unreadable_images.txt') in str(error.value)
    assert (work_dir / 'epoch_1.pth').exists()
    assert not (work_dir / 'epoch_2.pth').exists()
