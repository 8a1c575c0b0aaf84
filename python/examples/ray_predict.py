"""Predictions for a data set with Ray Data: every actor has the network, and all of them map one file of packed weights.

    pip install "ray[data]" kiln-compiler
    python ray_predict.py [NETWORK] [--rows 1000] [--actors 2]

NETWORK is an ONNX file, a folder as Hugging Face lays it out, or the name of a built-in network with random weights. Its inputs are those of
BERT: ``input_ids``, ``attention_mask`` and ``token_type_ids``.
"""

from __future__ import annotations

import argparse
import tempfile

import numpy as np
import ray

import kiln

SEQ = 16


def tokens(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What a tokenizer would make of rows of text; here each row's tokens follow from its number."""
    ids = (batch["id"][:, None] * 31 + np.arange(SEQ) * 7) % 900
    return {"id": batch["id"], "input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}


def predictions(network: str, rows: int, actors: int, weights: str, batch_size: int = 32) -> ray.data.Dataset:
    """The rows of a data set with the network's outputs beside them."""
    return (
        ray.data.range(rows)
        .map_batches(tokens, batch_size=batch_size)
        .map_batches(
            kiln.Predictor,
            fn_constructor_args=[network],
            # An actor has one CPU, hence one thread.
            fn_constructor_kwargs={"seq": SEQ, "threads": 1, "weights": weights, "keep_inputs": True},
            compute=ray.data.ActorPoolStrategy(size=actors),
            batch_size=batch_size,
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Predictions for a data set with Ray Data.")
    parser.add_argument("network", nargs="?", default="bert-tiny")
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--actors", type=int, default=2)
    arguments = parser.parse_args()
    ray.init(include_dashboard=False)
    with tempfile.TemporaryDirectory() as folder:
        # Actors on other machines would need a path that all of these have.
        made = predictions(arguments.network, arguments.rows, arguments.actors, folder + "/weights.kiln")
        count = 0
        for batch in made.iter_batches(batch_size=256):
            count += len(batch["id"])
        print(f"{count} rows:", {name: column.shape[1:] for name, column in batch.items()})


if __name__ == "__main__":
    main()
