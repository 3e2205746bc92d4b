"""The page of inspected images in a real browser, opened from disk."""

import pytest
from inspections import make_inspection, objects
from playwright.sync_api import expect

from mmdet_salience.reports.salience_report import image_record, write_salience_report

CLASSES = ('scratch', '</script><b>pit')
TRUTH = objects([(8, 8, 40, 42), (50, 40, 80, 58)], [0, 1])


@pytest.fixture(scope='module')
def report(tmp_path_factory):
    """Four images: one object missed, all found, objects unknown, three missed."""
    images = [
        make_inspection(truth=TRUTH, path='a.png'),
        make_inspection(truth=objects([(8, 8, 40, 42)], [0]), path='b.png'),
        make_inspection(path='c.png'),
        make_inspection(
            objects(),
            objects([(1, 1, 9, 9), (20, 1, 29, 9), (30, 1, 39, 9)], [0, 0, 1]),
            path='d.png',
        ),
    ]
    path = tmp_path_factory.mktemp('page') / 'index.html'
    records = [image_record(image, CLASSES) for image in images]
    return write_salience_report(path, records, 0.3, dict(config='<i>config</i>.py'))


def drawn(page, kind):
    """How many boxes or points of a kind are shown."""
    return page.locator(f'#marks .{kind}').count()


def set_slider(page, name, value):
    page.locator(f'#{name}').fill(str(value))


def count_of(page, key):
    return page.locator(f'[data-count={key}]').inner_text()


def pixels(page):
    """Colours of the map, one number each, at the middles of the finest cells of the image."""
    return page.evaluate(
        """() => {
          const canvas = document.getElementById('map');
          const copy = document.createElement('canvas');
          [copy.width, copy.height] = [canvas.width, canvas.height];
          const context = copy.getContext('2d', { willReadFrequently: true });
          context.drawImage(canvas, 0, 0);
          const dense = canvas.width / 90;
          const read = (x, y) => context.getImageData(x * dense, y * dense, 1, 1).data.join(' ');
          return Array.from({ length: 11 }, (_, column) => read(8 * column + 4, 4));
        }"""
    )


def test_threshold_hides_boxes_at_once(report, open_page):
    page = open_page(report)
    assert (drawn(page, 'found'), drawn(page, 'false'), drawn(page, 'missed')) == (1, 1, 1)
    assert [count_of(page, key) for key in ('objects', 'found', 'missed', 'false')] == list('2111')
    set_slider(page, 'score', 0.5)
    assert (drawn(page, 'found'), drawn(page, 'false'), drawn(page, 'missed')) == (1, 0, 1)
    assert count_of(page, 'false') == '0'
    set_slider(page, 'score', 0.95)
    assert (drawn(page, 'found'), drawn(page, 'false'), drawn(page, 'missed')) == (0, 0, 2)
    assert page.locator('#score-value').inner_text() == '0.95'
    page.locator('#show-objects').uncheck()
    assert page.locator('#marks rect').count() == 0


def test_boxes_lie_where_they_were_found(report, open_page):
    page = open_page(report)
    box = page.locator('#marks .found rect').first.bounding_box()
    stage = page.locator('#stage').bounding_box()
    scale = stage['width'] / 90
    assert stage['height'] == pytest.approx(60 * scale, abs=1)
    line = 3.5 / 2  # half of it lies outside the box
    assert box['x'] - stage['x'] == pytest.approx(8 * scale, abs=line + 1)
    assert box['width'] == pytest.approx(32 * scale, abs=2 * line + 1)


def test_layers_and_levels_change_the_map(report, open_page):
    page = open_page(report)
    page.locator('input[name=map][value=none]').check()
    assert set(pixels(page)) == {'0 0 0 0'}
    set_slider(page, 'layer', 1)
    page.locator('input[name=map][value=tokens]').check()
    first = pixels(page)
    assert len(set(first[2:])) == 1 and first[0] != first[5]  # token 0 is the corner's
    set_slider(page, 'layer', 2)
    assert pixels(page)[0] == first[0]
    set_slider(page, 'layer', 3)
    assert len(set(pixels(page))) == 1  # no token at all
    assert page.locator('#tokens tr.current td').all_inner_texts() == ['3', *'00000']
    set_slider(page, 'layer', 1)
    assert page.locator('#tokens tr.current td').all_inner_texts() == ['1', *'11002']
    page.locator('[data-level="0"]').uncheck()
    assert pixels(page)[0] != first[0]  # now the coarser token's


