"""The page of a run. Imports nothing by itself, so that a part of it can be had alone."""
