"""Lists, folders and ratios that define splits, as the converters of pairs of files use them."""

from pathlib import Path

import pytest
from converter_runs import (
    boxes_of,
    failure,
    load_converter,
    read_split,
    refusal,
    save_image,
    save_text,
    voc_xml,
    write_cells,
    write_neu,
)
from pycocotools.coco import COCO

main = load_converter('voc2coco').main
masks_main = load_converter('masks2coco').main

NEU_OPTIONS = ('--image-dir', 'IMAGES', '--ann-dir', 'ANNOTATIONS')


@pytest.fixture
def cells(tmp_path: Path) -> Path:
    """Blood cells in VOC's layout; see ``write_cells``."""
    return write_cells(tmp_path / 'cells')


@pytest.fixture
def neu(tmp_path: Path) -> Path:
    """Steel in the folders of NEU-DET; see ``write_neu``."""
    return write_neu(tmp_path / 'NEU-DET')


def test_steel_divided_by_ratio(neu: Path) -> None:
    main([str(neu), *NEU_OPTIONS, '--split-ratio', '6:2:2'])
    contents = {split: read_split(neu, split) for split in ('train', 'val', 'test')}
    names = {s: [i['file_name'] for i in c['images']] for s, c in contents.items()}
    assert [len(names[split]) for split in names] == [6, 2, 2]
    assert len({name for part in names.values() for name in part}) == 10
    assert all(name.startswith('IMAGES/') for name in names['train'])
    train = COCO(str(neu / 'annotations/train.json'))
    annotation = train.loadAnns(1)[0]
    number = int(train.loadImgs(1)[0]['file_name'].split('_')[1][:-4])
    assert annotation['bbox'] == [1, 1, 192, 193 - number]
    assert annotation['area'] == 192 * (193 - number)
    main([str(neu), *NEU_OPTIONS, '--split-ratio', '6:2:2', '--seed', '0'])
    assert read_split(neu, 'train') == contents['train']
    main([str(neu), *NEU_OPTIONS, '--split-ratio', '6:2:2', '--seed', '1'])
    assert read_split(neu, 'train') != contents['train']


def test_ratio_of_two_and_named_splits(neu: Path) -> None:
    main([str(neu), *NEU_OPTIONS, '--split-ratio', '7:3'])
    assert sorted(p.name for p in (neu / 'annotations').iterdir()) == ['train.json', 'val.json']
    main([str(neu), *NEU_OPTIONS, '--split-ratio', '1:1', '--splits', 'fit', 'check'])
    assert len(read_split(neu, 'check')['images']) == 5


def test_folder_for_each_split(tmp_path: Path) -> None:
    """Images in folders of their classes; annotation files without such folders."""
    for split in ('train', 'validation'):
        save_image(tmp_path / split / 'images/crazing/crazing_1.jpg', (200, 200))
        box = ('crazing', 1, 1, 9, 9)
        save_text(tmp_path / split / 'annotations/crazing_1.xml', voc_xml((200, 200), [box]))
    options = ('--image-dir', '{split}/images', '--ann-dir', '{split}/annotations')
    main([str(tmp_path), *options, '--splits', 'train', 'validation'])
    content = read_split(tmp_path, 'validation')
    assert boxes_of(content, 'validation/images/crazing/crazing_1.jpg') == [
        ('crazing', [0, 0, 9, 9])
    ]


def test_missing_and_unreadable_files(cells: Path) -> None:
    (cells / 'JPEGImages/BloodImage_0.jpg').unlink()
    (cells / 'Annotations/BloodImage_1.xml').unlink()
    (cells / 'JPEGImages/BloodImage_3.jpg').write_text('no image')
    save_image(cells / 'JPEGImages/BloodImage_2.PNG', (640, 480))
    message = failure(main, cells)
    assert 'missing images: 1\n  BloodImage_0: listed in ImageSets/Main/train.txt\n' in message
    assert 'images without an XML file: 1\n  BloodImage_1\n' in message
    assert (
        'names of several images: 1\n  BloodImage_2: BloodImage_2.PNG, BloodImage_2.jpg' in message
    )
    assert 'unreadable images: 1\n  JPEGImages/BloodImage_3.jpg: not a readable image' in message
    assert 'error: 4 problems' in message


