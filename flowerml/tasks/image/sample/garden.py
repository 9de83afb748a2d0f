"""The species that can be drawn: their blooms, leaves and colors."""

from dataclasses import dataclass, replace

Range = tuple[float, float]


@dataclass(frozen=True)
class Whorl:
    """Blades of one kind around a common axis. Lengths are in bloom radii, angles in degrees.

    The half-width at u (0 to 1 along a blade) is proportional to u^base (1 - u)^tip. Ranges run from the first blade
    to the last.
    """

    count: tuple[int, int]
    length: float = 1.0
    width: float = 0.3
    base: float = 0.6
    tip: float = 0.4
    rise: Range = (10.0, 10.0)  # of the blade above the plane of the bloom
    bend: float = -20.0  # from base to tip; negative is outward
    cup: float = 0.3
    wave: float = 0.02
    ring: Range = (0.0, 0.0)  # distance of the base from the axis
    size: Range = (1.0, 1.0)
    height: Range = (0.0, 0.0)
    spiral: bool = False
    colors: tuple[str, ...] = ()  # none: the color of the bloom
    throat: tuple[str, float] = ("white", 0.0)  # the color at the base, and how far up it reaches
    veins: float = 0.12
    spots: float = 0.0


@dataclass(frozen=True)
class Species:
    """What all pictures of a species have in common."""

    colors: tuple[str, ...]
    whorls: tuple[Whorl, ...]
    tilt: Range  # degrees between the bloom's axis and the line of sight
    radius: Range = (0.25, 0.42)  # of a bloom, in short sides
    blooms: tuple[int, int] = (1, 1)
    spread: Range = (0.0, 0.0)  # of the blooms across and along the stem, in short sides
    leaf: Whorl = Whorl((1, 4), 1.0, 0.2, 0.6, 0.8, bend=-50, cup=0.4, veins=0.25)


# fmt: off
def disc(radius: float, florets: tuple[int, int], *colors: str) -> Whorl:
    """Return the center of a composite flower: small scales on a spiral, flat outside and upright inside."""
    return Whorl(florets, 0.13, 0.055, 0.4, 0.5, rise=(75, 25), bend=-40, ring=(0.0, radius), size=(0.8, 1.2),
                 height=(0.14, 0.05), spiral=True, colors=colors, veins=0)


def stamens(count: tuple[int, int], length: float, *colors: str, rise: float = 55) -> Whorl:
    """Return thin filaments that thicken into anthers."""
    return Whorl(count, length, 0.035, 3.0, 0.3, rise=(rise, rise), bend=-30, cup=-0.5, ring=(0.02, 0.02),
                 height=(0.02, 0.02), colors=colors, veins=0)


STRAP = Whorl((1, 4), 1.6, 0.11, 0.3, 0.8, bend=-30, cup=0.6, veins=0.2)

