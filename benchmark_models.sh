#!/usr/bin/env bash
# Compares embedding models: speed, contrast of topics, retrieval. All of it is `vectron-embedding compare`, which this
# builds where there is no build. Files are relative to where you are.
#
#   ./benchmark_models.sh [--local | --remote | --models a,b] [--output results.json] [--plot benchmark.png]
#                         [--samples FILE] [--pairs FILE] [--server URL]      ./benchmark_models.sh --help tells the rest
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

target=${CARGO_TARGET_DIR:-$root/target}
embedding=$target/release/vectron-embedding
# A build from before there was a comparison is none.
if ! "$embedding" compare --help >/dev/null 2>&1; then
    echo "There is no build of vectron-embedding in $target; building it, which takes some minutes." >&2
    cargo build --release --locked --package vectron-embedding --manifest-path "$root/Cargo.toml" --target-dir "$target"
fi
# Whether there is a .env here or further up, where the command looks for it.
has_env() {
    local folder=$PWD
    while [ ! -f "$folder/.env" ]; do
        [ "$folder" != / ] || return 1
        folder=$(dirname "$folder")
    done
}
# From another folder, too, the weights of the repository are used, unless a setting says otherwise.
if [ -z "${VECTRON_MODEL_CACHE:-}" ] && ! has_env && [ ! -e model_cache ] && [ -d "$root/model_cache" ]; then
    export VECTRON_MODEL_CACHE=$root/model_cache
fi
exec "$embedding" compare "$@"
