"""The DeepPCB converter, on small trees of files that the tests write."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image
from pycocotools.coco import COCO

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / 'tools/dataset_converters/deeppcb2coco.py'
CONFIG = ROOT / 'configs/_base_/datasets/deeppcb.py'


def _load_script() -> ModuleType:
    """The converter as a module."""
    spec = importlib.util.spec_from_file_location('deeppcb2coco', SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


deeppcb2coco = _load_script()


def _write_board(root: Path, name: str, lines: str, size: tuple[int, int] = (64, 48)) -> str:
    """Write a board's image, of ``size`` (width, height), and its annotation file.

    Returns:
        The board's line in the list of a split.
    """
    image, annotation = root / f'g/b/{name}_test.jpg', root / f'g/b_not/{name}.txt'
    for path in (image, annotation):
        path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(size[::-1], 200, np.uint8)).save(image)
    annotation.write_text(lines)
    return f'g/b/{name}.jpg g/b_not/{name}.txt\n'


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A clean tree: two boards to train on, one of them without defects, and one to test on."""
    root = tmp_path / 'deeppcb'
    train = _write_board(root, '000', '10 20 30 25 1\n1 2 5 6 6\n\n')
    train += _write_board(root, '001', '', size=(32, 40))
    (root / 'trainval.txt').write_text(train)
    (root / 'test.txt').write_text(_write_board(root, '100', '0 0 64 48 3\n'))
    return root


def _failure(root: Path) -> str:
    """Run the converter on a broken tree; its message. Nothing must have been written."""
    with pytest.raises(SystemExit) as caught:
        deeppcb2coco.main([str(root)])
    assert isinstance(caught.value.code, str), 'a message, which Python turns into status 1'
    assert not (root / 'annotations').exists()
    return caught.value.code


def test_converts(tree: Path, capsys: pytest.CaptureFixture) -> None:
    """Images, sizes, boxes and classes arrive in the annotation files; counts are printed."""
    deeppcb2coco.main([str(tree)])
    train = json.loads((tree / 'annotations/train.json').read_text())
    assert train['images'] == [
        {'id': 1, 'file_name': 'g/b/000_test.jpg', 'width': 64, 'height': 48},
        {'id': 2, 'file_name': 'g/b/001_test.jpg', 'width': 32, 'height': 40},
    ]
    assert train['annotations'] == [
        {
            'id': 1,
            'image_id': 1,
            'iscrowd': 0,
            'category_id': 1,
            'bbox': [10, 20, 20, 5],
            'area': 100,
        },
        {'id': 2, 'image_id': 1, 'iscrowd': 0, 'category_id': 6, 'bbox': [1, 2, 4, 4], 'area': 16},
    ]
    test = COCO(str(tree / 'annotations/test.json'))
    assert test.loadAnns(1)[0]['bbox'] == [0, 0, 64, 48]
    assert [c['name'] for c in test.loadCats(test.getCatIds())] == [
        'open',
        'short',
        'mousebite',
        'spur',
        'copper',
        'pin-hole',
    ]
    printed = capsys.readouterr().out
    assert [
        line.split() for line in printed.splitlines() if line.split()[:1] in (['train'], ['test'])
    ] == [
        ['train', '2', '1', '0', '0', '0', '0', '1', '2', '0'],
        ['test', '1', '0', '0', '1', '0', '0', '0', '1', '0'],
    ]


def test_out_dir(tree: Path, tmp_path: Path) -> None:
    """The annotation files go where they are wanted, and the tree stays as it is."""
    before = sorted(tree.rglob('*'))
    deeppcb2coco.main([str(tree), '--out-dir', str(tmp_path / 'new' / 'folder')])
    assert sorted(p.name for p in (tmp_path / 'new/folder').iterdir()) == [
        'test.json',
        'train.json',
    ]
    assert sorted(tree.rglob('*')) == before


def test_clips_slightly_outside(tree: Path) -> None:
    """A box at most the tolerance outside is clipped and counted, one further out is wrong."""
    _write_board(tree, '100', '-5 -1 69 48 2\n0 0 9 9 2')
    split = deeppcb2coco.convert_split(tree, 'test.txt', tolerance=5)
    assert split.problems == []
    assert split.num_clipped == 1
    assert [a['bbox'] for a in split.coco['annotations']] == [[0, 0, 64, 48], [0, 0, 9, 9]]
    assert split.coco['annotations'][0]['area'] == 64 * 48
    _write_board(tree, '100', '-6 0 20 20 2')
    assert 'g/b_not/100.txt:1' in _failure(tree)


