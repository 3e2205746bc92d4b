"""The metafiles hold the published models as mim reads them; docs/model_zoo.md shows the same."""

import importlib.util
import re
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from helpers import ROOT, build
from mmengine.config import Config

SCRIPT = ROOT / 'tools' / 'dev' / 'model_zoo.py'
RELEASE = 'https://github.com/xiuqhou/Salience-DETR/releases/download/v1.0.0/salience_detr_'
METRICS = ('box AP', 'AP50', 'AP75', 'APs', 'APm', 'APl')
# The release's table: epochs, name of the checkpoint, metrics.
PUBLISHED = {
    'salience-detr_r50_8xb2-12e_coco': (
        (12, 'resnet50_800_1333_coco_1x.pth'),
        (50.0, 67.7, 54.2, 33.3, 54.4, 64.4),
    ),
    'salience-detr_r50_8xb2-24e_coco': (
        (24, 'resnet50_800_1333_coco_2x.pth'),
        (51.2, 68.9, 55.7, 33.9, 55.5, 65.6),
    ),
    'salience-detr_convnext-l_8xb2-12e_coco': (
        (12, 'convnext_l_800_1333_coco_1x.pth'),
        (54.2, 72.4, 59.1, 38.8, 58.3, 69.6),
    ),
    'salience-detr_swin-l_8xb2-12e_coco': (
        (12, 'swin_l_800_1333_coco_1x.pth'),
        (56.5, 75.0, 61.5, 40.2, 61.2, 72.8),
    ),
    'salience-detr_focalnet-l_8xb2-12e_coco': (
        (12, 'focalnet_large_lrf_800_1333_coco_1x.pth'),
        (57.3, 75.5, 62.3, 40.9, 61.8, 74.5),
    ),
}
# What the model-index package knows; it takes other keys for custom ones without a word.
MODEL_KEYS = {'Name', 'In Collection', 'Config', 'Metadata', 'Results', 'Weights'}
COLLECTION_KEYS = {'Name', 'Metadata', 'Paper', 'README', 'Code'}


