# What the scripts of this folder share; sourced, never run. It only defines names: nothing happens on reading it.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# Virtual environments outlive a clone, so that the second demo takes seconds.
CACHE=${SIDECAR_CACHE:-${XDG_CACHE_HOME:-${HOME:-/var/tmp}/.cache}/sidecar}

SIDECAR=$ROOT/.build/sidecar

die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# A TCP port that nobody listens on now. Somebody may take it before we do; whoever starts a server on it tells.
free_port() { PYTHONPATH=$ROOT/Tests/Support/python python3 -B -c 'from sidecartest import machine; print(machine.free_port())'; }

# wait_until SECONDS COMMAND...: true as soon as COMMAND is, false when it was not for that long. A try counts for half a second
# at most, so that time in which this machine ran nobody does not count; two minutes more than asked for are the end all the same.
wait_until() {
    local wait_left=$(($1 * 1000000)) wait_from=${EPOCHREALTIME//[.,]/} wait_now wait_end
    wait_end=$((wait_from + wait_left + 120000000))
    shift
    until "$@"; do
        wait_now=${EPOCHREALTIME//[.,]/}
        ((wait_left -= wait_now - wait_from < 500000 ? wait_now - wait_from : 500000, wait_from = wait_now))
        ((wait_left > 0 && wait_now < wait_end)) || return 1
        sleep 0.1
    done
}

# sidecartest MODULE ARG...: a program of the tests' Python package, which knows processes and private servers.
sidecartest() { PYTHONPATH=$ROOT/Tests/Support/python python3 -B -m "sidecartest.$1" "${@:2}"; }

# Every descendant of a process, itself included, as PID:START. A PID comes back in time; with its start time it does not.
tree() { sidecartest machine tree "$1"; }
# Prints those of PID:START... that are still alive.
alive() { (($# == 0)) || sidecartest machine alive "$@"; }

# The folder of PostgreSQL's server programs, newest first; empty when there are none.
postgres_bin() {
    local folder
    for folder in $(ls -d /usr/lib/postgresql/*/bin /usr/pgsql-*/bin 2>/dev/null | sort -rV); do
        [[ -x $folder/initdb && -x $folder/postgres ]] && { echo "$folder"; return; }
    done
    folder=$(command -v initdb) && dirname "$(readlink -f "$folder")"
}

# The first Python that can make a virtual environment and is one that Airflow VERSION runs on; empty when there is none.
python_for() {
    local low=10 high=14 python
    [[ $1 == 2.* ]] && low=8 high=12
    for python in python3 /usr/bin/python3 python3.12 python3.11 python3.10 python3.13; do
        "$python" -c "import sys, venv, ensurepip; sys.exit(not (3, $low) <= sys.version_info[:2] <= (3, $high))" \
            2>/dev/null && { command -v "$python"; return; }
    done
    return 0
}

# simulation_build [--product NAME]: builds the simulation's package, or one program of it; prints only what went wrong.
simulation_build() {
    local log
    log=$(swift build "${SIMULATION[@]}" "$@" 2>&1) || { printf '%s\n' "$log" >&2; exit 1; }
}
simulation_folder() { swift build "${SIMULATION[@]}" --show-bin-path; }
SIMULATION=(--package-path "$ROOT/Tests/Simulation" --scratch-path "$ROOT/.build/simulation" -c release -Xswiftc -static-stdlib)
