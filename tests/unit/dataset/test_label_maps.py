"""Claims about what numbers in files mean."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dyncity_sim.dataset.label_maps import CARLASC_LABELS, OCC3D_NUSCENES_LABELS, OCC3D_WAYMO_LABELS, LabelMap
from dyncity_sim.domain.taxonomy import CARLASC, merged_labels
from dyncity_sim.errors import InvalidInputError

MAPS = (CARLASC_LABELS, OCC3D_NUSCENES_LABELS, OCC3D_WAYMO_LABELS)
INTEGERS = [np.uint8, np.uint16, np.uint32, np.int16, np.int64]
EACH_MAP = pytest.mark.parametrize("label_map", MAPS, ids=lambda m: m.taxonomy.id)


def known_numbers(label_map: LabelMap) -> set[int]:
    return {number for several in label_map.numbers for number in several}


def test_the_published_numbers_are_known_and_no_others() -> None:
    assert known_numbers(CARLASC_LABELS) == set(range(23))
    assert known_numbers(OCC3D_NUSCENES_LABELS) == set(range(18))
    assert known_numbers(OCC3D_WAYMO_LABELS) == {*range(16), 23}
    assert OCC3D_WAYMO_LABELS.known == "0 to 15, 23"


@EACH_MAP
def test_every_number_stands_for_one_class_and_free_space_comes_first(label_map: LabelMap) -> None:
    numbers = [number for several in label_map.numbers for number in several]
    assert len(numbers) == len(set(numbers))
    assert len(label_map.taxonomy) == len(label_map.numbers) == len(label_map.merged)
    assert label_map.taxonomy.names[0] == "free"
    assert len(set(label_map.taxonomy.names)) == len(label_map.taxonomy)


@EACH_MAP
def test_free_space_alone_merges_to_free_space_and_nothing_to_the_unused_class(label_map: LabelMap) -> None:
    assert label_map.merged[0] == 0
    assert (label_map.merged[1:] > 0).all()
    assert (label_map.merged != CARLASC.index("unused")).all()


@EACH_MAP
def test_what_moves_moves_when_merged(label_map: LabelMap) -> None:
    moving = [c.moves for c in label_map.taxonomy.classes]
    assert moving == [CARLASC.classes[merged].moves for merged in label_map.merged]


def test_recordings_merge_as_the_taxonomy_says() -> None:
    raw = np.arange(23, dtype=np.uint8)
    assert np.array_equal(CARLASC_LABELS.to_carlasc(CARLASC_LABELS.read(raw, "file")), merged_labels(raw))


@pytest.mark.parametrize(
    ("label_map", "number", "name", "merged"),
    [
        (OCC3D_NUSCENES_LABELS, 17, "free", "free"),
        (OCC3D_NUSCENES_LABELS, 0, "others", "other"),
        (OCC3D_NUSCENES_LABELS, 4, "car", "vehicle"),
        (OCC3D_NUSCENES_LABELS, 11, "driveable_surface", "road"),
        (OCC3D_WAYMO_LABELS, 15, "free", "free"),
        (OCC3D_WAYMO_LABELS, 23, "free", "free"),
        (OCC3D_WAYMO_LABELS, 13, "road", "road"),
        (OCC3D_WAYMO_LABELS, 5, "traffic_light", "pole"),
    ],
)
def test_a_number_is_the_class_that_is_published(label_map: LabelMap, number: int, name: str, merged: str) -> None:
    label = label_map.read(np.array([number]), "file")
    assert label_map.taxonomy.names[label[0]] == name
    assert CARLASC.names[label_map.to_carlasc(label)[0]] == merged


@given(st.data(), st.sampled_from(MAPS), st.sampled_from(INTEGERS))
def test_known_numbers_read_cell_by_cell_whatever_their_integer_type(
    data: st.DataObject, label_map: LabelMap, dtype: type
) -> None:
    elements = st.sampled_from(sorted(known_numbers(label_map)))
    stored = data.draw(hnp.arrays(dtype, hnp.array_shapes(max_dims=4, max_side=4), elements=elements))
    labels = label_map.read(stored, "file")
    assert labels.dtype == np.uint8
    assert labels.shape == stored.shape
    for number, label in zip(stored.ravel(), labels.ravel(), strict=True):
        assert int(number) in label_map.numbers[label]


@given(st.data(), st.sampled_from(MAPS), st.sampled_from(INTEGERS))
def test_one_unknown_number_among_known_ones_is_an_error_that_names_it(
    data: st.DataObject, label_map: LabelMap, dtype: type
) -> None:
    limits = np.iinfo(dtype)
    known = known_numbers(label_map)
    number = data.draw(st.integers(int(limits.min), int(limits.max)).filter(lambda n: n not in known))
    stored = np.zeros(20, dtype)
    stored[data.draw(st.integers(0, 19))] = number
    with pytest.raises(InvalidInputError) as error:
        label_map.read(stored, "some/file.npz labels")
    assert error.value.field == "some/file.npz labels"
    assert f"unknown label {number} (1 cells) of 20 cells" in str(error.value)
    assert label_map.known in error.value.expected


def test_labels_that_are_no_integers_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="float32"):
        OCC3D_WAYMO_LABELS.read(np.zeros(3, np.float32), "file")
