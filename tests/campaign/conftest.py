"""How often each row of the campaign runs, and the table at its end.

CAMPAIGN is the share of the full counts: 1 by ``make campaign``; unset, nothing here is collected.
CAMPAIGN_TABLE names the table that is written after every test.
"""

import os
import resource
import time
from collections import defaultdict
from pathlib import Path

import pytest

SHARE = float(os.environ.get('CAMPAIGN') or 0)
collect_ignore_glob = [] if SHARE else ['test_*.py']


def count(full: int) -> int:
    """How often a row runs: its full count times CAMPAIGN, at least once."""
    return max(1, round(full * SHARE))


class Table:
    """A row per test function: how many passed, and what they took, together with fixtures.

    The CPU seconds are those of this process and of all that have ended below it or below the
    server, except for workers that outlived a killed process. Other programs do not change them
    much, so that half of them is what the campaign takes on two free cores.
    """

    def __init__(self, path: str | None):
        self.path = path and Path(path)
        self.server = None
        self.passed, self.failed = defaultdict(int), defaultdict(int)
        self.wall, self.cpu = defaultdict(float), defaultdict(float)
        self.figures = defaultdict(list)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item):
        row, wall, cpu = item.originalname, time.monotonic(), self.used()
        try:
            return (yield)
        finally:
            self.wall[row] += time.monotonic() - wall
            self.cpu[row] += self.used() - cpu
            if self.path is not None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self.path.write_text('\n'.join(self.lines()) + '\n')

    def pytest_runtest_makereport(self, item, call):
        if call.when == 'call' and call.excinfo is None:
            self.passed[item.originalname] += 1
        elif call.excinfo is not None and not call.excinfo.errisinstance(pytest.skip.Exception):
            self.failed[item.originalname] += 1

    def pytest_terminal_summary(self, terminalreporter):
        for line in self.lines():
            terminalreporter.write_line(line)

    def used(self) -> float:
        """CPU seconds until now."""
        each = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        below = 0.0 if self.server is None else self.server.ask(cpu=True)
        return below + sum(one.ru_utime + one.ru_stime for one in each)

    def lines(self) -> list[str]:
        """The table, in Markdown."""
        lines = [
            f'Share of the full counts: {SHARE:g}',
            '',
            '| row | passed | failed | wall s | CPU s | figures |',
            '| --- | ---: | ---: | ---: | ---: | --- |',
        ]
        for row in self.wall:
            found = '; '.join(dict.fromkeys(self.figures[row]))
            numbers = f'{self.passed[row]} | {self.failed[row]} | {self.wall[row]:.0f}'
            lines.append(f'| {row} | {numbers} | {self.cpu[row]:.0f} | {found} |')
        passed, failed = (sum(each.values()) for each in (self.passed, self.failed))
        wall, cpu = (sum(each.values()) for each in (self.wall, self.cpu))
        lines.append(f'| all | {passed} | {failed} | {wall:.0f} | {cpu:.0f} | |')
        return lines


def pytest_configure(config):
    config.pluginmanager.register(Table(os.environ.get('CAMPAIGN_TABLE')), 'campaign')


@pytest.fixture
def figure(request):
    """Note a figure of the running test for the table."""
    figures = request.config.pluginmanager.getplugin('campaign').figures
    return figures[request.node.originalname].append


@pytest.fixture(scope='session')
def server(request):
    from .processes import Server

    table = request.config.pluginmanager.getplugin('campaign')
    with Server() as server:
        table.server = server
        yield server
        table.server = None
