"""Reads a nuScenes data set of many scenes with nuscenes-devkit alone; run by an interpreter that has it.

Usage: nuscenes_scenes_reader.py DATAROOT OUT: what each scene holds goes to OUT, as JSON.
"""

import json
import sys
from pathlib import Path

from nuscenes.nuscenes import NuScenes
from nuscenes.utils.data_classes import LidarPointCloud
from nuscenes.utils.data_io import load_bin_file
from nuscenes.utils.splits import get_scenes_of_split
from nuscenes_reader import chain


def read_scene(data: NuScenes, scene: dict) -> dict:
    samples = chain(data, "sample", scene["first_sample_token"])
    tops = [sample["data"]["LIDAR_TOP"] for sample in samples]
    points = [LidarPointCloud.from_file(data.get_sample_data_path(top)).nbr_points() for top in tops]
    labels = [load_bin_file(f"{data.dataroot}/{data.get('lidarseg', top)['filename']}") for top in tops]
    annotations = [data.get("sample_annotation", token) for sample in samples for token in sample["anns"]]
    instances = sorted({annotation["instance_token"] for annotation in annotations})
    log = data.get("log", scene["log_token"])
    mask = data.get("map", log["map_token"])["mask"]
    here = data.get("ego_pose", data.get("sample_data", tops[0])["ego_pose_token"])["translation"]
    return {
        "name": scene["name"],
        "nbr_samples": scene["nbr_samples"],
        "description": scene["description"],
        "last_is_last": samples[-1]["token"] == scene["last_sample_token"],
        "sample_times": [sample["timestamp"] for sample in samples],
        "frame_times": [record["timestamp"] for record in chain(data, "sample_data", tops[0])],
        "scenes_of_samples": sorted({data.get("scene", sample["scene_token"])["name"] for sample in samples}),
        "points": points,
        "labels": [len(label) for label in labels],
        "categories": sorted({data.lidarseg_idx2name_mapping[int(k)] for label in labels for k in label}),
        "chains": {
            token: [a["token"] for a in chain(data, "sample_annotation", first)]
            for token in instances
            for first in [data.get("instance", token)["first_annotation_token"]]
        },
        "annotations": [annotation["token"] for annotation in annotations],
        "instances": [data.get("instance", token)["nbr_annotations"] for token in instances],
        "velocities": [data.box_velocity(annotation["token"]).tolist() for annotation in annotations],
        "log": log["logfile"],
        "on_road": bool(mask.is_on_mask(*here[:2])[0]),
    }


def main(root: str, out: str) -> None:
    data = NuScenes("v1.0-trainval", root, verbose=False)
    read = {
        "scenes": [read_scene(data, scene) for scene in data.scene],
        "split": get_scenes_of_split("all", data),
        "counts": {table: len(getattr(data, table)) for table in data.table_names},
    }
    for sample in (data.sample[0], data.sample[-1]):
        data.get_sample_lidarseg_stats(sample["token"])
    Path(out).write_text(json.dumps(read))


main(*sys.argv[1:])
