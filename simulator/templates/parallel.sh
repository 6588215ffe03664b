#!/bin/sh
# All jobs of a sweep on the cores of this machine, by GNU parallel. Started again, it does only what is left.
#
#   kith-sim sweep plan sweep.toml --out results
#   simulator/templates/parallel.sh results
set -eu
folder=${1:?the folder of the plan}
jobs=$(grep -c '"job":' "$folder/plan.json")
# A job that fails does not keep the others from being done; collect names it.
seq 0 $((jobs - 1)) | parallel --jobs "${JOBS:-100%}" kith-sim sweep job "$folder" {} || true
exec kith-sim sweep collect "$folder"