def _load_script() -> ModuleType:
    """The tool as a module."""
    spec = importlib.util.spec_from_file_location('model_zoo', SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


model_zoo = _load_script()


def read(path: Path) -> Any:
    """Content of a YAML file."""
    return yaml.safe_load(path.read_text())


METAFILES = sorted((ROOT / 'configs').glob('*/metafile.yml'))
COLLECTIONS = {c['Name']: c for path in METAFILES for c in read(path)['Collections']}
MODELS = {model['Name']: model for path in METAFILES for model in read(path)['Models']}
each_model = pytest.mark.parametrize('model', MODELS.values(), ids=MODELS)


def check_metadata(metadata: dict[str, Any]) -> None:
    """Entries are numbers, words or lists of words, under names that differ in more than case."""
    assert len({key.lower() for key in metadata}) == len(metadata)
    for key, value in metadata.items():
        assert '(' not in key, key  # mim would take it for a unit
        if type(value) not in (int, float):
            words = value if isinstance(value, list) else [value]
            assert words and all(isinstance(word, str) for word in words), key


def test_index_imports_every_metafile() -> None:
    index = read(ROOT / 'model-index.yml')
    assert isinstance(index['Import'], list)  # model-index splits a single string into letters
    found = [path for pattern in index['Import'] for path in sorted(ROOT.glob(pattern))]
    assert found == METAFILES
    assert METAFILES


def test_names_are_unique() -> None:
    assert len(MODELS) == sum(len(read(path)['Models']) for path in METAFILES)
    assert len(COLLECTIONS) == sum(len(read(path)['Collections']) for path in METAFILES)


@pytest.mark.parametrize('collection', COLLECTIONS.values(), ids=COLLECTIONS)
def test_collection_is_complete(collection: dict[str, Any]) -> None:
    assert set(collection) == COLLECTION_KEYS
    check_metadata(collection['Metadata'])
    assert (ROOT / collection['README']).is_file()
    assert collection['Paper']['Title'] and collection['Paper']['URL'].startswith('https://')
    assert collection['Metadata']['Training Data'] == 'COCO'
    assert collection['Metadata']['Origin'].endswith('.')  # a sentence of the page


@each_model
def test_model_has_the_form_of_model_index(model: dict[str, Any]) -> None:
    assert set(model) == MODEL_KEYS
    check_metadata(model['Metadata'])
    assert isinstance(model['Metadata']['Epochs'], int)
    [result] = model['Results']
    assert set(result) == {'Task', 'Dataset', 'Metrics'}
    assert (result['Task'], result['Dataset']) == ('Object Detection', 'COCO')
    assert tuple(result['Metrics']) == METRICS
    assert all(isinstance(value, float) for value in result['Metrics'].values())


@each_model
def test_model_is_found_by_mim(model: dict[str, Any]) -> None:
    config = ROOT / model['Config']
    assert config.is_file()
    assert model['Name'] == config.stem == config.stem.lower()
    assert config.parent.joinpath('metafile.yml') in METAFILES
    assert model['In Collection'] in COLLECTIONS
    assert re.fullmatch(r'https://[^\s,]+/[^\s,/]+\.pth', model['Weights'])


@each_model
def test_mim_tells_the_figures_apart(model: dict[str, Any]) -> None:
    # `mim search --condition 'x>1'` compares every entry whose name contains x.
    metadata = COLLECTIONS[model['In Collection']]['Metadata'] | model['Metadata']
    numbers = [key for key, value in metadata.items() if not isinstance(value, (str, list))]
    names = [key.lower() for key in (*metadata, *METRICS)]
    for number in (*numbers, *METRICS):
        assert sum(number.lower() in name for name in names) == 1, number


def test_every_published_model_is_listed() -> None:
    collection = COLLECTIONS['Salience DETR']
    assert collection['Paper']['URL'] == 'https://arxiv.org/abs/2403.16131'
    listed = [name for name, model in MODELS.items() if model['In Collection'] == 'Salience DETR']
    assert listed == list(PUBLISHED)


@pytest.mark.parametrize('name', PUBLISHED)
def test_figures_are_the_published_ones(name: str) -> None:
    (epochs, checkpoint), metrics = PUBLISHED[name]
    model = MODELS[name]
    assert model['Weights'] == RELEASE + checkpoint
    assert model['Metadata']['Epochs'] == epochs
    assert tuple(model['Results'][0]['Metrics'].values()) == metrics
    assert Config.fromfile(ROOT / model['Config']).max_epochs == epochs


@each_model
def test_our_figures_say_how_they_were_measured(model: dict[str, Any]) -> None:
    metadata = model['Metadata']
    stated = [key in metadata for key in ('Parameters', 'FLOPs', 'Size Measured')]
    assert stated == [model['Name'].startswith('salience-detr_r50_')] * 3
    if not all(stated):
        return
    how = metadata['Size Measured']
    assert all(part in how for part in ('by us', '80 classes', 'multiply-adds', '800 x 1333'))
    assert metadata['FLOPs'] == 204.1e9
    cfg = Config.fromfile(ROOT / model['Config']).model
    cfg.backbone.init_cfg = None
    assert sum(p.numel() for p in build(cfg).parameters()) == metadata['Parameters']


def test_no_data_set_is_promised() -> None:
    # mim looks names up in this mapping; the file says why there are none.
    assert read(ROOT / 'dataset-index.yml') == {}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of all the tool reads and writes."""
    for path in (ROOT / 'model-index.yml', ROOT / model_zoo.PAGE, *METAFILES):
        target = tmp_path / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    return tmp_path


def replace(path: Path, old: str, new: str) -> None:
    """Change the first place of a text in a file."""
    content = path.read_text()
    assert old in content
    path.write_text(content.replace(old, new, 1))


def test_page_is_up_to_date() -> None:
    assert model_zoo.main(['--check']) == 0


def test_links_of_the_page_lead_somewhere() -> None:
    page = ROOT / model_zoo.PAGE
    links = re.findall(r'\]\(([^)]+)\)', page.read_text())
    assert len(links) >= 2 + 2 * len(MODELS)
    for link in links:
        assert link.startswith('https://') or (page.parent / link).is_file(), link


@pytest.mark.parametrize(
    ('file', 'old', 'new'),
    [
        ('configs/salience_detr/metafile.yml', 'box AP: 50.0', 'box AP: 50.1'),
        ('configs/salience_detr/metafile.yml', '_coco_1x.pth', '_coco_3x.pth'),
        ('docs/model_zoo.md', '50.0', '50.1'),
    ],
)
def test_check_fails_on_a_change(
    checkout: Path, capsys: pytest.CaptureFixture[str], file: str, old: str, new: str
) -> None:
    root = ('--root', str(checkout))
    assert model_zoo.main(['--check', *root]) == 0
    replace(checkout / file, old, new)
    changed = (checkout / model_zoo.PAGE).read_text()
    assert model_zoo.main(['--check', *root]) == 1
    assert 'stale; run python tools/dev/model_zoo.py' in capsys.readouterr().err
    assert (checkout / model_zoo.PAGE).read_text() == changed  # the check writes nothing
    assert model_zoo.main([*root]) == 0
    assert model_zoo.main(['--check', *root]) == 0


def test_check_fails_without_a_page(checkout: Path) -> None:
    (checkout / model_zoo.PAGE).unlink()
    assert model_zoo.main(['--check', '--root', str(checkout)]) == 1


@pytest.mark.parametrize(
    ('old', 'new', 'message'),
    [
        ('    Weights: http', '    Website: http', 'r50_8xb2-12e_coco lacks Weights'),
        ('In Collection: Salience DETR', 'In Collection: DINO', "no collection 'DINO'"),
        ('Size Measured: &r50_size', 'Note: &r50_size', 'lacks Metadata / Size Measured'),
        ('APl: 74.5', 'APx: 74.5', 'metafile.yml: salience-detr_focalnet-l_8xb2-12e_coco lacks'),
        ('Models:', 'Models: [', 'is no YAML'),
        ('Models:', 'Others:', 'imports no model'),
    ],
)
def test_wrong_metafile_is_named(
    checkout: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, message: str
) -> None:
    replace(checkout / 'configs/salience_detr/metafile.yml', old, new)
    assert model_zoo.main(['--root', str(checkout)]) == 2
    assert message in capsys.readouterr().err
