#!/usr/bin/env python3
"""Writes small networks with pseudo-random weights as transformers saves them, and what PyTorch computes with them.

    pretrained.py FOLDER

Each FOLDER/NAME has config.json, model.safetensors and expected.json: token ids and masks (of residual networks nothing: their
input is noise that follows from its name, as built-in networks have it), and the outputs in double precision. `model/tests/pretrained`
was made by it.
"""

import copy
import json
import os
import sys

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch
import transformers as hf
from safetensors.torch import load_file, save_file

if not torch.cuda.is_available():
    # A CUDA build of PyTorch whose libraries are not there must not be asked.
    torch.cuda.is_current_stream_capturing = lambda: False

SIZES = dict(vocab_size=40, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24, max_position_embeddings=20)
DISTIL = dict(vocab_size=40, dim=16, n_layers=2, n_heads=2, hidden_dim=24, max_position_embeddings=20)
LABELS = dict(num_labels=3)
RESNET = dict(embedding_size=8, hidden_sizes=[16, 32], depths=[1, 2], **LABELS)

NETWORKS = {
    "bert": (hf.BertModel, hf.BertConfig(**SIZES)),
    "bert_fill_mask": (hf.BertForMaskedLM, hf.BertConfig(hidden_act="gelu_new", **SIZES)),
    "bert_classes": (hf.BertForSequenceClassification, hf.BertConfig(**SIZES, **LABELS)),
    "bert_token_classes": (hf.BertForTokenClassification, hf.BertConfig(**SIZES, **LABELS)),
    "distilbert": (hf.DistilBertModel, hf.DistilBertConfig(**DISTIL)),
    "distilbert_fill_mask": (hf.DistilBertForMaskedLM, hf.DistilBertConfig(**DISTIL)),
    "distilbert_classes": (hf.DistilBertForSequenceClassification, hf.DistilBertConfig(**DISTIL)),
    "roberta_fill_mask": (hf.RobertaForMaskedLM, hf.RobertaConfig(layer_norm_eps=1e-5, type_vocab_size=1, **SIZES)),
    "roberta_classes": (hf.RobertaForSequenceClassification, hf.RobertaConfig(**SIZES, **LABELS)),
    "resnet": (hf.ResNetForImageClassification, hf.ResNetConfig(**RESNET)),
    # The language model of RoBERTa has gelu on top whatever the encoder has.
    "roberta_relu": (hf.RobertaForMaskedLM, hf.RobertaConfig(hidden_act="relu", **SIZES)),
    # Its first block adds the input as it is.
    "resnet_narrow": (hf.ResNetForImageClassification, hf.ResNetConfig(embedding_size=16, hidden_sizes=[16, 32], depths=[1, 1], **LABELS)),
}


def noise(name, shape):
    """Numbers of [-2, 2), as Kiln fills images."""
    with np.errstate(over="ignore"):
        start = np.uint64(0xCBF29CE484222325)
        for byte in name.encode():
            start = (start ^ np.uint64(byte)) * np.uint64(0x100000001B3)
        start ^= np.uint64(20261122)
        z = start + np.arange(1, np.prod(shape) + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    unit = (z >> np.uint64(40)).astype(np.float32) * np.float32(2**-24)
    return torch.from_numpy(((2 * unit - 1) * np.float32(2)).reshape(shape))


def tokens():
    ids = torch.randint(3, 40, (2, 9))
    mask = torch.ones(2, 9, dtype=torch.int64)
    ids[1, 6:], mask[1, 6:] = 1, 0
    return dict(input_ids=ids, attention_mask=mask)


def randomize(net):
    """Values for what is zeros, ones, or too small to be seen when it is made."""
    for name, tensor in [*net.named_parameters(), *net.named_buffers()]:
        if name.endswith("running_var"):
            torch.nn.init.uniform_(tensor, 0.5, 1.5)
        elif tensor.is_floating_point():
            is_scale = tensor.dim() == 1 and name.endswith("weight")
            torch.nn.init.normal_(tensor, 1.0 if is_scale else 0.0, 0.3 if tensor.dim() < 3 else 0.15)


def older_names(folder):
    """The names that the first published files have for the weights of normalisations."""
    path = f"{folder}/model.safetensors"
    new = {name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): t for name, t in load_file(path).items()}
    save_file(new, path, metadata={"format": "pt"})


def main(into):
    for number, (name, (kind, config)) in enumerate(NETWORKS.items()):
        torch.manual_seed(number)
        net = kind(config).eval()
        with torch.no_grad():
            randomize(net)
            folder = f"{into}/{name}"
            # Half of them are stored in 16 bits, and computed with as they are stored.
            if number % 4 == 2:
                net = net.to(torch.bfloat16)
            net.save_pretrained(folder)
            net = net.double()
            is_text = kind is not hf.ResNetForImageClassification
            inputs = tokens() if is_text else dict(pixel_values=noise("pixel_values", (1, 3, 224, 224)).double())
            outputs = net(**inputs, return_dict=True)
        kept = {k: outputs[k] for k in ("last_hidden_state", "pooler_output", "logits") if outputs.get(k) is not None}
        expected = dict(
            inputs={k: v.tolist() for k, v in inputs.items() if is_text},
            outputs={k: dict(shape=list(v.shape), elements=[float(f"{x:.9g}") for x in v.flatten().tolist()]) for k, v in kept.items()},
        )
        if name == "bert_fill_mask":
            older_names(folder)
        os.makedirs(folder, exist_ok=True)
        with open(f"{folder}/expected.json", "w") as file:
            json.dump(expected, file, separators=(",", ":"))
            file.write("\n")
        print(name, {k: v["shape"] for k, v in expected["outputs"].items()}, os.path.getsize(f"{folder}/model.safetensors"))


if __name__ == "__main__":
    main(sys.argv[1])
