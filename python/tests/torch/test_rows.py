"""Each row of the table against PyTorch."""

import pytest
import torch
from conftest import run_op, same
from samples import SAMPLES

from kiln.torch.table import TABLE


def test_each_row_has_samples():
    assert set(SAMPLES) == set(TABLE), set(SAMPLES) ^ set(TABLE)
    assert len(TABLE) >= 200


@pytest.mark.parametrize("op", TABLE, ids=str)
def test_row(op):
    torch.manual_seed(0)
    samples = SAMPLES[op]()
    assert samples
    for sample in samples:
        found, expected = run_op(op, sample.args, sample.kwargs, sample.read)
        same(found, expected, sample.error)
