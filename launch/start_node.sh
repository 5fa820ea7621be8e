#!/usr/bin/env bash
# Starts Ray on this machine, from the project's virtual environment where there is one.
#
#   launch/start_node.sh head                    on the first machine
#   launch/start_node.sh worker 10.0.0.1:6379    on every other one: the head's address
#
# What follows goes to `ray start`, for example --num-gpus=4. `ray stop` stops it.
#
# The cluster takes only callers that hold its token: RAY_AUTH_TOKEN, or the file ~/.ray/auth_token, the same
# on all machines. The head makes one where there is none. The dashboard listens on 127.0.0.1 alone.
set -euo pipefail

usage() {
    echo "usage: $0 head | worker HOST:PORT, then options of ray start" >&2
    exit 2
}

bin=$(cd "$(dirname "$0")/.." && pwd)/.venv/bin
[ -d "$bin" ] && export PATH="$bin:$PATH"
export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED="${RAY_USAGE_STATS_ENABLED:-0}"

case "${1:-}" in
head)
    shift
    ray get-auth-token --generate >/dev/null
    exec ray start --head "$@"
    ;;
worker)
    [[ "${2:-}" == *:* ]] || usage
    address=$2
    shift 2
    exec ray start --address="$address" "$@"
    ;;
*) usage ;;
esac
