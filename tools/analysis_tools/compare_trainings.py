"""Train several configs with several seeds under equal conditions, and tabulate AP with its spread.

A run that is finished is not repeated, so the same command goes on after an interruption and takes
up further configs or seeds.

Example:
    python tools/analysis_tools/compare_trainings.py \
        configs/salience_detr/salience-detr_r18_1xb8-750i_synthetic.py \
        configs/dino/dino-4scale_r18_1xb8-750i_synthetic.py \
        --seeds 0 1 2 --work-dir work_dirs/comparison --cfg-options train_cfg.max_iters=300
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the checkout's own package
sys.path.append(str(Path(__file__).resolve().parents[1]))  # for _settings

from _settings import add_settings, setting_words

from mmdet_salience.analysis.checkpoints import name_configs
from mmdet_salience.analysis.comparison import Table

TOOLS = Path(__file__).resolve().parents[1]
METRICS = {
    'AP': 'coco/bbox_mAP',
    'AP50': 'coco/bbox_mAP_50',
    'APs': 'coco/bbox_mAP_s',
    'APm': 'coco/bbox_mAP_m',
    'APl': 'coco/bbox_mAP_l',
}


class Run(NamedTuple):
    """A training."""

    name: str
    """Name of the config in the tables."""
    config: str
    """Path of the config."""
    seed: int
    """Seed of weights and data order."""
    folder: Path
    """Its work_dir."""

    @property
    def result_file(self) -> Path:
        """Metrics of the last validation; there once the run is finished."""
        return self.folder / 'result.json'


def build_parser() -> argparse.ArgumentParser:
    """Declare the command line.

    Returns:
        The parser.
    """
    parser = argparse.ArgumentParser(
        description='Train configs with several seeds; tabulate AP with its spread.'
    )
    parser.add_argument('configs', nargs='+', metavar='CONFIG', help='config to train')
    parser.add_argument(
        '--seeds', nargs='+', type=int, default=[0, 1, 2], help='default: 0 1 2', metavar='SEED'
    )
    parser.add_argument(
        '--work-dir', type=Path, default=Path('work_dirs/comparison'), help='folder of all runs'
    )
    parser.add_argument('--jobs', type=int, default=1, help='runs at a time (default: 1)')
    add_settings(parser, 'train_cfg.max_iters=300', 'all configs', 'extend')
    return parser


def plan_runs(configs: Sequence[str], seeds: Sequence[int], work_dir: Path) -> list[Run]:
    """List the runs, all configs with the first seed first.

    Args:
        configs: Paths of the configs.
        seeds: Seeds.
        work_dir: Folder of all runs.

    Returns:
        The runs.

    Raises:
        FileNotFoundError: A config is missing.
    """
    for config in configs:
        if not Path(config).is_file():
            raise FileNotFoundError(f'there is no config file {config}; check the path')
    names = name_configs(configs)
    return [
        Run(name, config, seed, work_dir / f'{name}_s{seed}')
        for seed in dict.fromkeys(seeds)
        for name, config in zip(names, configs, strict=True)
    ]


def read_metrics(folder: Path) -> dict[str, float] | None:
    """Read the metrics of the last validation.

    Args:
        folder: The run's work_dir.

    Returns:
        Values by MMEngine's names; None without a validation.
    """
    found = None
    for path in sorted(folder.glob('*/vis_data/scalars.json')):
        for line in path.read_text().splitlines():
            record = json.loads(line)
            if METRICS['AP'] in record:
                found = {key: record[key] for key in METRICS.values() if key in record}
    return found


def train(run: Run, settings: Sequence[str]) -> None:
    """Train, unless it is done; the output goes to ``output.log`` of the run's folder.

    Args:
        run: What to train.
        settings: Options of ``tools/train.py`` that override settings.

    Raises:
        ValueError: The training failed, or did not validate.
    """
    if run.result_file.is_file():
        return
    run.folder.mkdir(parents=True, exist_ok=True)
    log = run.folder / 'output.log'
    command = [sys.executable, str(TOOLS / 'train.py'), run.config, '--work-dir', str(run.folder)]
    command += ['--cfg-options', f'randomness.seed={run.seed}', *settings]
    with log.open('w') as output:
        status = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT).returncode
    metrics = read_metrics(run.folder)
    if status or metrics is None:
        last = (log.read_text(errors='replace').strip().splitlines() or ['no output'])[-1]
        raise ValueError(f'{run.folder.name} failed (see {log}): {last}')
    run.result_file.write_text(json.dumps(metrics))


def train_all(runs: Sequence[Run], settings: Sequence[str], jobs: int) -> list[str]:
    """Train all runs; a failure does not stop the others.

    Args:
        runs: The runs.
        settings: Options of ``tools/train.py`` that override settings.
        jobs: Runs at a time.

    Returns:
        What failed.
    """

    def attempt(run: Run) -> str:
        """Train, and return what failed."""
        try:
            train(run, settings)
        except ValueError as error:
            return str(error)
        return ''

    with ThreadPoolExecutor(jobs) as pool:
        results = tqdm(pool.map(attempt, runs), total=len(runs), unit='run', disable=None)
        return [failure for failure in results if failure]


def spread(values: Sequence[float]) -> str:
    """Write mean and standard deviation; ``-`` for what the data cannot tell (-1)."""
    known = [value for value in values if value >= 0]
    if not known:
        return '-'
    return f'{fmean(known):.3f}' + (f' ± {stdev(known):.3f}' if len(known) > 1 else '')


def read_results(runs: Sequence[Run]) -> dict[str, dict[int, dict[str, float]]]:
    """Read the metrics of the finished runs, by name and seed."""
    results: dict[str, dict[int, dict[str, float]]] = {}
    for run in runs:
        if run.result_file.is_file():
            results.setdefault(run.name, {})[run.seed] = json.loads(run.result_file.read_text())
    return results


def tabulate(results: dict[str, dict[int, dict[str, float]]]) -> Table:
    """Tabulate mean and standard deviation over the seeds, best AP first.

    Args:
        results: Metrics by name and seed.

    Returns:
        The table.
    """
    rows: list[tuple[float, tuple[str, ...]]] = []
    for name, by_seed in results.items():
        values = {
            title: [metrics[key] for metrics in by_seed.values() if key in metrics]
            for title, key in METRICS.items()
        }
        row = (name, str(len(by_seed)), *(spread(values[title]) for title in METRICS))
        each = ' '.join(f'{by_seed[seed][METRICS["AP"]]:.3f}' for seed in sorted(by_seed))
        rows.append((fmean(values['AP']), (*row, each)))
    rows.sort(key=lambda row: -row[0])
    header = ('model', 'seeds', *METRICS, 'AP of each seed')
    return Table('AP after equal training', header, tuple(cells for _, cells in rows))


def describe(table: Table, settings: Sequence[str]) -> Iterator[str]:
    """Write the table as Markdown, with the settings."""
    yield table.as_markdown()
    yield 'Mean ± standard deviation over the seeds. Settings: ' + (' '.join(settings) or 'none')


def write_results(results: dict[str, Any], text: str, folder: Path) -> None:
    """Write ``trainings.json`` and ``trainings.md``."""
    (folder / 'trainings.json').write_text(json.dumps(results, indent=1))
    (folder / 'trainings.md').write_text(f'{text}\n', encoding='utf-8')


def main(argv: Sequence[str] | None = None) -> int:
    """Train what is missing, and tabulate what is there.

    Args:
        argv: Command line without the program's name; that of the process by default.

    Returns:
        The exit status, 1 if a run failed.
    """
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.jobs < 1:
        parser.error(f'--jobs must be at least 1, got {args.jobs}')
    try:
        runs = plan_runs(args.configs, args.seeds, args.work_dir)
    except (FileNotFoundError, ValueError) as error:
        parser.error(str(error))
    settings = setting_words(args.cfg_options or [], args.data_root)
    failures = train_all(runs, settings, args.jobs)
    results = read_results(runs)
    if results:
        table = tabulate(results)
        print(table.as_text())
        write_results(results, '\n\n'.join(describe(table, settings)), args.work_dir)
        print(f'\nwritten to {args.work_dir}')
    for failure in failures:
        print(failure, file=sys.stderr)
    return 1 if failures else 0


if __name__ == '__main__':
    sys.exit(main())
