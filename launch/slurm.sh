#!/usr/bin/env bash
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --signal=B:TERM@300
# Runs `scar-ray ARGUMENT ...` on a SLURM allocation, a Ray node on each of its machines. From the clone's root:
#
#   sbatch --nodes=2 --gpus-per-node=8 launch/slurm.sh train task=imdb cluster=nodes2x8
#
# Five minutes before the time limit the run finishes its step, writes a checkpoint and stops; `train --resume RUN`
# continues it. The clone and the home folder, which holds the cluster's token, are seen by all machines.
set -euo pipefail

export PATH="$PWD/.venv/bin:$PATH" RAY_AUTH_MODE=token
ray get-auth-token --generate >/dev/null

mapfile -t machines < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
port=${RAY_PORT:-6379}
export RAY_ADDRESS="${machines[0]}:$port"

on() { srun --overlap --nodes=1 --ntasks=1 --nodelist="$1" launch/start_node.sh "${@:2}" --block & }

on "${machines[0]}" head --port="$port"
until ray status --address "$RAY_ADDRESS" >/dev/null 2>&1; do sleep 2; done
for machine in "${machines[@]:1}"; do on "$machine" worker "$RAY_ADDRESS"; done

# The driver takes this shell's place, so that SLURM's signal reaches it.
exec scar-ray "$@"
