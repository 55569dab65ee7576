"""Start commands, look at the processes they make, and end them."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
LIMIT = 30  # seconds within which everything has to be over
PATIENCE = 300  # seconds for a run that nothing disturbs


class Server:
    """The client of server.py."""

    def __enter__(self) -> 'Server':
        command = [sys.executable, '-m', 'tests.campaign.server']
        environment = dict(os.environ, PYTHONPATH=str(ROOT), OMP_NUM_THREADS='1')
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        # Closing its input is not enough: what this process has forked since holds it open.
        self.ask(end=True)
        self.process.wait()

    def ask(self, **request: object) -> float | None:
        self.process.stdin.write(json.dumps(request) + '\n')
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def start(self, tool, arguments, output, environment=None, kill=()) -> 'Command':
        """``tools/train.py ARGUMENTS`` and the like; ``output`` gets what it prints.

        Args:
            tool: 'train', 'test' or 'mmebm'.
            arguments: of the command line.
            output: a file, appended to.
            environment: variables on top of this process's.
            kill: a moment of sabotage.py and its number.
        """
        arguments = [str(argument) for argument in arguments]
        Path(output).touch()
        pid = self.ask(
            tool=tool,
            arguments=arguments,
            output=str(output),
            environment=environment or {},
            kill=list(kill),
        )
        return Command(self, pid, Path(output))


class Command:
    """A started command."""

    def __init__(self, server: Server, pid: int, output: Path):
        self.server, self.pid, self.output = server, pid, output

    def wait(self, seconds: float = PATIENCE) -> int:
        """Its exit code, negative for a signal.

        Raises:
            TimeoutError: it takes longer.
        """
        end = time.monotonic() + seconds
        while (code := self.server.ask(wait=self.pid)) is None:
            if time.monotonic() > end:
                raise TimeoutError(f'still running after {seconds} s:\n{self.text()}')
            time.sleep(0.02)
        return code

    def text(self) -> str:
        return self.output.read_text()

    def cost(self) -> tuple[int, float]:
        """Of an ended command: the most bytes it held, and CPU seconds, its workers' included."""
        memory, seconds = Path(f'{self.output}.cost').read_text().split()
        return int(memory), float(seconds)

    def wait_for(self, text: str) -> None:
        """Wait until it has printed a text."""
        end = time.monotonic() + PATIENCE
        while text not in self.text():
            if time.monotonic() > end:
                raise TimeoutError(f'has not printed {text!r}:\n{self.text()}')
            time.sleep(0.02)

    def signal(self, number: int, group: bool = False) -> None:
        (os.killpg if group else os.kill)(self.pid, number)


def table() -> dict[int, tuple[int, int, str]]:
    """Process → parent, session and start, of those that run."""
    found = {}
    for folder in Path('/proc').iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / 'stat').read_text().rpartition(')')[2].split()
            except OSError:  # it has ended
                continue
            if fields[0] not in 'ZX':
                found[int(folder.name)] = int(fields[1]), int(fields[3]), fields[19]
    return found


def descendants(pid: int) -> dict[int, str]:
    """The process and all that it started, with their starts, which tell them from later ones."""
    running, found = table(), {}
    todo = [pid]
    while todo:
        parent = todo.pop()
        if parent in running and parent not in found:
            found[parent] = running[parent][2]
            todo += [child for child, entry in running.items() if entry[0] == parent]
    return found


def seconds_until_gone(processes: dict[int, str], limit: float = LIMIT) -> float:
    """Wait until none of them runs.

    Raises:
        TimeoutError: one does after ``limit`` seconds.
    """
    start = time.monotonic()
    while True:
        running = table()
        left = [p for p, begin in processes.items() if p in running and running[p][2] == begin]
        waited = time.monotonic() - start
        if not left:
            return waited
        if waited > limit:
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            raise TimeoutError(f'{len(left)} of {len(processes)} processes after {limit} s')
        time.sleep(0.05)
