"""A written MCAP file, read by the mcap library; messages are parsed by the schemas that the file itself carries."""

import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from mcap.reader import make_reader
from PIL import Image
from scipy.spatial.transform import Rotation

from dyncity_sim.domain.sensors import SensorRig
from dyncity_sim.errors import InvalidInputError, MissingExtraError, StorageError
from dyncity_sim.groundtruth.formats.write_mcap import open_mcap

NUMERIC = {1: "u1", 2: "i1", 3: "<u2", 4: "<i2", 5: "<u4", 6: "<i4", 7: "<f4", 8: "<f8"}


@pytest.fixture(scope="module")
def file(labelled, tmp_path_factory) -> Path:
    return labelled.write(open_mcap, tmp_path_factory.mktemp("mcap") / "drive.mcap")


@pytest.fixture(scope="module")
def topics(file):
    return read_topics(file)


def read_topics(file):
    """Log time in microseconds and message of each topic, in the file's order."""
    pool, kinds, topics = {}, {}, {}
    with file.open("rb") as stream:
        for schema, channel, message in make_reader(stream, validate_crcs=True).iter_messages():
            if schema.name not in kinds:
                pool[schema.name] = descriptor_pool.DescriptorPool()
                for descriptor in descriptor_pb2.FileDescriptorSet.FromString(schema.data).file:
                    pool[schema.name].Add(descriptor)
                found = pool[schema.name].FindMessageTypeByName(schema.name)
                kinds[schema.name] = message_factory.GetMessageClass(found)
            assert (schema.encoding, channel.message_encoding) == ("protobuf", "protobuf")
            assert message.publish_time == message.log_time
            parsed = kinds[schema.name].FromString(message.data)
            topics.setdefault(channel.topic, []).append((message.log_time // 1000, parsed))
    return topics


def elements(message, stride):
    """Columns of packed elements, by the fields the message itself names."""
    kind = np.dtype(
        {
            "names": [field.name for field in message.fields],
            "formats": [NUMERIC[field.type] for field in message.fields],
            "offsets": [field.offset for field in message.fields],
            "itemsize": stride,
        }
    )
    return np.frombuffer(message.data, kind)


def matrix(translation, rotation):
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_quat([rotation.x, rotation.y, rotation.z, rotation.w]).as_matrix()
    pose[:3, 3] = translation.x, translation.y, translation.z
    return pose


def test_every_topic_has_a_message_at_every_time_of_the_drive(topics, labelled):
    assert set(topics) == {
        "/tf",
        "/occupancy",
        "/boxes",
        "/ego/path",
        "/roof/points",
        "/lidar_left/points",
        "/cam_front/calibration",
        "/cam_front/labels",
        "/cam_front/depth",
        "/cam_front/instances",
    }
    for topic, messages in topics.items():
        times = [at for at, _ in messages]
        assert times == labelled.drive.times_us.tolist()[: len(times)]
        assert len(times) == (1 if topic == "/ego/path" else len(labelled.frames))
        for at, message in messages:
            if hasattr(message, "timestamp"):
                assert message.timestamp.seconds * 1_000_000 + message.timestamp.nanos // 1000 == at


def test_voxels_come_back_cell_by_cell(topics, labelled):
    grid, palette = labelled.drive.grid, labelled.drive.taxonomy.palette
    for (_, message), frame in zip(topics["/occupancy"], labelled.frames, strict=True):
        cells = elements(message, message.cell_stride)
        columns, rows = message.column_count, message.row_count
        assert (columns, rows, len(cells) // (columns * rows)) == grid.shape
        assert message.row_stride == columns * message.cell_stride
        assert message.slice_stride == rows * message.row_stride

        def xyz(name, cells=cells):
            return cells[name].reshape(grid.shape[::-1]).T

        np.testing.assert_array_equal(xyz("class"), frame.labels)
        np.testing.assert_array_equal(xyz("instance"), frame.instances)
        for name in ("observed", "seen_by_lidar", "seen_by_camera"):
            np.testing.assert_array_equal(xyz(name), getattr(frame, name))
        for channel, name in enumerate(("red", "green", "blue")):
            np.testing.assert_array_equal(xyz(name), palette[frame.labels, channel])
        np.testing.assert_array_equal(xyz("alpha"), np.where(frame.labels, 255, 0))
        pose = matrix(message.pose.position, message.pose.orientation)
        np.testing.assert_array_equal(pose[:3, 3], grid.lower_m)
        np.testing.assert_array_equal(pose[:3, :3], np.eye(3))
        size = message.cell_size
        assert (size.x, size.y, size.z) == grid.voxel_size_m


def test_points_come_back_with_all_that_is_known_of_them(topics, labelled):
    for number, topic in enumerate(("/roof/points", "/lidar_left/points")):
        for (_, message), frame in zip(topics[topic], labelled.frames, strict=True):
            sweep, points = frame.sweeps[number], elements(message, message.point_stride)
            assert message.frame_id == "ego"
            for axis, name in enumerate("xyz"):
                np.testing.assert_array_equal(points[name], sweep.points_ego_m[:, axis])
                np.testing.assert_array_equal(points[f"velocity_{name}"], sweep.velocities_ego_mps[:, axis])
            for name, expected in (
                ("class", sweep.labels),
                ("instance", sweep.instances),
                ("intensity", sweep.intensity),
                ("incidence", sweep.incidence),
                ("ring", sweep.beams),
                ("firing", sweep.firings),
                ("time_offset_us", sweep.time_offsets_us),
            ):
                np.testing.assert_array_equal(points[name], expected)


def test_boxes_come_back_with_their_ids_and_older_ones_go(topics, labelled):
    for (at, message), frame in zip(topics["/boxes"], labelled.frames, strict=True):
        assert [d.type for d in message.deletions] == [1]
        assert message.deletions[0].timestamp.nanos == at * 1000 % 1_000_000_000
        assert len(message.entities) == len(frame.boxes)
        for entity, box in zip(message.entities, frame.boxes, strict=True):
            cube, known = entity.cubes[0], {pair.key: pair.value for pair in entity.metadata}
            assert (entity.id, entity.frame_id) == (str(box.track_id), "ego")
            pose = matrix(cube.pose.position, cube.pose.orientation)
            np.testing.assert_allclose(pose, box.pose_ego_from_actor, atol=1e-9)
            np.testing.assert_array_equal([cube.size.x, cube.size.y, cube.size.z], box.size_m)
            assert known["kind"] == box.kind.value
            assert int(known["lidar_points"]) == box.lidar_points
            assert float(known["visibility"]) == box.visibility
            assert tuple(map(float, known["velocity_ego_mps"].split())) == box.velocity_ego_mps


def test_transforms_lead_from_every_sensor_to_the_world(topics, labelled):
    rig = labelled.drive.rig
    for (_, message), frame in zip(topics["/tf"], labelled.frames, strict=True):
        found = {(t.parent_frame_id, t.child_frame_id): matrix(t.translation, t.rotation) for t in message.transforms}
        assert set(found) == {("world", "ego"), *(("ego", s.name) for s in (*rig.lidars, *rig.cameras))}
        np.testing.assert_allclose(found["world", "ego"], frame.pose_world_from_ego, atol=1e-12)
        for sensor in (*rig.lidars, *rig.cameras):
            np.testing.assert_allclose(found["ego", sensor.name], sensor.pose_ego_from_sensor, atol=1e-12)


def test_pictures_and_calibration_come_back(topics, labelled):
    camera = labelled.drive.rig.cameras[0]
    for number, frame in enumerate(labelled.frames):
        images = frame.images[0]
        _, calibration = topics["/cam_front/calibration"][number]
        assert (calibration.width, calibration.height) == (camera.width, camera.height)
        # There the middle of the first pixel is 0, and with us 0.5.
        assert list(calibration.K) == [50.0, 0.0, 46.5, 0.0, 52.0, 25.5, 0.0, 0.0, 1.0]
        with Image.open(io.BytesIO(topics["/cam_front/labels"][number][1].data)) as picture:
            np.testing.assert_array_equal(np.array(picture), images.labels)
            colours = np.array(picture.convert("RGB"))
        np.testing.assert_array_equal(colours, labelled.drive.taxonomy.palette[images.labels])
        for topic, encoding, dtype, expected in (
            ("depth", "32FC1", "<f4", images.depth_m),
            ("instances", "16UC1", "<u2", images.instances),
        ):
            _, raw = topics[f"/cam_front/{topic}"][number]
            assert (raw.encoding, raw.step, raw.frame_id) == (encoding, expected.strides[0], camera.name)
            pixels = np.frombuffer(raw.data, dtype).reshape(raw.height, raw.width)
            np.testing.assert_array_equal(pixels, expected)


def test_the_way_of_the_ego_is_a_line_in_the_world(topics, labelled):
    ((_, message),) = topics["/ego/path"]
    points = [[p.x, p.y, p.z] for p in message.entities[0].lines[0].points]
    np.testing.assert_array_equal(points, labelled.drive.poses_world_from_ego[:, :3, 3])


def test_metadata_names_classes_sensors_and_credit(file, labelled):
    with file.open("rb") as stream:
        records = {record.name: record.metadata for record in make_reader(stream).iter_metadata()}
    taxonomy, provenance = records["dyncity.taxonomy"], records["dyncity.provenance"]
    assert [taxonomy[str(k)] for k in range(12)] == list(labelled.drive.taxonomy.names)
    assert provenance["attribution"] == "(c) map makers"
    assert provenance["model_id"] == "model-1"
    assert json.loads(provenance["seeds"]) == [3, 4]
    assert json.loads(records["dyncity.grid"]["shape"]) == [128, 128, 8]
    assert [camera["name"] for camera in json.loads(records["dyncity.rig"]["cameras"])] == ["cam_front"]


def test_what_is_unknown_has_no_field(bare, tmp_path):
    topics = read_topics(bare.write(open_mcap, tmp_path / "bare.mcap"))
    assert set(topics) == {"/tf", "/occupancy", "/boxes", "/ego/path", "/roof/points"}
    _, grid = topics["/occupancy"][0]
    assert [field.name for field in grid.fields][-2:] == ["instance", "seen_by_lidar"]
    assert all(message.data == b"" for _, message in topics["/roof/points"])


def test_the_same_drive_gives_the_same_bytes_also_after_other_files(labelled, bare, file, tmp_path):
    bare.write(open_mcap, tmp_path / "bare.mcap")
    assert labelled.write(open_mcap, tmp_path / "again.mcap").read_bytes() == file.read_bytes()


WRITE = """
import sys
from pathlib import Path
import numpy as np
from dyncity_sim.domain.grid import CARLASC_GRID
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.scene import Provenance
from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.groundtruth.build import labelled_drive, labelled_frames
from dyncity_sim.groundtruth.formats.write_mcap import open_mcap

labels = np.zeros((3, 128, 128, 8), np.uint8)
labels[..., 0] = 6
occupancy = OccupancySequence(labels, np.tile(np.eye(4), (3, 1, 1)), np.arange(3) * 100_000, CARLASC_GRID, CARLASC)
drive = labelled_drive(occupancy, (), Provenance(None, (), "", CARLASC.id))
with open_mcap(Path(sys.argv[1]), drive) as writer:
    for frame in labelled_frames(occupancy, drive):
        writer.add(frame)
"""


def test_two_processes_write_the_same_bytes(tmp_path):
    files = [tmp_path / f"{n}.mcap" for n in range(2)]
    for file in files:
        subprocess.run([sys.executable, "-c", WRITE, str(file)], check=True, timeout=100)
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize("limit_bytes", [1_000, 10_000, 25_000])
def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path, limit_bytes):
    limit = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
    limit += f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit_bytes}, {limit_bytes}))\n"
    command = [sys.executable, "-c", limit + WRITE, str(tmp_path / "full.mcap")]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=100)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"{StorageError.__module__}.StorageError: ")
    assert "panicked" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_while_the_sdk_writes_ends_the_writing(tmp_path):
    # The kernel sends the signal from within a write of the SDK.
    limit = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.default_int_handler);"
    limit += "resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, 1_000))\n"
    command = [sys.executable, "-c", limit + WRITE, str(tmp_path / "cut.mcap")]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=100)
    assert done.stderr.splitlines()[-1] == "KeyboardInterrupt"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["ego", "world"])
