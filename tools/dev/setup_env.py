"""Create `.venv`, install the tested dependencies and the project into it.

`make setup` runs this file. When the stamp in `.venv` fits, it returns at once. Only the standard
library is needed, and the file parses on Python 3.6, so that an old interpreter gets one readable
line and not a SyntaxError; that is why newer forms of annotation are quoted.
"""

import argparse
import hashlib
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
OLDEST_PYTHON = (3, 10)
STAMP_INPUTS = ('requirements.txt', 'constraints.txt', 'setup.cfg', 'setup.py')
STEPS = 6
# CFLAGS replaces Python's own compiler flags, so the optimisation level has to be among them.
FLAGS = ['-O2', '-g0', '-DNDEBUG', '-fwrapv']
ACCELERATORS = ('CUDA', 'MLU', 'MPS', 'MUSA', 'NPU')
NETWORK_REMEDY = 'check the network and the package index (pip config list), then run make again'
BUILD_NOTICE = "building mmcv's operators: about 2 minutes on two cores (up to 10 without GCC)"
MISSING_OPS = (
    'mmcv has no compiled operators (mmcv._ext cannot be imported); run '
    '".venv/bin/pip cache remove onedl_mmcv", delete .venv and run make again'
)
TORCH_PROBE = (
    'import json, torch; from torch.utils import cpp_extension as e; '
    'print(json.dumps([e.include_paths(), torch.cuda.is_available(), e.CUDA_HOME]))'
)


class SetupError(RuntimeError):
    """A reason to stop, in one line that names the remedy."""


def check_python(version: 'tuple[int, ...]') -> None:
    """Stop when `version` is older than the oldest Python supported."""
    if tuple(version[:2]) < OLDEST_PYTHON:
        raise SetupError(
            f'Python {version[0]}.{version[1]} is too old: 3.10 or newer is needed; '
            'choose one with "make PYTHON=python3.11 setup"'
        )


def check_standard_library(include: Path) -> None:
    """Stop when Python came without `venv`, `ensurepip` or its C headers (in `include`)."""
    for module in ('venv', 'ensurepip'):
        if importlib.util.find_spec(module) is None:
            raise SetupError(
                f'this Python has no {module} module; install it '
                '(Debian, Ubuntu: apt install python3-venv)'
            )
    if not (include / 'Python.h').is_file():
        raise SetupError(
            "Python's C headers (Python.h) are missing; install them "
            '(Debian, Ubuntu: apt install python3-dev)'
        )


def find_compiler(environ: 'dict[str, str]') -> 'list[str]':
    """Return the command of the C++ compiler: `CXX` if set, else the first usual name on PATH."""
    wanted = environ.get('CXX', '').strip()
    for command in [wanted] if wanted else ['c++', 'g++', 'clang++']:
        words = shlex.split(command)
        if shutil.which(words[0], path=environ.get('PATH', '')):
            return words
    raise SetupError(
        (f'the C++ compiler CXX={wanted} was not found' if wanted else 'no C++ compiler was found')
        + ', and mmcv is built from source; install one (Debian, Ubuntu: apt install g++) '
        'or set CXX to yours'
    )


def stamp_text(root: Path, version: 'tuple[int, ...]') -> str:
    """Describe what an environment was made from: the place, the Python and the files' hashes."""
    lines = [f'root {root}', f'python {version[0]}.{version[1]}']
    for name in STAMP_INPUTS:
        path = root / name
        digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else 'absent'
        lines.append(f'{name} {digest}')
    return '\n'.join(lines) + '\n'


def pinned(root: Path, name: str) -> str:
    """Return the version that `constraints.txt` pins for the distribution `name`."""
    pattern = rf'^{re.escape(name)}==([^\s;]+)'
    found = re.search(pattern, (root / 'constraints.txt').read_text('utf-8'), re.MULTILINE)
    assert found is not None, f'constraints.txt pins no {name}'
    return found.group(1)


