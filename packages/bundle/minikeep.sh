#!/bin/sh
# Starts an installed minikeep with the Node that came with it. Needs nothing but sh.
link=$0
while [ -h "$link" ]; do
  target=$(readlink "$link")
  case $target in /*) link=$target ;; *) link=$(dirname "$link")/$target ;; esac
done
root=$(CDPATH= cd -- "$(dirname -- "$link")/.." && pwd -P) || exit 1
unset NODE_OPTIONS
exec "$root/node/bin/node" --disable-sigusr1 "$root/dist/minikeep.mjs" "$@"
