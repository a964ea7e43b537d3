#!/usr/bin/env bash
# The figures of the model card: held-out recordings of Town02, plans of what the autoencoder was trained on.
# Usage: configs/anchored/gpu/evaluate.sh CARLA_TOWNS CAPTURES OUT [WEIGHTS]
#   CARLA_TOWNS  folder with Town02.xodr of CARLA
#   CAPTURES     what captures.sh made
#   OUT          folder for recordings, evaluation.json and evaluation.png
set -euo pipefail
towns=$1 captures=$2 out=$3 weights=${4:-}
dyncity=${DYNCITY:-dyncity}
recordings=$out/recordings
mkdir -p "$recordings"

[ -d "$recordings/town02-val" ] || $dyncity record --map "$towns/Town02.xodr" --minutes 2 --seed 200 --egos 20 \
  --town-minutes 3 --burst 33 --out "$recordings/town02-val"
[ -d "$recordings/town02-long" ] || $dyncity record --map "$towns/Town02.xodr" --minutes 1.6 --seed 201 --egos 6 \
  --town-minutes 3 --continuous --out "$recordings/town02-long"
for map in grid spider random berlin town01; do
  [ -d "$recordings/$map-plans" ] || $dyncity render "$captures/$map-seen" --first 60 --out "$recordings/$map-plans"
done
$dyncity evaluate "$recordings/town02-val" "$recordings/town02-long" \
  --plans-from "$recordings"/{grid,spider,random,berlin,town01}-plans \
  --training "$recordings"/{grid,spider,random,berlin,town01}-plans ${weights:+--weights "$weights"} --clips 40 \
  --keep "$out/chunks" \
  --json "$out/evaluation.json" --picture "$out/evaluation.png"
