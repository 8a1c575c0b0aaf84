"""Samples of each row of the table: arguments, what is read of several results, and the error that is allowed.

A sample with the error 0 has data on which the operator is exact.
"""

from dataclasses import dataclass, field

import torch

aten = torch.ops.aten


@dataclass
class Sample:
    args: tuple
    kwargs: dict = field(default_factory=dict)
    read: tuple | None = None
    error: float = 0.0


def whole(*shape, low=-4, high=5, dtype=torch.float32):
    """Small whole numbers."""
    return torch.randint(low, high, shape).to(dtype)


def real(*shape, low=-2.0, high=2.0):
    return torch.rand(shape) * (high - low) + low


def truth(*shape):
    return torch.randint(0, 2, shape).bool()


def near(*args, error=1e-5, read=None, **kwargs):
    return Sample(args, kwargs, read, error)


def exact(*args, read=None, **kwargs):
    return Sample(args, kwargs, read)


def _unary(low=-2.0, high=2.0, error=1e-5):
    return lambda: [near(real(3, 33, low=low, high=high), error=error)]


def _exact_unary():
    return [
        exact(whole(3, 33)),
        exact(whole(2, 3, 5).transpose(0, 2)),
        exact(whole(3, 7, dtype=torch.bfloat16)),
        exact(whole(3, 7, dtype=torch.float16)),
        exact(whole(3, 7, dtype=torch.int64)),
        exact(torch.tensor(-3.0)),
    ]


def _rounding():
    return [exact(torch.tensor([-2.5, -1.5, -0.3, 0.0, 0.5, 1.5, 2.7, 3.0])), exact(whole(5, dtype=torch.int32))]


def _pairs(*, with_bool=True, integers=True, numbers=True, alpha=False):
    def make():
        made = [
            exact(whole(3, 5), whole(3, 5)),
            exact(whole(3, 1, 5), whole(4, 1)),
            *([exact(whole(3, 5), 2)] if numbers else []),
            exact(whole(4, 3).t(), whole(3, 4)),
            exact(whole(3, 5, dtype=torch.bfloat16), whole(5)),
            exact(whole(3, 5, dtype=torch.float16), whole(5, dtype=torch.float16)),
            exact(whole(3, 5, dtype=torch.float32), whole(5, dtype=torch.int64)),
        ]
        if integers:
            made += [exact(whole(7, dtype=torch.int64), whole(7, dtype=torch.int32))]
            made += [exact(whole(7, dtype=torch.int64), 3)] if numbers else []
        if with_bool:
            made += [exact(truth(3, 5), truth(5))]
        if alpha:
            made += [exact(whole(3, 5), whole(5), alpha=3)]
        return made

    return make


def _scalars(*values, **kwargs):
    return lambda: [
        *(exact(whole(3, 5), v, **kwargs) for v in values),
        exact(whole(5, dtype=torch.bfloat16), values[0], **kwargs),
    ]


def _bits(scalar=False):
    def make():
        if scalar:
            return [exact(whole(3, 5, dtype=torch.int64), 3), exact(truth(4), True)]
        return [exact(whole(3, 5, dtype=torch.int64), whole(5, dtype=torch.int64)), exact(truth(3, 5), truth(5))]

    return make


def _logical():
    return [exact(truth(3, 5), truth(5)), exact(whole(3, 5, low=0, high=2), whole(3, 5, low=0, high=2))]


def _compare_tensors():
    return [
        exact(whole(4, 5), whole(5)),
        exact(whole(4, 5, dtype=torch.int64), whole(4, 1, dtype=torch.int64)),
        exact(whole(5, dtype=torch.int64), whole(5)),
        exact(truth(5), truth(5)),
        exact(torch.tensor([float("nan"), 1.0]), torch.tensor([float("nan"), 1.0])),
    ]


def _compare_scalars():
    return [exact(whole(4, 5), 1), exact(whole(4, dtype=torch.int64), 1), exact(whole(4, dtype=torch.int64), 0.5),
            exact(torch.tensor([0.1, 0.2], dtype=torch.bfloat16), 0.1), exact(truth(5), 0)]


