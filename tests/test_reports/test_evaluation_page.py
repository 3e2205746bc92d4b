"""The page of an evaluation in a real browser, opened from disk."""

import json
import re

import numpy as np
import pytest
from evaluation_scenes import make_image, random_images
from PIL import Image

from mmdet_salience.analysis.evaluation_summary import judge
from mmdet_salience.analysis.image_faults import worst_images
from mmdet_salience.reports.evaluation_pictures import (
    FALSE,
    FOUND,
    draw_faults,
    drawable_name,
    fault_pictures,
)
from mmdet_salience.reports.evaluation_report import step_path, write_evaluation_report

# 400 and 2500 square pixels: small and medium.
SMALL, MEDIUM, FREE = (5, 5, 25, 25), (40, 5, 90, 55), (60, 62, 95, 78)
CLASSES = ['pit', '</script><b>dent']


def picture(path, width=100, height=80):
    Image.fromarray(np.full((height, width, 3), 128, np.uint8)).save(path)
    return str(path)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A report of three images: all right, one confused and one free, one missed."""
    root = tmp_path_factory.mktemp('evaluation')
    paths = [picture(root / f'{name}.png') for name in 'abc']
    objects = [(SMALL, 0), (MEDIUM, 1)]
    images = [
        make_image([(SMALL, 0, 0.9), (MEDIUM, 1, 0.6)], objects, name='a.png', path=paths[0]),
        make_image(
            [(SMALL, 1, 0.8), (MEDIUM, 1, 0.4), (FREE, 0, 0.7)],
            objects,
            name='<i>b.png',
            path=paths[1],
        ),
        make_image([(MEDIUM, 1, 0.9)], objects, name='c.png', path=paths[2]),
    ]
    write_evaluation_report(root / 'report', images, CLASSES, title='A <test>', score_thr=0.5)
    return root / 'report'


def figures_of(folder):
    return json.loads((folder / 'report.json').read_text())


def column(page, table, number):
    return page.locator(f'#{table} tbody tr td:nth-child({number})').all_inner_texts()


def set_score(page, folder, score):
    page.locator('#score').fill(str(figures_of(folder)['thresholds'].index(score)))


def matrix(page):
    rows = page.locator('#matrix tbody tr').all()
    return [[int(text or 0) for text in row.locator('td').all_inner_texts()] for row in rows]


def test_figures_are_those_of_the_file(folder, open_page):
    page = open_page(folder / 'index.html')
    overall = figures_of(folder)['overall']
    for key in ('ap', 'ap50', 'ap75', 'ap_small', 'ap_medium'):
        shown = page.locator(f'[data-figure={key}]').inner_text()
        assert float(shown) == pytest.approx(100 * overall[key], abs=0.051)
    assert page.locator('[data-figure=ap_large]').inner_text() == '–'
    assert page.title() == page.locator('h1').inner_text() == 'A <test>'
    assert page.locator('#classes td').first.inner_text() == 'pit'


def test_score_slider_moves_counts_and_confusion(folder, open_page):
    page = open_page(folder / 'index.html')
    assert page.locator('#score + output').inner_text() == '0.500'
    assert column(page, 'sizes', 3) == ['1', '2', '0', '3']
    assert column(page, 'sizes', 5) == ['2', '1', '0', '3']
    assert page.locator('[data-cell=share]').first.inner_text() == '33.3 %'
    # classification, localisation, both, duplicate, background, missed, all of both kinds
    assert column(page, 'errors', 2) == ['1', '0', '0', '0', '1', '2', '2', '3']
    assert matrix(page) == [[1, 1, 1], [0, 2, 1], [1, 0, 0]]
    assert page.locator('#confusions li').all_inner_texts() == [
        'pit taken for </script><b>dent: 1 of 3 (33.3 %)'
    ]
    assert page.locator('#matrix tbody td').nth(2).get_attribute('title') == (
        '1 of class pit missed (33.3 %)'
    )
    set_score(page, folder, 0.75)
    assert matrix(page) == [[1, 1, 1], [0, 1, 2], [0, 0, 0]]
    assert column(page, 'errors', 2) == ['1', '0', '0', '0', '0', '3', '1', '4']
    set_score(page, folder, 0.95)
    assert column(page, 'sizes', 3) == ['0', '0', '0', '0']
    assert page.locator('#confusions li').all_inner_texts() == ['none']
    page.locator('#best').click()
    best = figures_of(folder)['settings']['best_threshold']
    assert page.locator('#score + output').inner_text() == f'{best:.3f}'
    assert matrix(page)[1] == [0, 3, 0]


def test_iou_slider_moves_the_curves(folder, open_page):
    page = open_page(folder / 'index.html')
    card = page.locator('[data-curve]').nth(1)
    curves = figures_of(folder)['precision_recall']['classes'][1]
    path = card.locator('path').get_attribute('d')
    assert path == step_path(curves['precision'][0])
    assert f'AP {100 * curves["ap"][0]:.1f}; F1' in card.locator('span').inner_text()
    page.locator('#iou').fill('9')
    assert page.locator('#iou + output').inner_text() == '0.95'
    assert card.locator('path').get_attribute('d') == step_path(curves['precision'][9])
    dot = card.locator('circle')
    assert float(dot.get_attribute('cx')) == pytest.approx(100 * curves['best_f1'][9]['recall'])


def test_classes_are_sorted_by_a_click(folder, open_page):
    page = open_page(folder / 'index.html')
    heading = page.locator('#classes th', has_text=re.compile('^AP50$'))
    heading.locator('button').click()
    assert heading.get_attribute('aria-sort') == 'descending'
    values = [float(text) for text in column(page, 'classes', 7)]
    assert values == sorted(values, reverse=True)
    heading.locator('button').click()
    assert [float(text) for text in column(page, 'classes', 7)] == values[::-1]
    page.locator('#classes th button').first.click()
    assert column(page, 'classes', 1) == sorted(CLASSES)


def test_thumbnails_enlarge(folder, open_page):
    page = open_page(folder / 'index.html')
    names = page.locator('.pictures b').all_inner_texts()
    assert names == ['<i>b.png', 'c.png']  # three faults and one; the first image has none
    assert (
        page.locator('.pictures figcaption')
        .first.inner_text()
        .endswith('2 of 2 objects missed; 2 false detections (1 classification, 1 background)')
    )
    viewer = page.locator('#viewer')
    assert not viewer.is_visible()
    thumbnail = page.locator('.pictures img').first
    thumbnail.click()
    large = viewer.locator('img')
    assert large.bounding_box()['width'] > 1.5 * thumbnail.bounding_box()['width']
    assert large.evaluate('image => image.naturalWidth') == 512
    assert viewer.locator('b').inner_text() == '<i>b.png'
    page.keyboard.press('ArrowRight')
    assert viewer.locator('b').inner_text() == 'c.png'
    viewer.get_by_label('Next image').click()
    assert viewer.locator('b').inner_text() == '<i>b.png'
    page.keyboard.press('Escape')
    assert not viewer.is_visible()
    thumbnail.click()
    viewer.get_by_text('Close').click()
    assert not viewer.is_visible()


@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_cells_are_readable_in_light_and_dark(folder, open_page, scheme):
    page = open_page(folder / 'index.html', color_scheme=scheme)
    colors = page.evaluate(
        """() => {
          const options = { willReadFrequently: true };
          const draw = document.createElement('canvas').getContext('2d', options);
          const rgb = color => {
            draw.fillStyle = color;
            draw.fillRect(0, 0, 1, 1);
            return [...draw.getImageData(0, 0, 1, 1).data].slice(0, 3);
          };
          const cells = [...document.querySelectorAll('#matrix tbody td')];
          return cells.filter(cell => cell.textContent).map(cell => getComputedStyle(cell))
            .map(style => [rgb(style.color), rgb(style.backgroundColor)]);
        }"""
    )
    assert len(colors) == 6
    assert min(contrast(*pair) for pair in colors) > 4.5


def contrast(first, second):
    """Ratio of the luminances of two sRGB colours as WCAG defines it."""
    lights = []
    for color in (first, second):
        parts = np.array(color) / 255
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        lights.append(linear @ [0.2126, 0.7152, 0.0722] + 0.05)
    return max(lights) / min(lights)


LONG = 'a_very_long_name_of_a_class_that_nobody_would_like_to_type_again'
UNUSUAL = {
    'one class': (random_images(num_classes=1), ['pit']),
    'many classes': (random_images(60, 80), [f'class number {k}' for k in range(80)]),
    'long names': (random_images(), [LONG, LONG[::-1], 'c']),
    'nothing found': ([make_image(objects=[(SMALL, 0)])], ['pit', 'dent']),
    'no objects': ([make_image([(SMALL, 0, 0.5)])], ['pit', 'dent']),
    'nothing at all': ([make_image()], ['pit']),
}


@pytest.mark.parametrize('case', UNUSUAL)
def test_unusual_data_fit_on_a_phone(case, tmp_path, open_page):
    images, classes = UNUSUAL[case]
    path = write_evaluation_report(tmp_path, images, classes)
    page = open_page(path, width=360, height=740)
    assert page.evaluate('document.documentElement.scrollWidth') <= 360
    for slider in page.locator('input[type=range]').all():
        slider.fill('0')
    assert page.locator('#sizes [data-cell=found]').last.inner_text() != ''
    assert page.locator('#matrix tbody tr').count() == len(classes) + 1


def test_many_classes_are_folded(tmp_path, open_page):
    images, classes = UNUSUAL['many classes']
    page = open_page(write_evaluation_report(tmp_path, images, classes))
    known = sum(c['objects'] > 0 for c in figures_of(tmp_path)['classes'])
    assert known > 40
    cards = page.locator('[data-curve]')
    assert cards.count() == known
    assert page.locator('[data-curve] >> visible=true').count() == 12
    page.locator('summary').click()
    assert page.locator('[data-curve] >> visible=true').count() == known
    cell = page.locator('#matrix td').first.bounding_box()
    assert cell['width'] == cell['height'] <= 13
    assert page.locator('.none').first.inner_text() == 'The picture could not be read.'
    assert page.locator('.pictures figure').count() == 24


def test_found_false_and_missed_are_drawn_apart():
    objects, crowd = [(SMALL, 0), (MEDIUM, 1)], [((0, 60, 40, 80), 0)]
    found = [(SMALL, 0, 0.9), (FREE, 1, 0.8), ((2, 62, 20, 78), 0, 0.9), (FREE, 0, 0.1)]
    image = make_image(found, objects, crowd)
    test = judge([make_image([(SMALL, 0, 0.5)]), image], CLASSES)
    (faults, *_) = worst_images(test, 0.3, 2)
    assert (faults.image, len(faults.missed), len(faults.false)) == (1, 1, 1)
    drawn = draw_faults(np.zeros((80, 100, 3), np.uint8), image, test, faults, 0.3)
    assert drawn.shape == (410, 512, 3)

    def amount(color, box):
        x1, y1, x2, y2 = (round(5.12 * side) for side in box)
        part = drawn[max(0, y1 - 4) : y2 + 4, max(0, x1 - 4) : x2 + 4].astype(int)
        return (np.abs(part - color).max(axis=-1) < 30).sum()

    assert amount(FOUND, SMALL) > 100 and amount(FALSE, SMALL) == 0
    assert amount(FALSE, FREE) > 100 and amount(FOUND, FREE) == 0
    white = (255, 255, 255)
    assert amount(white, MEDIUM) > 300  # the plate with the name of the missed object
    assert amount(FALSE, (0, 60, 40, 80)) == amount(FOUND, (0, 60, 40, 80)) == 0


def test_large_pictures_are_shrunk_and_lost_ones_are_left_out(tmp_path):
    path = picture(tmp_path / 'large.png', 2000, 100)
    (tmp_path / 'broken.png').write_bytes(b'no picture')
    names = [path, str(tmp_path / 'broken.png'), str(tmp_path / 'none.png')]
    images = [make_image(objects=[(SMALL, 0)], path=name) for name in names]
    test = judge(images, CLASSES)
    pictures = fault_pictures(images, test, worst_images(test, 0.3, 9), 0.3)
    assert [one['uri'] is None for one in pictures] == [False, True, True]
    assert pictures[0]['caption'] == '1 of 1 objects missed'


def test_names_for_opencv():
    assert drawable_name('Öl-Fleck', 0) == 'Ol-Fleck'
    assert drawable_name('划痕', 3) == 'class 3'


def test_step_path_leaves_out_level_points():
    assert step_path([1, 1, 1, 0.5, 0]) == 'M0,0L50,0L75,50L100,100'


def test_figures_stay_when_the_page_fails(tmp_path, monkeypatch):
    images = [make_image([(SMALL, 0, 0.5)])]
    page = write_evaluation_report(tmp_path, images, ['pit'], title='first')
    before = page.read_text(), (tmp_path / 'report.json').read_text()
    monkeypatch.setattr(
        'mmdet_salience.reports.page.environment', lambda: (_ for _ in ()).throw(RuntimeError)
    )
    with pytest.raises(RuntimeError):
        write_evaluation_report(tmp_path, images, ['pit'], title='second')
    assert (page.read_text(), (tmp_path / 'report.json').read_text()) == before
