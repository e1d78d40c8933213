#!/usr/bin/env bash
# Why it matters here: a session store on Redis with Sentinel loses what a master
# acknowledges that is no longer the one of the sentinels. One would expect: a killed
# master that comes back after the sentinels have named another one is made a replica
# before it acknowledges anything for long. It stays a master for some ten seconds. A
# client that is still bound to it, since it missed the announcement, reads an empty
# server, and its writes are acknowledged and then thrown away.
set -euo pipefail
version=5:7.0.15-1~deb12u10
expected='3 s after the sentinels named another master: refused; once it is a replica: absent'
recorded='3 s after the sentinels named another master: OK; once it is a replica: absent'

dir=$(mktemp -d)
pids=()
trap '[ ${#pids[@]} = 0 ] || kill -9 "${pids[@]}" 2>/dev/null || true; rm -rf "$dir"' EXIT
cd "$dir"
apt-get download -q "redis-tools=$version" libatomic1 liblzf1 libjemalloc2 >apt.log 2>&1 || { cat apt.log; exit 2; }
for package in *.deb; do dpkg-deb -x "$package" root; done
LD_LIBRARY_PATH=$(dirname "$(find root -name 'liblzf.so.1' | head -n 1)")
export LD_LIBRARY_PATH
cp root/usr/bin/redis-check-rdb redis-server # the program does what its name says
cli() { "$dir/root/usr/bin/redis-cli" -h 127.0.0.1 -p "$@"; }

free_port() { # a port that nothing listens at
	local port
	while port=$((20000 + RANDOM % 12000)) && (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do :; done
	echo "$port"
}
start() { # PORT ARGUMENT...
	local port=$1
	shift
	mkdir -p "$port"
	./redis-server "$@" --bind 127.0.0.1 --port "$port" --dir "$dir/$port" >"$port/log" 2>&1 &
	pids+=($!)
	disown
}
until_true() {
	for _ in $(seq 600); do
		! "$@" 2>/dev/null || return 0
		sleep 0.1
	done
	echo "this did not come true: $*"
	exit 2
}

old=$(free_port)
start "$old" --save ''
first=${pids[0]}
for _ in 1 2; do start "$(free_port)" --save '' --repl-diskless-sync-delay 0 --replicaof "127.0.0.1 $old"; done
sentinels=()
for _ in 1 2 3; do
	port=$(free_port)
	mkdir "$port"
	printf 'sentinel monitor m 127.0.0.1 %s 2\nsentinel down-after-milliseconds m 1000\nsentinel failover-timeout m 5000\n' "$old" >"$port/sentinel.conf"
	start "$port" "$port/sentinel.conf" --sentinel
	sentinels+=("$port")
done

complete() {
	local s
	for s in "${sentinels[@]}"; do cli "$s" info sentinel | grep -q 'slaves=2,sentinels=3' || return 1; done
}
named() { # the sentinels name another master
	local s
	for s in "${sentinels[@]}"; do
		! cli "$s" sentinel get-master-addr-by-name m | grep -qx "$old" || return 1
	done
}
is_replica() { cli "$old" role | head -n 1 | grep -qx slave; }

until_true complete
kill -9 "$first"
until_true named
start "$old" --save ''
until_true cli "$old" ping >/dev/null
sleep 3
write=$(cli "$old" set session signed-in)
until_true is_replica
until_true eval 'cli "$old" info replication | grep -q master_link_status:up'
read=$(cli "$old" get session)
seen="3 s after the sentinels named another master: ${write:-refused}; once it is a replica: ${read:-absent}"
printf 'version:  redis %s\nexpected: %s\nseen:     %s\n' "$version" "$expected" "$seen"
[ "$seen" = "$recorded" ] || { echo "This is no longer what was seen: $recorded"; exit 1; }
