#!/usr/bin/env python3
"""Fits the polynomials of compiler/src/microkernel/approx.rs and prints its constants.

    pip install numpy mpmath && python3 tools/fit_approximations.py

Every fit is minimax by Lawson's method: weighted linear least squares, the weights multiplied with the error until all
its peaks are equal. Coefficients are
rounded to f32 one after another, from the constant term up; those that follow are fitted again each time and make up for
it. See Muller et al., Handbook of Floating-Point Arithmetic, on both, and Cody & Waite, Software Manual for the
Elementary Functions, on splitting ln 2.
"""

import mpmath as mp
import numpy as np

mp.mp.prec = 120


def f32(x):
    return float(np.float32(x))


def function(f):
    return np.vectorize(lambda x: float(f(mp.mpf(float(x)))), otypes=[float])


def grid(lo, hi, n=1500):
    return (lo + hi) / 2 - (hi - lo) / 2 * np.cos(np.linspace(0, np.pi, n))


def lawson(columns, target, weight, steps=150):
    """Coefficients of `columns` that make the greatest weighted distance to `target` least, and that distance."""
    law = np.ones_like(target)
    best = (np.inf, None)
    for _ in range(steps):
        w = weight * np.sqrt(law)
        a = columns * w[:, None]
        scale = np.linalg.norm(a, axis=0)
        c = np.linalg.lstsq(a / scale, target * w, rcond=1e-17)[0] / scale
        e = np.abs(columns @ c - target) * weight
        if e.max() < best[0]:
            best = (e.max(), c)
        law = law * (e / e.max() + 1e-3) ** 0.7
        law /= law.mean()
    return best


def rounded(columns, target, weight, fixed=()):
    """The same with all coefficients f32. `fixed` are those of the first columns."""
    known = list(fixed)
    while True:
        left = target - columns[:, : len(known)] @ np.array(known) if known else target
        if len(known) == columns.shape[1]:
            return known, (np.abs(left) * weight).max()
        _, c = lawson(columns[:, len(known) :], left, weight)
        known.append(f32(c[0]))


def polynomial(f, lo, hi, degree, weight, fixed=()):
    x = grid(lo, hi)
    return rounded(x[:, None] ** np.arange(degree + 1), function(f)(x), weight(x), fixed)


def show(name, values, error=None):
    text = ", ".join(repr(np.float32(v)).removeprefix("np.float32(").removesuffix(")") for v in values)
    print(f"{name}: {text}" + (f"    // error {error:.2g}" if error is not None else ""))


ln2, log2e = mp.log(2), 1 / mp.log(2)
hi = np.float32(float(2 * ln2)).view(np.uint32) & np.uint32(0xFFFFF000)
hi = float(hi.view(np.float32))
show("TWO_LN_2, rounded", [float(2 * ln2)])
show("TWO_LN_2_HIGH, 12 bits fewer, and TWO_LN_2_LOW", [hi, float(2 * ln2 - hi)])
show("HALF_LOG2_E", [float(log2e / 2)])

# Arguments that round to 0 are a little more than half a step away from it at most.
half = f32(0.3471) * 2
show("EXP", *polynomial(mp.exp, -half, half, 7, lambda x: np.exp(-x), [1.0]))
show("EXP_HALF", *polynomial(lambda x: mp.exp(x / 2), -half, half, 5, lambda x: np.exp(-x / 2), [1.0]))
show("EXP2", *polynomial(lambda x: mp.mpf(2) ** x, -0.5, 0.5, 5, lambda x: 2.0**-x, [1.0]))


def phi(x):
    """The normal distribution."""
    return mp.erfc(-x / mp.sqrt(2)) / 2


# An error of log2(phi) matters as much as phi is large.
c, e = polynomial(lambda x: mp.log(phi(x), 2), -8, 0, 7, lambda x: np.maximum(function(phi)(x), 1e-9) * np.log(2), [-1.0])
show("LOG2_PHI", c, e)
show("PHI_ZERO, before rounding", [-np.polyval(c[::-1], -8.0)])

a = 2 * mp.sqrt(2 / mp.pi) * log2e
show("GELU_TANH", [float(a), float(a * mp.mpf("0.044715"))])

half = f32(0.1736)


def tail(r):
    """What expm1(2 r) / 2 is more than r, over r^2."""
    return (mp.expm1(2 * r) / 2 - r) / r**2


show("TANH", *polynomial(tail, -half, half, 4, lambda r: r * r / np.abs(np.expm1(2 * r) / 2), [1.0]))
show("TWO_LOG2_E, HALF_LN_2", [float(2 * log2e), float(ln2 / 2)])
