"""The networks that are exported: each a function from a size, "small" or "full", to a module with pseudo-random weights, its
example inputs, and which of their dimensions stay open when shapes are dynamic."""

import torch
from torch import nn


class Tagger(nn.Module):
    """Tags of a sequence: an embedding, a bidirectional LSTM of two layers, and a classifier of each step."""

    def __init__(self, hidden, words=50, tags=7):
        super().__init__()
        self.embedding = nn.Embedding(words, hidden)
        self.lstm = nn.LSTM(hidden, hidden, num_layers=2, bidirectional=True, batch_first=True)
        self.classify = nn.Linear(2 * hidden, tags)

    def forward(self, ids):
        states, _ = self.lstm(self.embedding(ids))
        return self.classify(states)


class Gru(nn.Module):
    """The last state of a GRU over a sequence of features."""

    def __init__(self, features, hidden):
        super().__init__()
        self.gru = nn.GRU(features, hidden, batch_first=True)
        self.head = nn.Linear(hidden, 3)

    def forward(self, x):
        _, last = self.gru(x)
        return self.head(last[-1])


class ConvBnSilu(nn.Sequential):
    def __init__(self, c_in, c_out, kernel=1, stride=1):
        super().__init__(
            nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(c_out), nn.SiLU()
        )


class Bottleneck(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.first, self.second = ConvBnSilu(channels, channels, 3), ConvBnSilu(channels, channels, 3)

    def forward(self, x):
        return x + self.second(self.first(x))


class SplitBlock(nn.Module):
    """A cross-stage partial block: half of the channels pass through bottlenecks, and every stage is concatenated."""

    def __init__(self, c_in, c_out, depth=1):
        super().__init__()
        half = c_out // 2
        self.enter = ConvBnSilu(c_in, c_out)
        self.blocks = nn.ModuleList(Bottleneck(half) for _ in range(depth))
        self.leave = ConvBnSilu((2 + depth) * half, c_out)

    def forward(self, x):
        parts = list(self.enter(x).chunk(2, 1))
        for block in self.blocks:
            parts.append(block(parts[-1]))
        return self.leave(torch.cat(parts, 1))


class PoolPyramid(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.enter, self.leave = ConvBnSilu(channels, channels // 2), ConvBnSilu(2 * channels, channels)
        self.pool = nn.MaxPool2d(5, 1, 2)

    def forward(self, x):
        x = self.enter(x)
        a = self.pool(x)
        b = self.pool(a)
        return self.leave(torch.cat([x, a, b, self.pool(b)], 1))


class Detector(nn.Module):
    """Blocks of the YOLO family: split blocks, a pyramid of pools, nearest upsampling, boxes decoded from distributions."""

    BINS = 16

    def __init__(self, width, classes=4):
        super().__init__()
        self.stem = nn.Sequential(ConvBnSilu(3, width, 3, 2), ConvBnSilu(width, 2 * width, 3, 2), SplitBlock(2 * width, 2 * width))
        self.down = nn.Sequential(ConvBnSilu(2 * width, 4 * width, 3, 2), SplitBlock(4 * width, 4 * width), PoolPyramid(4 * width))
        self.up = nn.Upsample(scale_factor=2, mode="nearest")
        self.merge = SplitBlock(6 * width, 2 * width)
        self.boxes = nn.ModuleList(nn.Conv2d(c, 4 * self.BINS, 1) for c in (2 * width, 4 * width))
        self.scores = nn.ModuleList(nn.Conv2d(c, classes, 1) for c in (2 * width, 4 * width))

    def forward(self, image):
        fine = self.stem(image)
        coarse = self.down(fine)
        levels = [self.merge(torch.cat([self.up(coarse), fine], 1)), coarse]
        found = []
        for level, stride, to_boxes, to_scores in zip(levels, (4, 8), self.boxes, self.scores):
            batch, _, rows, columns = level.shape
            bins = to_boxes(level).view(batch, 4, self.BINS, rows * columns).softmax(2)
            weights = torch.arange(self.BINS, dtype=level.dtype, device=level.device).view(1, 1, self.BINS, 1)
            left, top, right, bottom = (bins * weights).sum(2).unbind(1)
            y, x = torch.meshgrid(torch.arange(rows) + 0.5, torch.arange(columns) + 0.5, indexing="ij")
            x, y = x.reshape(1, -1), y.reshape(1, -1)
            boxes = torch.stack([x - left, y - top, x + right, y + bottom], 1) * stride
            found.append(torch.cat([boxes, to_scores(level).flatten(2).sigmoid()], 1))
        return torch.cat(found, 2)


def image(size, batch=1):
    return torch.randn(batch, 3, size, size)


def ids(words, length, batch=1):
    return torch.randint(3, words, (batch, length))


def resnet50(size):
    import torchvision.models as zoo
    from torchvision.models.resnet import Bottleneck as Block, ResNet

    if size == "full":
        return zoo.resnet50(), (image(224),), ["batch"]

    class Narrow(ResNet):
        def _make_layer(self, block, planes, *args, **kwargs):
            return super()._make_layer(block, planes // 16, *args, **kwargs)

    net = Narrow(Block, [2, 1, 1, 1])
    net.fc = nn.Linear(512 // 16 * Block.expansion, 8)
    return net, (image(32),), ["batch"]


def mobilenet_v3(size):
    import torchvision.models as zoo

    from torchvision.models.mobilenetv3 import InvertedResidualConfig, MobileNetV3

    if size == "full":
        return zoo.mobilenet_v3_large(), (image(224),), ["batch"]
    blocks = [InvertedResidualConfig(8, 3, 8, 8, True, "RE", 2, 1, 1.0), InvertedResidualConfig(8, 5, 24, 16, True, "HS", 2, 1, 1.0)]
    return MobileNetV3(blocks, last_channel=32, num_classes=8), (image(32),), ["batch"]


def efficientnet(size):
    import torchvision.models as zoo
    from torchvision.models.efficientnet import EfficientNet, MBConvConfig

    if size == "full":
        return zoo.efficientnet_b0(), (image(224),), ["batch"]
    stages = [MBConvConfig(1, 3, 1, 8, 8, 1), MBConvConfig(4, 3, 2, 8, 12, 1), MBConvConfig(4, 5, 2, 12, 16, 2)]
    return EfficientNet(stages, dropout=0.1, num_classes=8), (image(32),), ["batch"]


def convnext(size):
    import torchvision.models as zoo
    from torchvision.models.convnext import CNBlockConfig, ConvNeXt

    if size == "full":
        return zoo.convnext_tiny(), (image(224),), ["batch"]
    stages = [CNBlockConfig(8, 16, 1), CNBlockConfig(16, 24, 1), CNBlockConfig(24, None, 1)]
    return ConvNeXt(stages, num_classes=8), (image(32),), ["batch"]


def vit(size):
    import torchvision.models as zoo
    from torchvision.models.vision_transformer import VisionTransformer

    if size == "full":
        return zoo.vit_b_16(), (image(224),), ["batch"]
    net = VisionTransformer(image_size=32, patch_size=8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=8)
    # The head is zeros when it is made, which would hide every difference.
    nn.init.normal_(net.heads.head.weight)
    return net, (image(32),), ["batch"]


class Ids(nn.Module):
    """A transformer of the transformers package as a function of token ids and a mask, with the first or named result."""

    def __init__(self, net, result, **fixed):
        super().__init__()
        self.net, self.result, self.fixed = net, result, fixed

    def forward(self, input_ids, attention_mask):
        return getattr(self.net(input_ids=input_ids, attention_mask=attention_mask, **self.fixed), self.result)


def tokens(words, size):
    length, batch = (9, 2) if size == "small" else (64, 1)
    mask = torch.ones(batch, length, dtype=torch.int64)
    if batch > 1:
        mask[1, length - 3:] = 0
    return (ids(words, length, batch), mask)


def sized(config, size, **extra):
    """A configuration of the transformers package: its defaults, or two layers of 16 features."""
    small = dict(vocab_size=40, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
    return config(**(small if size == "small" else {}), **extra)


def words(size, full):
    return 40 if size == "small" else full


def bert(size):
    from transformers import BertConfig, BertModel

    return Ids(BertModel(sized(BertConfig, size)), "last_hidden_state"), tokens(words(size, 30522), size), ["batch", "length"]


def distilbert(size):
    from transformers import DistilBertConfig, DistilBertForSequenceClassification

    small = dict(vocab_size=40, dim=16, n_layers=2, n_heads=2, hidden_dim=32) if size == "small" else {}
    net = DistilBertForSequenceClassification(DistilBertConfig(**small))
    return Ids(net, "logits"), tokens(words(size, 30522), size), ["batch", "length"]


def roberta_mask(size):
    from transformers import RobertaConfig, RobertaForMaskedLM

    config = sized(RobertaConfig, size, max_position_embeddings=514)
    return Ids(RobertaForMaskedLM(config), "logits"), tokens(words(size, 50265), size), ["batch", "length"]


def roberta_sentiment(size):
    from transformers import RobertaConfig, RobertaForSequenceClassification

    config = sized(RobertaConfig, size, max_position_embeddings=514, num_labels=3)
    return Ids(RobertaForSequenceClassification(config), "logits"), tokens(words(size, 50265), size), ["batch", "length"]


def gpt2_prefill(size):
    from transformers import GPT2Config, GPT2LMHeadModel

    small = dict(vocab_size=40, n_embd=16, n_layer=2, n_head=2, n_positions=32) if size == "small" else {}
    net = GPT2LMHeadModel(GPT2Config(**small))
    return Ids(net, "logits", use_cache=False), tokens(words(size, 50257), size), ["batch", "length"]


def t5_encoder(size):
    from transformers import T5Config, T5EncoderModel

    small = dict(vocab_size=40, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2) if size == "small" else {}
    return Ids(T5EncoderModel(T5Config(**small)), "last_hidden_state"), tokens(words(size, 32128), size), ["batch", "length"]


class First(nn.Module):
    def __init__(self, net, result):
        super().__init__()
        self.net, self.result = net, result

    def forward(self, x):
        return getattr(self.net(x), self.result)


def whisper_encoder(size):
    from transformers import WhisperConfig, WhisperModel

    small = dict(d_model=16, encoder_layers=2, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
                 encoder_ffn_dim=32, decoder_ffn_dim=32, num_mel_bins=8, max_source_positions=10, vocab_size=40,
                 pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=3) if size == "small" else {}
    config = WhisperConfig(**small)
    features = torch.randn(1, config.num_mel_bins, 2 * config.max_source_positions)
    return First(WhisperModel(config).encoder, "last_hidden_state"), (features,), ["batch"]


class Clip(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, input_ids, attention_mask, pixel_values):
        return self.net(input_ids=input_ids, attention_mask=attention_mask, pixel_values=pixel_values).logits_per_image


def clip(size):
    from transformers import CLIPConfig, CLIPModel

    text, picture = {}, {}
    if size == "small":
        shared = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2)
        text = dict(vocab_size=40, max_position_embeddings=16, eos_token_id=2, bos_token_id=1, pad_token_id=0, **shared)
        picture = dict(image_size=32, patch_size=8, **shared)
    config = CLIPConfig(text_config=text, vision_config=picture, **(dict(projection_dim=16) if size == "small" else {}))
    net = CLIPModel(config)
    text_ids, mask = tokens(words(size, 49408), size)
    text_ids[:, -1] = config.text_config.eos_token_id
    # Images and texts have batches of their own.
    return Clip(net), (text_ids, mask, image(32 if size == "small" else 224)), [["texts", "length"], ["texts", "length"], ["images"]]


def lstm_tagger(size):
    hidden = 8 if size == "small" else 256
    return Tagger(hidden), (ids(50, 7 if size == "small" else 64, 2),), ["batch", "length"]


def gru(size):
    features, hidden = (6, 8) if size == "small" else (80, 256)
    return Gru(features, hidden), (torch.randn(2, 7 if size == "small" else 64, features),), ["batch", "length"]


def yolo(size):
    return Detector(4 if size == "small" else 32), (image(32 if size == "small" else 320),), ["batch"]


ALL = {
    f.__name__: f
    for f in (
        resnet50, mobilenet_v3, efficientnet, convnext, vit, bert, distilbert, roberta_mask, roberta_sentiment,
        gpt2_prefill, t5_encoder, whisper_encoder, clip, lstm_tagger, gru, yolo,
    )
}
