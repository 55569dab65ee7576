"""Make runs of MMEngine inside the tests quick, and undo their side effects."""

import contextlib
import gc
import io
import signal
from pathlib import Path

import pytest


def pytest_configure(config):
    if config.getoption('numprocesses', None) and not hasattr(config, 'workerinput'):
        return  # this process only hands out tests: it needs none of what takes seconds to import
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in the background of a script
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # MMPretrain prints that an optional package of its own is missing. pytest would show that
    # line again below its summary, as the last one.
    with contextlib.redirect_stdout(io.StringIO()):
        import mmpretrain.datasets  # noqa: F401
    import yapf.yapflib.yapf_api

    # Each run writes its config five times, formatted by yapf: four fifths of the time of a short
    # one. Unformatted it is valid Python all the same.
    yapf.yapflib.yapf_api.FormatCode = lambda text, **options: (text, True)


def pytest_terminal_summary(terminalreporter):
    """Say when ``make test-official`` last came to its end; with -q there would be no header."""
    lines = Path(__file__).with_name('data').joinpath('official_stack.txt').read_text().split('\n')
    terminalreporter.write_line(f'make test-official: {lines[0]} ({", ".join(lines[1:-1])})')


def pytest_collection_modifyitems(items):
    """Run files with slow tests first, so that no worker idles while another finishes them."""
    slow = {item.path for item in items if item.get_closest_marker('slow')}
    items.sort(key=lambda item: item.path not in slow)


def pytest_collection_finish():
    """Each dataset collects garbage; the libraries' objects, which stay, need not be looked at."""
    gc.collect()
    gc.freeze()


def _drop_new_loggers():
    """Forget MMEngine's loggers that are made from here on.

    They write to the stdout of then, within capsys one that is closed, and to files of ended runs.
    """
    from mmengine.logging import MMLogger

    before = set(MMLogger._instance_dict)
    yield
    for name in set(MMLogger._instance_dict) - before:
        del MMLogger._instance_dict[name]


_loggers_end_with_their_file = pytest.fixture(scope='module', autouse=True)(_drop_new_loggers)
_loggers_end_with_their_test = pytest.fixture(autouse=True)(_drop_new_loggers)


@pytest.fixture
def tool_process(monkeypatch):
    """Run ``main`` of a training tool in this process, and undo its side effects."""
    from mmengine.runner import CheckpointLoader

    monkeypatch.setenv('LOCAL_RANK', '0')
    monkeypatch.setattr(CheckpointLoader, '_schemes', CheckpointLoader._schemes.copy())
