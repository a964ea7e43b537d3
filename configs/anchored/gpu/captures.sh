#!/usr/bin/env bash
# The captures that the bundled weights were trained on, about 260,000 frames in 13 MB, 35 minutes of two cores; and
# those called -life, in which people stand and egos leave their lanes, which they were not trained on.
# Usage: configs/anchored/gpu/captures.sh CARLA_TOWNS OUT
#   CARLA_TOWNS  folder with Town01.xodr, Town02.xodr, Town04.xodr and Town06.xodr of CARLA
#   OUT          folder for captures; what is there is not made again
set -euo pipefail
towns=$1 out=$2
dyncity=${DYNCITY:-dyncity}
mkdir -p "$out"

options=
capture() { # map minutes seed name...: seeds count up
  local map=$1 minutes=$2 seed=$3
  for name in "${@:4}"; do
    [ -d "$out/$name" ] || echo "$map $minutes $seed $out/$name${options:+ $options}"
    seed=$((seed + 10))
  done
}

{
  # Never trained on.
  capture "$towns/Town02.xodr" 1 200 town02-validation
  # Rendered with sensors: the autoencoder learns from these.
  capture generated:grid 8 1001 grid-seen
  capture generated:spider 7 1002 spider-seen
  capture generated:random 8 1003 random-seen
  capture berlin 5 1004 berlin-seen
  capture "$towns/Town01.xodr" 5 1005 town01-seen
  capture braunschweig 3 1006 braunschweig-seen
  capture "$towns/Town04.xodr" 2 1007 town04-seen
  capture "$towns/Town06.xodr" 2 1008 town06-seen
  # Truth only: more streets for the transformer.
  capture generated:grid 18 1101 grid{2,3,4,5,6,7,8}-dense
  capture generated:random 18 1102 random{2,3,4,5,6,7,8}-dense
  capture generated:spider 14 1103 spider{2,3,4,5,6,7}-dense
  capture berlin 8 1104 berlin{2,3}-dense
  capture berlin 8 1154 berlin4-dense
  capture "$towns/Town01.xodr" 8 1105 town01{2,3}-dense
  capture "$towns/Town01.xodr" 8 1145 town014-dense
  capture braunschweig 5 1106 braunschweig2-dense
  capture braunschweig 5 1126 braunschweig3-dense
  capture "$towns/Town04.xodr" 3 1116 town042-dense
  capture "$towns/Town06.xodr" 3 1117 town062-dense
  # People who stand, and egos off their lanes, once more in other towns of the same maps.
  options="--standing 0.3 --off-nominal 0.4"
  capture "$towns/Town02.xodr" 2 210 town02-life
  capture generated:grid 8 1201 grid{,2}-life
  capture generated:random 8 1202 random{,2}-life
  capture generated:spider 6 1203 spider-life
  capture "$towns/Town01.xodr" 5 1205 town01-life
  capture berlin 4 1204 berlin-life
} | OMP_NUM_THREADS=1 xargs -P "$(nproc)" -L 1 sh -c \
  'map=$0 minutes=$1 seed=$2 out=$3; shift 3; '"$dyncity"' record --captures --map "$map" --minutes "$minutes" \
    --seed "$seed" --out "$out" --burst 49 --egos 20 --town-minutes 1.5 "$@"'
