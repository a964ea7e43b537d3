#!/usr/bin/env bash
# A slice of training on a GPU: render, train the autoencoder, encode, train the transformer until the time is up, and
# a guide for it; where they are asked for, few-step weights that learn from both.
# Each stage is skipped or goes on from what OUT holds, so slices can follow each other on machines lent for minutes.
# Usage: configs/anchored/gpu/slice.sh CAPTURES OUT MINUTES [VAE_MINUTES]
#   CAPTURES     folder of captures: *-seen are rendered with sensors for the autoencoder, *-dense without for the
#                transformer alone, *-validation with sensors and never trained on
#   MINUTES      for all of it; the weights are whole by then
#   VAE_MINUTES  of them for the autoencoder (default: 3), once
# What goes back from a lent machine lies in OUT/back: cat OUT/back/guide.tar.* | tar x gives the weights again.
# WEIGHTS in the environment: a folder of whole weights to start from; its autoencoder stays, its transformer learns on.
# DISTIL_MINUTES in the environment: of MINUTES, for few-step weights (default: 0, none)
set -euo pipefail
captures=$1 out=$2 minutes=$3 vae_minutes=${4:-3} distil_minutes=${DISTIL_MINUTES:-0}
here=$(dirname "$0")
dyncity=${DYNCITY:-dyncity}
recordings=$out/recordings
mkdir -p "$recordings"
if [ -n "${WEIGHTS:-}" ] && [ ! -d "$out/vae" ]; then
  # In one step, so that a slice that is killed meanwhile leaves nothing that the next one takes for weights.
  rm -rf "$out/vae.part" && mkdir "$out/vae.part" && cp -r "$WEIGHTS" "$out/vae.part/export" && mv "$out/vae.part" "$out/vae"
fi

say() { echo "[$SECONDS s] $*"; }
render_all() { # workers options suffix...: several folders at a time, so that the last town of one keeps no core idle
  local workers=$1 options=$2
  for suffix in "${@:3}"; do
    find "$captures" -maxdepth 1 -name "*-$suffix" | sort | while read -r folder; do
      [ -d "$recordings/$(basename "$folder")" ] || basename "$folder"
    done
  done | OMP_NUM_THREADS=1 nice xargs -P 4 -I '{}' sh -c \
    "$dyncity render '$captures/{}' --out '$recordings/{}' --workers $workers $options >'$out/render-{}.log' 2>&1"
}
recorded() { # suffixes: folders that are there
  for suffix in "$@"; do find "$recordings" -maxdepth 1 -name "*-$suffix" | sort; done
}

cores=$(nproc)
if [ ! -f "$out/vae/export/model.json" ]; then
  render_all $((cores / 3 + 1)) "" seen validation
  say "rendered what sensors see"
fi
render_all $(((cores + 3) / 4)) --blind seen dense validation &
dense=$!
if [ ! -f "$out/vae/export/model.json" ]; then
  $dyncity train vae --config "$here/vae.yaml" run.out="$out/vae" run.most_minutes="$vae_minutes" \
    data.train="[$(recorded seen | paste -sd,)]" data.validation="[$(recorded validation | paste -sd,)]"
  say "trained the autoencoder"
fi
wait $dense
say "rendered the rest"
[ -f "$out/latents/validation/latents.json" ] || $dyncity encode $(recorded validation) \
  --autoencoder "$out/vae/export" --out "$out/latents/validation"
[ -f "$out/latents/train/latents.json" ] || $dyncity encode $(recorded seen dense) \
  --autoencoder "$out/vae/export" --out "$out/latents/train" --chunks-per-drive 3
say "encoded"
left=$(awk "BEGIN { left = $minutes - $SECONDS / 60 - 0.9 - $distil_minutes; print (left > 0.1 ? left : 0.1) }")
$dyncity train dit --config "$here/dit.yaml" autoencoder="$out/vae/export" latents="$out/latents/train" \
  validation_latents="$out/latents/validation" run.out="$out/dit" run.most_minutes="$left" ${WEIGHTS:+initial="$WEIGHTS"}
say "trained the transformer"
# Anew each time: it has to have learned little of what the transformer now knows.
rm -rf "$out/guide"
$dyncity train dit --config "$here/../guide.yaml" guides="$out/dit/export" autoencoder="$out/vae/export" \
  latents="$out/latents/train" validation_latents="$out/latents/validation" run.out="$out/guide" run.most_minutes=0.4
say "trained its guide"
if [ "$distil_minutes" != 0 ]; then
  # What it takes to start, and to end, is taken from its own time.
  left=$(awk "BEGIN { left = $minutes - $SECONDS / 60 - 0.3; print (left > 0.1 ? left : 0.1) }")
  $dyncity train distil --config "$here/distil.yaml" teacher="$out/guide/export" latents="$out/latents/train" \
    validation_latents="$out/latents/validation" run.out="$out/distil" run.most_minutes="$left"
  say "trained few-step weights"
fi
# Fewer pieces than a machine that is lent gives back at most: 16 MiB each, 64 MiB in all.
rm -rf "$out/back" "$out/back.part" && mkdir "$out/back.part"
for stage in guide distil; do
  [ ! -d "$out/$stage/export" ] || tar -C "$out/$stage" -cf - export log config.yaml | split -b 15M - "$out/back.part/$stage.tar."
done
mv "$out/back.part" "$out/back"
say "packed what goes back: $(du -sh "$out/back" | cut -f1)"
