"""The hardware: which may be asked for, and which a measurement belongs to."""

import os
import platform
import re
from pathlib import Path

import torch


def device_name(device: str | torch.device = 'cpu') -> str:
    """The model name of a GPU, or of this machine's processor, and the vector instructions that
    PyTorch uses there: processors of one name differ in them.
    """
    device = torch.device(device)
    if device.type == 'cuda':
        return torch.cuda.get_device_name(device)
    info = Path('/proc/cpuinfo')
    models = re.findall(r'model name\s*: (.*)', info.read_text('utf-8')) if info.exists() else []
    name = models[0] if models else platform.processor() or platform.machine()
    return f'{name}, {torch.backends.cpu.get_cpu_capability()}'


def usable_device(name: str | None = None) -> torch.device:
    """A device by its name; by default the GPU if there is one, else the CPU.

    Raises:
        ValueError: torch does not know it, or this machine lacks it.
    """
    try:
        device = torch.device(name or ('cuda' if torch.cuda.is_available() else 'cpu'))
        torch.empty(0, device=device)
    except (AssertionError, RuntimeError) as error:
        raise ValueError(f'device {name} cannot be used: {str(error).splitlines()[0]}') from error
    return device


def usable_cores() -> int:
    """How many processor cores this process may use."""
    found = hasattr(os, 'sched_getaffinity') and len(os.sched_getaffinity(0))
    return found or os.cpu_count() or 1
