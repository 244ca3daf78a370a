"""Noise and colours, which clothes, rooms and things are painted with."""

import cv2
import numpy as np


def make_noise_bank(seed: int = 0, size: int = 256) -> np.ndarray:
    """Returns tileable noise (size, size, 4) float32: smooth, fine, slopes in x and y of the smooth one."""
    rng = np.random.default_rng(seed)
    f = np.hypot(*np.meshgrid(np.fft.fftfreq(size), np.fft.fftfreq(size))) * size
    out = []
    for exponent, low in ((1.9, 3), (1.0, 10)):
        spectrum = np.fft.fft2(rng.normal(size=(size, size))) / np.maximum(f, 1) ** exponent * (f >= low)
        n = np.fft.ifft2(spectrum).real
        out.append(n / n.std())
    out += [np.roll(out[0], -1, 1) - out[0], np.roll(out[0], -1, 0) - out[0]]
    return np.stack([o / o.std() for o in out], -1).astype(np.float32)


NOISE = make_noise_bank()

BANKS = {'smooth': NOISE[..., 0].copy(), 'fine': NOISE[..., 1].copy(), 'slope': NOISE[..., 2:].copy()}


def noise_at(
    u: np.ndarray, v: np.ndarray, scale: float, rng: np.random.Generator, channel: str = 'smooth'
) -> np.ndarray:
    """Returns tileable noise of unit variance, randomly shifted, at coordinates u, v of equal shape.

    Args:
        scale: texels per unit.
        channel: 'smooth', 'fine' or 'slope' (two values per point: the x and y slopes of the smooth noise).
    """
    shift = rng.uniform(0, 256, 2)
    n = u.size
    columns = max(-(-n // 4096), 1)  # cv2.remap wants less than 32768 rows and columns
    x, y = np.zeros(columns * 4096, np.float32), np.zeros(columns * 4096, np.float32)
    for out, w, s in ((x, u, shift[0]), (y, v, shift[1])):
        t = w.ravel() * np.float32(scale) + np.float32(s)
        out[:n] = t - 256 * np.floor(t * (1 / 256))
    bank = BANKS[channel]
    x, y = x.reshape(columns, 4096), y.reshape(columns, 4096)
    out = cv2.remap(bank, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    return out.reshape(columns * 4096, -1)[:n].reshape(u.shape + bank.shape[2:])


def hsv(h: float, s: float, v: float) -> np.ndarray:
    """Returns one RGB colour (3,) float32 from hue (turns), saturation, value."""
    k = (np.array([5, 3, 1]) + h * 6) % 6
    return (v - v * s * np.clip(np.minimum(k, 4 - k), 0, 1)).astype(np.float32)


def muted(
    rng: np.random.Generator, low: float = 0.2, high: float = 0.95, strength: float = 0.5
) -> np.ndarray:
    """Returns a random, not very saturated colour (3,), commonly of wood, stone, paint or foliage."""
    hue = (rng.random(), rng.normal(0.09, 0.025), rng.normal(0.59, 0.03), rng.normal(0.28, 0.05))[
        rng.choice(4, p=[0.22, 0.46, 0.18, 0.14])
    ]
    return hsv(hue % 1, strength * rng.beta(1.2, 2.2), rng.uniform(low, high))
