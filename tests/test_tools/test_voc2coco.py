"""The converter of PASCAL VOC boxes, on small datasets that the tests write."""

from pathlib import Path

import pytest
from converter_runs import (
    boxes_of,
    failure,
    load_converter,
    read_split,
    save_text,
    table_row,
    voc_xml,
    write_cells,
)

main = load_converter('voc2coco').main


@pytest.fixture
def cells(tmp_path: Path) -> Path:
    """Blood cells in VOC's layout; see ``write_cells``."""
    return write_cells(tmp_path / 'cells')


def test_blood_cells(cells: Path, capsys: pytest.CaptureFixture) -> None:
    main([str(cells)])
    train, val = read_split(cells, 'train'), read_split(cells, 'val')
    assert [c['name'] for c in train['categories']] == ['Platelets', 'RBC', 'WBC']
    assert train['images'][0] == {
        'id': 1,
        'file_name': 'JPEGImages/BloodImage_0.jpg',
        'width': 640,
        'height': 480,
    }
    assert boxes_of(train, 'JPEGImages/BloodImage_0.jpg') == [
        ('WBC', [259, 176, 232, 200]),
        ('RBC', [77, 335, 107, 100]),
    ]
    assert boxes_of(train, 'JPEGImages/BloodImage_2.jpg') == []
    assert boxes_of(val, 'JPEGImages/BloodImage_1.jpg') == [
        ('RBC', [0, 0, 640, 480]),
        ('Platelets', [4, 4, 1, 5]),
    ]
    assert read_split(cells, 'test')['annotations'][0]['bbox'] == [9.5, 9, 10.5, 11]
    printed = capsys.readouterr().out
    assert table_row(printed, 'train') == {
        'split': 'train',
        'images': '2',
        'empty': '1',
        'Platelets': '0',
        'RBC': '1',
        'WBC': '1',
        'boxes': '2',
        'clipped': '0',
    }
    assert f'written to {cells}/annotations' in printed
    assert f'check_dataset.py {cells}/annotations/train.json --image-dir {cells}' in printed
    assert "classes: ('Platelets', 'RBC', 'WBC')" in printed


def test_zero_based(cells: Path) -> None:
    main([str(cells), '--zero-based', '--splits', 'test'])
    assert read_split(cells, 'test')['annotations'][0]['bbox'] == [10.5, 10, 9.5, 10]
    save_text(cells / 'Annotations/BloodImage_3.xml', voc_xml((640, 480), [('RBC', 5, 5, 5, 9)]))
    message = failure(main, cells, '--zero-based', '--splits', 'test')
    assert 'Annotations/BloodImage_3.xml: object 1: box 5 5 5 9 has no area' in message


def test_coordinates_of_zero_are_noted(cells: Path, capsys: pytest.CaptureFixture) -> None:
    boxes = [('RBC', 3, 3, 9, 9), ('RBC', 0, 3, 10, 9)]
    save_text(cells / 'Annotations/BloodImage_3.xml', voc_xml((640, 480), boxes))
    main([str(cells), '--splits', 'test'])
    printed = capsys.readouterr().out
    assert '(see --zero-based): 1\n  Annotations/BloodImage_3.xml' in printed
    assert table_row(printed, 'test')['clipped'] == '1'
    assert read_split(cells, 'test')['annotations'][1]['bbox'] == [0, 2, 10, 7]


@pytest.mark.parametrize(
    'choice, crowds, column', [('crowd', [1, 0], None), ('keep', [0, 0], None), ('drop', [0], '1')]
)
def test_difficult(
    cells: Path, capsys: pytest.CaptureFixture, choice: str, crowds: list[int], column: str | None
) -> None:
    hard = voc_xml((640, 480), [('RBC', 1, 1, 9, 9)], '<difficult>1</difficult>')
    easy = '<object><name>WBC</name><difficult>0</difficult><bndbox><xmin>1</xmin>'
    easy += '<ymin>1</ymin><xmax>4</xmax><ymax>5</ymax></bndbox></object></annotation>'
    save_text(cells / 'Annotations/BloodImage_3.xml', hard.replace('</annotation>', easy))
    main([str(cells), '--splits', 'test', '--difficult', choice])
    content = read_split(cells, 'test')
    assert [a['iscrowd'] for a in content['annotations']] == crowds
    assert content['annotations'][-1]['bbox'] == [0, 0, 4, 5]
    row = table_row(capsys.readouterr().out, 'test')
    assert row.get('dropped') == column
    assert row.get('crowd') == ('1' if choice == 'crowd' else None)