def test_repeated_and_shared_images(cells: Path, capsys: pytest.CaptureFixture) -> None:
    save_text(cells / 'ImageSets/Main/train.txt', 'BloodImage_0\nBloodImage_2.jpg\nBloodImage_0\n')
    save_text(cells / 'ImageSets/Main/test.txt', 'BloodImage_2\nBloodImage_3\n')
    message = failure(main, cells)
    assert 'images listed more than once: 1\n  ImageSets/Main/train.txt: BloodImage_0' in message
    assert 'JPEGImages/BloodImage_2.jpg: in train and test' in message
    main([str(cells), '--skip-problems'])
    assert [len(read_split(cells, split)['images']) for split in ('train', 'test')] == [2, 1]
    assert 'left out because of 2 problems' in capsys.readouterr().out


def test_long_lists_are_cut_and_written_in_full(neu: Path, tmp_path: Path) -> None:
    for number in range(25):
        save_image(neu / f'IMAGES/x{number:02}.jpg')
    listing = tmp_path / 'problems.txt'
    message = failure(main, neu, *NEU_OPTIONS, '--split-ratio', '1:1', '--problems', str(listing))
    assert 'images without an XML file: 25' in message
    assert '... and 5 more' in message
    assert sum('  x' in line for line in message.splitlines()) == 20
    full = listing.read_text()
    assert full.startswith('25 problems\n')
    assert sum('  x' in line for line in full.splitlines()) == 25


@pytest.mark.parametrize(
    'options, text',
    [
        (['--splits', 'train', 'extra'], 'extra.txt; name the folder of lists by --list-dir'),
        (['--list-dir', 'lists'], 'divide all images by --split-ratio 6:2:2'),
        (['--image-dir', 'pictures', '--split-ratio', '1:1'], 'by --image-dir'),
        (['--ann-dir', 'boxes'], 'boxes; name the right one by --ann-dir'),
        (['--image-dir', '{split}', '--ann-dir', 'Annotations'], 'the splits by --splits'),
        (['--split-ratio', '1:1:9999'], '4 images in'),
        (['--out-dir', 'JPEGImages/BloodImage_0.jpg/new'], '--out-dir'),
        (['--problems', 'JPEGImages/BloodImage_0.jpg/new'], '--problems'),
    ],
)
def test_wrong_folders(
    cells: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], text: str
) -> None:
    monkeypatch.chdir(cells)
    assert text in failure(main, cells, *options)


@pytest.mark.parametrize(
    'options, text',
    [
        (['--split-ratio', '6'], "such as 6:2:2, got '6'"),
        (['--split-ratio', '6:0'], 'positive numbers'),
        (['--split-ratio', '6:2:1:1'], 'has 4 parts; name as many different --splits'),
        (['--split-ratio', '6:2', '--image-dir', '{split}'], 'does not go with {split}'),
        (['--splits', '../train'], 'a name without folders'),
        (['--classes', 'RBC', 'RBC'], 'repeated: RBC'),
        (['--classes', 'no.txt'], 'cannot read the classes of no.txt'),
    ],
)
def test_wrong_options(
    cells: Path, capsys: pytest.CaptureFixture, options: list[str], text: str
) -> None:
    assert text in refusal(main, cells, options, capsys)


def test_a_list_that_cannot_be_read(cells: Path) -> None:
    (cells / 'ImageSets/Main/val.txt').unlink()
    (cells / 'ImageSets/Main/val.txt').mkdir()
    assert 'cannot read' in failure(main, cells)


def test_splits_named_twice_count_once(cells: Path, capsys: pytest.CaptureFixture) -> None:
    options = ['--split-ratio', '1:1', '--splits', 'fit', 'fit', 'check']
    main([str(cells), *options])
    assert sorted(p.stem for p in (cells / 'annotations').iterdir()) == ['check', 'fit']
    assert 'has 3 parts' in refusal(main, cells, ['--split-ratio', '1:1:1', *options[2:]], capsys)


def test_wrong_data_root(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert 'nowhere; check the path' in refusal(main, tmp_path / 'nowhere', [], capsys)


def test_images_and_masks_that_differ_in_their_suffix(tmp_path: Path) -> None:
    for name in ('exp1', 'exp2'):
        save_image(tmp_path / f'Imgs/{name}.jpg')
        save_image(tmp_path / f'Imgs/{name}.png', gray=255)
    options = ['--image-dir', 'Imgs', '--mask-dir', 'Imgs', '--split-ratio', '1:1']
    options += ['--classes', 'blowhole=255']
    assert 'names of several images: 2' in failure(masks_main, tmp_path, *options)
    masks_main([str(tmp_path), *options, '--image-suffix', 'jpg'])
    assert len(read_split(tmp_path, 'val')['annotations']) == 1  # all pixels
