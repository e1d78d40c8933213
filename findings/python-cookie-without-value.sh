#!/usr/bin/env bash
# Why it matters here: with Cookie.Partitioned our Set-Cookie has an attribute without
# a value, and programs and tests in Python read it with http.cookies. The guess, before
# the run: an attribute that SimpleCookie does not know is ignored. It gives up the
# whole header, without an error. A Cookie header with one pair that has no "=" is
# lost in the same way, with all other cookies in it.
set -euo pipefail
version=3.11.2-6+deb12u9
expected="[['session'], ['other', 'session']]"
recorded='[[], []]'

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
apt-get download -q "python3.11-minimal=$version" "libpython3.11-minimal=$version" "libpython3.11-stdlib=$version" >apt.log 2>&1 || { cat apt.log; exit 2; }
for package in *.deb; do dpkg-deb -x "$package" root; done
cat >main.py <<'END'
from http.cookies import SimpleCookie

def names(header):
    return sorted(SimpleCookie(header))

assert names("session=1; Path=/; Secure; HttpOnly") == ["session"]
assert names("other=2; session=1") == ["other", "session"]
print([names("session=1; Path=/; Secure; HttpOnly; Partitioned"), names("other=2; session=1; flag")])
END
seen=$(PYTHONHOME=root/usr root/usr/bin/python3.11 main.py)
printf 'version:  %s\nexpected: %s\nseen:     %s\n' "python3.11 $version" "$expected" "$seen"
[ "$seen" = "$recorded" ] || { echo "This is no longer what was seen: $recorded"; exit 1; }
