"""Write the synthetic surface defects data set.

Example:
    python tools/dataset_converters/synthetic_defects.py data/synthetic_defects --num-train 600
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))  # for _data_package

import _data_package  # noqa: F401  # the data modules of the checkout's own package

from mmdet_salience.datasets import DefectSettings, generate_synthetic_defects

HELP = {
    'num_train': 'images of the training split',
    'num_val': 'images of the validation split',
    'image_size': 'side of the square images in pixels, at least 32',
    'seed': 'seed of the whole set',
    'max_defects': 'most defects in an image',
    'num_empty_fraction': 'share of images without a defect, 0 to 1',
    'min_defect_px': 'smallest longest side of a defect in pixels, at least 3',
    'max_defect_ratio': 'largest longest side of a defect over the image side, at most 0.8',
    'max_box_iou': 'most IoU between two boxes of an image',
    'contrast': 'factor on the strength of all defects',
}


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line; one option for each field of ``DefectSettings``.

    Args:
        argv: Arguments, those of the process if None.

    Returns:
        ``out_dir`` and the settings by their names.
    """
    parser = argparse.ArgumentParser(
        description='Write the synthetic surface defects data set in COCO format.',
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        'out_dir', nargs='?', default='data/synthetic_defects', help='folder of the data set'
    )
    for field in fields(DefectSettings):
        parser.add_argument(
            '--' + field.name.replace('_', '-'),
            type=type(field.default),
            default=field.default,
            help=HELP[field.name],
        )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Write the data set and print what it holds.

    Args:
        argv: Arguments, those of the process if None.

    Raises:
        SystemExit: With a message if a setting is out of range or other files are in the way.
    """
    settings = vars(parse_args(argv))
    try:
        result = generate_synthetic_defects(**settings)
    except (ValueError, OSError) as error:
        raise SystemExit(f'error: {error}') from error
    state = 'already there, nothing written' if result.reused else 'written'
    print(f'{result.root}: {state}')
    for split, images in result.num_images.items():
        print(
            f'  {split}: {images} images, {result.num_boxes[split]} defects, '
            f'{result.ann_files[split]}'
        )


if __name__ == '__main__':
    main()
