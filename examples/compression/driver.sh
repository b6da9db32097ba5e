#!/bin/sh
# Usage: driver.sh MACHINE TOOL LEVEL THREADS
#
# The experiment's driver: runs on the host, and reaches the machine itself. What it prints is the job's
# log; the path behind RESULTS: is one on the machine, from where the daemon copies it.
# SSH_CONFIG names an ssh configuration to use instead of the user's own.
set -eu
machine=$1
shift
exec ssh ${SSH_CONFIG:+-F "$SSH_CONFIG"} -o BatchMode=yes "$machine" sh -s -- "$@" < "$(dirname "$0")/compress.sh"
