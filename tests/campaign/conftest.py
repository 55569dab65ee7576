"""How often each row of the campaign runs, and the table at its end.

CAMPAIGN is the share of the full counts: 1 by ``make campaign``; unset, nothing here is collected.
"""

import os
from collections import defaultdict

import pytest

SHARE = float(os.environ.get('CAMPAIGN') or 0)
collect_ignore_glob = [] if SHARE else ['test_*.py']

_figures = defaultdict(list)


def count(full: int) -> int:
    """How often a row runs: its full count times CAMPAIGN, at least once."""
    return max(1, round(full * SHARE))


@pytest.fixture
def figure(request):
    """Note a figure of the running test for the table."""
    name = request.node.originalname
    return lambda text: _figures[name].append(text)


@pytest.fixture(scope='session')
def server():
    from .processes import Server

    with Server() as server:
        yield server


def pytest_terminal_summary(terminalreporter):
    for name, texts in _figures.items():
        passed = sum(
            report.nodeid.split('::')[1].split('[')[0] == name
            for report in terminalreporter.stats.get('passed', [])
        )
        terminalreporter.write_line(f'{name}: {passed} passed. {"; ".join(dict.fromkeys(texts))}')
