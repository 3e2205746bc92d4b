"""Reading of annotation files, with errors that tell what to do."""

import codecs
import json
import os
import shlex
from pathlib import Path
from typing import Any

from mmengine.fileio import get_local_path


def is_local(path: str, backend_args: dict[str, Any] | None = None) -> bool:
    """Whether a path is one of this file system, and not of a remote store.

    Args:
        path: Path or address.
        backend_args: Arguments of MMEngine's file backend.

    Returns:
        True for a path.
    """
    return '://' not in path and (backend_args or {}).get('backend', 'local') == 'local'


def require_file(path: Path) -> None:
    """Check that an annotation file is there.

    Args:
        path: The file.

    Raises:
        FileNotFoundError: If not; the message lists the ``.json`` files of its folder.
    """
    if os.path.isfile(path):
        return
    folder = path if os.path.isdir(path) else path.parent
    if not os.path.isdir(folder):
        raise FileNotFoundError(f'there is no annotation file {path}, nor its folder {folder}')
    names = sorted(file.name for file in folder.glob('*.json'))
    found = f'it holds {", ".join(names[:10])}' if names else 'it holds no .json file'
    more = f' and {len(names) - 10} more' if len(names) > 10 else ''
    problem = f'{path} is a folder' if folder == path else f'there is no annotation file {path}'
    raise FileNotFoundError(f'{problem}; name a file in {folder}: {found}{more}')


def _json_error(path: str, error: json.JSONDecodeError) -> ValueError:
    """Turn a parser's error into one that names the file and says whether it is cut off."""
    is_cut = not error.doc.rstrip().endswith('}') or not error.doc[error.pos :].strip()
    hint = '; the file seems to be cut off, copy or download it again' if is_cut else ''
    return ValueError(
        f'{path} is not valid JSON: {error.msg} at line {error.lineno}, column {error.colno} '
        f'(character {error.pos} of {len(error.doc)}){hint}'
    )


def _mark_error(name: str, encoding: str) -> ValueError:
    """Make an error about a byte-order mark, at which pycocotools would stop, with the remedy."""
    program = (
        f'import pathlib; file = pathlib.Path({name!r}); '
        f'file.write_text(file.read_text("{encoding}"), "utf-8")'
    )
    return ValueError(
        f'{name} begins with a byte-order mark (Python calls this encoding {encoding}), which COCO '
        'readers do not take; save it as UTF-8 without BOM in an editor, or by\n'
        f'  {shlex.join(["python", "-c", program])}'
    )


def _parse(path: Path, name: str) -> Any:
    """Parse a file of this file system; all errors are ValueErrors with its name."""
    try:
        return json.loads(path.read_text(encoding='utf-8'))
    except json.JSONDecodeError as error:
        if error.doc.startswith('\ufeff'):
            raise _mark_error(name, 'utf-8-sig') from None
        raise _json_error(name, error) from None
    except UnicodeDecodeError as error:
        if error.object.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise _mark_error(name, 'utf-16') from None
        raise ValueError(f'{name} is not a text file in UTF-8: {error}') from None
    except RecursionError:
        raise ValueError(f'{name} is no annotation file: its lists are nested too deeply') from None
    except ValueError as error:  # a number of thousands of digits
        raise ValueError(f'{name} is no annotation file: {error}') from None
    except OSError as error:
        raise ValueError(f'{name} cannot be read: {error.strerror or error}') from error


def load_annotation_content(
    path: str | Path, backend_args: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Parse an annotation file.

    Args:
        path: Path or address of the file.
        backend_args: Arguments of MMEngine's file backend.

    Returns:
        Its content.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read, is not JSON, or not an object.
    """
    name = str(path)
    if is_local(name, backend_args):
        require_file(Path(path))
    with get_local_path(name, backend_args=backend_args) as local_path:
        content = _parse(Path(local_path), name)
    if not isinstance(content, dict):
        raise ValueError(
            f'{name} holds a {type(content).__name__} instead of a COCO object with images, '
            'annotations and categories'
        )
    return content
