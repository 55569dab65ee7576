"""List every config in the metafile of its folder, and every metafile in model-index.yml.

    python tools/misc/update_metafiles.py

Run it after adding a config. The head of a metafile, above ``Models:``, is written by hand.
"""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
# MMPretrain has models of the same names as some of these
PREFIX = {'baselines': 'mmebm-'}


def updated_files() -> dict[Path, str]:
    """The text that each metafile and model-index.yml should have, by path."""
    files = {}
    for file in sorted((ROOT / 'configs').glob('*/metafile.yml')):
        head = file.read_text('utf-8').split('\nModels:')[0].rstrip()
        lines = [head, '', 'Models:  # written by tools/misc/update_metafiles.py']
        for path in sorted(file.parent.glob('*.py')):
            lines += [
                f'  - Name: {PREFIX.get(path.parent.name, "")}{path.stem}',
                f'    In Collection: {re.search(r"- Name: (.+)", head)[1]}',
                f'    Config: {path.relative_to(ROOT).as_posix()}',
            ]
        files[file] = '\n'.join(lines) + '\n'
    index = ''.join(f'  - {file.relative_to(ROOT).as_posix()}\n' for file in files)
    return {ROOT / 'model-index.yml': f'Import:\n{index}', **files}


def main() -> None:
    for path, text in updated_files().items():
        path.write_text(text, 'utf-8')


if __name__ == '__main__':
    main()
