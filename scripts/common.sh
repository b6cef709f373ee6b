# Sourced by the other scripts: where things are, and how they speak.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv="${COHAB_VENV:-$root/.venv}"
export COHABD="${COHABD:-$root/build/cohabd}"

say() {
    printf '== %s\n' "$*"
}

die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# run_quietly WHAT COMMAND...: says WHAT; the command's output is shown only if it fails.
run_quietly() {
    local what=$1 log status=0
    shift
    say "$what"
    log=$(mktemp)
    "$@" >"$log" 2>&1 </dev/null || status=$?
    if [ "$status" != 0 ]; then
        cat "$log" >&2
        printf '%s: failed (exit %s): %s\n' "${0##*/}" "$status" "$*" >&2
    fi
    rm -f "$log"
    return "$status"
}
