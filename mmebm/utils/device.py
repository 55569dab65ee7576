"""The hardware that a measurement belongs to."""

import platform
import re
from pathlib import Path

import torch


def device_name(device: str | torch.device = 'cpu') -> str:
    """The model name of a GPU, or of this machine's processor."""
    device = torch.device(device)
    if device.type == 'cuda':
        return torch.cuda.get_device_name(device)
    info = Path('/proc/cpuinfo')
    models = re.findall(r'model name\s*: (.*)', info.read_text()) if info.exists() else []
    return models[0] if models else platform.processor() or platform.machine()
