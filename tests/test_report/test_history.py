"""What was logged, over all starts of a run."""

import json

from mmebm.report.history import read_history


def log(work_dir, time, *lines, rest=''):
    file = work_dir / time / 'vis_data/scalars.json'
    file.parent.mkdir(parents=True)
    file.write_text(''.join(json.dumps(line) + '\n' for line in lines) + rest)


def train(iteration, loss):
    return dict(loss=loss, epoch=1, iter=iteration, step=iteration)


def positions(history):
    return [(r.iteration, r.training, r.get('loss')) for r in history]


def test_what_a_start_repeats_replaces_what_was_logged_before(tmp_path):
    log(tmp_path, '20260101_000000', train(10, 1.0), train(20, 2.0), train(30, 3.0))
    log(tmp_path, '20260102_000000', train(20, 4.0), train(30, 5.0))
    log(tmp_path, '20260103_000000', train(40, 6.0))
    expected = [(10, True, 1.0), (20, True, 4.0), (30, True, 5.0), (40, True, 6.0)]
    assert positions(read_history(tmp_path, 10)) == expected
    assert positions(read_history(tmp_path, 10, resumed_at=30)) == expected
    assert positions(read_history(tmp_path, 10, resumed_at=20)) == [*expected[:2], expected[3]]
    assert positions(read_history(tmp_path, 10, resumed_at=0)) == [expected[3]]


def test_validation_stands_at_its_iteration(tmp_path):
    log(tmp_path, 'a', dict(step=0), train(7, 1.0), dict(step=1), dict(step=2, loss=2.0))
    found = positions(read_history(tmp_path, 8))
    assert found == [(0, False, None), (7, True, 1.0), (8, False, None), (16, False, 2.0)]
    # a loop of iterations: MMEngine's step is the iteration, or 0 (the epoch) where not asked
    log(tmp_path / 'b', 'a', train(7, 1.0), dict(step=8), train(14, 1.0), dict(step=0))
    assert [r.iteration for r in read_history(tmp_path / 'b', None)] == [7, 8, 14, 14]


def test_a_line_cut_short_by_a_kill_is_left_out(tmp_path):
    log(tmp_path, 'a', train(1, 1.0), rest='{"loss": 2.0, "it')
    log(tmp_path, 'b', train(2, float('nan')))
    found = read_history(tmp_path, None)
    assert [r.iteration for r in found] == [1, 2]
    assert found[1].get('loss') != found[1].get('loss')  # NaN, as MMEngine writes it
    assert read_history(tmp_path / 'none', None) == []