def _matrices(*shapes):
    return lambda: [exact(*(whole(*s) for s in shapes)), exact(*(whole(*s, dtype=torch.bfloat16) for s in shapes)),
                    exact(*(whole(*s, dtype=torch.float16) for s in shapes))]


def _heads(queries=6, keys=6, heads=4, shared=4, batch=2, width=8):
    return real(batch, heads, queries, width), real(batch, shared, keys, width), real(batch, shared, keys, width)


def _attention(keyword):
    def make():
        mask = torch.where(truth(2, 1, 6, 6) | torch.eye(6).bool(), 0.0, float("-inf"))
        samples = [
            near(*_heads(), read=(0,)),
            near(*_heads(), *([] if keyword == "flash" else [None]), 0.0, True, read=(0,)),
            near(*_heads(), read=(0,), scale=0.3),
        ]
        if keyword == "flash":
            samples += [near(*_heads(), read=(0,), attn_mask=mask)]
        else:
            seen = truth(6, 6) | torch.eye(6).bool()
            samples += [near(*_heads(), seen, read=(0,))] if keyword == "whole" else []
            samples += [near(*_heads(), mask, read=(0,)),
                        near(*_heads(shared=2), read=(0,), enable_gqa=True),
                        near(*_heads(shared=2), mask, read=(0,), enable_gqa=True)]
        return samples

    return make


def _whole_attention():
    samples = _attention("whole")()
    for sample in samples:
        sample.read = None
    return samples


def _layer(norm_first, use_gelu):
    x = real(2, 5, 16)
    qkv, out = (real(48, 16), real(48)), (real(16, 16), real(16))
    norms, ffn = (real(16), real(16), real(16), real(16)), (real(32, 16), real(32), real(16, 32), real(16))
    return near(x, 16, 4, *qkv, *out, use_gelu, norm_first, 1e-5, *norms, *ffn, error=1e-4)


def _self():
    x = real(2, 5, 16)
    return near(x, x, x, 16, 4, real(48, 16), real(48), real(16, 16), real(16), None, False, read=(0,), error=1e-4)


def _pool(shape, kernel, *more, read=None):
    return exact(whole(*shape), kernel, *more, read=read)


def _reductions():
    return [exact(whole(3, 4, 5), [1]), exact(whole(3, 4, 5), [-1, 0], True), exact(whole(3, 4, 8), [2])]


def _sums():
    return [*_reductions(), exact(whole(3, 4, dtype=torch.int64), [1]), exact(truth(3, 4), [1]),
            exact(whole(3, 4, dtype=torch.bfloat16), [1])]


def _alls():
    return [exact(whole(3, 4, 8)), exact(torch.tensor(3.0))]


def _along():
    return [exact(torch.randperm(60).reshape(3, 4, 5).float(), 1), exact(torch.randperm(60).reshape(3, 4, 5), -1, True)]


def _cumulative(low=-4):
    return [exact(whole(3, 4, 5, low=low, high=3), 1), exact(whole(6, low=low, high=3, dtype=torch.int64), 0)]


def _variances(error=1e-5):
    return [near(real(3, 4, 5), [1, 2], correction=1, keepdim=True, error=error),
            near(real(3, 4, 5), [-1], correction=0, error=error), near(real(7), error=error)]


def _norms():
    return lambda: [near(real(3, 4, 16), [16], real(16), real(16), 1e-5, read=(0,)),
                    near(real(3, 4, 16), [4, 16], None, None, 1e-5, read=(0,)),
                    near(real(3, 16), [16], real(16), None, 1e-5, read=(0,))]


def _dropped(samples):
    made = samples()
    for sample in made:
        sample.read = None
    return made


def _statistics(*, training=()):
    return real(2, 6, 5, 5), real(6), real(6), real(6), real(6, low=0.5), *training, 0.1, 1e-5


def _views():
    return [exact(whole(2, 3, 4), [6, 4]), exact(whole(2, 3, 4), [-1]), exact(whole(4, dtype=torch.int64), [2, 2])]


def _fill(**kwargs):
    return {"dtype": torch.float32, **kwargs}


def _image(*shape):
    return whole(*(shape or (2, 3, 9, 8)))


def _weights(*shape):
    return whole(*shape, low=-2, high=3)


def _scattered(source):
    index = torch.stack([torch.randperm(5)[:3] for _ in range(4)])
    return lambda: [exact(whole(4, 5), 1, index, source())]


