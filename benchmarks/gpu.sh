#!/bin/sh
# What a GPU must show, by any Python that has torch with CUDA: PYTHON=python3 benchmarks/gpu.sh [bits] [speed] [ppo].
# gpu.py says what is measured, and which packages that needs.
here=$(cd "$(dirname "$0")" && pwd)
export PYTHONPATH="${here%/*}${PYTHONPATH:+:$PYTHONPATH}"
exec "${PYTHON:-python3}" "$here/gpu.py" "$@"
