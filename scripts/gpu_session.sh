#!/usr/bin/env bash
# One session on a GPU, unattended: the tests that need one, the bench, then both grammars are trained until the time is over.
#
#     scripts/gpu_session.sh SECONDS OUT
#
# What comes of it is in OUT, in files of at most 15 MB each: tests.txt, bench.txt, and for each grammar
#
#     OUT/exact/export/           averaged weights in several files, their index, and the configuration
#     OUT/exact/metrics.jsonl     what the run said; OUT/exact/train.txt: what it complained of
#     OUT/exact/state.part-*      what a later session with the same OUT goes on from: the state before the cool-down
#
# Nothing is downloaded. SIGTERM and SIGINT end it early, with everything written. A session that was killed is gone on with as
# well. Without a GPU it runs on the CPU. Exit code: 0 done, 1 something failed (the line says what; the rest was done), 2
# wrong arguments or an OUT that is not in order.
#
# Settings, with what they are without:
#     SESSION_PARTS     what to do                         "tests bench train"
#     SESSION_TESTS     further arguments of pytest        ""
#     SESSION_BENCH     arguments of scripts/bench.py      ""
#     SESSION_TRAIN     arguments of scripts/pretrain.py   "--model-size base --stream.batch-size 2048 ..." as below
#     SESSION_MARGIN    seconds that training leaves for its start and its last files     45
#     PYTHON            the interpreter                    python

set -u
parts=${SESSION_PARTS-tests bench train}
margin=${SESSION_MARGIN-45}
python=${PYTHON-python}
workers=$((($(nproc) - 2) / 2)) # a grammar: the other cores launch what the GPU does
train="--model-size base --stream.batch-size 2048 --stream.pool-batches 32 --optimiser.ema-decay 0.998
  --checkpoint-seconds 60 --held-out-seconds 60 --log-seconds 5"
((workers <= 0)) || train+=" --stream.workers $workers"
train=${SESSION_TRAIN-$train}

fail() { echo "error: $1" >&2; exit 2; }
[[ $# == 2 && $1 =~ ^[1-9][0-9]{0,6}$ && -n $2 ]] || fail "usage: scripts/gpu_session.sh SECONDS OUT, such as 600 runs/session"
total=$1
mkdir -p -- "$2" 2>/dev/null || fail "OUT '$2' cannot be made: name another folder"
out=$(cd -- "$2" && pwd) || fail "OUT '$2' cannot be entered: name another folder"
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." || exit 2

SECONDS=0 # which bash counts up
failed=()
running=()
left() { echo $((total - SECONDS)); }
at_most() { echo $(($1 < $2 ? $1 : $2)); }
trap 'total=$SECONDS; ((${#running[@]} == 0)) || kill -TERM "${running[@]}" 2>/dev/null' TERM INT

# Runs a command in the background and waits for it, since a trap is obeyed only while bash waits.
limited() { # seconds, file for what it says, command
  local seconds=$1 said=$2
  shift 2
  timeout --kill-after=10 "$seconds" "$@" >"$said" 2>&1 &
  running=($!)
  wait_for "${running[0]}"
  local code=$?
  running=()
  return $code
}

wait_for() { # process; its exit code, whatever signals come meanwhile
  local code
  while :; do
    wait "$1"
    code=$?
    kill -0 "$1" 2>/dev/null || return $code
  done
}

unpack() { # folder of a grammar: the state in one piece again
  compgen -G "$1/state.part-*" >/dev/null || return 0
  cat "$1"/state.part-* >"$1/state.joined" &&
    [[ $(sha256sum <"$1/state.joined") == "$(cat "$1/state.sha256" 2>/dev/null)" ]] ||
    { rm -f "$1/state.joined"; fail "the pieces '$1/state.part-*' are not complete: put them back, or remove them to start over"; }
  mv "$1/state.joined" "$1/state.safetensors" && rm -f "$1"/state.part-* "$1/state.sha256"
}

pack() { # folder of a grammar: the state to go on from in pieces
  [[ -f $1/state.safetensors ]] || return 0
  [[ ! -f $1/state-before-cooldown.safetensors ]] || mv "$1/state-before-cooldown.safetensors" "$1/state.safetensors"
  sha256sum <"$1/state.safetensors" >"$1/state.sha256" &&
    split -b 15000000 -d -a 3 "$1/state.safetensors" "$1/state.part-" && rm -f "$1/state.safetensors"
}

if [[ $parts == *tests* ]]; then
  # shellcheck disable=SC2086 # the settings are lists of words
  limited "$(at_most 150 $((total / 4 + 1)))" "$out/tests.txt" "$python" -m pytest -q -m gpu ${SESSION_TESTS-}
  code=$?
  ((code == 0 || code == 5)) || failed+=("tests (code $code, see $out/tests.txt)") # 5: none was chosen
  tail -n 1 "$out/tests.txt"
fi

if [[ $parts == *bench* ]]; then
  # shellcheck disable=SC2086
  limited "$(at_most 90 $((total / 6 + 1)))" "$out/bench.txt" "$python" scripts/bench.py ${SESSION_BENCH-} ||
    failed+=("bench (see $out/bench.txt)")
  cat "$out/bench.txt"
fi

if [[ $parts == *train* ]]; then
  grammars=(exact weighted)
  for grammar in "${grammars[@]}"; do
    mkdir -p "$out/$grammar"
    unpack "$out/$grammar"
  done
  budget=$(($(left) - margin))
  if ((budget <= 0)); then
    failed+=("training (no time was left)")
  else
    more=$(awk "BEGIN { print $budget / 60 }")
    for grammar in "${grammars[@]}"; do
      resume=--no-resume
      [[ ! -f $out/$grammar/state.safetensors ]] || resume=--resume
      # shellcheck disable=SC2086
      timeout --signal=TERM --kill-after=30 $((budget + margin * 2 / 3 + 1)) "$python" scripts/pretrain.py \
        --out "$out/$grammar" --more-minutes "$more" --stream.grammar "$grammar" --shard-megabytes 14 $resume $train \
        >"$out/$grammar/last.json" 2>"$out/$grammar/train.txt" &
      running+=($!)
    done
    for place in 0 1; do
      wait_for "${running[$place]}"
      code=$?
      ((code == 0)) || failed+=("${grammars[$place]} (code $code: $(tail -n 1 "$out/${grammars[$place]}/train.txt"))")
      echo "${grammars[$place]} $(cat "$out/${grammars[$place]}/last.json")"
    done
    running=()
  fi
  for grammar in "${grammars[@]}"; do pack "$out/$grammar"; done
fi

for what in "${failed[@]+"${failed[@]}"}"; do echo "failed: $what" >&2; done
((${#failed[@]} == 0))
