"""What one call of a function, such as a training step, costs in time and memory."""

import json
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import torch


def step_seconds(step: Callable[[], Any], device: torch.device) -> float:
    """Seconds of wall time that a call takes, on a GPU until that has finished its work.

    Args:
        step: the function; a first call often compiles or allocates, and is not worth timing.
        device: where it works, ``torch.device('cpu')`` or ``torch.device('cuda')``.
    """
    start = perf_counter()
    step()
    if device.type == 'cuda':
        torch.cuda.synchronize()
    return perf_counter() - start


def peak_memory(step: Callable[[], Any], device: torch.device) -> int:
    """Bytes that a call allocates at its peak, beyond what is allocated before it.

    For a training step that was called before, that is beyond the weights and the optimizer's
    state. Only what PyTorch allocates is counted, so a busy machine measures the same.

    Args:
        step: the function.
        device: where it works, ``torch.device('cpu')`` or ``torch.device('cuda')``.
    """
    if device.type == 'cuda':
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        return torch.cuda.max_memory_allocated() - before
    # PyTorch counts what a CPU allocates only while it profiles, and tells it in the trace
    profile = torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    )
    with warnings.catch_warnings():  # of several cycles, where there is one
        warnings.filterwarnings('ignore', '.*Profiler clears events', UserWarning)
        with profile:
            step()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, 'trace.json')
        profile.export_chrome_trace(str(file))
        events = json.loads(file.read_text())['traceEvents']
    memory = sorted((e for e in events if e.get('name') == '[memory]'), key=lambda e: e['ts'])
    totals = [e['args']['Total Allocated'] for e in memory]
    # what an earlier profile saw allocated, and nobody saw freed, is counted on
    return max(totals) - (totals[0] - memory[0]['args']['Bytes'])
