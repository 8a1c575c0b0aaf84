"""The chart of README.md from what ``compare.py --json FILE`` wrote: ``python chart.py FILE CHART.svg``. It needs matplotlib."""

from __future__ import annotations

import json
import sys

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

LABELS = {
    "resnet50": "ResNet-50",
    "bert": "BERT-base, 128 tokens",
    "distilbert_classifier": "DistilBERT, 128 tokens",
    "vit_b_16": "ViT-B/16",
    "mobilenet_v2": "MobileNetV2",
}
SUBJECTS = {
    "kiln": ("Kiln", "#c2410c"),
    "inductor+freezing": ("PyTorch inductor, freezing", "#64748b"),
    "eager": ("PyTorch eager (oneDNN)", "#94a3b8"),
    "onnxruntime": ("ONNX Runtime", "#0f766e"),
    "openvino": ("OpenVINO", "#4c1d95"),
}


def main() -> None:
    rows = json.load(open(sys.argv[1]))
    threads = max(row["threads"] for row in rows)
    warm = {(row["network"], row["subject"]): row["warm_s"] for row in rows if row["threads"] == threads}
    networks = [name for name in LABELS if (name, "kiln") in warm]
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "kiln", "font.family": "sans-serif"})
    figure, axes = plt.subplots(figsize=(8, 0.9 * len(networks) + 1.1))
    height = 0.8 / len(SUBJECTS)
    for at, (subject, (label, color)) in enumerate(SUBJECTS.items()):
        places = [index + (at - (len(SUBJECTS) - 1) / 2) * height for index in range(len(networks))]
        values = [warm.get((name, subject), float("nan")) / warm[name, "kiln"] for name in networks]
        bars = axes.barh(places, values, height, label=label, color=color)
        axes.bar_label(bars, [f"{value:.2f}" for value in values], padding=3, fontsize=7)
    axes.set_yticks(range(len(networks)), [LABELS[name] for name in networks])
    axes.invert_yaxis()
    axes.set_xlabel(f"time of a call, Kiln = 1; batch 1, f32, {threads} threads; less is better")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=7, loc="upper right", frameon=False)
    figure.tight_layout()
    figure.savefig(sys.argv[2], metadata={"Date": None})


if __name__ == "__main__":
    main()
