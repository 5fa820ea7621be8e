#!/usr/bin/env bash
# Runs `scar-ray ARGUMENT ...` as a Ray job and follows its log; exits as the job does.
#
#   launch/ray_job.sh train task=demo
#   RAY_API_SERVER_ADDRESS=http://127.0.0.1:8265 launch/ray_job.sh train task=imdb cluster=gpu8
#
# The job runs this clone's code, on the head node, which needs no GPU; Ctrl-C leaves it running (`ray job stop`).
# Runs go to this clone's folder runs/ unless runs=FOLDER says otherwise; data and models in folders are given
# by absolute paths that every node sees. The cluster's token is RAY_AUTH_TOKEN or the file ~/.ray/auth_token.
set -euo pipefail

[ $# -gt 0 ] || { echo "usage: $0 train|sft|rm [KEY=VALUE ...]" >&2; exit 2; }

root=$(cd "$(dirname "$0")/.." && pwd)
[ -d "$root/.venv/bin" ] && export PATH="$root/.venv/bin:$PATH"
if [ -n "${RAY_AUTH_TOKEN:-}${RAY_AUTH_TOKEN_PATH:-}" ] || [ -f ~/.ray/auth_token ]; then
    export RAY_AUTH_MODE="${RAY_AUTH_MODE:-token}"
fi

# In a job a relative folder would lie in Ray's own copy of the code.
case " $* " in
*" runs="* | *" --resume"*) ;;
*) set -- "$@" "runs=$root/runs" ;;
esac

exec ray job submit --address "${RAY_API_SERVER_ADDRESS:-http://127.0.0.1:8265}" \
    --working-dir "$root" --runtime-env "$root/launch/runtime_env.yaml" --entrypoint-num-cpus 0 \
    -- scar-ray "$@"