def test_tolerance(cells: Path) -> None:
    path = cells / 'Annotations/BloodImage_3.xml'
    save_text(path, voc_xml((640, 480), [('RBC', 636, 3, 645, 9)]))
    main([str(cells), '--splits', 'test'])
    assert read_split(cells, 'test')['annotations'][0]['bbox'] == [635, 2, 5, 7]
    assert 'by more than 4 pixels' in failure(
        main, cells, '--splits', 'test', '--tolerance', '4', '--out-dir', str(cells / 'other')
    )


BROKEN = {
    'size in the XML file differs': (voc_xml((480, 640), []), '480x640, the image is 640x480'),
    'broken XML files': ('<annotation><object>', 'no element found'),
    'unknown classes': (voc_xml((640, 480), [('cat', 1, 1, 9, 9)]), "object 1: 'cat'"),
    'broken boxes': (voc_xml((640, 480), [('RBC', 1, 'x', 9, 9)]), "number as ymin, got 'x'"),
    'boxes outside the image': (
        voc_xml((640, 480), [('RBC', 1, 1, 9, 486)]),
        'box 0 0 9 486 leaves',
    ),
    'boxes without area': (voc_xml((640, 480), [('RBC', 9, 1, 8, 9)]), 'box 8 0 8 9 has no area'),
}


@pytest.mark.parametrize('kind', list(BROKEN))
def test_broken_annotations(cells: Path, kind: str) -> None:
    text, detail = BROKEN[kind]
    save_text(cells / 'Annotations/BloodImage_0.xml', text)
    message = failure(main, cells, '--classes', 'RBC', 'WBC', 'Platelets')
    assert message.startswith(kind)
    assert 'Annotations/BloodImage_0.xml' in message
    assert detail in message
    assert 'error: 1 problems, nothing written' in message
    assert '--skip-problems' in message


def test_sizes_of_zero_are_no_sizes(cells: Path) -> None:
    save_text(cells / 'Annotations/BloodImage_0.xml', voc_xml((0, 0), [('RBC', 1, 1, 9, 9)]))
    main([str(cells), '--splits', 'train'])
    assert len(read_split(cells, 'train')['annotations']) == 1


def test_skip_problems_leaves_out_boxes_and_images(
    cells: Path, capsys: pytest.CaptureFixture
) -> None:
    boxes = [('RBC', 1, 1, 9, 9), ('RBC', 1, 1, 900, 9), ('WBC', 2, 2, 2, 2)]
    save_text(cells / 'Annotations/BloodImage_0.xml', voc_xml((640, 480), boxes))
    save_text(cells / 'Annotations/BloodImage_2.xml', '<annotation>')
    main([str(cells), '--skip-problems'])
    train = read_split(cells, 'train')
    assert [i['file_name'] for i in train['images']] == ['JPEGImages/BloodImage_0.jpg']
    assert boxes_of(train, 'JPEGImages/BloodImage_0.jpg') == [
        ('RBC', [0, 0, 9, 9]),
        ('WBC', [1, 1, 1, 1]),
    ]
    printed = capsys.readouterr().out
    assert 'left out because of 2 problems' in printed
    assert 'Annotations/BloodImage_0.xml: object 2: box 0 0 900 9 leaves' in printed


def test_a_split_without_images_is_not_written(cells: Path, capsys: pytest.CaptureFixture) -> None:
    (cells / 'Annotations/BloodImage_3.xml').write_text('')
    assert 'error: no images left in test' in failure(main, cells, '--skip-problems')
    assert 'broken XML files: 1' in capsys.readouterr().out


def test_classes_from_a_file(cells: Path, tmp_path: Path) -> None:
    save_text(tmp_path / 'names.txt', '# cells\nRBC\nWBC\n\nPlatelets\n')
    main([str(cells), '--classes', str(tmp_path / 'names.txt')])
    names = [c['name'] for c in read_split(cells, 'train')['categories']]
    assert names == ['RBC', 'WBC', 'Platelets']


def test_files_without_objects_name_no_classes(cells: Path) -> None:
    save_text(cells / 'ImageSets/Main/train.txt', 'BloodImage_2')
    assert 'give --classes' in failure(main, cells, '--splits', 'train')
