"""How large CARLA's blueprints are: the server tells only after an actor was made.

Length, width, height in metres of the bounding boxes of CARLA 0.9.15, as measured by the Scenic project (BSD-3-Clause,
``scenic.simulators.carla.blueprints``). Choices are made by these; where an actor stands is computed from its own box.
"""

Size = tuple[float, float, float]

VEHICLE_SIZES_M: dict[str, Size] = {
    "vehicle.audi.a2": (3.705, 1.789, 1.549),
    "vehicle.audi.etron": (4.856, 2.033, 1.649),
    "vehicle.audi.tt": (4.181, 1.994, 1.385),
    "vehicle.bh.crossbike": (1.509, 0.866, 1.612),
    "vehicle.bmw.grandtourer": (4.611, 2.242, 1.667),
    "vehicle.carlamotors.carlacola": (5.204, 2.627, 2.467),
    "vehicle.carlamotors.european_hgv": (7.936, 2.891, 3.462),
    "vehicle.carlamotors.firetruck": (8.468, 2.891, 3.827),
    "vehicle.chevrolet.impala": (5.357, 2.033, 1.411),
    "vehicle.citroen.c3": (3.988, 1.851, 1.617),
    "vehicle.diamondback.century": (1.656, 0.582, 1.620),
    "vehicle.dodge.charger_2020": (5.008, 1.882, 1.535),
    "vehicle.dodge.charger_police": (4.974, 2.038, 1.542),
    "vehicle.dodge.charger_police_2020": (5.238, 1.930, 1.638),
    "vehicle.ford.ambulance": (6.366, 2.351, 2.431),
    "vehicle.ford.crown": (5.366, 1.801, 1.575),
    "vehicle.ford.mustang": (4.718, 1.895, 1.301),
    "vehicle.gazelle.omafiets": (1.843, 0.659, 1.776),
    "vehicle.harley-davidson.low_rider": (2.350, 0.766, 1.649),
    "vehicle.jeep.wrangler_rubicon": (3.866, 1.905, 1.878),
    "vehicle.kawasaki.ninja": (2.044, 0.797, 1.523),
    "vehicle.lincoln.mkz_2017": (4.902, 2.128, 1.511),
    "vehicle.lincoln.mkz_2020": (4.892, 1.837, 1.490),
    "vehicle.mercedes.coupe": (5.027, 2.152, 1.651),
    "vehicle.mercedes.coupe_2020": (4.674, 1.812, 1.442),
    "vehicle.mercedes.sprinter": (5.915, 1.988, 2.561),
    "vehicle.micro.microlino": (2.207, 1.481, 1.376),
    "vehicle.mini.cooper_s": (3.806, 1.970, 1.475),
    "vehicle.mini.cooper_s_2021": (4.553, 2.097, 1.767),
    "vehicle.mitsubishi.fusorosa": (10.273, 3.944, 4.253),
    "vehicle.nissan.micra": (3.633, 1.845, 1.501),
    "vehicle.nissan.patrol": (4.605, 1.932, 1.855),
    "vehicle.nissan.patrol_2021": (5.566, 2.150, 2.045),
    "vehicle.seat.leon": (4.193, 1.816, 1.474),
    "vehicle.tesla.cybertruck": (6.274, 2.390, 2.098),
    "vehicle.tesla.model3": (4.792, 2.163, 1.488),
    "vehicle.toyota.prius": (4.514, 2.007, 1.525),
    "vehicle.vespa.zx125": (1.817, 0.866, 1.590),
    "vehicle.volkswagen.t2": (4.480, 2.069, 2.038),
    "vehicle.volkswagen.t2_2021": (4.442, 1.775, 1.987),
    "vehicle.yamaha.yzf": (2.191, 0.866, 1.530),
}

PEDESTRIAN_SIZE_M: Size = (0.375, 0.375, 1.86)
SHORT_PEDESTRIANS_M: dict[str, Size] = {
    **dict.fromkeys(
        ("0009", "0010", "0011", "0048", "0049"),
        (0.5, 0.5, 1.1),
    ),
    **dict.fromkeys(("0012", "0013", "0014"), (0.375, 0.375, 1.3)),
}
"""Children, by the number at the end of ``walker.pedestrian.NNNN``; all others are of PEDESTRIAN_SIZE_M."""

PROP_SIZES_M: dict[str, Size] = {
    "static.prop.advertisement": (1.549, 0.287, 2.443),
    "static.prop.bin": (0.548, 0.638, 1.059),
    "static.prop.box01": (0.652, 0.652, 0.692),
    "static.prop.busstop": (3.876, 1.894, 2.739),
    "static.prop.chainbarrier": (1.494, 0.239, 0.889),
    "static.prop.chainbarrierend": (0.239, 0.239, 0.889),
    "static.prop.clothcontainer": (1.239, 1.887, 1.810),
    "static.prop.constructioncone": (0.344, 0.344, 0.586),
    "static.prop.container": (1.932, 1.012, 1.714),
    "static.prop.glasscontainer": (1.955, 2.009, 1.788),
    "static.prop.haybale": (1.248, 1.193, 1.195),
    "static.prop.kiosk_01": (1.625, 1.654, 3.245),
    "static.prop.plantpot01": (1.089, 0.476, 0.557),
    "static.prop.plantpot06": (1.593, 1.593, 0.850),
    "static.prop.streetbarrier": (1.215, 0.372, 1.069),
    "static.prop.streetsign": (1.064, 0.125, 2.154),
    "static.prop.streetsign04": (1.171, 0.125, 2.773),
    "static.prop.vendingmachine": (0.873, 1.102, 2.108),
}
"""Props that may stand for street furniture."""

NOMINAL_SIZES_M: dict[str, Size] = {
    "car": (4.6, 1.9, 1.5),
    "van": (5.5, 2.0, 2.4),
    "truck": (7.5, 2.5, 3.2),
    "bus": (10.5, 2.6, 3.2),
    "motorcycle": (2.1, 0.8, 1.5),
    "bicycle": (1.7, 0.7, 1.6),
}
"""Taken for a vehicle that is not in VEHICLE_SIZES_M, by its ``base_type``."""