def parallel_jobs(meminfo: Path = Path('/proc/meminfo')) -> int:
    """Return how many compilers to run at once: one a usable CPU, and about 1 GB of memory each."""
    affinity = getattr(os, 'sched_getaffinity', None)  # Linux only
    cpus = len(affinity(0)) if affinity else os.cpu_count() or 1
    text = meminfo.read_text() if meminfo.is_file() else ''
    found = re.search(r'MemAvailable:\s+(\d+) kB', text)
    return max(1, min(cpus, int(found.group(1)) // 10**6)) if found else cpus


class Environment:
    """The virtual environment in `folder`, and the steps that fill it, one line each."""

    def __init__(self, root: Path, folder: Path, compiler: 'list[str]') -> None:
        self.root = root
        self.folder = folder
        self.compiler = compiler
        self.python = str(folder / 'bin' / 'python')
        self.log = folder / 'setup.log'
        self.step = 0

    def build(self) -> None:
        """Do all steps; what an interrupted or earlier run has done is not done again."""
        self.create()
        tools = [f'{name}=={pinned(self.root, name)}' for name in ('setuptools', 'wheel', 'ninja')]
        self.pip('build tools', *tools)
        torch = pinned(self.root, 'torch')
        self.pip(f'torch {torch}', f'torch=={torch}')
        self.install_mmcv()
        # mmdet has no wheel either; the build tools above serve it too.
        self.pip('other dependencies', '--no-build-isolation', '-r', 'requirements.txt')
        arguments = ['--no-deps', '--no-build-isolation', '-e', '.']
        self.pip('this project', *arguments, remedy='look for the error in the log')
        self.repair_cv2()
        if self.ask('-c', 'import torch, mmcv._ext') is None:
            raise SetupError(MISSING_OPS)

    def create(self) -> None:
        """Create the environment, unless one with pip for this Python is there."""
        library = self.folder / 'lib' / 'python{}.{}'.format(*sys.version_info)
        usable = Path(self.python).exists() and (library / 'site-packages' / 'pip').is_dir()
        if not usable and self.folder.exists():
            ours = self.log.exists() or (self.folder / 'pyvenv.cfg').exists()
            if not ours or Path(sys.prefix) == self.folder.resolve():
                raise SetupError(f'{self.folder} is in use; deactivate it or move it away')
            shutil.rmtree(str(self.folder))
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [self.python, '--version']
        if not usable:
            command = [sys.executable, '-m', 'venv', str(self.folder)]
        self.run('virtual environment', command, 'install python3-venv, then run make again')

    def pip(self, label: str, *arguments: str, **options: Any) -> None:
        """Install what `arguments` name, held to the tested versions; `options` are of `run`."""
        pip = [self.python, '-m', 'pip', '--disable-pip-version-check', '--no-input', 'install']
        self.run(label, [*pip, '-c', 'constraints.txt', *arguments], **options)

    def install_mmcv(self) -> None:
        """Install mmcv, compiling its operators against torch unless pip kept the wheel."""
        version = pinned(self.root, 'onedl-mmcv')
        headers = self.folder / 'pch'
        arguments = ['-v', '--no-build-isolation', f'onedl-mmcv=={version}']
        remedy = 'look for the first "error:" in the log; MAX_JOBS=1 make setup saves memory'
        try:
            variables = None if self.has_mmcv(version) else self.build_variables(headers)
            self.pip(f'mmcv {version}', *arguments, remedy=remedy, env=variables)
        finally:
            shutil.rmtree(str(headers), ignore_errors=True)

    def has_mmcv(self, version: str) -> bool:
        """Tell whether this mmcv is installed, or built earlier and in pip's cache."""
        probe = f'import importlib.metadata as m; assert m.version("onedl-mmcv") == "{version}"'
        if self.ask('-c', probe) is not None:
            return True
        wheels = self.ask('-m', 'pip', 'cache', 'list', 'onedl_mmcv') or ''
        return f'onedl_mmcv-{version}-cp{sys.version_info[0]}{sys.version_info[1]}-' in wheels

    def build_variables(self, headers: Path) -> 'dict[str, str]':
        """Return the environment variables of mmcv's build.

        Most of the time goes into parsing torch's header in each of 78 files. GCC reads a
        precompiled one instead when the flags agree, and the plain one otherwise. Builds for an
        accelerator, and those with the user's own CFLAGS, go on as they are.
        """
        print(BUILD_NOTICE, flush=True)
        variables = dict(os.environ, CXX=shlex.join(self.compiler))
        variables.setdefault('MAX_JOBS', str(parallel_jobs()))
        # The header's folders; whether torch sees a GPU; where nvcc is.
        includes, gpu, toolkit = json.loads(self.ask('-c', TORCH_PROBE) or '[[], false, null]')
        forced = any(os.environ.get(f'FORCE_{name}') == '1' for name in ACCELERATORS)
        if gpu and not toolkit and not forced:
            print('no CUDA toolkit (nvcc) was found: the operators are built for the CPU only')
            variables['CUDA_VISIBLE_DEVICES'] = ''
            gpu = False
        if forced or gpu or 'CFLAGS' in os.environ:
            return variables
        variables['CFLAGS'] = ' '.join(FLAGS)
        header = self.precompile(headers, includes)
        variables['CFLAGS'] += f' -include {header}' if header else ''
        return variables

    def precompile(self, folder: Path, includes: 'list[str]') -> 'Path | None':
        """Precompile torch's main header into `folder`; None without GCC or success."""
        about = subprocess.run([*self.compiler, '--version'], capture_output=True, check=False)
        if b'Free Software Foundation' not in about.stdout or re.search(r'\s', str(folder)):
            return None
        folder.mkdir(parents=True, exist_ok=True)
        header = folder / 'torch_types.hpp'
        header.write_text('#include <torch/types.h>\n')
        macros = ['-DTORCH_API_INCLUDE_EXTENSION_H', '-DTORCH_EXTENSION_NAME=_ext', '-std=c++17']
        paths = [f'-I{path}' for path in [*includes, sysconfig.get_paths()['include']]]
        command = [*self.compiler, *FLAGS, '-fPIC', *paths, *macros, '-x', 'c++-header']
        command += [str(header), '-o', f'{header}.gch']
        with self.log.open('ab') as log:
            done = subprocess.run(command, stdout=log, stderr=log, check=False)
        return header if done.returncode == 0 else None

    def repair_cv2(self) -> None:
        """Put OpenCV's headless build in place where the ordinary one finds no libGL."""
        if self.ask('-c', 'import cv2') is not None:
            return
        name = 'opencv-python-headless'
        self.step -= 1  # a detail of the last step
        self.pip(f'{name} (cv2 does not load)', '--force-reinstall', '--no-deps', name)
        if self.ask('-c', 'import cv2') is None:
            raise SetupError('OpenCV (cv2) does not load; Debian, Ubuntu: apt install libgl1')

    def ask(self, *arguments: str) -> 'str | None':
        """Return what the environment's Python prints for `arguments`; None when it fails."""
        command = [self.python, *arguments]
        done = subprocess.run(command, cwd=str(self.folder), capture_output=True, check=False)
        return done.stdout.decode() if done.returncode == 0 else None

    def run(
        self, label: str, command: 'list[str]', remedy: str = NETWORK_REMEDY, env: Any = None
    ) -> None:
        """Run one step into the log, with its line on the screen; stop when it fails."""
        self.step += 1
        title = f'[{self.step}/{STEPS}] {label}'
        with self.log.open('ab') as log:
            log.write(f'\n== {title}\n'.encode())
            log.flush()
            start = log.tell()
            child = subprocess.Popen(command, cwd=str(self.root), env=env, stdout=log, stderr=log)
            self.watch(child, title, start)
        if child.returncode:
            tail = self.log.read_bytes()[start:].decode('utf-8', 'replace').splitlines()[-15:]
            print('\n'.join(tail), file=sys.stderr)
            log_name = os.path.relpath(str(self.log), str(self.root))
            raise SetupError(f'{title} failed (log: {log_name}); {remedy}')

    def watch(self, child: 'subprocess.Popen[bytes]', title: str, start: int) -> None:
        """Show that `child` is alive until it ends: every second, or 20 s where not on a TTY."""
        begun, live = time.monotonic(), sys.stdout.isatty()
        pause = 1 if live else 20
        while True:
            try:
                child.wait(pause)
                break
            except subprocess.TimeoutExpired:  # so show ninja's last [done/all], if there is one
                counts = re.findall(rb'\[\d+/\d+\]', self.log.read_bytes()[start:]) or [b'']
                line = f'{title} {time.monotonic() - begun:.0f} s {counts[-1].decode()} ...'
                print(f'\r{line}' if live else line, end='' if live else '\n', flush=True)
        line = f'{title}: {time.monotonic() - begun:.0f} s'
        print(f'\r{line:<70}' if live else line, flush=True)


def set_up(root: Path, folder: Path) -> None:
    """Bring the environment in `folder` up to date with `root`; nothing to do if it is."""
    check_python(sys.version_info[:3])
    stamp = folder / 'setup-stamp.txt'
    text = stamp_text(root, sys.version_info[:3])
    if stamp.is_file() and stamp.read_text() == text and (folder / 'bin' / 'python').exists():
        return
    check_standard_library(Path(sysconfig.get_paths()['include']))
    Environment(root, folder, find_compiler(dict(os.environ))).build()
    stamp.write_text(text)


def main() -> int:
    """Run the set-up; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--venv', type=Path, default=ROOT / '.venv', help='the environment')
    try:
        set_up(ROOT, parser.parse_args().venv.absolute())
    except SetupError as error:
        print(f'setup: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('\nsetup: interrupted; run make again to go on', file=sys.stderr)
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main())