SAMPLES = {
    aten.abs.default: _exact_unary,
    aten.neg.default: _exact_unary,
    aten.sign.default: _exact_unary,
    aten.relu.default: _exact_unary,
    aten.square.default: _exact_unary,
    aten.exp.default: lambda: [near(real(3, 33)), near(whole(5, dtype=torch.int64))],
    aten.log.default: _unary(0.1, 3.0),
    aten.sqrt.default: _unary(0.1, 3.0),
    aten.rsqrt.default: _unary(0.1, 3.0),
    aten.reciprocal.default: _unary(0.5, 3.0),
    aten.erf.default: _unary(),
    aten.sin.default: _unary(),
    aten.cos.default: _unary(),
    aten.tan.default: _unary(-1.0, 1.0),
    aten.asin.default: _unary(-0.9, 0.9),
    aten.acos.default: _unary(-0.9, 0.9),
    aten.atan.default: _unary(),
    aten.sinh.default: _unary(),
    aten.cosh.default: _unary(),
    aten.asinh.default: _unary(),
    aten.acosh.default: _unary(1.5, 4.0),
    aten.atanh.default: _unary(-0.9, 0.9),
    aten.tanh.default: _unary(),
    aten.sigmoid.default: _unary(),
    aten.silu.default: _unary(),
    aten.mish.default: _unary(),
    aten.hardswish.default: _unary(-5.0, 5.0),
    aten.hardsigmoid.default: _unary(-5.0, 5.0),
    aten.gelu.default: lambda: [near(real(3, 33)), near(real(3, 33), approximate="tanh")],
    aten.leaky_relu.default: lambda: [exact(whole(3, 5), 0.5), near(real(9))],
    aten.elu.default: lambda: [near(real(3, 5)), near(real(3, 5), 1.5, 1.1)],
    aten.softplus.default: _unary(),
    aten.hardtanh.default: lambda: [exact(whole(3, 5), 0.0, 3.0), exact(whole(3, 5))],
    aten.relu6.default: lambda: [exact(whole(3, 5, low=-9, high=9))],
    aten.clamp.default: lambda: [exact(whole(3, 5), -1, 2), exact(whole(3, 5), None, 2), exact(whole(3, 5, dtype=torch.int64), 1)],
    aten.clamp_min.default: _scalars(1),
    aten.clamp_max.default: _scalars(1),
    aten.floor.default: _rounding,
    aten.ceil.default: _rounding,
    aten.round.default: _rounding,
    aten.trunc.default: _rounding,
    aten.logical_not.default: lambda: [exact(truth(7)), exact(whole(7))],
    aten.bitwise_not.default: lambda: [exact(truth(7)), exact(whole(7, dtype=torch.int64))],
    aten._to_copy.default: lambda: [exact(whole(3, 4), dtype=d) for d in
                                    (torch.bfloat16, torch.float16, torch.int64, torch.int32, torch.bool)]
    + [exact(truth(5), dtype=torch.float32), exact(whole(5, dtype=torch.int64), dtype=torch.float32),
       exact(whole(5, dtype=torch.bfloat16), dtype=torch.float32), exact(torch.tensor([-1.5, 2.7]), dtype=torch.int64)],
    aten.to.dtype: lambda: [exact(whole(3, 4), torch.int64), exact(whole(3, 4), torch.float32)],
    aten.to.dtype_layout: lambda: [exact(whole(3, 4), dtype=torch.int64, layout=torch.strided, device=torch.device("cpu"))],
    aten.add.Tensor: _pairs(alpha=True),
    aten.add.Scalar: _scalars(3),
    aten.sub.Tensor: _pairs(with_bool=False, alpha=True),
    aten.sub.Scalar: _scalars(3),
    aten.rsub.Scalar: _scalars(3),
    aten.mul.Tensor: _pairs(),
    aten.mul.Scalar: _scalars(3),
    aten.div.Tensor: lambda: [exact(whole(3, 5) * 4, torch.tensor([1.0, 2, 4, -2, -4])), exact(whole(5), 2), near(real(5), real(5, low=1.0)),
                              exact(whole(5, dtype=torch.int64), 2)],
    aten.div.Scalar: _scalars(2),
    aten.div.Tensor_mode: lambda: [exact(whole(9), 2.0, rounding_mode="floor"), exact(whole(9), 2.0, rounding_mode="trunc")],
    aten.remainder.Tensor: lambda: [exact(whole(3, 5), whole(5, low=1))],
    aten.remainder.Scalar: _scalars(3, -2),
    aten.fmod.Tensor: lambda: [exact(whole(3, 5), whole(5, low=1))],
    aten.fmod.Scalar: _scalars(3),
    aten.pow.Tensor_Scalar: lambda: [exact(whole(5), 2), exact(whole(5), 3), near(real(5, low=0.5), 0.5), near(real(5, low=0.5), -0.5),
                                     near(real(5, low=0.5), 1.7), near(real(5, low=0.5), -1), exact(whole(5), 1)],
    aten.pow.Tensor_Tensor: lambda: [near(real(5, low=0.5), real(5))],
    aten.pow.Scalar: lambda: [near(2.0, real(5))],
    aten.maximum.default: _pairs(numbers=False),
    aten.minimum.default: _pairs(numbers=False),
    aten.bitwise_and.Tensor: _bits(),
    aten.bitwise_and.Scalar: _bits(scalar=True),
    aten.bitwise_or.Tensor: _bits(),
    aten.bitwise_or.Scalar: _bits(scalar=True),
    aten.bitwise_xor.Tensor: _bits(),
    aten.logical_and.default: _logical,
    aten.logical_or.default: _logical,
    aten.logical_xor.default: _logical,
    **{getattr(aten, name).Tensor: _compare_tensors for name in ("eq", "ne", "lt", "le", "gt", "ge")},
    **{getattr(aten, name).Scalar: _compare_scalars for name in ("eq", "ne", "lt", "le", "gt", "ge")},
    aten.where.self: lambda: [exact(truth(3, 5), whole(3, 5), whole(5)), exact(truth(3, 1), torch.tensor(2.0), whole(3, 5)),
                              exact(truth(5), whole(5, dtype=torch.int64), whole(5, dtype=torch.int64))],
    aten.masked_fill.Scalar: lambda: [exact(whole(3, 5), truth(5), float("-inf")), exact(whole(3, 5), truth(3, 1), 2)],
    aten.masked_fill.Tensor: lambda: [exact(whole(3, 5), truth(5), torch.tensor(7.0))],
    aten.addcmul.default: lambda: [exact(whole(3, 5), whole(5), whole(3, 1), value=2)],
    aten.lerp.Scalar: lambda: [exact(whole(3, 5), whole(3, 5), 0.5)],
    aten.tril.default: lambda: [exact(whole(4, 5)), exact(whole(2, 4, 4), -1), exact(truth(4, 4))],
    aten.triu.default: lambda: [exact(whole(4, 5), 1), exact(whole(2, 4, 4), -1)],
    aten.mm.default: lambda: [*_matrices((5, 7), (7, 9))(), exact(whole(7, 5).t(), whole(9, 7).t())],
    aten.bmm.default: _matrices((3, 5, 7), (3, 7, 9)),
    aten.matmul.default: lambda: [exact(whole(2, 3, 5, 7), whole(7, 4)), exact(whole(7), whole(7, 3)), exact(whole(5, 7), whole(7)),
                                  exact(whole(7), whole(7)), exact(whole(2, 1, 5, 7), whole(3, 7, 4))],
    aten.mv.default: _matrices((5, 7), (7,)),
    aten.dot.default: _matrices((7,), (7,)),
    aten.addmm.default: lambda: [*_matrices((9,), (5, 7), (7, 9))(), exact(whole(5, 9), whole(5, 7), whole(7, 9), beta=2, alpha=3),
                                 exact(whole(5, 9), whole(5, 7), whole(7, 9), beta=0)],
    aten.baddbmm.default: _matrices((3, 5, 9), (3, 5, 7), (3, 7, 9)),
    aten.linear.default: lambda: [*_matrices((2, 5, 7), (9, 7), (9,))(), exact(whole(5, 7), whole(9, 7)), exact(whole(7), whole(9, 7), whole(9))],
    aten.convolution.default: lambda: [
        exact(_image(), _weights(4, 3, 3, 3), whole(4), [1, 1], [1, 1], [1, 1], False, [0, 0], 1),
        exact(_image(2, 4, 9, 8), _weights(6, 2, 3, 3), None, [2, 2], [0, 1], [1, 1], False, [0, 0], 2),
        exact(_image(1, 6, 7, 7), _weights(6, 1, 3, 3), whole(6), [1, 1], [2, 2], [2, 2], False, [0, 0], 6),
        exact(_image(2, 3, 9), _weights(4, 3, 3), whole(4), [2], [1], [1], False, [0], 1),
        exact(_image(2, 4, 5, 5), _weights(4, 3, 3, 3), whole(3), [2, 2], [1, 1], [1, 1], True, [1, 1], 1),
        exact(_image().to(memory_format=torch.channels_last), _weights(4, 3, 3, 3), None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1),
        exact(_image().bfloat16(), _weights(4, 3, 3, 3).bfloat16(), None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1),
    ],
    aten.conv1d.default: lambda: [exact(_image(2, 3, 9), _weights(4, 3, 3), whole(4), [1], [1])],
    aten.conv2d.default: lambda: [exact(_image(), _weights(4, 3, 3, 3), whole(4), [1, 1], [1, 1]), exact(_image(), _weights(4, 3, 2, 2))],
    aten.conv3d.default: lambda: [exact(_image(1, 2, 5, 5, 5), _weights(3, 2, 2, 2, 2), whole(3))],
    aten._scaled_dot_product_flash_attention_for_cpu.default: _attention("flash"),
    aten._scaled_dot_product_attention_math.default: _attention("math"),
    aten.scaled_dot_product_attention.default: _whole_attention,
    aten._transformer_encoder_layer_fwd.default: lambda: [_layer(True, True), _layer(False, False)],
    aten._native_multi_head_attention.default: lambda: [_self()],
    aten.max_pool1d.default: lambda: [_pool((2, 3, 9), [2])],
    aten.max_pool2d.default: lambda: [_pool((2, 3, 9, 8), [3, 3], [2, 2], [1, 1]), _pool((2, 3, 9, 8), [2, 2], [2, 2], [0, 0], [1, 1], True)],
    aten.max_pool3d.default: lambda: [_pool((1, 2, 5, 5, 5), [2, 2, 2])],
    aten.max_pool2d_with_indices.default: lambda: [
        exact(torch.randperm(432).reshape(2, 3, 9, 8).float(), [3, 3], [2, 2], [1, 1], read=(0, 1)),
        exact(_image(), [3, 3], [2, 2], [1, 1], [1, 1], True, read=(0,)),
        exact(torch.randperm(72).reshape(1, 9, 8).float(), [2, 2], read=(0, 1)),
    ],
    aten.max_pool3d_with_indices.default: lambda: [exact(torch.randperm(250).reshape(1, 2, 5, 5, 5).float(), [2, 2, 2], read=(0, 1))],
    aten.avg_pool1d.default: lambda: [near(_image(2, 3, 8), [2]), near(_image(2, 3, 8), [4], [2], [1])],
    aten.avg_pool2d.default: lambda: [near(_image(), [3, 3], [2, 2], [1, 1]), near(_image(), [3, 3], [2, 2], [1, 1], False, False),
                                      near(_image(), [3, 3], [2, 2], [1, 1], True), near(_image(3, 8, 8), [2, 2])],
    aten.avg_pool3d.default: lambda: [near(_image(1, 2, 4, 4, 4), [2, 2, 2])],
    aten.adaptive_avg_pool1d.default: lambda: [near(_image(2, 3, 8), [1]), near(_image(2, 3, 8), [4])],
    aten.adaptive_avg_pool2d.default: lambda: [near(_image(), [1, 1]), near(_image(2, 3, 8, 6), [4, 3])],
    aten._adaptive_avg_pool2d.default: lambda: [near(_image(), [1, 1]), near(_image(2, 3, 8, 6), [4, 3])],
    aten.upsample_nearest2d.default: lambda: [exact(_image(), [18, 24])],
    aten.upsample_nearest2d.vec: lambda: [exact(_image(), None, [2.0, 3.0])],
    aten.layer_norm.default: lambda: _dropped(_norms()),
    aten.native_layer_norm.default: _norms(),
    aten.rms_norm.default: lambda: [near(real(3, 16), [16], real(16), 1e-6), near(real(3, 16), [16])],
    aten._fused_rms_norm.default: lambda: [near(real(3, 16), [16], real(16), 1e-6, read=(0,))],
    aten.batch_norm.default: lambda: [near(*_statistics(training=(False,)), False)],
    aten.native_batch_norm.default: lambda: [near(*_statistics(training=(False,)), read=(0,))],
    aten._native_batch_norm_legit_no_training.default: lambda: [
        near(*_statistics(), read=(0,)), near(real(2, 6, 5), None, None, real(6), real(6, low=0.5), 0.1, 1e-5, read=(0,))],
    aten.group_norm.default: lambda: [near(real(2, 6, 5, 5), 3, real(6), real(6))],
    aten.native_group_norm.default: lambda: [near(real(2, 6, 5, 5), real(6), None, 2, 6, 25, 3, 1e-5, read=(0,))],
    aten._softmax.default: lambda: [near(real(3, 4, 9), -1, False), near(real(3, 4, 9), 1, False)],
    aten._safe_softmax.default: lambda: [near(torch.tensor([[1.0, float("-inf"), 2.0], [float("-inf")] * 3]), -1)],
    aten._log_softmax.default: lambda: [near(real(3, 4, 9), -1, False)],
    aten.softmax.int: lambda: [near(real(3, 4, 9), 1)],
    aten.log_softmax.int: lambda: [near(real(3, 4, 9), 1)],
    aten.sum.default: _alls,
    aten.sum.dim_IntList: _sums,
    aten.mean.default: lambda: [exact(whole(4, 8))],
    aten.mean.dim: lambda: [exact(whole(3, 4, 8), [1]), exact(whole(3, 4, 8), [-1, -2], True), exact(whole(3, 4, dtype=torch.bfloat16), [1])],
    aten.prod.default: lambda: [exact(whole(5, low=1, high=3))],
    aten.prod.dim_int: lambda: [exact(whole(3, 5, low=1, high=3), 1), exact(whole(3, 5, low=1, high=3, dtype=torch.int64), 0, True)],
    aten.amax.default: _reductions,
    aten.amin.default: _reductions,
    aten.max.default: _alls,
    aten.min.default: _alls,
    aten.max.dim: _along,
    aten.min.dim: _along,
    aten.argmax.default: lambda: [*_along(), exact(torch.randperm(12).reshape(3, 4)), exact(torch.tensor([1.0, 3.0, 3.0]), 0)],
    aten.argmin.default: lambda: [*_along(), exact(torch.randperm(12).reshape(3, 4).float())],
    aten.logsumexp.default: lambda: [near(real(3, 5), [1])],
    aten.any.default: lambda: [exact(truth(3, 4)), exact(torch.zeros(4))],
    aten.any.dim: lambda: [exact(truth(3, 4), 1), exact(whole(3, 4, low=0, high=2), 0, True)],
    aten.any.dims: lambda: [exact(truth(3, 4, 5), [0, 1])],
    aten.all.default: lambda: [exact(truth(3)), exact(torch.ones(4))],
    aten.all.dim: lambda: [exact(truth(3, 2), 1), exact(whole(3, 2, low=0, high=2), 0, True)],
    aten.cumsum.default: _cumulative,
    aten.cumprod.default: lambda: _cumulative(low=1),
    aten.var.correction: _variances,
    aten.var_mean.correction: _variances,
    aten.std.correction: _variances,
    aten.linalg_vector_norm.default: lambda: [near(real(3, 5), 2, [1]), exact(whole(3, 5), 1, [1], True), exact(whole(3, 5), float("inf"))],
    aten.topk.default: lambda: [exact(torch.randperm(20).reshape(4, 5).float(), 3), exact(torch.randperm(20).reshape(4, 5).float(), 2, 0, False)],
    aten.sort.default: lambda: [exact(torch.randperm(20).reshape(4, 5).float()), exact(torch.randperm(20).reshape(4, 5), 0, True)],
    aten.sort.stable: lambda: [exact(whole(4, 9, low=0, high=3), stable=True, dim=1)],
    aten.embedding.default: lambda: [exact(whole(10, 4), torch.randint(0, 10, (2, 3))), exact(whole(10, 4).bfloat16(), torch.randint(0, 10, (3,)), 1)],
    aten.gather.default: lambda: [exact(whole(3, 5), 1, torch.randint(0, 5, (3, 2))), exact(whole(3, 5, dtype=torch.int64), 0, torch.randint(0, 3, (2, 5)))],
    aten.index.Tensor: lambda: [
        exact(whole(4, 5), [torch.tensor([3, -1, 0])]), exact(whole(4, 5, 6), [None, torch.tensor([[0, 4], [1, 1]])]),
        exact(whole(4, 5, 6), [torch.tensor([0, 3]), torch.tensor([1, 4])]),
        exact(whole(4, 5, 6), [None, torch.tensor([[0], [3]]), torch.tensor([1, 4])]),
        exact(whole(4, 5, 6), [torch.tensor([0, 3]), None, torch.tensor([1, 4])]), exact(truth(2, 7), [torch.tensor([[0], [1]]), torch.tensor([2, 3])])],
    aten._unsafe_index.Tensor: lambda: [exact(whole(2, 3, 4, 5), [None, None, torch.tensor([[0], [3]]), torch.tensor([1, 4])])],
    aten.index_select.default: lambda: [exact(whole(4, 5), 1, torch.tensor([4, 0])), exact(whole(4, 5, dtype=torch.int64), 0, torch.tensor([3]))],
    aten.index_put.default: lambda: [exact(whole(4, 5), [torch.tensor([3, 1])], whole(2, 5)), exact(whole(4, 5), [torch.tensor([3, 3])], torch.tensor(1.0), True),
                                     exact(whole(4, 5), [torch.tensor([3, 1]), torch.tensor([0, 2])], whole(2))],
    aten.index_copy.default: lambda: [exact(whole(4, 5), 1, torch.tensor([3, 0]), whole(4, 2)), exact(whole(4, 5), 0, torch.tensor([2]), whole(1, 5))],
    aten.scatter.src: _scattered(lambda: whole(4, 5)),
    aten.scatter.value: _scattered(lambda: 2.0),
    aten.scatter_add.default: _scattered(lambda: whole(4, 3)),
    aten.view.default: _views,
    aten._unsafe_view.default: _views,
    aten.reshape.default: lambda: [*_views(), exact(whole(4, 6).t(), [8, 3])],
    aten.flatten.using_ints: lambda: [exact(whole(2, 3, 4), 1), exact(whole(2, 3, 4))],
    aten.unflatten.int: lambda: [exact(whole(2, 12), 1, [3, 4])],
    aten.unsqueeze.default: lambda: [exact(whole(3, 4), 1), exact(whole(3, 4), -1)],
    aten.squeeze.default: lambda: [exact(whole(3, 1, 4, 1))],
    aten.squeeze.dim: lambda: [exact(whole(3, 1, 4), 1), exact(whole(3, 1, 4), 0)],
    aten.squeeze.dims: lambda: [exact(whole(3, 1, 4, 1), [1, 3])],
    aten.t.default: lambda: [exact(whole(3, 4)), exact(whole(5))],
    aten.transpose.int: lambda: [exact(whole(2, 3, 4), 0, -1), exact(whole(2, 3, 4, dtype=torch.int64), 1, 2)],
    aten.permute.default: lambda: [exact(whole(2, 3, 4), [2, 0, -2])],
    aten.expand.default: lambda: [exact(whole(3, 1), [3, 4]), exact(whole(3, 1), [2, -1, 4])],
    aten.repeat.default: lambda: [exact(whole(2, 3), [2, 1]), exact(whole(2, 3), [4, 1, 2])],
    aten.slice.Tensor: lambda: [exact(whole(6, 5), 0, 1, 4), exact(whole(6, 5), 1, -3), exact(whole(6, 5), 0, 1, 2**63 - 1, 2), exact(whole(6, 5), 0, 0, -1)],
    aten.narrow.default: lambda: [exact(whole(6, 5), 0, 1, 3)],
    aten.select.int: lambda: [exact(whole(6, 5), 0, -1), exact(whole(2, 6, 5), 1, 2)],
    aten.split.Tensor: lambda: [exact(whole(7, 5), 3), exact(whole(2, 9), 3, 1, read=(1,))],
    aten.split_with_sizes.default: lambda: [exact(whole(7, 5), [2, 4, 1])],
    aten.chunk.default: lambda: [exact(whole(7, 5), 3)],
    aten.unbind.int: lambda: [exact(whole(3, 5)), exact(whole(3, 5), 1, read=(0, 4))],
    aten.cat.default: lambda: [exact([whole(2, 3), whole(4, 3)]), exact([whole(2, 3), whole(2, 1)], -1), exact([torch.empty(0), whole(2, 3)]),
                               exact([whole(2, 3), whole(2, 3, dtype=torch.int64)])],
    aten.stack.default: lambda: [exact([whole(2, 3), whole(2, 3)]), exact([whole(2, 3), whole(2, 3)], -1)],
    aten.flip.default: lambda: [exact(whole(3, 4), [1]), exact(whole(3, 4), [0, -1])],
    aten.roll.default: lambda: [exact(whole(3, 4), [1], [1]), exact(whole(3, 4), [2]), exact(whole(3, 4), [-1, 2], [0, 1])],
    aten.unfold.default: lambda: [exact(whole(2, 9), 1, 3, 2)],
    aten.constant_pad_nd.default: lambda: [exact(whole(2, 3, 4), [1, 2]), exact(whole(2, 3, 4), [1, 0, 2, -1], 5.0)],
    aten.reflection_pad1d.default: lambda: [exact(whole(2, 3, 4), [1, 2])],
    aten.reflection_pad2d.default: lambda: [exact(whole(1, 2, 4, 5), [1, 2, 2, 1])],
    aten.replication_pad2d.default: lambda: [exact(whole(1, 2, 4, 5), [1, 2, 2, 1])],
    aten.pixel_shuffle.default: lambda: [exact(whole(2, 8, 3, 4), 2)],
    aten.slice_scatter.default: lambda: [exact(whole(6, 5), whole(2, 5), 0, 1, 3), exact(whole(6, 5), whole(6, 3), 1, 2)],
    aten.select_scatter.default: lambda: [exact(whole(6, 5), whole(5), 0, -1), exact(whole(6, 5), whole(6), 1, 2)],
    aten.clone.default: lambda: [exact(whole(3, 4)), exact(_image(), memory_format=torch.channels_last)],
    aten.alias.default: lambda: [exact(whole(3, 4))],
    aten.detach.default: lambda: [exact(whole(3, 4))],
    aten.contiguous.default: lambda: [exact(whole(3, 4).t())],
    aten.lift_fresh_copy.default: lambda: [exact(whole(3, 4))],
    aten.dropout.default: lambda: [exact(whole(3, 4), 0.5, False)],
    aten.native_dropout.default: lambda: [exact(whole(3, 4), 0.5, False, read=(0,))],
    aten.full.default: lambda: [exact([2, 3], 7.0, **_fill()), exact([2, 3], 7, dtype=torch.int64), exact([3], True, dtype=torch.bool)],
    aten.full_like.default: lambda: [exact(whole(2, 3), 7.0)],
    aten.new_full.default: lambda: [exact(whole(2, 3), [4], 7.0)],
    aten.zeros.default: lambda: [exact([2, 3], **_fill())],
    aten.zeros_like.default: lambda: [exact(whole(2, 3))],
    aten.new_zeros.default: lambda: [exact(whole(2, 3), [4])],
    aten.ones.default: lambda: [exact([2, 3], **_fill())],
    aten.ones_like.default: lambda: [exact(whole(2, 3, dtype=torch.int64))],
    aten.new_ones.default: lambda: [exact(whole(2, 3), [4], dtype=torch.bool)],
    aten.scalar_tensor.default: lambda: [exact(3.0, **_fill()), exact(float("-inf"), **_fill())],
    aten.arange.default: lambda: [exact(100), exact(5, dtype=torch.float32)],
    aten.arange.start: lambda: [exact(3, 100)],
    aten.arange.start_step: lambda: [exact(3, 100, 7), exact(10, 0, -3, dtype=torch.float32)],
    aten.eye.default: lambda: [exact(4)],
    aten.eye.m: lambda: [exact(4, 6, dtype=torch.float32)],
}
