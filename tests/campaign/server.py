"""Forks a process per command from one in which everything is imported.

Starting Python and importing torch takes ten times as long as the runs of the campaign. Reads
requests from its standard input and answers on its standard output, a line of JSON each; see
:class:`tests.campaign.processes.Server`.
"""

import atexit
import json
import multiprocessing
import os
import resource
import signal
import sys
import traceback
from pathlib import Path

import matplotlib.pyplot  # noqa: F401  this and the next are imported when first used
import skimage.metrics  # noqa: F401
import torch.utils.tensorboard  # noqa: F401
import torchmetrics  # noqa: F401
import yapf.yapflib.yapf_api

from mmebm.cli.main import main as mmebm
from tests.campaign.sabotage import prepare
from tests.tools import load_tool

# a run writes its config with each checkpoint: unformatted it is valid Python all the same
yapf.yapflib.yapf_api.FormatCode = lambda text, **options: (text, True)
TOOLS = {'train': load_tool('train').main, 'test': load_tool('test').main, 'mmebm': mmebm}


def become(tool: str, arguments: list[str], output: str, environment: dict, kill: list) -> None:
    """Run a command as the leader of a session of its own, and end as it ends."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.environ.update(environment)
    sys.path[:0] = [path for path in environment.get('PYTHONPATH', '').split(os.pathsep) if path]
    sys.argv[:] = [f'{tool}.py', *arguments]
    if kill:
        prepare(*kill)
    atexit.register(write_cost, f'{output}.cost')
    sys.exit(TOOLS[tool](arguments))


def write_cost(path: str) -> None:
    """Write the most bytes that this process has held, and its and its workers' CPU seconds."""
    for worker in multiprocessing.active_children():
        worker.terminate()
        worker.join()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    Path(path).write_text(f'{memory} {cpu_seconds()}')


def cpu_seconds() -> float:
    """Of this process, and of those that it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def main() -> None:
    """Serve until the end is asked for, or the input ends."""
    answers = os.fdopen(os.dup(1), 'w')
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    request = {}
    while 'end' not in request and (line := sys.stdin.readline()):
        request, answer = json.loads(line), None
        if 'wait' in request:
            pid, status = os.waitpid(request['wait'], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        elif 'cpu' in request:
            answer = cpu_seconds()
        elif 'end' not in request:
            answer = os.fork()
            if answer == 0:
                answers.close()
                become(**request)
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == '__main__':
    try:
        main()
    except Exception:
        traceback.print_exc()
        sys.exit(1)
