"""List every config in the metafile of its folder, and every metafile in model-index.yml.

    python tools/misc/update_metafiles.py

Run it after adding a config. The entries follow from the names of the configs; the head of a
metafile, above ``Models:``, is kept.
"""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
# MMPretrain has models of the same names as some of these
PREFIX = {'baselines': 'mmebm-'}
DATA = {'in1k': 'ImageNet-1k', 'ade20k': 'ADE20K'}
HEAD = """\
Collections:
  - Name: {folder}
    Paper:
      Title: Energy-Inspired Self-Supervised Pretraining for Vision Models
      URL: https://arxiv.org/abs/2302.01384
"""


def model(path: Path, collection: str) -> str:
    """The YAML entry of a config, with training length and dataset if its name tells them.

    Raises:
        ValueError: the name does not tell the batch size.
    """
    batch = re.search(r'_(\d+)xb(\d+)-', path.stem)
    if batch is None:
        raise ValueError(f'the name of {path} must tell the batch size, as in _8xb32-')
    epochs = re.search(r'-(\d+)e_', path.stem)
    iterations = re.search(r'-(\d+)k_', path.stem)
    data = next((DATA[name] for name in DATA if f'_{name}' in path.stem), None)
    return '\n'.join(
        [
            f'  - Name: {PREFIX.get(path.parent.name, "")}{path.stem}',
            f'    In Collection: {collection}',
            f'    Config: {path.relative_to(ROOT).as_posix()}',
            '    Metadata:',
            *([f'      Epochs: {epochs[1]}'] if epochs else []),
            *([f'      Iterations: {iterations[1]}000'] if iterations else []),
            f'      Batch Size: {int(batch[1]) * int(batch[2])}',
            *([f'      Training Data: {data}'] if data else []),
        ]
    )


def updated_files() -> dict[Path, str]:
    """The text that each metafile and model-index.yml should have, by path."""
    files = {}
    for folder in sorted(p for p in (ROOT / 'configs').iterdir() if p.is_dir()):
        configs = sorted(folder.glob('*.py'))
        if folder.name == '_base_' or not configs:
            continue
        file = folder / 'metafile.yml'
        head = file.read_text('utf-8') if file.is_file() else HEAD.format(folder=folder.name)
        head = head.split('\nModels:')[0].rstrip()
        collection = re.search(r'- Name: (.+)', head)[1]
        entries = '\n'.join(model(path, collection) for path in configs)
        note = '# written by tools/misc/update_metafiles.py'
        files[file] = f'{head}\n\nModels:  {note}\n{entries}\n'
    index = ''.join(f'  - {file.relative_to(ROOT).as_posix()}\n' for file in files)
    return {ROOT / 'model-index.yml': f'Import:\n{index}', **files}


def main() -> None:
    for path, text in updated_files().items():
        path.write_text(text, encoding='utf-8')


if __name__ == '__main__':
    main()
