"""Build script: puts configs, tools and indices where mim looks for them in a wheel.

Everything else is in setup.cfg. In an editable installation mim finds them in the checkout itself,
and a second copy would make the names of configs ambiguous, so none is made there; wheels are built
outside the checkout for the same reason.
"""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

from setuptools import setup
from setuptools.command.build import build
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
MIM_FOLDERS = {'configs': ('.py', '.yml', '.md'), 'tools': ('.py',)}
MIM_FILES = ('model-index.yml', 'dataset-index.yml')


def mim_files():
    """List what goes into a wheel's ``.mim``, relative to the checkout."""
    found = [Path(name) for name in MIM_FILES]
    for folder, suffixes in MIM_FOLDERS.items():
        paths = sorted((ROOT / folder).rglob('*'))
        found += [path.relative_to(ROOT) for path in paths if path.suffix in suffixes]
    return found


class Build(build):
    """Build in a temporary folder unless the command line names one."""

    def initialize_options(self):
        """Choose the folder."""
        super().initialize_options()
        self.build_base = tempfile.mkdtemp(prefix='mmdet_salience_build_')
        atexit.register(shutil.rmtree, self.build_base, ignore_errors=True)


class BuildPy(build_py):
    """Copy mim's files into the package."""

    def run(self):
        """Build the package, then add what mim looks for."""
        super().run()
        if getattr(self, 'editable_mode', False):
            return
        for path in mim_files():
            self.copy_file(str(ROOT / path), self.mim_target(path))

    def mim_target(self, path):
        """Place of a file of mim in the build, whose folder is made if needed."""
        target = Path(self.build_lib, 'mmdet_salience', '.mim', path)
        self.mkpath(str(target.parent))
        return str(target)

    def get_outputs(self, include_bytecode=1):
        """List what is built, mim's files included."""
        outputs = super().get_outputs(include_bytecode)
        if getattr(self, 'editable_mode', False):
            return outputs
        folder = os.path.join(self.build_lib, 'mmdet_salience', '.mim')
        return [*outputs, *(os.path.join(folder, str(path)) for path in mim_files())]


setup(cmdclass={'build': Build, 'build_py': BuildPy})
