"""``report.html`` of real runs: every method, resumed, and without a trace in the training."""

import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mmebm import ReportHook, UnreadableImagesHook
from mmebm.models.features import pooled_features
from mmebm.report.history import read_history
from mmebm.report.verdict import contrast

from .conftest import MODEL

CORRUPTIONS = [
    dict(type='GriddedMask', patch_size=4, ratio=0.5),
    dict(type='GaussianNoise', gamma_range=(0.3, 0.7)),
]
PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(type='MixedCorruption', corruptions=CORRUPTIONS, seed=0),
    dict(type='PackInputs', meta_keys=('sample_idx', 'img_path', 'corruption')),
]


@pytest.fixture
def run(make_runner, image_folder, folder):
    """Train on eight images; the runner."""
    (folder / '0.png').rename(folder / '<script>&.png')

    def train(hooks=None, epochs=2, val=True, **options):
        dataset = image_folder() | dict(pipeline=PIPELINE, test_mode=True)
        loader = dict(collate_fn=dict(type='default_collate'), batch_size=4, num_workers=0)
        if val:
            sampler = dict(type='DefaultSampler', shuffle=False)
            options |= dict(
                val_dataloader=dict(dataset=dataset, sampler=sampler, **loader),
                val_cfg=dict(),
                val_evaluator=[dict(type='RestorationMetric'), dict(type='EnergyMetric')],
            )
        runner = make_runner(
            [ReportHook()] if hooks is None else hooks,
            model=MODEL,
            dataset=dataset,
            loader=loader,
            default_hooks=dict(
                logger=dict(type='LoggerHook', interval=1),
                checkpoint=dict(type='CheckpointHook', interval=1),
            ),
            train_cfg=dict(by_epoch=True, max_epochs=epochs),
            **options,
        )
        runner.train()
        return runner

    return train


def page_of(runner):
    return Path(runner.work_dir, 'report.html').read_text()


def test_page_of_a_run(run):
    runner = run(cfg=Config(dict(any_setting=12345)))
    page = page_of(runner)
    assert 'Finished: 4 of 4 iterations' in page
    assert {'Training loss', 'PSNR gain', 'Step size α'} <= set(
        re.findall('<h3>([^<]*?)(?: <|<)', page)
    )
    assert page.count('<img') == 8  # chains
    assert '<script' not in page
    assert '&lt;script&gt;&amp;.png' in page
    assert '<pre>any_setting' in page
    said = runner.message_hub.get_info('verdict').splitlines()
    assert all(f'>{sentence}<' in page for sentence in said)
    assert re.search(r'features: \d\.\d\d, at the start \d\.\d\d', said[2])
    assert 'Held-out images: 8, too few' in said[-1]


@pytest.mark.slow
def test_a_resumed_run_continues_curves_and_cost(run):
    first = run(epochs=1)
    Path(first.log_dir).rename(Path(first.work_dir, '20200101_000000'))  # not the same second
    resumed = run(epochs=3, resume=True)
    history = read_history(resumed.work_dir, 2, resumed_at=2)
    assert [r.iteration for r in history if r.training] == [1, 2, 3, 4, 5, 6]
    meta = torch.load(Path(first.work_dir, 'epoch_1.pth'), weights_only=False)['meta']
    later = torch.load(Path(first.work_dir, 'epoch_3.pth'), weights_only=False)['meta']
    assert later['report_seconds'] > meta['report_seconds'] > 0


@pytest.mark.slow
def test_training_is_the_same_with_and_without(run):
    weights = [
        run(hooks=hooks, work_dir=name).model.state_dict()
        for hooks, name in (([], 'a'), ([ReportHook()], 'b'))
    ]
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name]), name


def test_unreadable_files_are_listed(run, folder):
    (folder / '3.png').write_text('no image')
    hooks = [UnreadableImagesHook(max_share=1.0), ReportHook(0)]
    page = page_of(run(epochs=1, hooks=hooks))
    assert '1 could not be read' in page
    assert str(folder / '3.png') in page


def test_a_page_that_cannot_be_written_ends_no_run(run, tmp_path, log_of):
    (tmp_path / 'full/report.html').mkdir(parents=True)
    runner = run(epochs=1, val=False, work_dir=str(tmp_path / 'full'))
    assert runner.iter == 2
    assert 'report.html could not be written' in log_of(runner)
    page = page_of(run(epochs=1, val=False, work_dir='other'))
    assert 'Training loss' in page
    assert '<img' not in page


def test_contrast_is_that_of_the_clean_held_out_images(run):
    runner = run(epochs=1)
    model, samples = runner.model.eval(), list(runner.val_dataloader.dataset)
    clean = torch.stack([sample['inputs'][1] for sample in samples])
    with torch.no_grad():
        batch = dict(inputs=[clean, clean], data_samples=[s['data_samples'] for s in samples])
        inputs = model.data_preprocessor(batch, False)['inputs'][1]
        expected = contrast(pooled_features(model, inputs))
    assert f'features: {expected:.2f},' in runner.message_hub.get_info('verdict')