GARDEN: dict[str, Species] = {
    "bluebell": Species(
        ("blue", "blue", "purple", "pink", "white"),
        (Whorl((6, 6), 1.0, 0.30, 0.25, 0.5, rise=(78, 78), bend=-95, cup=0.5, ring=(0.16, 0.16)),
         stamens((5, 6), 0.6, "white", rise=75)),
        tilt=(105, 150), radius=(0.08, 0.13), blooms=(6, 12), spread=(0.18, 0.52), leaf=STRAP,
    ),
    "dahlia": Species(
        ("red", "pink", "purple", "orange", "yellow", "white"),
        (Whorl((36, 75), 0.72, 0.17, 0.6, 0.5, rise=(88, -8), bend=-12, cup=1.1, ring=(0.0, 0.28),
               size=(0.35, 1.0), height=(0.28, 0.0), spiral=True),),
        tilt=(0, 55),
    ),
    "daisy": Species(
        ("white", "white", "yellow", "pink", "orange"),
        (Whorl((15, 28), 0.80, 0.11, 0.5, 0.35, rise=(8, 8), bend=-16, ring=(0.19, 0.19)),
         disc(0.25, (50, 80), "straw", "straw", "brown")),
        tilt=(0, 60),
    ),
    "forget_me_not": Species(
        ("blue", "blue", "purple", "pink", "white"),
        (Whorl((5, 5), 0.92, 0.45, 0.6, 0.28, bend=-10, ring=(0.08, 0.08), throat=("white", 0.25)),
         Whorl((5, 6), 0.2, 0.09, 0.3, 0.3, height=(0.06, 0.06), colors=("yellow", "white"), veins=0)),
        tilt=(0, 50), radius=(0.07, 0.13), blooms=(6, 14), spread=(0.34, 0.42),
    ),
    "iris": Species(
        ("purple", "blue", "yellow", "white", "orange"),
        (Whorl((3, 3), 1.0, 0.36, 0.9, 0.3, rise=(30, 30), bend=-120, wave=0.05,
               throat=("yellow", 0.4), veins=0.35),
         Whorl((3, 3), 0.9, 0.32, 0.8, 0.4, rise=(55, 55), bend=50, cup=0.5, wave=0.05, height=(0.05, 0.05)),
         Whorl((3, 3), 0.45, 0.10, 0.6, 0.3, rise=(35, 35), bend=20, height=(0.06, 0.06))),
        tilt=(25, 85), leaf=STRAP,
    ),
    "lily": Species(
        ("white", "orange", "pink", "yellow", "red", "purple"),
        (Whorl((6, 6), 1.05, 0.24, 0.7, 0.8, rise=(48, 48), bend=-85, cup=0.35,
               throat=("yellow", 0.3), spots=0.6),
         stamens((6, 6), 0.62, "orange", "brown", "straw")),
        tilt=(5, 75), leaf=replace(STRAP, length=1.0),
    ),
    "poppy": Species(
        ("red", "red", "orange", "pink", "yellow", "white"),
        (Whorl((4, 6), 0.95, 0.58, 0.55, 0.24, rise=(42, 42), bend=-14, cup=0.4, wave=0.07,
               throat=("black", 0.25)),
         stamens((18, 30), 0.30, "black", "straw", rise=40),
         disc(0.08, (14, 20), "green", "straw")),
        tilt=(5, 75),
    ),
    "rose": Species(
        ("red", "pink", "yellow", "white", "orange"),
        (Whorl((9, 12), 0.66, 0.40, 0.4, 0.22, rise=(48, 14), bend=-35, cup=0.45,
               ring=(0.14, 0.24), spiral=True),
         Whorl((14, 18), 0.50, 0.26, 0.4, 0.2, rise=(84, 52), bend=12, cup=0.9, ring=(0.03, 0.22),
               size=(0.45, 1.1), height=(0.12, 0.02), spiral=True),
         Whorl((3, 4), 0.30, 0.15, 0.4, 0.2, rise=(80, 80), bend=35, cup=1.1, ring=(0.03, 0.03))),
        tilt=(0, 60),
    ),
    "sunflower": Species(
        ("yellow", "yellow", "orange", "red", "white"),
        (Whorl((14, 20), 0.70, 0.125, 0.55, 0.68, rise=(2, 2), bend=-12, ring=(0.27, 0.27)),
         Whorl((14, 20), 0.64, 0.115, 0.55, 0.68, rise=(16, 16), bend=-14, ring=(0.27, 0.27)),
         disc(0.335, (80, 120), "brown", "brown", "straw")),
        tilt=(0, 60),
    ),
    "tulip": Species(
        ("red", "yellow", "pink", "purple", "orange", "white"),
        (Whorl((3, 3), 1.0, 0.40, 0.45, 0.42, rise=(64, 64), bend=25, cup=0.75, ring=(0.04, 0.04)),
         Whorl((3, 3), 1.0, 0.42, 0.45, 0.42, rise=(58, 58), bend=30, cup=0.7, ring=(0.06, 0.06)),
         stamens((6, 6), 0.4, "black", "straw", rise=75)),
        tilt=(15, 90), leaf=STRAP,
    ),
}