def test_salience_by_level(report, open_page):
    page = open_page(report)
    largest = pixels(page)[3]
    page.locator('input[name=level][value="3"]').check()
    assert pixels(page)[3] == largest  # level 3 has the largest salience, 1
    page.locator('input[name=level][value="0"]').check()
    assert pixels(page)[3] != largest
    page.locator('input[name=map][value=target]').check()
    assert pixels(page)[3].split()[:3] != largest.split()[:3]


def test_queries_before_and_after(report, open_page):
    page = open_page(report)
    assert page.locator('#marks circle').count() == 0
    page.locator('input[name=queries][value=before]').check()
    assert (drawn(page, 'kept'), drawn(page, 'removed'), drawn(page, 'added')) == (3, 1, 0)
    page.locator('input[name=queries][value=after]').check()
    assert (drawn(page, 'kept'), drawn(page, 'removed'), drawn(page, 'added')) == (3, 0, 1)
    added = page.locator('#marks .added')
    scale = page.locator('#stage').bounding_box()['width'] / 90
    assert float(added.get_attribute('cx')) == pytest.approx(
        36 * scale
    )  # token 40: row 3, column 4
    assert float(added.get_attribute('cy')) == pytest.approx(28 * scale)


def test_worst_images(report, open_page):
    page = open_page(report)
    names = page.locator('#worst tbody a')
    assert names.all_inner_texts() == ['d.png', 'a.png', 'b.png']
    names.first.click()
    expect(page.locator('#name')).to_contain_text('d.png')
    assert drawn(page, 'missed') == 3
    assert page.locator('#strip [aria-current]').inner_text().startswith('d.png')
    assert page.locator('#worst tfoot td').all_inner_texts() == ['all images', *'6242']
    set_slider(page, 'score', 0.95)
    assert page.locator('#worst tfoot td').all_inner_texts() == ['all images', *'6060']


def test_keys_and_addresses(report, open_page):
    page = open_page(report, fragment='#image-3')
    assert page.locator('#name').inner_text().startswith('c.png')
    assert 'objects unknown' in page.locator('#status').inner_text()
    page.keyboard.press('ArrowRight')
    assert page.locator('#name').inner_text().startswith('d.png')
    page.keyboard.press('ArrowRight')  # there is no further one
    page.keyboard.press('ArrowLeft')
    assert page.url.endswith('#image-3')
    page.locator('#layer').focus()
    page.keyboard.press('ArrowRight')  # moves the slider, not the image
    assert page.locator('#layer-value').inner_text() == '2 of 3'
    assert page.locator('#name').inner_text().startswith('c.png')
    page.locator('#strip a').nth(1).click()
    expect(page.locator('#name')).to_contain_text('b.png')
    assert page.url.endswith('#image-2')


def test_names_are_no_markup(report, open_page):
    page = open_page(report)
    assert page.locator('main b, main i:not(.swatch):not(.ramp)').count() == 0
    assert 'missed </script><b>pit' in page.locator('#marks text').all_text_contents()
    assert page.locator('.facts td').inner_text() == '<i>config</i>.py'


@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_phone(report, open_page, scheme):
    page = open_page(report, width=360, height=740, color_scheme=scheme)
    assert page.evaluate('document.documentElement.scrollWidth') <= 360
    stage = page.locator('#stage').bounding_box()
    assert stage['x'] >= 0 and stage['x'] + stage['width'] <= 360
    page.locator('input[name=queries][value=after]').check()
    assert drawn(page, 'kept') == 3
    page.set_viewport_size(dict(width=800, height=740))
    for _ in range(200):  # the page has to notice; its policy forbids wait_for_function
        if page.locator('#stage').bounding_box()['width'] > 500:
            return
        page.wait_for_timeout(50)
    pytest.fail('the picture did not grow with the window')


def test_zoom_scrolls_within_its_frame(report, open_page):
    page = open_page(report)
    before = page.locator('#stage').bounding_box()
    set_slider(page, 'zoom', 3)
    after = page.locator('#stage').bounding_box()
    assert after['width'] == pytest.approx(3 * before['width'], rel=0.01)
    assert page.evaluate('document.documentElement.scrollWidth') <= 1280


def test_hundreds_of_boxes_have_no_names(open_page, tmp_path):
    boxes = [(x, y, x + 4, y + 4) for x in range(0, 85, 6) for y in range(0, 55, 4)]
    many = make_inspection(objects(boxes, [0] * len(boxes), [0.5] * len(boxes)))
    page = open_page(write_salience_report(tmp_path / 'p.html', [image_record(many, CLASSES)]))
    assert drawn(page, 'found') == len(boxes) > 200
    assert page.locator('#marks text').count() == 0
    assert 'names are left out above 60' in page.locator('#status').inner_text()
    assert page.locator('#worst').count() == 0  # nothing is known of objects
