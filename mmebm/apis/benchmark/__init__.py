"""Compare pretraining methods on a folder of small images, on equal terms."""

from .comparison import Benchmark, plan_table, what_is_left
from .options import PROTOCOLS, BenchmarkOptions

__all__ = ['PROTOCOLS', 'Benchmark', 'BenchmarkOptions', 'plan_table', 'what_is_left']
