#!/bin/sh
# Pretends to compute on the GPUs that the job was given. Each of them can have one user at a time:
# a directory stands for the device, and making it fails when somebody else has it.
set -e
devices=${DEVICES:?the directory of the pretended devices}
for gpu in $(echo "$JOBSERVER_GPU" | tr , ' '); do
	mkdir "$devices/$gpu" || { echo "GPU $gpu is in use" >&2; exit 9; }
done
sleep "${1:-0.1}"
for gpu in $(echo "$JOBSERVER_GPU" | tr , ' '); do
	rmdir "$devices/$gpu"
done
echo "METRIC: gpus=$(echo "$JOBSERVER_GPU" | tr , '\n' | wc -l)"
