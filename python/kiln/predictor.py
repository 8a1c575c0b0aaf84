"""A network that can be sent to other processes, as the batch interfaces of Ray Data and Spark want it."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from typing import Any

from kiln import _kiln


class Predictor:
    """A network called with batches, which are dictionaries of arrays by name.

    It is pickled as what it was made with, and each process opens the network when it first calls it. With ``weights``, a path, the packed
    weights lie in one file, which the first process writes and all others map: they share its memory. The file of the network is mapped
    as well, so nobody may write to either of them or cut it off meanwhile; replacing it by another is fine.

    ``columns`` names the column of a batch for each input, if they have other names. Outputs are added to the batch, unless
    ``keep_inputs`` is false. Batches of other sizes are other shapes: networks for the last ``shapes`` of them are kept.

    >>> predict = Predictor("bert-tiny", seq=16)
    >>> import pickle; pickle.loads(pickle.dumps(predict))
    Predictor('bert-tiny', seq=16)
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        threads: int | None = None,
        fpmath: str | None = None,
        weights: str | os.PathLike[str] | None = None,
        columns: Mapping[str, str] | None = None,
        keep_inputs: bool = False,
        shapes: int = 8,
        seq: int | None = None,
        dims: Mapping[str, int] | None = None,
    ):
        if shapes < 1:
            raise ValueError(f"shapes={shapes}: expected at least 1")
        self._settings: dict[str, Any] = {
            "threads": threads,
            "fpmath": fpmath,
            "weights": None if weights is None else os.fspath(weights),
            "columns": dict(columns or {}),
            "keep_inputs": keep_inputs,
            "shapes": shapes,
            "seq": seq,
            "dims": dict(dims or {}),
        }
        self._path = os.fspath(path)
        self._open()

    def _open(self) -> None:
        self._lock = threading.Lock()
        self._networks: dict[int, _kiln.Network] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"_path": self._path, "_settings": self._settings}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    def __repr__(self) -> str:
        defaults = {"columns": {}, "keep_inputs": False, "shapes": 8, "dims": {}}
        given = {name: value for name, value in self._settings.items() if value != defaults.get(name)}
        return "".join([f"Predictor({self._path!r}", *(f", {name}={value!r}" for name, value in given.items()), ")"])

    def network(self, batch: int) -> _kiln.Network:
        """The network for so many rows at once, compiled when they come for the first time."""
        with self._lock:
            network = self._networks.pop(batch, None) or self._make(batch)
            self._networks[batch] = network
            while len(self._networks) > self._settings["shapes"]:
                del self._networks[next(iter(self._networks))]
            return network

    def _make(self, batch: int) -> _kiln.Network:
        known = next(iter(self._networks.values()), None)
        if known is not None:
            return known.bind(batch=batch)
        settings = self._settings
        options = {name: settings[name] for name in ("threads", "fpmath", "seq")}
        options |= {"batch": batch, "dims": settings["dims"], "mmap": True}
        weights = settings["weights"]
        if weights is not None and not os.path.exists(weights):
            network = _kiln.Network(self._path, **options)
            if not network.is_bound:
                network.bind()
            # Of several processes that write at once, the last one replaces what the others wrote, which is the same.
            network.write_weights(weights)
        return _kiln.Network(self._path, weights=weights, **options)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """The outputs for a batch, by name."""
        columns = self._settings["columns"]
        if not batch:
            raise ValueError("an empty batch: expected an array for each input")
        network = self.network(len(next(iter(batch.values()))))
        inputs = {}
        for name, _, _ in network.inputs:
            column = columns.get(name, name)
            if column not in batch:
                raise ValueError(f"input {name!r}: the batch has no column {column!r}, it has {', '.join(map(repr, batch))}")
            inputs[name] = batch[column]
        outputs = network(**inputs)
        return {**batch, **outputs} if self._settings["keep_inputs"] else outputs
