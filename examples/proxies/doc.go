// Package proxies has configurations of nginx, HAProxy and Varnish for a program
// with sessions, and tests that run these servers in front of one: with these
// configurations, with what the servers do by themselves, and with their caches
// turned on. [docs/IN-PRACTICE.md] explains the lines. Chromium and Firefox visit the
// demo behind each of them.
//
// Without the servers and browsers (Debian's packages nginx, haproxy, varnish,
// chromium and firefox-esr) the tests are skipped; with CI=true they fail.
//
// [docs/IN-PRACTICE.md]: https://github.com/typedsessions/sessions/blob/main/docs/IN-PRACTICE.md
package proxies
