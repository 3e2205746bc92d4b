#!/usr/bin/env python
"""Plot what a detector looks at in an image: salience, tokens and queries of each level.

python docs/examples/plot_salience.py CONFIG CHECKPOINT IMAGE [--layer 1] [--out plot_salience.png]
"""

import argparse

from matplotlib.figure import Figure
from mmdet.apis import init_detector

from mmdet_salience.apis import ImageInspection, inspect_image


def plot_level(axes: list, arrays: ImageInspection, level: int, layer: int) -> None:
    """Draw salience, tokens of an encoder layer and queries of a level, one below the other."""
    height, width = arrays.image.shape[:2]
    right, bottom = arrays.cell_boxes(level)[-1, 2:]  # of the padded image, in image pixels
    mask = arrays.layer_masks(layer)[level]
    points = arrays.queries.points[arrays.queries.levels == level]
    axes[0].imshow(arrays.salience[level], vmin=0, vmax=1, extent=(0, width, height, 0))
    axes[0].set_title('level {}, {} x {} cells'.format(level, *mask.shape))
    axes[1].imshow(arrays.image, extent=(0, width, height, 0))
    axes[1].imshow(mask, cmap='gray', vmin=0, alpha=0.7 * ~mask, extent=(0, right, bottom, 0))
    axes[1].set_title(f'{mask.sum()} tokens')
    axes[2].imshow(arrays.image, extent=(0, width, height, 0))
    axes[2].scatter(*points.T, s=9, color='red')
    axes[2].set_title(f'{len(points)} queries')
    for axis in axes:
        axis.set(xlim=(0, width), ylim=(height, 0), xticks=(), yticks=())


def main() -> None:
    """Read the command line, detect, plot."""
    parser = argparse.ArgumentParser(description='Plot salience, tokens and queries of an image.')
    for name in ('config', 'checkpoint', 'image'):
        parser.add_argument(name)
    parser.add_argument('--layer', type=int, default=-1, help='encoder layer; -1 is the last')
    parser.add_argument('--out', default='plot_salience.png', help='the picture')
    args = parser.parse_args()
    try:
        model = init_detector(args.config, args.checkpoint, palette='random', device='cpu')
        arrays = inspect_image(model, args.image)
    except (FileNotFoundError, ValueError) as error:
        parser.error(str(error))
    num_layers = len(arrays.layer_tokens)
    if args.layer not in range(-num_layers, num_layers):
        parser.error(f'--layer {args.layer}: there are {num_layers} encoder layers')
    figure = Figure(figsize=(2.6 * len(arrays.salience), 8), dpi=72, layout='constrained')
    axes = figure.subplots(3, len(arrays.salience), squeeze=False)
    for level, column in enumerate(axes.T):
        plot_level(column, arrays, level, args.layer)
    axes[0, 0].set_ylabel('salience')
    axes[1, 0].set_ylabel(f'tokens of encoder layer {args.layer % num_layers}')
    figure.savefig(args.out)


if __name__ == '__main__':
    main()
