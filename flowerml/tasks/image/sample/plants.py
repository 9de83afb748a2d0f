"""Plants: blades are bent, tinted and arranged in whorls, then painted, the farthest first."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random

import numpy as np
from numpy.typing import ArrayLike

from flowerml.tasks.image.sample.canvas import SIDE, Array, Canvas, mix, pick, vector
from flowerml.tasks.image.sample.garden import Species, Whorl

GOLDEN_ANGLE = math.pi * (3 - math.sqrt(5))


@dataclass(frozen=True)
class Blade:
    """A sampled surface: points, normals and colors, each [3, N]; x runs along the blade, z is its upper side."""

    points: Array
    normals: Array
    colors: Array

    def paint(self, canvas: Canvas, *, turn: Array, shift: Array, glow: float) -> None:
        """Splat the blade, rotated by turn [3, 3] and moved by shift [3] into view (x right, y up, z to the eye)."""
        x, y = product(turn[:2], self.points) + shift[:2, None]
        facing, lit = product(np.stack([turn[2], product(canvas.sun[None], turn)[0]]), self.normals)
        lit *= np.sign(facing) / math.hypot(*turn[0])
        shine = lit * lit * lit
        canvas.splat(x, -y, self.colors * (glow * (0.66 + 0.42 * lit)) + 38 * shine * shine, reach=9)


def blade(whorl: Whorl, *, scale: float, color: Array, rng: Random) -> Blade:
    """Sample a whorl's blade every 1.3 canvas pixels; `scale` is the unit of length in pixels."""
    rows, columns = (int(scale * extent / 1.3) + 4 for extent in (whorl.length, 2 * whorl.width))
    # Not quite to the ends, where the blade has no width, hence no normal and no light.
    u = np.linspace(0.004, 0.996, rows, dtype=np.float32)[:, None]
    v = np.linspace(-1, 1, columns, dtype=np.float32)[None, :]
    surface = shape(whorl, u, v, phase=rng.uniform(0, 6)) * scale
    normals = np.cross(np.gradient(surface, axis=0), np.gradient(surface, axis=1))
    normals /= np.linalg.norm(normals, axis=2, keepdims=True) + 1e-6
    points, normals = (np.ascontiguousarray(grid.reshape(-1, 3).T) for grid in (surface, normals))
    return Blade(points, normals, tint(whorl, u, v, color=color, rng=rng).reshape(3, -1))


def shape(whorl: Whorl, u: Array, v: Array, *, phase: float) -> Array:
    """Return the surface over u (along) and v (across), [U, V, 3]: a bent midrib, an outline, a cup and a ripple."""
    peak = whorl.base / (whorl.base + whorl.tip)
    half = whorl.width * (u / peak) ** whorl.base * ((1 - u) / (1 - peak)) ** whorl.tip
    lift = whorl.cup * half * v**2 + whorl.wave * u * np.sin(7 * v + 5 * u + phase)
    angle = math.radians(whorl.bend) * u
    step = whorl.length / len(u)
    x = np.cumsum(np.cos(angle), axis=0) * step - lift * np.sin(angle)
    z = np.cumsum(np.sin(angle), axis=0) * step + lift * np.cos(angle)
    return np.stack([x, half * v, z], axis=2)


def tint(whorl: Whorl, u: Array, v: Array, *, color: Array, rng: Random) -> Array:
    """Return the blade's colors [3, U, V]: deep at the base, paler at the tip, veined, perhaps spotted."""
    name, reach = whorl.throat
    tip = color + (255 - color) * max(rng.uniform(-0.15, 0.3), 0)
    rgb = mix(color * 0.88, tip, u + 0 * v)
    if reach:
        rgb = mix(rgb, pick(rng, name), np.clip(1.6 * (1 - (u / reach) ** 2 - 0.5 * v**2), 0, 1))
    veins = np.cos(v * rng.choice((14, 18, 23)) * (1 - 0.3 * u)) ** 4 * (1 - u) + np.exp(-((v / 0.07) ** 2))
    light = (0.7 + 0.3 * np.clip(3 * u, 0, 1)) * (1 - whorl.veins * veins) * (1 - 0.16 * v**4)
    if rng.random() < whorl.spots:
        spotted = np.sin(31 * u + 3 * np.sin(9 * v)) * np.sin(13 * v + 7 * u) * (u < 0.7) > 0.72
        light = np.where(spotted, 0.4 * light, light)
    return rgb * light


