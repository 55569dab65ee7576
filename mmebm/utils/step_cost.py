"""Time and memory that one call of a function, such as a training step, takes."""

import json
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import torch


def step_seconds(step: Callable[[], Any], device: torch.device) -> float:
    """Wall time of a call in seconds; on a GPU, until its work is finished.

    Args:
        step: the function. Do not time its first call, which may compile or allocate.
        device: where it works, ``torch.device('cpu')`` or ``torch.device('cuda')``.
    """
    start = perf_counter()
    step()
    if device.type == 'cuda':
        torch.cuda.synchronize()
    return perf_counter() - start


def peak_memory(step: Callable[[], Any], device: torch.device) -> int:
    """Peak memory of a call in bytes, beyond what was allocated before it.

    For any but the first training step, that excludes the weights and the optimizer's state. Only
    PyTorch's own allocations count, so other load on the machine does not matter.

    Args:
        step: the function.
        device: where it works, ``torch.device('cpu')`` or ``torch.device('cuda')``.
    """
    if device.type == 'cuda':
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        return torch.cuda.max_memory_allocated() - before
    # on a CPU, PyTorch only counts allocations while it profiles, and reports them in the trace
    profile = torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    )
    with warnings.catch_warnings():  # about several cycles, though there is one
        warnings.filterwarnings('ignore', '.*Profiler clears events', UserWarning)
        with profile:
            step()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, 'trace.json')
        profile.export_chrome_trace(str(file))
        events = json.loads(file.read_text())['traceEvents']
    memory = sorted((e for e in events if e.get('name') == '[memory]'), key=lambda e: e['ts'])
    totals = [e['args']['Total Allocated'] for e in memory]
    # the total includes what was allocated under an earlier profile and freed outside of any
    return max(totals) - (totals[0] - memory[0]['args']['Bytes'])
