# shellcheck shell=bash
# Shared by the scripts of this folder: where things are kept, how a step is cached and how progress is shown.
#
# A step is a function that fills the folder $OUT. Its result is kept in $CACHE/build/NAME/KEY, where KEY is a hash of
# everything the step reads; the folder gets that name by one rename at the end, so an interrupted build leaves nothing
# that could be taken for a result.

REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
CACHE=${STOWPLAN_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/stowplan}
STATE=$CACHE/cluster
BUILD=$CACHE/build
LOGS=$CACHE/logs
BIN=$CACHE/bin
export PATH=$BIN:$PATH

# shellcheck source=cluster/versions.sh
source "$REPO/cluster/versions.sh"

say() { printf '%s\n' "$*"; }
die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

on_debian_as_root() { [[ $(id -u) == 0 ]] && have apt-get && [[ -e /etc/debian_version ]]; }

# need PROGRAM PACKAGES: the program is there, or is installed, or the user reads how to install it.
need() {
    local program=$1 log=$LOGS/apt-$1.log
    local -a packages
    read -ra packages <<<"$2"
    have "$program" && return
    on_debian_as_root || die "$program is missing. Install it and run this again: sudo apt-get install -y $2"
    say "Installing with apt, because $program is missing: $2"
    { apt-get -q update || true
      DEBIAN_FRONTEND=noninteractive apt-get -qy install --no-install-recommends "${packages[@]}"
    } >"$log" 2>&1 || die "apt could not install $2; its words are in $log"
    have "$program" || die "$2 is installed, yet $program is not on PATH"
}

# hash_of WORD...: one hash of strings and, where a word names a file or a folder, of its content and file names.
hash_of() {
    local word
    for word in "$@"; do
        if [[ -d $word ]]; then
            (cd "$word" && find . -type f -not -path '*/__pycache__/*' -print0 | sort -z | xargs -0 -r sha256sum)
        elif [[ -f $word ]]; then
            sha256sum <"$word"
        else
            printf '%s\n' "$word"
        fi
    done | sha256sum | cut -c1-16
}

# --- progress -------------------------------------------------------------------------------------------------------

STEPS_TOTAL=-
STEPS_COUNTER=

# steps_begin TOTAL: start numbering; background jobs share the counter.
steps_begin() {
    STEPS_TOTAL=$1
    STEPS_COUNTER=$(mktemp "$STATE/.steps.XXXXXX")
    trap 'rm -f "$STEPS_COUNTER"' EXIT
}

# report TEXT RESULT: one line of progress, numbered in the order in which steps end; without a number before
# steps_begin.
report() {
    local number=-
    if [[ -n $STEPS_COUNTER ]]; then
        number=$({ flock 8; echo >>"$STEPS_COUNTER"; wc -l <"$STEPS_COUNTER"; } 8<"$STEPS_COUNTER")
    fi
    printf '[%2s/%2s] %-46s %s\n' "$number" "$STEPS_TOTAL" "$1" "$2"
}

# isolated FUNCTION ARGUMENT...: in a bash of its own, because `set -e` does nothing inside an `if`.
isolated() {
    bash -euo pipefail -c 'source "$1/cluster/lib.sh"
        shift; TIMEFORMAT="%U s user, %S s system, %R s wall"; time "$@"' bash "$REPO" "$@"
}

# timed TEXT FUNCTION ARGUMENT...: runs it with its output in a log, and reports its time.
timed() {
    local text=$1 start=$SECONDS log
    shift
    log=$LOGS/$1.log
    if ! isolated "$@" >"$log" 2>&1; then
        tail -n 25 "$log" >&2
        die "$text failed; the whole log is $log"
    fi
    report "$text" "$((SECONDS - start)) s"
}

# --- cached steps ---------------------------------------------------------------------------------------------------

# result NAME: the folder of a finished step (written by step, read by later steps and scripts).
result() { readlink -f "$BUILD/$1/current"; }

# contents NAME...: hashes of the results of steps, to key what is made from them: a step that was run again and gave
# the same result causes nothing more.
contents() {
    local name
    for name in "$@"; do cat "$BUILD/$name/current/.content"; done
}

# step NAME TEXT INPUT... -- FUNCTION: runs FUNCTION with $OUT unless its result for these inputs is kept.
step() {
    local name=$1 text=$2 start=$SECONDS key
    shift 2
    local -a inputs=()
    while [[ $1 != -- ]]; do
        inputs+=("$1")
        shift
    done
    local function=$2
    key=$(hash_of "$name" "${inputs[@]}" "$(declare -f "$function")")
    local home=$BUILD/$name
    if [[ ! -d $home/$key ]]; then
        mkdir -p "$home"
        rm -rf "$home"/.tmp.*
        local OUT
        OUT=$(mktemp -d "$home/.tmp.XXXXXX")
        chmod 755 "$OUT"
        if ! OUT=$OUT isolated "$function" >"$LOGS/$name.log" 2>&1; then
            rm -rf "$OUT"
            tail -n 25 "$LOGS/$name.log" >&2
            die "$text failed; the whole log is $LOGS/$name.log"
        fi
        hash_of "$OUT" >"$OUT.content" && mv "$OUT.content" "$OUT/.content"
        mv -T "$OUT" "$home/$key"
        ln -sfnT "$key" "$home/.next" && mv -T "$home/.next" "$home/current"
        find "$home" -mindepth 1 -maxdepth 1 -type d ! -name "$key" -exec rm -rf {} +
        report "$text" "$((SECONDS - start)) s"
    else
        ln -sfnT "$key" "$home/.next" && mv -T "$home/.next" "$home/current"
        report "$text" cached
    fi
}

# together FUNCTION...: runs them at the same time; ends when all have ended, and fails if one failed.
together() {
    local function pid failed=0
    local -a pids=()
    for function in "$@"; do
        "$function" &
        pids+=($!)
    done
    for pid in "${pids[@]}"; do wait "$pid" || failed=1; done
    return $failed
}

# alone: one script at a time works on the cache and the cluster.
alone() {
    exec 9>"$CACHE/lock"
    flock --nonblock 9 && return
    say "Waiting for another make cluster or make images to end."
    flock 9
}

mkdir -p "$STATE" "$BUILD" "$LOGS" "$BIN"
