# Run the program on standard input with pinned packages: "with_packages trio==0.35.0".
# The packages live in a temporary folder, which goes when the script ends.
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

with_packages() {
  python3 -m venv "$scratch/venv"
  if [ $# -gt 0 ]; then
    "$scratch/venv/bin/pip" install -qq --disable-pip-version-check "$@"
  fi
  cat >"$scratch/program.py"
  "$scratch/venv/bin/python" "$scratch/program.py"
}

needs() {
  local program
  for program in "$@"; do
    command -v "$program" >/dev/null || {
      echo "this finding needs $program" >&2
      exit 2
    }
  done
}
