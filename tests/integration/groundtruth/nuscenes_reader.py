"""Reads a nuScenes data set with nuscenes-devkit alone; run by an interpreter that has it.

Usage: nuscenes_reader.py DATAROOT OUT: tables and figures go to OUT.json, arrays to OUT.npz.
"""

import json
import sys
from pathlib import Path

import numpy as np
from nuscenes.nuscenes import NuScenes
from nuscenes.utils.data_classes import LidarPointCloud
from nuscenes.utils.data_io import load_bin_file
from nuscenes.utils.geometry_utils import points_in_box, transform_matrix, view_points
from nuscenes.utils.splits import get_scenes_of_split
from PIL import Image
from pyquaternion import Quaternion


def global_from_sensor(data: NuScenes, record: dict) -> np.ndarray:
    poses = [data.get(table, record[f"{table}_token"]) for table in ("ego_pose", "calibrated_sensor")]
    first, second = (transform_matrix(p["translation"], Quaternion(p["rotation"])) for p in poses)
    return first @ second


def read_points(data: NuScenes, token: str) -> np.ndarray:
    """x, y, z in the global frame and intensity."""
    record = data.get("sample_data", token)
    cloud = LidarPointCloud.from_file(data.get_sample_data_path(token))
    cloud.transform(global_from_sensor(data, record))
    return cloud.points.T


def chain(data: NuScenes, table: str, token: str) -> list[dict]:
    records = []
    while token:
        records.append(data.get(table, token))
        token = records[-1]["next"]
    return records


def read_sample(data: NuScenes, sample: dict, arrays: dict[str, np.ndarray]) -> dict:
    number = len([name for name in arrays if name.startswith("indices")])
    top = sample["data"]["LIDAR_TOP"]
    arrays[f"indices_{number}"] = load_bin_file(f"{data.dataroot}/{data.get('lidarseg', top)['filename']}")
    path, boxes, _ = data.get_sample_data(top)
    cloud = LidarPointCloud.from_file(path).points[:3]
    found = []
    for box in boxes:
        annotation = data.get("sample_annotation", box.token)
        # Cells stick out of boxes by up to their size.
        box.wlh = box.wlh + 0.8
        found.append(
            {
                "category": box.name,
                "inside": points_in_box(box, cloud).nonzero()[0].tolist(),
                "num_lidar_pts": annotation["num_lidar_pts"],
                "attributes": [data.get("attribute", t)["name"] for t in annotation["attribute_tokens"]],
                "visibility": data.get("visibility", annotation["visibility_token"])["level"],
                "velocity": data.box_velocity(box.token).tolist(),
                "centre": annotation["translation"],
                "instance": annotation["instance_token"],
            }
        )
    read = {"timestamp": sample["timestamp"], "boxes": found}
    camera = sample["data"].get("CAM_FRONT")
    if camera:
        path, boxes, intrinsic = data.get_sample_data(camera)
        with Image.open(path) as picture:
            arrays[f"image_{number}"] = np.array(picture)
            arrays[f"colours_{number}"] = np.array(picture.convert("RGB"))
        arrays[f"intrinsic_{number}"] = intrinsic
        arrays[f"global_from_camera_{number}"] = global_from_sensor(data, data.get("sample_data", camera))
        read["in_image"] = {}
        for box in boxes:
            corners = view_points(box.corners(), intrinsic, normalize=True)[:2]
            read["in_image"].setdefault(box.name, []).append([*corners.min(axis=1), *corners.max(axis=1)])
    return read


def main(root: str, out: str) -> None:
    data = NuScenes("v1.0-trainval", root, verbose=False)
    scene = data.scene[0]
    samples = chain(data, "sample", scene["first_sample_token"])
    arrays: dict[str, np.ndarray] = {}
    read = {"counts": {t: len(getattr(data, t)) for t in data.table_names}, "channels": {}, "scene": scene}
    read["samples"] = [read_sample(data, sample, arrays) for sample in samples]
    read["names"] = [data.lidarseg_idx2name_mapping[k] for k in range(len(data.category))]
    arrays["palette"] = np.array([data.colormap[name] for name in read["names"]])
    read["split"] = get_scenes_of_split("all", data)
    read["interpolated"] = {}
    for channel in samples[0]["data"]:
        records = chain(data, "sample_data", samples[0]["data"][channel])
        read["channels"][channel] = [
            {
                "timestamp": record["timestamp"],
                "is_key_frame": record["is_key_frame"],
                "exists": Path(data.get_sample_data_path(record["token"])).is_file(),
                "sample": [s["token"] for s in samples].index(record["sample_token"]),
                "boxes": {b.name: b.center.tolist() for b in data.get_boxes(record["token"])},
            }
            for record in records
        ]
        if channel.startswith("LIDAR"):
            for number, record in enumerate(records):
                arrays[f"{channel}_{number}"] = read_points(data, record["token"])
    cloud, times = LidarPointCloud.from_file_multisweep(data, samples[-1], "LIDAR_TOP", "LIDAR_TOP", nsweeps=5)
    top = data.get("sample_data", samples[-1]["data"]["LIDAR_TOP"])
    cloud.transform(global_from_sensor(data, top))
    arrays["multisweep"], arrays["multisweep_lag_s"] = cloud.points.T, times[0]
    mask = data.map[0]["mask"]
    x, y = np.meshgrid(*(np.arange(0, n * 0.1, 0.3) for n in mask.mask().shape[::-1]), indexing="ij")
    arrays["map_x"], arrays["map_y"] = x.ravel(), y.ravel()
    arrays["on_map"] = mask.is_on_mask(x.ravel(), y.ravel())
    data.list_sample(samples[0]["token"])
    data.get_sample_lidarseg_stats(samples[0]["token"])
    data.render_sample_data(samples[0]["data"]["LIDAR_TOP"], out_path=f"{out}.png", show_lidarseg=True, verbose=False)
    Path(f"{out}.json").write_text(json.dumps(read))
    np.savez(f"{out}.npz", **arrays)


if __name__ == "__main__":
    main(*sys.argv[1:])
