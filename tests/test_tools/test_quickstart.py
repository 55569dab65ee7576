"""The quickstart, shortened, on a folder with a broken file."""

import numpy as np
import pytest
from PIL import Image

from tests.tools import load_tool, write_images


@pytest.mark.slow
def test_quickstart_draws_and_measures_every_task(tmp_path, capsys, tool_process):
    folder, work_dir = tmp_path / 'my photos', tmp_path / 'work'
    write_images(folder, 7, side=60)
    write_images(folder / 'nested', 7, side=90, seed=1)
    (folder / 'broken.jpg').write_text('not an image')
    argv = ['--data', str(folder), '--work-dir', str(work_dir)]
    load_tool('quickstart').main([*argv, '--iterations', '8'])
    assert np.asarray(Image.open(work_dir / 'restored.png')).std() > 10
    printed = capsys.readouterr().out
    for task in ('GriddedMask', 'SuperResolution', 'GaussianNoise'):
        (row,) = (line for line in printed.splitlines() if line.strip().startswith(task))
        assert all(0 < float(figure) < 60 for figure in row.split()[1:])
    assert (work_dir / 'run/backbone.pth').is_file()
    with pytest.raises(ValueError, match='holds another run: choose a new --work-dir'):
        load_tool('quickstart').main([*argv, '--iterations', '40'])


def test_sample_photographs_are_cut_into_squares(tmp_path):
    folder = load_tool('quickstart').write_photographs(tmp_path)
    sizes = {Image.open(path).size for path in folder.iterdir()}
    assert sizes == {(96, 96)}
    assert len(list(folder.iterdir())) > 150
