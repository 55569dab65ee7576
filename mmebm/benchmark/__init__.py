"""Compare pretraining configs on equal terms. Imports nothing, so that ``--help`` is quick."""
