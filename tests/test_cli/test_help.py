"""Help is quick because it imports nothing that trains."""

import subprocess
import sys

from mmebm.cli.main import COMMANDS
from tests.tools import FOLDER

ALL_HELP = """
import sys
import mmebm_command

for arguments in COMMANDS:
    sys.argv = ['mmebm', *arguments]
    try:
        mmebm_command.main()
    except SystemExit as stop:
        assert not stop.code, arguments
    print('END')
heavy = {'torch', 'numpy', 'mmengine', 'mmpretrain', 'cv2', 'matplotlib', 'rich'}
print('imported:', sorted(heavy.intersection(sys.modules)))
"""


def test_no_help_imports_what_trains():
    commands = [['--help'], *([name, 'some', '--help'] for name in COMMANDS), ['score', '-h']]
    code = ALL_HELP.replace('COMMANDS', repr(commands))
    done = subprocess.run(
        [sys.executable, '-c', code], cwd=FOLDER.parent, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    *pages, last = done.stdout.split('END\n')
    assert last.strip() == 'imported: []'
    for (name, module), page in zip(COMMANDS.items(), pages[1:-1], strict=True):
        assert page.startswith(f'usage: mmebm {name}')
        assert module.__doc__.splitlines()[0] in page
        assert f'\n    {name}' in pages[0]