def rotations(axis: int, angles: ArrayLike) -> Array:
    """Return rotations [..., 3, 3] about a coordinate axis by `angles` [...], in radians."""
    first, second = (axis + 1) % 3, (axis + 2) % 3
    matrices = np.zeros((*np.shape(angles), 3, 3), dtype=np.float32)
    matrices[..., axis, axis] = 1
    matrices[..., first, first] = matrices[..., second, second] = np.cos(angles)
    matrices[..., second, first] = np.sin(angles)
    matrices[..., first, second] = -matrices[..., second, first]
    return matrices


def product(matrices: Array, factors: Array) -> Array:
    """Return the product of matrices [..., n, 3] with matrices [..., 3, m] or a vector [3].

    Not `@`: its kernels round differently on other processors and settings, and a picture must depend on its seed
    alone.

    >>> product(np.eye(3), np.array([1.0, 2.0, 3.0]))
    array([1., 2., 3.])
    """
    if factors.ndim == 1:
        return product(matrices, factors[:, None])[..., 0]
    first, second, third = (matrices[..., :, k, None] * factors[..., None, k, :] for k in range(3))
    return first + second + third


def arrange(whorl: Whorl, *, rng: Random) -> Iterator[tuple[Array, Array]]:
    """Yield the rotation [3, 3] and base [3] of each blade of a whorl on its bloom."""
    count = rng.randint(*whorl.count)
    noise = np.random.default_rng(rng.getrandbits(64))
    rise, size, ring, height = (
        np.interp(np.linspace(0, 1, count) ** 0.5, (0, 1), ends)
        for ends in (whorl.rise, whorl.size, whorl.ring, whorl.height)
    )
    azimuth = np.arange(count) * (GOLDEN_ANGLE if whorl.spiral else 2 * math.pi / count)
    azimuth += noise.normal(0, 0.25 / count, count)
    lift = product(
        rotations(1, -np.radians(rise + noise.normal(0, 5, count))), rotations(0, noise.normal(0, 0.13, count))
    )
    turn = product(rotations(2, azimuth), lift) * (size * noise.normal(1, 0.05, count))[:, None, None]
    feet = np.stack([ring * np.cos(azimuth), ring * np.sin(azimuth), height], axis=1)
    return zip(turn.astype(np.float32), feet.astype(np.float32), strict=True)


def vary(whorl: Whorl, *, heart: float, rng: Random) -> Whorl:
    """Return the whorl as it is on another plant, where whorls stand `heart` times as far from the axis."""
    opening = rng.gauss(0, 8)
    return replace(
        whorl,
        length=whorl.length * rng.uniform(0.82, 1.15),
        width=whorl.width * rng.uniform(0.75, 1.3),
        tip=whorl.tip * rng.uniform(0.65, 1.5),
        rise=(whorl.rise[0] + opening * (not whorl.spiral), whorl.rise[1] + opening),
        bend=whorl.bend * rng.uniform(0.4, 1.6),
        cup=whorl.cup * rng.uniform(0.6, 1.4),
        ring=(whorl.ring[0] * heart, whorl.ring[1] * heart),
    )


