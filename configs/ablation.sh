#!/usr/bin/env bash
# Autoencoders at equal, small budgets, on the same recordings: both families, and `anchored` with one thing changed.
# Usage: configs/ablation.sh RECORDINGS OUT [MINUTES [ABLATION_MINUTES [JOBS]]]
#   RECORDINGS  folder with {grid,random,spider,town01,berlin}-seen and town02-val, see docs/training.md
#   OUT         folder for the runs; a run whose export is there is not done again
#   MINUTES     of one core for each family (25), and for each ablation (8); JOBS run side by side (2)
# benchmarks/autoencoders.py makes the table and the curves of what is in OUT.
set -euo pipefail
recordings=$1 out=$2 minutes=${3:-25} short=${4:-8} jobs=${5:-2}
dyncity=${DYNCITY:-dyncity}
export OMP_NUM_THREADS=1

train() { # name config minutes [overrides]
  local name=$1 config=$2 limit=$3
  shift 3
  [ -d "$out/$name/export" ] && return
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
anchored no-lovasz $short loss.lovasz=0
anchored movers-as-others $short loss.moved=1
anchored unseen-not-learned $short loss.unobserved=0
anchored unseen-as-seen $short loss.unobserved=1
anchored channels-4 $short model.latent_channels=4
anchored channels-16 $short model.latent_channels=16
anchored kl-tenfold $short loss.kl=6e-2 loss.kl_time=6e-2
JOBS
