"""The example for Ray Data: each row has what the network computes for it alone, whichever actor did so."""

import sys
from pathlib import Path

import numpy as np
import pytest
import ray

import kiln

EXAMPLES = str(Path(__file__).resolve().parents[2] / "examples")
sys.path.insert(0, EXAMPLES)

import ray_predict  # noqa: E402

ROWS = 70


@pytest.fixture
def cluster():
    # Its processes find the example where these tests do.
    environment = {"env_vars": {"PYTHONPATH": EXAMPLES}}
    ray.init(num_cpus=3, include_dashboard=False, object_store_memory=100 << 20, runtime_env=environment)
    yield
    ray.shutdown()


def test_map_batches(cluster, tmp_path):
    weights = tmp_path / "weights.kiln"
    made = ray_predict.predictions("bert-tiny", ROWS, 2, str(weights)).take_all()
    assert weights.stat().st_size > 0, "the first actor wrote packed weights"
    assert sorted(row["id"] for row in made) == list(range(ROWS))
    predict = kiln.Predictor("bert-tiny", seq=ray_predict.SEQ, threads=1)
    for row in made[::9]:
        expected = predict(ray_predict.tokens({"id": np.array([row["id"]])}))
        for name in ("last_hidden_state", "pooler_output"):
            np.testing.assert_allclose(row[name], expected[name][0], rtol=1e-5, atol=1e-5)
