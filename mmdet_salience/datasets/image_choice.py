"""Which images of a data set to look at."""

import numpy as np
from mmengine.dataset import BaseDataset

ORDERS = ('size', 'index')


def choose_images(dataset: BaseDataset, number: int, order: str = 'size') -> list[int]:
    """Choose images evenly along an order; the same ones for the same data.

    Args:
        dataset: The data.
        number: Images to choose; all if there are fewer.
        order: ``'size'`` orders images by the area of their largest object, so that small and
            large objects are shown; it reads the annotations of all images once. ``'index'`` takes
            them as they come.

    Returns:
        Indices into the data, in that order, first and last one included.

    Raises:
        ValueError: There is no such order, or no image.
    """
    if order not in ORDERS:
        raise ValueError(f'images can be chosen by {" or ".join(ORDERS)}, not by {order}')
    total = len(dataset)
    if not total:
        raise ValueError('there are no images to choose from; check ann_file and filter_cfg')
    ranks = list(range(total))
    if order == 'size':
        ranks.sort(key=lambda index: largest_area(dataset, index))
    places = np.linspace(0, total - 1, min(number, total)).round().astype(int)
    return [ranks[place] for place in places]


def largest_area(dataset: BaseDataset, index: int) -> float:
    """Area of the largest object of an image in square pixels, 0 without objects.

    Args:
        dataset: The data.
        index: Which image.

    Returns:
        The area of its bounding box.
    """
    boxes = (item['bbox'] for item in dataset.get_data_info(index)['instances'])
    return max(((x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in boxes), default=0.0)
