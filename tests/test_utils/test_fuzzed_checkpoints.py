"""Edited checkpoints are loaded or refused, and nothing else happens, above all no crash."""

import json
import subprocess
import sys
from pathlib import Path

FUZZ = Path(__file__).with_name('checkpoint_fuzz.py')
EXAMPLES = 800
EXPECTED = {'original loaded', 'loaded', 'loaded and odd', 'refused'}


def test_edited_checkpoints_end_in_a_load_or_an_error(tmp_path: Path) -> None:
    command = [sys.executable, str(FUZZ), str(tmp_path), '--examples', str(EXAMPLES)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f'{tmp_path}/edited.pth: {done.stderr[-3000:]}'
    report = json.loads(done.stdout.splitlines()[-1])
    outcomes = report['outcomes']
    assert set(outcomes) <= EXPECTED, outcomes
    assert outcomes['original loaded'] == 3
    assert outcomes['refused'] > EXAMPLES / 2 and outcomes['loaded'] > EXAMPLES / 20
    assert sum(outcomes.values()) == EXAMPLES + 3
    assert report['megabytes'] < 300
