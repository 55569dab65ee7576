import contextlib
import io

# MMPretrain prints that an optional package of its own is missing. pytest would show that line
# again below its summary, as the last one.
with contextlib.redirect_stdout(io.StringIO()):
    import mmpretrain.datasets  # noqa: F401
