"""The networks that the backend is tested with: built from their configurations, with random weights.

``python networks.py [NAME ...]`` compiles the full ones, and prints for each the error, partitions, kernels and operators that stayed eager;
``--small`` takes small configurations of the same classes.
"""

from __future__ import annotations

import argparse
import time

import torch

if not torch.cuda.is_available():
    # transformers asks this in each forward; a build for CUDA whose libraries are not there crashes on it.
    torch.cuda.is_current_stream_capturing = lambda: False


def _vision(name: str, size: int, **kwargs):
    import torchvision

    return getattr(torchvision.models, name)(**kwargs).eval(), (torch.randn(1, 3, size, size),), {}


def resnet50(small: bool):
    if not small:
        return _vision("resnet50", 224)
    from torchvision.models.resnet import Bottleneck, ResNet

    return ResNet(Bottleneck, [1, 1, 1, 1], num_classes=10).eval(), (torch.randn(1, 3, 64, 64),), {}


def mobilenet_v2(small: bool):
    return _vision("mobilenet_v2", 64, width_mult=0.35, num_classes=10) if small else _vision("mobilenet_v2", 224)


def efficientnet_b0(small: bool):
    if not small:
        return _vision("efficientnet_b0", 224)
    from torchvision.models.efficientnet import EfficientNet, MBConvConfig

    setting = [MBConvConfig(1, 3, 1, 8, 8, 1, 1, 1), MBConvConfig(6, 3, 2, 8, 16, 2, 1, 1)]
    return EfficientNet(setting, dropout=0.2, num_classes=10, last_channel=32).eval(), (torch.randn(1, 3, 64, 64),), {}


def vit_b_16(small: bool):
    from torchvision.models.vision_transformer import VisionTransformer

    sizes = {"num_layers": 2, "num_heads": 4, "hidden_dim": 64, "mlp_dim": 128}
    full = {"num_layers": 12, "num_heads": 12, "hidden_dim": 768, "mlp_dim": 3072}
    size = 64 if small else 224
    net = VisionTransformer(image_size=size, patch_size=16, **(sizes if small else full))
    # It begins with zeros, which would hide everything before.
    torch.nn.init.normal_(net.heads.head.weight)
    return net.eval(), (torch.randn(1, 3, size, size),), {}


def _encoder(small: bool, **more) -> dict:
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    return {**(sizes | {"vocab_size": 500} if small else {}), **more}


def _tokens(small: bool, vocabulary: int = 500):
    ids = torch.randint(3, vocabulary, (1, 16 if small else 128))
    return ids, torch.ones_like(ids)


def bert(small: bool):
    from transformers import BertConfig, BertModel

    ids, mask = _tokens(small)
    return BertModel(BertConfig(**_encoder(small))).eval(), (ids,), {"attention_mask": mask}


def distilbert_classifier(small: bool):
    from transformers import DistilBertConfig, DistilBertForSequenceClassification

    sizes = {"dim": 64, "hidden_dim": 128, "n_layers": 2, "n_heads": 4, "vocab_size": 500} if small else {}
    ids, mask = _tokens(small)
    return DistilBertForSequenceClassification(DistilBertConfig(**sizes)).eval(), (ids,), {"attention_mask": mask}


def _roberta(small: bool, name: str):
    import transformers

    sizes = _encoder(small) if small else {"vocab_size": 50265}
    config = transformers.RobertaConfig(**sizes, max_position_embeddings=514, type_vocab_size=1)
    ids, mask = _tokens(small)
    return getattr(transformers, name)(config).eval(), (ids,), {"attention_mask": mask}


def roberta_fill_mask(small: bool):
    return _roberta(small, "RobertaForMaskedLM")


def roberta_sentiment(small: bool):
    return _roberta(small, "RobertaForSequenceClassification")


def gpt2(small: bool):
    from transformers import GPT2Config, GPT2LMHeadModel

    sizes = {"n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 500} if small else {}
    return GPT2LMHeadModel(GPT2Config(**sizes)).eval(), (_tokens(small)[0],), {"use_cache": False}


def llama_prefill(small: bool):
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"num_hidden_layers": 2, "hidden_size": 64 if small else 1024, "intermediate_size": 128 if small else 2816}
    heads = {"num_attention_heads": 4 if small else 16, "num_key_value_heads": 2 if small else 4}
    net = LlamaForCausalLM(LlamaConfig(**sizes, **heads, vocab_size=500 if small else 32000)).eval()
    return net, (_tokens(small)[0],), {}


