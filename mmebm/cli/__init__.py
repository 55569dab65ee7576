"""The command ``mmebm``, and what the command-line tools share."""
