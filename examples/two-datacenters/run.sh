#!/usr/bin/env bash
# Two datacenters of one server each, joined through their mesh gateways alone, on
# loopback addresses of this machine. Ends by proving itself, and leaves nothing.
#
# GATEWAY says what the gateways are: builtin (the default), or envoy. ENVOY names
# Envoy's binary; without it, the one in the PATH is taken.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

isthmus=${ISTHMUS:-$PWD/../../build/isthmus}
gateway=${GATEWAY:-builtin}
envoy=${ENVOY:-envoy}
dir=$(mktemp -d)
pids=()
finish() {
	for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
	wait
	rm -rf "$dir"
}
trap finish EXIT

# One CA for both datacenters, a certificate for each server, one gossip key.
(cd "$dir" && "$isthmus" tls ca create &&
	"$isthmus" tls cert create -server -dc dc1 -node alice &&
	"$isthmus" tls cert create -server -dc dc2 -node bob) >"$dir/tls.log"
key=$("$isthmus" keygen)

# start NAME COMMAND...: in the background, with a log of its own.
start() {
	local name=$1
	shift
	"$isthmus" "$@" >"$dir/$name.log" 2>&1 &
	pids+=($!)
}

# server DATACENTER NODE ADDRESS: dc1 is the primary; dc2 is told its gateway.
server() {
	sed -e "s|DATACENTER|$1|g; s|NODE|$2|g; s|ADDRESS|$3|g; s|DIR|$dir|g; s|KEY|$key|g" server.hcl >"$dir/$1.hcl"
	if [[ $1 != dc1 ]]; then
		echo 'primary_gateways = ["127.88.1.2:8443"]' >>"$dir/$1.hcl"
	fi
	"$isthmus" validate "$dir/$1.hcl" >/dev/null
	start "$1" agent -config-file "$dir/$1.hcl"
}

# gateway NUMBER: beside the server of its datacenter. It registers itself with that
# server, which also tells it where everything is: over HTTP the built-in one, over
# gRPC an Envoy.
gateway() {
	local flags=(-register -expose-servers -http-addr "http://127.88.$1.1:8500"
		-address "127.88.$1.2:8443" -wan-address "127.88.$1.2:8443" -admin-bind "127.88.$1.2:19000")
	case $gateway in
	builtin) start "gateway$1" connect gateway "${flags[@]}" ;;
	envoy) start "gateway$1" connect envoy -gateway mesh "${flags[@]}" -grpc-addr "127.88.$1.1:8502" -envoy-binary "$envoy" ;;
	*) echo "GATEWAY is neither builtin nor envoy: $gateway" >&2 && exit 1 ;;
	esac
}

server dc1 alice 127.88.1.1
server dc2 bob 127.88.2.1

# eventually COMMAND...: until it works, for half a minute.
eventually() {
	local deadline=$((SECONDS + 30))
	until "$@" >"$dir/last.log" 2>&1; do
		if ((SECONDS > deadline)); then
			echo "does not work: $*" >&2
			tail -n 20 "$dir"/*.log >&2
			exit 1
		fi
		read -rt 0.2 <> <(:) || true
	done
}

dc1=-http-addr=http://127.88.1.1:8500
dc2=-http-addr=http://127.88.2.1:8500
eventually "$isthmus" info "$dc1"
eventually "$isthmus" info "$dc2"
gateway 1
gateway 2

eventually "$isthmus" federation status "$dc1"
eventually "$isthmus" federation status "$dc2"
eventually "$isthmus" kv put "$dc2" -datacenter dc1 greeting "from bob"
eventually "$isthmus" kv put "$dc1" -datacenter dc2 greeting "from alice"

[[ $("$isthmus" kv get "$dc1" greeting) == "from bob" ]]
[[ $("$isthmus" kv get "$dc2" greeting) == "from alice" ]]
[[ $("$isthmus" members "$dc1" -wan | grep -c alive) == 2 ]]
"$isthmus" federation status "$dc2"
echo "Proved: each datacenter wrote a key into the other, through the gateways ($gateway)."
