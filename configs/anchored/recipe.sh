#!/usr/bin/env bash
# From nothing to weights on two CPU cores: record, train the autoencoder, encode, train the transformer
# and its guide, evaluate.
# Usage: configs/anchored/recipe.sh CARLA_TOWNS OUT
#   CARLA_TOWNS  folder with Town01.xodr, Town02.xodr and Town04.xodr of CARLA
#   OUT          folder for recordings, latents, runs; a step whose result is there is not done again
set -euo pipefail
towns=$1 out=$2
recordings=$out/recordings

record() { # name map minutes seed [options]
  [ -d "$recordings/$1" ] && return
  dyncity record --map "$2" --minutes "$3" --seed "$4" --egos 20 --town-minutes 3 --out "$recordings/$1" "${@:5}"
}

# Seen by emulated sensors: the autoencoder learns from these.
record grid-a generated:grid 6 101 --burst 33
record spider-a generated:spider 6 104 --burst 33
record random-a generated:random 5 103 --burst 33
record berlin-a berlin 5 102 --burst 33
record town01-a "$towns/Town01.xodr" 5 105 --burst 33
# Truth only: more streets for the transformer, which is trained on dense latents.
record grid-c generated:grid 9 401 --burst 33 --blind
record spider-c generated:spider 7 402 --burst 33 --blind
record random-c generated:random 6 404 --burst 33 --blind
record berlin-c berlin 4 405 --burst 33 --blind
record town04-c "$towns/Town04.xodr" 2 406 --burst 33 --blind
record grid-d generated:grid 9 501 --burst 33 --blind
record spider-d generated:spider 5 502 --burst 33 --blind
record random-d generated:random 5 503 --burst 33 --blind
record berlin-d berlin 5 504 --burst 33 --blind
record town01-d "$towns/Town01.xodr" 5 505 --burst 33 --blind
record grid-e generated:grid 6 507 --burst 33 --blind
record spider-e generated:spider 5 508 --burst 33 --blind
record random-e generated:random 5 509 --burst 33 --blind
# Never trained on.
record town02-val "$towns/Town02.xodr" 2 200 --burst 33
record town02-long "$towns/Town02.xodr" 1.6 201 --continuous --egos 6

seen=$recordings/grid-a,$recordings/spider-a,$recordings/berlin-a,$recordings/town01-a,$recordings/random-a
train_vae() { # [overrides]
  dyncity train vae --config configs/anchored/vae.yaml \
    data.train="[$seen]" data.validation="[$recordings/town02-val]" run.out="$out/vae" "$@"
}

# Details first, then smoother latents: the second call goes on where the first one ended.
if [ ! -f "$out/vae/smooth" ]; then
  [ -f "$out/vae/export/model.json" ] || train_vae optimiser.steps=2300 optimiser.decay_from=0.6 loss.kl=6e-3
  train_vae
  touch "$out/vae/smooth"
fi
[ -f "$out/latents/validation/latents.json" ] || dyncity encode "$recordings/town02-val" \
  --autoencoder "$out/vae/export" --seed 1 --out "$out/latents/validation"
[ -f "$out/latents/train/latents.json" ] || dyncity encode "$recordings"/*-[acde] \
  --autoencoder "$out/vae/export" --out "$out/latents/train"
[ -f "$out/dit/export/model.json" ] || dyncity train dit --config configs/anchored/dit.yaml autoencoder="$out/vae/export" \
  latents="$out/latents/train" validation_latents="$out/latents/validation" run.out="$out/dit"
[ -f "$out/guide/export/model.json" ] || dyncity train dit --config configs/anchored/guide.yaml guides="$out/dit/export" \
  autoencoder="$out/vae/export" latents="$out/latents/train" validation_latents="$out/latents/validation" run.out="$out/guide"

dyncity evaluate "$recordings/town02-val" "$recordings/town02-long" --plans-from "$recordings"/{grid,spider,random,berlin,town01}-a \
  --weights "$out/guide/export" --clips 40 --json "$out/evaluation.json" --picture "$out/evaluation.png"
