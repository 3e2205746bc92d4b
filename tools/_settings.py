"""Settings of a config on the command line: ``--cfg-options`` and ``--data-root``."""

import argparse
import re
from collections.abc import Sequence
from typing import Any

from mmengine.config import Config, DictAction

# Settings that are paths, or name folders, whatever they look like.
PATH_KEYS = (
    'ann_file', 'checkpoint', 'data_root', 'img', 'load_from', 'name', 'out_dir', 'outfile_prefix',
    'work_dir',
)  # fmt: skip
OPTIONS = {'data_root': '--data-root', 'work_dir': '--work-dir'}  # that take a path as it is
SPACE_IN_TEXT = re.compile(r'[^\s,()\[\]]\s+[^\s,()\[\]]')


class SettingError(ValueError):
    """A setting of the command line that cannot be applied to the config."""


def describe_change(key: str, value: str, parsed: Any, usage: str) -> str:
    """Say what MMEngine's parser did to a value that it changed.

    Args:
        key: The setting.
        value: The text of the command line.
        parsed: What MMEngine's parser made of it.
        usage: The options of the tool.

    Returns:
        What happened and what to do; empty where the value means what it says.
    """
    last, text = key.rpartition('.')[2], value.strip('\'"')
    is_path = last in PATH_KEYS and parsed is not None and not text.startswith(('[', '('))
    if not SPACE_IN_TEXT.search(text) and not (is_path and parsed != text):
        return ''
    remedy = 'write it into a config that names this one as _base_'
    if key in OPTIONS and OPTIONS[key] in usage:
        remedy = f'name the folder by {OPTIONS[key]} "{text}", which takes it as it is'
    return (
        f"{key}={value}: MMEngine's parser of options drops spaces, splits at commas and reads "
        f'numbers, which leaves {parsed!r}; {remedy}'
    )


class SettingsAction(DictAction):
    """MMEngine's ``KEY=VALUE``, which refuses values that it would change."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Add the settings to those of the namespace.

        Args:
            parser: The parser.
            namespace: What it has read so far.
            values: The words of the command line.
            option_string: Name of the option.

        Raises:
            ArgumentError: A word is no setting, or its value would be changed.
        """
        for word in values:
            if not word.partition('=')[1]:
                message = f'expected KEY=VALUE, got {word!r}; put a value with spaces in quotes'
                raise argparse.ArgumentError(self, message)
        try:
            super().__call__(parser, namespace, values, option_string)
        except AssertionError as error:  # of brackets that do not match
            raise argparse.ArgumentError(self, str(error)) from error
        parsed = getattr(namespace, self.dest)
        for key, _, value in (word.partition('=') for word in values):
            change = describe_change(key, value, parsed[key], parser.format_usage())
            if change:
                raise argparse.ArgumentError(self, change)


def add_settings(
    parser: argparse.ArgumentParser,
    example: str,
    owner: str = 'the config',
    action: type[argparse.Action] | str = SettingsAction,
) -> None:
    """Declare how settings of a config are overridden.

    Args:
        parser: The parser, to which the options are added in place.
        example: A setting that one may want to override.
        owner: Whose settings they are.
        action: How the settings are read.
    """
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=action,
        metavar='KEY=VALUE',
        help=f'override settings of {owner}, such as {example} or key="[(a,b),(c,d)]" (no spaces)',
    )
    parser.add_argument(
        '--data-root',
        metavar='DIR',
        help=f'folder of the data instead of the data_root of {owner}; may hold spaces and commas',
    )


def override_root(cfg: Config, settings: dict[str, Any], data_root: str | None) -> None:
    """Override ``data_root`` of a config, in place; datasets are not moved yet.

    Args:
        cfg: The config.
        settings: Settings by their dotted keys.
        data_root: The value of ``--data-root``.

    Raises:
        SettingError: The config has no ``data_root``, or the settings have one too.
    """
    if data_root is None:
        cfg.merge_from_dict({key: settings[key] for key in ('data_root',) if key in settings})
        return
    if 'data_root' in settings:
        raise SettingError('--data-root and --cfg-options data_root=... are both given; drop one')
    if not cfg.get('data_root'):
        raise SettingError(
            f'--data-root replaces the data_root of a config, but {cfg.filename} has none; set '
            'train_dataloader.dataset.data_root and the like in the config'
        )
    cfg.data_root = data_root


def setting_words(settings: Sequence[str], data_root: str | None) -> list[str]:
    """Write settings for the command line of another tool.

    Args:
        settings: ``KEY=VALUE``.
        data_root: The value of ``--data-root``.

    Returns:
        The words.
    """
    root = [] if data_root is None else [f'--data-root={data_root}']
    return [*root, *(['--cfg-options', *settings] if settings else [])]