def whisper_encoder(small: bool):
    from transformers import WhisperConfig, WhisperModel

    sizes = {"d_model": 64, "encoder_attention_heads": 4, "encoder_ffn_dim": 128} if small else {}
    sizes |= {"decoder_attention_heads": 4, "decoder_ffn_dim": 128} if small else {}
    source = 32 if small else 1500
    config = WhisperConfig(**sizes, encoder_layers=2, decoder_layers=1, max_source_positions=source)
    return WhisperModel(config).encoder.eval(), (torch.randn(1, 80, 2 * source),), {}


def clip(small: bool):
    from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPVisionConfig

    sizes = _encoder(True) if small else {"num_hidden_layers": 2}
    text = CLIPTextConfig(**{**sizes, "vocab_size": 500}, eos_token_id=499)
    sizes = {k: v for k, v in sizes.items() if k != "vocab_size"}
    vision = CLIPVisionConfig(**sizes, image_size=32 if small else 224, patch_size=16 if small else 32)
    net = CLIPModel(CLIPConfig.from_text_vision_configs(text, vision) if hasattr(CLIPConfig, "from_text_vision_configs")
                    else CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict())).eval()
    ids = torch.randint(3, 498, (2, 16))
    ids[:, -1] = 499
    return net, (), {"input_ids": ids, "pixel_values": torch.randn(2, 3, vision.image_size, vision.image_size)}


NETWORKS = {
    make.__name__: make
    for make in (
        resnet50, mobilenet_v2, efficientnet_b0, vit_b_16, bert, distilbert_classifier, roberta_fill_mask, roberta_sentiment,
        gpt2, llama_prefill, whisper_encoder, clip,
    )
}


def tensors_of(output) -> list[torch.Tensor]:
    """The tensors that a network returns."""
    if isinstance(output, torch.Tensor):
        return [output]
    if isinstance(output, dict):
        output = list(output.values())
    if isinstance(output, (list, tuple)):
        return [tensor for value in output for tensor in tensors_of(value)]
    return []


def compare(name: str, small: bool, options: dict | None = None) -> dict:
    """Runs a network eagerly and with Kiln: the greatest error relative to the greatest value, and what was compiled."""
    from kiln.torch import backend, report

    torch.manual_seed(0)
    model, args, kwargs = NETWORKS[name](small)
    torch._dynamo.reset()
    with torch.no_grad():
        expected = tensors_of(model(*args, **kwargs))
        compiled = torch.compile(model, backend=backend, options=options or {})
        begun = time.perf_counter()
        found = tensors_of(compiled(*args, **kwargs))
        first = time.perf_counter() - begun
    if len(expected) != len(found):
        raise AssertionError(f"{name}: {len(found)} tensors, expected {len(expected)}")
    error = 0.0
    for a, b in zip(expected, found):
        if a.shape != b.shape or a.dtype != b.dtype or a.stride() != b.stride():
            raise AssertionError(f"{name}: {b.dtype} {b.shape} {b.stride()}, expected {a.dtype} {a.shape} {a.stride()}")
        if a.numel():
            error = max(error, float((a.double() - b.double()).abs().max() / a.double().abs().max().clamp_min(1e-30)))
    made = report(compiled)
    return {"error": error, "first": first, "report": made}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", choices=[[], *NETWORKS], default=[])
    parser.add_argument("--small", action="store_true")
    arguments = parser.parse_args()
    for name in arguments.names or NETWORKS:
        result = compare(name, arguments.small)
        made = result["report"]
        print(
            f"{name:22} error {result['error']:.1e}  {made.partitions} partitions  {made.kernels} kernels  "
            f"{len(made.eager)} eager  first result {result['first']:.2f} s",
            flush=True,
        )
        for target, reason in made.eager:
            print(f"    {target}: {reason}")


if __name__ == "__main__":
    main()
