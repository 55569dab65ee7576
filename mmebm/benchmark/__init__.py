"""Compare pretraining configs on a folder of labelled images, on equal terms.

:class:`mmebm.benchmark.comparison.Benchmark` does it. Imports nothing, so that ``--help`` is quick.
"""
