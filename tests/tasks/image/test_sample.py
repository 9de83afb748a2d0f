import tarfile
from pathlib import Path
from random import Random

import pytest
from PIL import ImageStat

from flowerml.tasks.image import sample


def members(archive: Path) -> dict[str, bytes]:
    with tarfile.open(archive) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    path = tmp_path_factory.mktemp("sample") / "flowers.tar"
    sample.write(path, per_class=1, seed=7)
    return path


def test_same_seed_same_bytes(archive, tmp_path):
    again = tmp_path / "again.tar"
    sample.write(again, per_class=1, seed=7)
    assert again.read_bytes() == archive.read_bytes()


def test_another_seed_other_pictures(archive):
    for species in sample.SPECIES:
        picture = members(archive)[f"flowers/{species}/{species}_0001.jpg"]
        assert picture == sample.jpeg(species, 1, seed=7)
        assert picture != sample.jpeg(species, 1, seed=8)


def test_pictures_do_not_depend_on_their_number(archive, tmp_path):
    more = tmp_path / "more.tar"
    sample.write(more, per_class=2, seed=7)
    assert members(archive).items() <= members(more).items()
    assert len(members(more)) == 2 * len(members(archive))


@pytest.mark.parametrize("species", sample.SPECIES)
def test_every_species_can_be_drawn(species):
    picture = sample.draw(species, rng=Random(0))
    assert picture.mode == "RGB"
    assert min(picture.size) >= 200
    assert min(ImageStat.Stat(picture).stddev) > 5  # neither blank nor a single tone


def test_one_folder_per_species(archive):
    folders = [Path(name).parent for name in members(archive)]
    assert folders == [Path("flowers") / species for species in sample.SPECIES]
    assert list(archive.parent.iterdir()) == [archive]


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(sample, "SPECIES", ("triffid",))
    with pytest.raises(KeyError):
        sample.write(tmp_path / "flowers.tar", per_class=1, seed=7)
    assert list(tmp_path.iterdir()) == []
