#!/usr/bin/env bash
# Builds the operator of another revision of this repository, for `make test-upgrade`, and puts it as
# `secrets-distributor` into a folder, with its chart as `chart`.
# Arguments: the folder; the revision, by default the newest tag before this commit, and without one the commit before.
set -euo pipefail
cd "$(dirname "$0")/../.."

folder=$(realpath --canonicalize-missing "$1")
revision=${2:-$(git describe --tags --abbrev=0 HEAD^ 2> /dev/null || echo HEAD^)}
commit=$(git rev-parse --verify --quiet "$revision^{commit}") || {
  echo "FROM=$revision is no revision that this clone has. Set FROM to one, or fetch the history." >&2
  exit 1
}
echo "from $revision: $(git log -1 --format='%h %cs %s' "$commit")"
if test "$(cat "$folder/commit" 2> /dev/null)" = "$commit"; then
  exit
fi

rm -rf "$folder/source" "$folder/commit"
mkdir -p "$folder/source"
# Cargo goes by the times of files: they are those of now, whatever was built here before.
git archive "$commit" | tar --extract --touch --directory "$folder/source"
ln --symbolic --force --no-dereference source/deploy/chart "$folder/chart"

# Without what only a debugger reads: it is built once, and run.
target=$(realpath --canonicalize-missing "${CARGO_TARGET_DIR:-target}")/upgrade
(
  cd "$folder/source"
  export CARGO_TARGET_DIR=$target CARGO_PROFILE_DEV_DEBUG=false CARGO_INCREMENTAL=0 SECRETS_DISTRIBUTOR_COMMIT=$commit
  cargo build --locked --package secrets-distributor --bin secrets-distributor
)
install "$target/debug/secrets-distributor" "$folder/secrets-distributor"
echo "$commit" > "$folder/commit"
