package main

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/typedsessions/sessions/examples/migrating/internal/migratetest"
)

// The secrets of the old site, and one that it never had.
const (
	current = "s3cr3t of today"
	older   = "s3cr3t of yesterday – ü"
	foreign = "somebody else's"
)

// cookies are the Set-Cookie headers of one library, by kind.
type cookies map[string]string

// peers runs Remix's own code, and returns its cookies by library.
func peers(t *testing.T) map[string]cookies {
	t.Helper()
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			missing(t, "%s is not installed; install the packages nodejs and npm, 20 or newer", program)
		}
	}
	dir := t.TempDir()
	for _, name := range []string{"package.json", "package-lock.json", "peer.mjs"} {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	npm := exec.CommandContext(t.Context(), "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline")
	npm.Dir = dir
	if out, err := npm.CombinedOutput(); err != nil {
		missing(t, "npm ci needs the npm registry, or its cache: %v\n%s", err, out)
	}
	secrets, err := json.Marshal(map[string]string{"current": current, "older": older, "foreign": foreign})
	if err != nil {
		t.Fatal(err)
	}
	node := exec.CommandContext(t.Context(), "node", "peer.mjs", string(secrets))
	node.Dir = dir
	node.Stderr = os.Stderr
	out, err := node.Output()
	if err != nil {
		t.Fatal(err)
	}
	var made map[string]cookies
	if err := json.Unmarshal(out, &made); err != nil {
		t.Fatal(err)
	}
	if len(made) != 4 {
		t.Fatalf("got the cookies of %d libraries, want 4", len(made))
	}
	return made
}

// missing skips the test on a developer's machine; CI has everything.
func missing(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// give lets b take a Set-Cookie header as if the site at address had sent it.
func give(t testing.TB, b *migratetest.Browser, address, header string) {
	t.Helper()
	c, err := http.ParseSetCookie(header)
	if err != nil {
		t.Fatal(err)
	}
	b.SetCookie(address, c)
}

func site(t testing.TB, secrets ...string) http.Handler {
	t.Helper()
	h, err := newHandler(migratetest.Keys(t), secrets)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestCookiesOfRemixItself(t *testing.T) {
	all := peers(t)
	t.Run("an end that has passed is kept, and so is a cookie in which nothing is known", func(t *testing.T) {
		notAdopted(t, all["Remix 3 with a lifetime"])
	})
	for library, made := range all {
		t.Run(library, func(t *testing.T) {
			t.Run("nobody is signed out", func(t *testing.T) { nobodyIsSignedOut(t, made) })
			t.Run("what is not signed is not adopted", func(t *testing.T) { unsignedIsNotAdopted(t, made) })
			t.Run("a copy is adopted after the logout too", func(t *testing.T) { copyIsAdopted(t, made) })
		})
	}
}

func nobodyIsSignedOut(t *testing.T, made cookies) {
	for _, kind := range []string{"signedIn", "olderSecret"} {
		t.Run(kind, func(t *testing.T) {
			migratetest.Run(t, migratetest.Peer{
				Cookie: "__session",
				Site:   site(t, current, older),
				SignIn: func(t testing.TB, b *migratetest.Browser, address string) {
					give(t, b, address, made[kind])
				},
			})
		})
	}
}

func unsignedIsNotAdopted(t *testing.T, made cookies) {
	address := migratetest.Serve(t, site(t, current, older))
	for _, kind := range []string{"foreign", "unsigned", "destroyed"} {
		header, ok := made[kind]
		if !ok {
			t.Fatalf("got no cookie %q", kind)
		}
		b := migratetest.NewBrowser(t)
		give(t, b, address, header)
		if page := b.Get(address); page != migratetest.SignedOut+"\n" {
			t.Errorf("%s: got the page %q, want nobody signed in", kind, page)
		}
	}
}

// notAdopted is about cookies with a right signature. Their visitors stay what they
// are, also after a rollback: the old cookie is not removed.
func notAdopted(t *testing.T, made cookies) {
	address := migratetest.Serve(t, site(t, current))
	for _, kind := range []string{"ended", "endless", "infinite", "otherFields", "otherShape"} {
		header, ok := made[kind]
		if !ok {
			t.Fatalf("got no cookie %q", kind)
		}
		b := migratetest.NewBrowser(t)
		give(t, b, address, header)
		before := b.Cookie(address, "__session").Value
		if page := b.Get(address); page != migratetest.SignedOut+"\n" {
			t.Errorf("%s: got the page %q, want nobody signed in", kind, page)
		}
		if after := b.Cookie(address, "__session"); after == nil || after.Value != before {
			t.Errorf("%s: got the old cookie %v afterwards, want it untouched", kind, after)
		}
		if c := b.Cookie(address, "__Host-Http-session"); c != nil {
			t.Errorf("%s: got a session of ours", kind)
		}
	}
}

// copyIsAdopted is not a promise but a limit, which docs/MIGRATING.md names: a logout
// does not end a copy of these cookies.
func copyIsAdopted(t *testing.T, made cookies) {
	address := migratetest.Serve(t, site(t, current))
	b := migratetest.NewBrowser(t)
	give(t, b, address, made["signedIn"])
	value := b.Cookie(address, "__session").Value
	b.Post(address + "/logout")
	thief := migratetest.NewBrowser(t)
	thief.SetCookie(address, &http.Cookie{Name: "__session", Value: value, Path: "/"})
	migratetest.WantText(t, thief.Get(address), migratetest.SignedIn)
}

func TestEmptySecretIsRefused(t *testing.T) {
	for _, secrets := range [][]string{{""}, {current, ""}} {
		if _, err := newHandler(migratetest.Keys(t), secrets); err == nil {
			t.Errorf("got no error of %q, want one: anybody could sign in", secrets)
		}
	}
}
