"""What a wheel and a source distribution hold, and that nothing is lost on the way."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from helpers import ROOT

MIM = 'mmdet_salience/.mim/'
SUFFIXES = {'configs': ('.py', '.yml', '.md'), 'tools': ('.py',)}


def pip_wheel(source: Path, folder: Path) -> Path:
    """Build a wheel; returns its path."""
    command = [sys.executable, '-m', 'pip', 'wheel', '--no-deps', '--no-build-isolation', '-q']
    subprocess.run([*command, '-w', str(folder), str(source)], check=True, capture_output=True)
    return next(folder.glob('*.whl'))


@pytest.fixture(scope='module')
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the checkout."""
    return pip_wheel(ROOT, tmp_path_factory.mktemp('wheel'))


@pytest.fixture(scope='module')
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution of the checkout, unpacked."""
    folder = tmp_path_factory.mktemp('sdist')
    code = f'from setuptools import build_meta; build_meta.build_sdist({str(folder)!r})'
    subprocess.run([sys.executable, '-c', code], cwd=ROOT, check=True, capture_output=True)
    with tarfile.open(next(folder.glob('*.tar.gz'))) as archive:
        archive.extractall(folder, filter='data')
    return next(path for path in folder.iterdir() if path.is_dir())


def expected_mim_files() -> dict[str, bytes]:
    """Files that mim must find, with their content, by their path below ``.mim``."""
    paths = [ROOT / 'model-index.yml', ROOT / 'dataset-index.yml']
    for folder, suffixes in SUFFIXES.items():
        paths += [path for path in (ROOT / folder).rglob('*') if path.suffix in suffixes]
    return {path.relative_to(ROOT).as_posix(): path.read_bytes() for path in paths}


def test_wheel_holds_what_mim_looks_for(wheel: Path) -> None:
    expected = expected_mim_files()
    assert len(expected) > 50
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.startswith(MIM)]
        found = {name.removeprefix(MIM): archive.read(name) for name in names}
    assert found == expected


def test_wheel_holds_the_package(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        record = next(name for name in names if name.endswith('RECORD'))
        first = archive.read(record).decode().splitlines()[0]
    modules = {path.relative_to(ROOT).as_posix() for path in ROOT.glob('mmdet_salience/**/*.py')}
    assert modules <= names
    assert first.startswith('mmdet_salience/')  # what mim takes for the folder of the package
    assert {name.split('/')[0] for name in names} == {'mmdet_salience', record.split('/')[0]}


def test_building_leaves_nothing_in_the_checkout(wheel: Path) -> None:
    assert not (ROOT / 'build').exists()
    assert not (ROOT / 'mmdet_salience' / '.mim').exists()


def test_source_distribution_makes_the_same_wheel(wheel: Path, sdist: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as one, zipfile.ZipFile(pip_wheel(sdist, tmp_path)) as other:
        records = {name for name in one.namelist() if name.endswith('RECORD')}
        assert set(one.namelist()) == set(other.namelist())
        for name in set(one.namelist()) - records:
            assert one.read(name) == other.read(name), name


def test_source_distribution_holds_its_tests(sdist: Path) -> None:
    for name in ('README.md', 'Makefile', 'constraints.txt', 'tests/conftest.py'):
        assert (sdist / name).is_file(), name
    tests = {path.relative_to(ROOT) for path in (ROOT / 'tests').rglob('*.py')}
    assert all((sdist / path).is_file() for path in tests)
