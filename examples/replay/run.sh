#!/usr/bin/env bash
# Runs a job, and then its batches again: with the same program, which differs nowhere, and with a changed one, of which it shows what the change
# does. Neither replay touches the job's output or checkpoint.
set -euo pipefail
cd "$(dirname "$0")/../.."

rm -rf target/replay
waterclock() { cargo run --quiet -- "$@" --checkpoint target/replay/checkpoint; }

waterclock run examples/replay/job.sql --until-caught-up
waterclock replay examples/replay/job.sql --batches 1..3 --output target/replay/same --diff

# State that means something else can't be taken up, but from batch 0 on there is none.
if waterclock replay examples/replay/changed.sql --batches 0..3 --output target/replay/changed --diff; then
    echo "the changed program should have made a difference" >&2
    exit 1
fi
