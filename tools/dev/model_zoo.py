"""Write docs/model_zoo.md from the metafiles that model-index.yml imports.

Example:
    python tools/dev/model_zoo.py
    python tools/dev/model_zoo.py --check
"""

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

ROOT = Path(__file__).resolve().parents[2]
PAGE = Path('docs') / 'model_zoo.md'
COMMAND = 'python tools/dev/model_zoo.py'
METRICS = {'AP': 'box AP'} | {key: key for key in ('AP50', 'AP75', 'APs', 'APm', 'APl')}
SIZE = ('Parameters', 'FLOPs')

PAGE_START = f"""\
<!-- Written by `{COMMAND}` from configs/*/metafile.yml: change those, then run it again. -->

# Model zoo

Get a checkpoint together with its config, from any folder, by mim (`pip install onedl-mim`, or
`openmim` beside the OpenMMLab originals):

```bash
mim search mmdetection-salience
mim download mmdetection-salience --config {{name}} --dest zoo
```

Load the pair with MMDetection:

```python
from mmdet.apis import inference_detector, init_detector

config = 'zoo/{{name}}.py'
checkpoint = 'zoo/{{checkpoint}}'
model = init_detector(config, checkpoint, palette='coco', device='cpu')
result = inference_detector(model, 'image.jpg')
```
"""


class Collection(NamedTuple):
    """Models that share a paper.

    Attributes:
        source: Metafile of the collection, for messages.
        entry: Its own entry.
        models: Entries of its models, in the order of the metafiles.
    """

    source: str
    entry: Mapping[str, Any]
    models: list[Mapping[str, Any]]


def read_mapping(path: Path) -> dict[str, Any]:
    """Read a YAML file.

    Args:
        path: The file.

    Returns:
        Its content.

    Raises:
        ValueError: If it is no YAML or no mapping.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding='utf-8'))
    except yaml.YAMLError as error:
        raise ValueError(f'{path} is no YAML: {error}') from error
    if not isinstance(content, dict):
        raise ValueError(f'{path} holds no mapping')
    return content


def look_up(entry: Mapping[str, Any], *keys: str) -> Any:
    """Look up a value that has to be there.

    Args:
        entry: Entry of a collection or model.
        *keys: Way to the value.

    Returns:
        The value.

    Raises:
        ValueError: If it is missing.
    """
    value: Any = entry
    for key in keys:
        if not isinstance(value, Mapping) or value.get(key) is None:
            raise ValueError(f'{entry.get("Name", "an entry")} lacks {" / ".join(keys)}')
        value = value[key]
    return value


def read_collections(root: Path) -> list[Collection]:
    """Read all collections and give each its models.

    Args:
        root: Folder of model-index.yml.

    Returns:
        The collections, in the order of the metafiles.

    Raises:
        ValueError: If there is no model, or one names an unknown collection.
    """
    patterns = look_up(read_mapping(root / 'model-index.yml'), 'Import')
    paths = [path for pattern in patterns for path in sorted(root.glob(pattern))]
    metafiles = {path.relative_to(root).as_posix(): read_mapping(path) for path in paths}
    collections = {
        look_up(entry, 'Name'): Collection(source, entry, [])
        for source, metafile in metafiles.items()
        for entry in metafile.get('Collections', ())
    }
    for source, metafile in metafiles.items():
        for model in metafile.get('Models', ()):
            name = look_up(model, 'In Collection')
            if name not in collections:
                raise ValueError(f'{source}: there is no collection {name!r}')
            collections[name].models.append(model)
    found = [collection for collection in collections.values() if collection.models]
    if not found:
        raise ValueError('model-index.yml imports no model')
    return found


def format_table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Format a table.

    Args:
        heading: Names of the columns.
        rows: Cells of each row.

    Returns:
        Lines of Markdown.
    """
    lines = [heading, ['---'] * len(heading), *rows]
    return ''.join(f'| {" | ".join(line)} |\n' for line in lines)


def config_link(model: Mapping[str, Any]) -> str:
    """Link a model's name to its config.

    Args:
        model: Entry of the model.

    Returns:
        The link, as seen from the page.
    """
    return f'[{look_up(model, "Name")}](../{look_up(model, "Config")})'