@pytest.mark.parametrize(
    'line, reason',
    [
        ('1 2 3 4', 'five integers'),
        ('1 2 3 4 5 6', 'five integers'),
        ('1,2,3,4,5', 'five integers'),
        ('1 2 3.5 4 5', 'five integers'),
        ('1 2 3 4 0', 'unknown type 0'),
        ('1 2 3 4 7', 'unknown type 7'),
        ('5 5 5 9 1', 'no area'),
        ('9 5 5 9 1', 'no area'),
        ('10 10 20 54 1', 'leaves the 64x48 image'),
        ('64 10 66 20 1', 'no area inside'),
    ],
)
def test_broken_line(tree: Path, line: str, reason: str) -> None:
    """Each kind of broken line is reported with its file and number."""
    _write_board(tree, '001', f'1 1 9 9 1\n{line}\n')
    message = _failure(tree)
    assert 'g/b_not/001.txt:2' in message
    assert reason in message
    assert 'error: 1 problems' in message


def test_missing_and_unreadable_files(tree: Path) -> None:
    """All missing or unreadable files are listed at once."""
    (tree / 'g/b/000_test.jpg').unlink()
    (tree / 'g/b_not/001.txt').unlink()
    (tree / 'g/b/100_test.jpg').write_text('not an image')
    message = _failure(tree)
    assert 'g/b/000_test.jpg: missing, but listed in trainval.txt' in message
    assert 'g/b_not/001.txt: missing' in message
    assert 'g/b/100_test.jpg: not a readable image' in message
    assert 'error: 3 problems' in message


def test_broken_lists(tree: Path) -> None:
    """Malformed and repeated entries of the lists are reported."""
    first = (tree / 'trainval.txt').read_text().splitlines()[0]
    (tree / 'trainval.txt').write_text(f'{first}\nonly-one-name.jpg\n{first}\n')
    (tree / 'test.txt').write_text(first)
    message = _failure(tree)
    assert 'trainval.txt:2' in message
    assert 'trainval.txt: g/b/000_test.jpg is listed 2 times' in message
    assert 'g/b/000_test.jpg: in more than one of train, test' in message


def test_lists_that_lead_out_and_byte_order_marks(tree: Path) -> None:
    """A mark at the beginning of a list or an annotation file is no part of its first word."""
    for name in ('trainval.txt', 'g/b_not/000.txt'):
        path = tree / name
        path.write_bytes(b'\xef\xbb\xbf' + path.read_bytes())
    deeppcb2coco.main([str(tree), '--out-dir', str(tree.parent / 'marked')])
    assert len(json.loads((tree.parent / 'marked/train.json').read_text())['annotations']) == 2
    with (tree / 'trainval.txt').open('a') as file:
        file.write('\n../x/y.jpg ../x/y.txt\n')
    message = _failure(tree)
    assert f'trainval.txt: ../x/y_test.jpg ../x/y.txt leads out of {tree}' in message


def test_wrong_folder(tmp_path: Path) -> None:
    """A folder without the lists is named, with what is expected in it."""
    assert 'trainval.txt is missing' in _failure(tmp_path)


def test_unwritable_out_dir(tree: Path) -> None:
    """A folder that cannot be made ends with the option that helps."""
    with pytest.raises(SystemExit, match='--out-dir'):
        deeppcb2coco.main([str(tree), '--out-dir', str(tree / 'test.txt' / 'annotations')])


@pytest.mark.parametrize('loader, number', [('train_dataloader', 2), ('val_dataloader', 1)])
def test_config_builds(tree: Path, loader: str, number: int) -> None:
    """The data set config reads the converter's files through mmdet."""
    from mmdet.registry import DATASETS
    from mmdet.utils import register_all_modules

    register_all_modules(init_default_scope=True)
    deeppcb2coco.main([str(tree)])
    cfg = Config.fromfile(str(CONFIG))
    assert tuple(cfg.metainfo.classes) == deeppcb2coco.CLASSES
    cfg[loader].dataset.data_root = str(tree)
    dataset = DATASETS.build(cfg[loader].dataset)
    assert len(dataset) == number
    item = dataset[0]
    assert max(item['inputs'].shape) == 640
    assert len(item['data_samples'].gt_instances) == (2 if number == 2 else 1)