@dataclass(frozen=True)
class Plant:
    """An individual plant: its whorls and their blades, sampled for blooms of `radius` canvas pixels."""

    species: Species
    whorls: tuple[tuple[Whorl, Blade], ...]
    green: Array
    radius: float

    @classmethod
    def grow(cls, species: Species, *, rng: Random) -> "Plant":
        radius = rng.uniform(*species.radius) * 2 * SIDE
        heart, color = rng.uniform(0.72, 1.3), pick(rng, *species.colors)
        whorls = []
        for kind in species.whorls:
            whorl = vary(kind, heart=heart, rng=rng)
            whorl_color = pick(rng, *kind.colors) if kind.colors else color
            whorls.append((whorl, blade(whorl, scale=radius, color=whorl_color, rng=rng)))
        return cls(species, tuple(whorls), pick(rng, "green"), radius)

    def paint(self, canvas: Canvas, *, at: Array, rng: Random) -> None:
        """Paint stem, leaves and blooms; `at` is the center of the blooms, in canvas pixels with y up."""
        lean = rng.gauss(0, 0.3)
        places = [at + product(rotations(2, lean), place) for place in self.places(rng)]
        top = max(places, key=lambda place: float(place[1]))
        root = at + vector(SIDE * rng.uniform(-0.5, 0.5), -2.6 * SIDE, 0)
        self.stem(canvas, top, (at + top) / 2 - vector(0, 0.3 * SIDE, 0), root)
        self.leaves(canvas, between=(at, root), rng=rng)
        for place in places:
            if len(places) > 1:
                self.stem(canvas, place, (place + at) / 2, at - vector(0, self.radius, 0))
            tilt = rotations(0, -math.radians(rng.uniform(*self.species.tilt)))
            frame = product(
                product(rotations(2, lean + rng.gauss(0, 0.25)), tilt), rotations(2, rng.uniform(0, 2 * math.pi))
            )
            self.bloom(canvas, center=place, frame=frame, rng=rng)

    def places(self, rng: Random) -> list[Array]:
        """Return the positions of the blooms about their center, the farthest first."""
        across, along = (extent * SIDE for extent in self.species.spread)
        heights = np.linspace(-along, along, rng.randint(*self.species.blooms))
        places = [vector(across * rng.uniform(-1, 1), height, 0) for height in heights]
        rng.shuffle(places)
        return places

    def bloom(self, canvas: Canvas, *, center: Array, frame: Array, rng: Random) -> None:
        """Paint one bloom, its axis along the frame's z, the farthest blade first."""
        blades = []
        for whorl, petal in self.whorls:
            middle = petal.points.mean(axis=1)
            for turn, foot in arrange(whorl, rng=rng):
                shift = product(frame, foot) * self.radius
                depth = float((product(product(frame, turn), middle) + shift)[2])
                blades.append((depth, petal, product(frame, turn), center + shift))
        for _, petal, turn, shift in sorted(blades, key=lambda item: item[0]):
            petal.paint(canvas, turn=turn, shift=shift, glow=rng.uniform(0.93, 1.07))

    def leaves(self, canvas: Canvas, *, between: tuple[Array, Array], rng: Random) -> None:
        top, root = between
        for _ in range(rng.randint(*self.species.leaf.count)):
            whorl = vary(self.species.leaf, heart=1.0, rng=rng)
            leaf = blade(whorl, scale=SIDE * rng.uniform(0.6, 1.0), color=self.green, rng=rng)
            roll = product(rotations(1, rng.gauss(0, 0.4)), rotations(0, rng.gauss(0, 0.6)))
            turn = product(rotations(2, math.pi / 2 + rng.gauss(0, 0.7)), roll)
            foot = top + (root - top) * rng.uniform(0.35, 0.75)
            leaf.paint(canvas, turn=turn, shift=foot, glow=rng.uniform(0.8, 1.05))

    def stem(self, canvas: Canvas, start: Array, control: Array, end: Array) -> None:
        """Paint a round stalk along a quadratic Bézier curve."""
        t = np.linspace(0, 1, int(math.dist(end, start)) + 2, dtype=np.float32)[:, None, None]
        v = np.linspace(-1, 1, 12, dtype=np.float32)[None, :, None]
        curve = (1 - t) ** 2 * start + 2 * t * (1 - t) * control + t**2 * end
        tangent = (1 - t) * (control - start) + t * (end - control)
        tangent /= np.linalg.norm(tangent, axis=2, keepdims=True) + 1e-6
        side = tangent[..., [1, 0, 2]] * vector(-1, 1, 0)
        normals = side * v + vector(0, 0, 1) * np.sqrt(1 - v**2)
        stalk = Blade((curve + side * v * 5).reshape(-1, 3).T, normals.reshape(-1, 3).T, self.green[:, None])
        stalk.paint(canvas, turn=rotations(2, 0.0), shift=vector(0, 0, 0), glow=1.0)
