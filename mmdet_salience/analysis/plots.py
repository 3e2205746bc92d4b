"""Picture of a comparison: accuracy or tokens, and multiply-adds by part."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .comparison import DetectorResult, giga
from .flops import PARTS

# Okabe and Ito's palette, which colour-blind people can tell apart, with a grey for the rest.
PART_COLORS = dict(
    backbone='#0072B2',
    neck='#56B4E9',
    predictor='#F0E442',
    encoder='#D55E00',
    fusion='#009E73',
    decoder='#E69F00',
    heads='#CC79A7',
    other='#999999',
)
MODEL_COLORS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9', '#000000')
MARKERS = 'osD^vPX'
DARK_PARTS = ('backbone', 'encoder', 'fusion')
LABELLED_SHARE = 0.06
NAME_WIDTH = 26


def short_name(name: str) -> str:
    """Break a long name into lines at its underscores."""
    lines = ['']
    for piece in name.split('_'):
        joined = f'{lines[-1]}_{piece}' if lines[-1] else piece
        if len(joined) > NAME_WIDTH and lines[-1]:
            lines.append(f'_{piece}')
        else:
            lines[-1] = joined
    return '\n'.join(lines)


def style_of(number: int) -> dict[str, Any]:
    """Colour and marker of a detector; both repeat after seven."""
    return dict(
        color=MODEL_COLORS[number % len(MODEL_COLORS)], marker=MARKERS[number % len(MARKERS)]
    )


def draw_accuracy(axes: Axes, results: Sequence[DetectorResult]) -> None:
    """Draw AP against multiply-adds, a labelled point for each detector with a checkpoint.

    Args:
        axes: Where to draw.
        results: The detectors.
    """
    for number, result in enumerate(results):
        if result.accuracy is not None and result.accuracy.ap is not None:
            work, ap = result.work.total / 1e9, 100 * result.accuracy.ap
            axes.plot(work, ap, linestyle='none', markersize=9, **style_of(number))
            axes.annotate(
                short_name(result.name),
                (work, ap),
                xytext=(8, 0),
                textcoords='offset points',
                va='center',
                fontsize=8,
            )
    axes.set(xlabel='multiply-adds (G)', ylabel='AP (%)', title='Accuracy and work')
    axes.margins(x=0.35, y=0.2)
    axes.grid(alpha=0.3)


def draw_tokens(axes: Axes, results: Sequence[DetectorResult]) -> None:
    """Draw the tokens that each encoder layer updates.

    Args:
        axes: Where to draw.
        results: The detectors; those without encoder layers are left out.
    """
    most = 1
    for number, result in enumerate(results):
        tokens = result.work.layer_tokens
        if tokens:
            most = max(most, len(tokens))
            layers = range(1, len(tokens) + 1)
            axes.plot(layers, tokens, label=short_name(result.name), **style_of(number))
    axes.set(xlabel='encoder layer', ylabel='tokens updated', title='Tokens of the encoder')
    axes.set_xticks(range(1, most + 1))
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    if axes.get_lines():
        axes.legend(fontsize=8, loc='best')


def draw_work(axes: Axes, results: Sequence[DetectorResult]) -> None:
    """Draw multiply-adds by part as stacked bars, the first detector on top.

    Args:
        axes: Where to draw.
        results: The detectors.
    """
    most = max(result.work.total + result.work.sampling for result in results) / 1e9
    for number, result in enumerate(results):
        left = 0.0
        for part in PARTS:
            count = result.work.by_part[part]
            work = count / 1e9
            axes.barh(number, work, left=left, color=PART_COLORS[part], edgecolor='white')
            if work > LABELLED_SHARE * most:
                color = 'white' if part in DARK_PARTS else 'black'
                middle = left + work / 2
                style: dict[str, Any] = dict(ha='center', va='center', color=color, fontsize=8)
                axes.text(middle, number, giga(count), **style)
            left += work
        sampling = result.work.sampling / 1e9
        axes.barh(number, sampling, left=left, color='white', edgecolor='black', hatch='/////')
        end = left + sampling + 0.01 * most
        axes.text(end, number, giga(result.work.total), va='center', fontsize=9)
    axes.set_yticks(range(len(results)), [short_name(result.name) for result in results])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.12 * most)
    axes.set(xlabel='multiply-adds (G); totals without sampling', title='Multiply-adds by part')


def draw_work_legend(axes: Axes, results: Sequence[DetectorResult]) -> None:
    """Explain the colours of the parts that any detector has, below the bars.

    Args:
        axes: Axes with the bars.
        results: The detectors.
    """
    handles = [
        axes.barh(0, 0, color=PART_COLORS[part], label=part)
        for part in PARTS
        if any(result.work.by_part[part] for result in results)
    ]
    handles.append(
        axes.barh(0, 0, color='white', edgecolor='black', hatch='/////', label='sampling (formula)')
    )
    axes.legend(
        handles=handles, ncols=5, fontsize=8, loc='upper center', bbox_to_anchor=(0.5, -0.16)
    )


def draw_comparison(results: Sequence[DetectorResult], path: Path) -> None:
    """Draw a comparison: AP against work where any AP is known, else tokens; and work by part.

    Args:
        results: The detectors.
        path: Picture to write.
    """
    figure = Figure(figsize=(13, 4.2 + 0.35 * len(results)), layout='constrained')
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.4))
    if any(result.accuracy for result in results):
        draw_accuracy(left, results)
    else:
        draw_tokens(left, results)
    draw_work(right, results)
    draw_work_legend(right, results)
    figure.savefig(path, dpi=120)
