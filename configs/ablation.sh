#!/usr/bin/env bash
# Autoencoders at equal, small budgets, on the same recordings: both families, and `anchored` with one thing changed; then
# transformers on the latents of `anchored`, with one thing changed.
# Usage: configs/ablation.sh CARLA_TOWNS CAPTURES RECORDINGS OUT [MINUTES [ABLATION_MINUTES [JOBS]]]
#   CARLA_TOWNS  folder with Town02.xodr of CARLA
#   CAPTURES     what configs/anchored/gpu/captures.sh made
#   RECORDINGS   folder for recordings; those that are there are not made again
#   OUT          folder for the runs; a run whose export is there is not done again
#   MINUTES      of one core for each family (20), and for each ablation (6); JOBS run side by side (2)
# benchmarks/autoencoders.py makes the table and the curves of what is in OUT, benchmarks/transformers.py the table of
# what is in OUT/transformers.
set -euo pipefail
towns=$1 captures=$2 recordings=$3 out=$4 minutes=${5:-20} short=${6:-6} jobs=${7:-2}
dyncity=${DYNCITY:-dyncity}
export OMP_NUM_THREADS=1

render() { # name drives
  [ -d "$recordings/$1" ] || $dyncity render "$captures/$1" --first "$2" --out "$recordings/$1"
}
for map in grid spider random; do render "$map-seen" 24; done
for map in berlin town01; do render "$map-seen" 18; done
[ -d "$recordings/town02-val" ] || $dyncity record --map "$towns/Town02.xodr" --minutes 2 --seed 200 --egos 20 \
  --town-minutes 3 --burst 33 --out "$recordings/town02-val"

train() { # name config minutes [overrides]
  local name=$1 config=$2 limit=$3
  shift 3
  [ -f "$out/$name/export/model.json" ] && return
  mkdir -p "$out"
  $dyncity train vae --config "$config" \
    data.train="[$recordings/grid-seen,$recordings/random-seen,$recordings/spider-seen,$recordings/town01-seen,$recordings/berlin-seen]" \
    data.validation="[$recordings/town02-val]" data.workers=1 run.out="$out/$name" run.threads=1 \
    run.most_minutes="$limit" run.validation_clips=10 run.validate_every=100 run.checkpoint_every=100 \
    optimiser.batch=1 optimiser.warm_up=20 optimiser.ema_decay=0.98 "$@" > "$out/$name.log" 2>&1
}
anchored() { train "$1" configs/anchored/vae.yaml "$2" loss.kl=6e-3 loss.kl_warm_up=500 "${@:3}"; }

# The jobs, one a line: a name and what is changed.
export -f train anchored
export recordings out dyncity
cat <<JOBS | xargs -P "$jobs" -I{} bash -euo pipefail -c '{}'
train reference configs/reference/small/vae.yaml $minutes
anchored anchored $minutes
anchored base $short
anchored own-frames $short model.canvas.common=false
anchored no-lovasz $short loss.lovasz=0
anchored movers-as-others $short loss.moved=1
anchored unseen-not-learned $short loss.unobserved=0
anchored unseen-as-seen $short loss.unobserved=1
anchored channels-4 $short model.latent_channels=4
anchored channels-16 $short model.latent_channels=16
anchored kl-tenfold $short loss.kl=6e-2 loss.kl_time=6e-2
anchored height-planes $short model.height_planes=true
JOBS

seen=$recordings/grid-seen,$recordings/random-seen,$recordings/spider-seen,$recordings/town01-seen,$recordings/berlin-seen
encode() { # name recordings [options]
  [ -f "$out/latents/$1/latents.json" ] || $dyncity encode ${2//,/ } --autoencoder "$out/anchored/export" \
    --out "$out/latents/$1" --seed 1 "${@:3}"
}
encode train "$seen" --chunks-per-drive 8
encode validation "$recordings/town02-val"

transformer() { # name [overrides]
  local run=$out/transformers/$1
  [ -f "$run/export/model.json" ] || $dyncity train dit --config configs/anchored/dit.yaml autoencoder="$out/anchored/export" \
    latents="$out/latents/train" validation_latents="$out/latents/validation" run.out="$run" run.threads=1 \
    run.most_minutes="$short" optimiser.warm_up=50 optimiser.ema_decay=0.98 run.validate_every=100 "${@:2}" > "$run.log" 2>&1
  [ -f "$run/evaluation.json" ] || $dyncity evaluate "$recordings/town02-val" --plans-from ${seen//,/ } \
    --weights "$run/export" --plans 40 --turns 0 --clips 2 --drives 0 --json "$run/evaluation.json" >> "$run.log" 2>&1
}
mkdir -p "$out/transformers"
export -f transformer
export seen short
cat <<JOBS | xargs -P "$jobs" -I{} bash -euo pipefail -c '{}'
transformer base
transformer adamw optimiser.muon=false
transformer path-as-others loss.path_factor=1
transformer rollout model.rollout=true
JOBS