def format_results(models: Sequence[Mapping[str, Any]]) -> str:
    """Format the table of results.

    Args:
        models: Entries of the models.

    Returns:
        The table.

    Raises:
        ValueError: If a model has not exactly one result.
    """
    rows = []
    for model in models:
        results = look_up(model, 'Results')
        if len(results) != 1:
            raise ValueError(f'{model["Name"]} has {len(results)} results instead of one')
        row = [config_link(model)]
        row += [str(look_up(model, 'Metadata', k)) for k in ('Backbone', 'Pretraining', 'Epochs')]
        metrics = dict(results[0], Name=model['Name'])
        row += [f'{look_up(metrics, "Metrics", key):.1f}' for key in METRICS.values()]
        rows.append([*row, f'[checkpoint]({look_up(model, "Weights")})'])
    heading = ['model', 'backbone', 'pretraining', 'epochs', *METRICS, 'download']
    return format_table(heading, rows)


def format_sizes(models: Sequence[Mapping[str, Any]]) -> str:
    """Format the sizes that are stated, one table for each way they were measured.

    Args:
        models: Entries of the models.

    Returns:
        The tables with their introductions; empty if no size is stated.

    Raises:
        ValueError: If a size does not say how it was measured.
    """
    tables: dict[str, list[list[str]]] = {}
    for model in models:
        metadata = look_up(model, 'Metadata')
        if not any(key in metadata for key in SIZE):
            continue
        how = look_up(model, 'Metadata', 'Size Measured')
        parameters, flops = (look_up(model, 'Metadata', key) for key in SIZE)
        row = [config_link(model), f'{parameters / 1e6:.1f} M', f'{flops / 1e9:.1f} G']
        tables.setdefault(how, []).append(row)
    heading = ('model', 'parameters', 'multiply-adds')
    return ''.join(
        f'\nSize, measured {how}:\n\n{format_table(heading, rows)}' for how, rows in tables.items()
    )


def format_collection(collection: Collection) -> str:
    """Format the section of a collection.

    Args:
        collection: The collection.

    Returns:
        The section.

    Raises:
        ValueError: If an entry lacks something; the message names the metafile.
    """
    entry = collection.entry
    try:
        metadata = [look_up(entry, 'Metadata', key) for key in ('Origin', 'Evaluated On')]
        return (
            f'\n## {look_up(entry, "Name")}\n\n'
            f'[{look_up(entry, "Paper", "Title")}]({look_up(entry, "Paper", "URL")}) · '
            f'[configs](../{look_up(entry, "README")})\n\n'
            f'{metadata[0]} Box AP on {metadata[1]}:\n\n'
            f'{format_results(collection.models)}{format_sizes(collection.models)}'
        )
    except ValueError as error:
        raise ValueError(f'{collection.source}: {error}') from error


def format_page(root: Path) -> str:
    """Format the page.

    Args:
        root: Folder of model-index.yml.

    Returns:
        Content of the page.
    """
    collections = read_collections(root)
    first = collections[0].models[0]
    checkpoint = look_up(first, 'Weights').rsplit('/', 1)[-1]
    start = PAGE_START.format(name=look_up(first, 'Name'), checkpoint=checkpoint)
    return start + ''.join(map(format_collection, collections))


def main(argv: Sequence[str] | None = None) -> int:
    """Write the page, or check it.

    Args:
        argv: Arguments of the command line; None takes those of the process.

    Returns:
        Exit status: 0 if the page is written or up to date, 1 if it is not, 2 if a metafile is
        wrong.
    """
    parser = argparse.ArgumentParser(description='Write docs/model_zoo.md from the metafiles.')
    parser.add_argument('--check', action='store_true', help='only exit with 1 if it is stale')
    parser.add_argument('--root', type=Path, default=ROOT, help='folder of model-index.yml')
    args = parser.parse_args(argv)
    page = args.root / PAGE
    try:
        content = format_page(args.root)
    except (OSError, ValueError) as error:
        print(f'model_zoo: {error}', file=sys.stderr)
        return 2
    if not args.check:
        page.parent.mkdir(exist_ok=True)
        page.write_text(content, encoding='utf-8')
    elif not page.is_file() or page.read_text(encoding='utf-8') != content:
        print(f'model_zoo: {PAGE} is stale; run {COMMAND}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
