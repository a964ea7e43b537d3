#!/usr/bin/env bash
# A slice of training on a GPU: render, train the autoencoder, encode, train the transformer. Each stage goes on from
# what OUT holds, so slices can follow each other on machines that are lent for minutes.
# Usage: configs/anchored/gpu/slice.sh CAPTURES OUT VAE_MINUTES DIT_MINUTES [key=value ...]
#   CAPTURES     folder of captures: *-seen are rendered with sensors for the autoencoder, *-dense without for the
#                transformer alone, *-validation with sensors and never trained on
#   VAE_MINUTES  longest time for the autoencoder; likewise DIT_MINUTES for the transformer
#   VAE_STEPS, DIT_STEPS in the environment: steps planned for each over all slices
set -euo pipefail
captures=$1 out=$2 vae_minutes=$3 dit_minutes=$4
here=$(dirname "$0")
dyncity=${DYNCITY:-dyncity}
recordings=$out/recordings
mkdir -p "$recordings"

say() { echo "[$SECONDS s] $*"; }
render() { # captures [options]
  local name
  name=$(basename "$1")
  [ -d "$recordings/$name" ] || $dyncity render "$1" --out "$recordings/$name" "${@:2}"
}
listed() { # pattern: folders as a YAML list
  find "$recordings" -maxdepth 1 -name "$1" | sort | paste -sd,
}

for folder in "$captures"/*-validation "$captures"/*-seen; do render "$folder"; done
say "rendered what sensors see"
for folder in "$captures"/*-dense; do render "$folder" --blind; done >"$out/render.log" 2>&1 &
dense=$!

if [ ! -d "$out/vae/export" ]; then
  $dyncity train vae --config "$here/vae.yaml" data.train="[$(listed '*-seen')]" \
    data.validation="[$(listed '*-validation')]" run.out="$out/vae" run.most_minutes="$vae_minutes" \
    ${VAE_STEPS:+optimiser.steps=$VAE_STEPS}
  say "trained the autoencoder"
fi
wait $dense || { cat "$out/render.log"; exit 1; }
for part in validation train; do
  [ -f "$out/latents/$part/latents.json" ] && continue
  pattern=$([ $part = train ] && echo '-(seen|dense)$' || echo '-validation$')
  mapfile -t folders < <(find "$recordings" -maxdepth 1 -type d | grep -E -- "$pattern" | sort)
  $dyncity encode "${folders[@]}" --autoencoder "$out/vae/export" --out "$out/latents/$part" --chunks-per-drive 3
done
say "encoded"
$dyncity train dit --config "$here/dit.yaml" autoencoder="$out/vae/export" latents="$out/latents/train" \
  validation_latents="$out/latents/validation" run.out="$out/dit" run.most_minutes="$dit_minutes" \
  ${DIT_STEPS:+optimiser.steps=$DIT_STEPS}
say "trained the transformer"