def test_sensors_are_not_named_as_the_frames_of_the_drive(labelled, tmp_path, name):
    rig = SensorRig("odd", (replace(labelled.drive.rig.lidars[0], name=name),))
    drive = replace(labelled.drive, rig=rig)
    with pytest.raises(InvalidInputError, match=f"'{name}'"), open_mcap(tmp_path / "out.mcap", drive):
        pass
    assert list(tmp_path.iterdir()) == []


def test_times_before_zero_are_refused(labelled, tmp_path):
    drive = replace(labelled.drive, times_us=labelled.drive.times_us - 1)
    with pytest.raises(InvalidInputError, match="0 or later"), open_mcap(tmp_path / "out.mcap", drive):
        pass


def test_nanoseconds_in_the_place_of_microseconds_are_refused_before_anything_is_written(labelled, tmp_path):
    drive = replace(labelled.drive, times_us=labelled.drive.times_us + 1_532_402_927_647_951_000)
    with pytest.raises(InvalidInputError, match="microseconds"), open_mcap(tmp_path / "out.mcap", drive):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_there_is_left_alone(labelled, tmp_path):
    (tmp_path / "out.mcap").write_text("mine")
    with pytest.raises(InvalidInputError, match="free"), open_mcap(tmp_path / "out.mcap", labelled.drive):
        pass
    assert (tmp_path / "out.mcap").read_text() == "mine"


def test_missing_frames_leave_no_file(labelled, tmp_path):
    with (
        pytest.raises(InvalidInputError, match="all 12 of the drive"),
        open_mcap(tmp_path / "out.mcap", labelled.drive) as writer,
    ):
        writer.add(labelled.frames[0])
    assert list(tmp_path.iterdir()) == []


def test_without_the_sdk_the_error_says_what_to_install(labelled, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "foxglove", None)
    with pytest.raises(MissingExtraError, match=r"'\.\[export\]"), open_mcap(tmp_path / "x", labelled.drive):
        pass
