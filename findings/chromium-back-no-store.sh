#!/usr/bin/env bash
# Why it matters here: after a logout, Back must not show a signed-in page. One would
# expect: Chromium asks the server for a page with Cache-Control: no-store. It
# shows the page from its memory, with no request, unless a cookie of the site has been
# set or expired in the meantime. So a session that ended on the server alone is not
# enough.
# It needs chromium in PATH; the recorded version is 156.
set -euo pipefail
export GOTOOLCHAIN=go1.26.8 GOWORK=off GOFLAGS=-mod=mod
expected='nothing: asked; same: asked; readable: asked; changed: asked; expired: asked'
recorded='nothing: from memory; same: asked; readable: asked; changed: asked; expired: asked'

command -v chromium >/dev/null || { echo "chromium is not in PATH"; exit 2; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
cat >go.mod <<'END'
module finding

go 1.26

require github.com/chromedp/chromedp v0.23.0
END
cat >main.go <<'END'
package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/chromedp/chromedp"
)

func main() {
	var requests atomic.Int64
	mux := http.NewServeMux()
	mux.HandleFunc("/private", func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, "<!doctype html><title>private</title>")
	})
	for path, line := range map[string]string{
		"/start":    "session=1; Path=/; HttpOnly",
		"/nothing":  "",
		"/same":     "session=1; Path=/; HttpOnly",
		"/readable": "readable=1; Path=/",
		"/changed":  "session=2; Path=/; HttpOnly",
		"/expired":  "session=; Path=/; HttpOnly; Max-Age=0",
	} {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			if line != "" {
				w.Header().Set("Set-Cookie", line)
			}
			w.Header().Set("Content-Type", "text/html")
			fmt.Fprint(w, "<!doctype html><title>left</title>")
		})
	}
	srv := httptest.NewServer(mux)
	defer srv.Close()

	options := chromedp.DefaultExecAllocatorOptions[:]
	if os.Getuid() == 0 {
		options = append(options, chromedp.NoSandbox)
	}
	ctx, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	defer cancel()
	ctx, cancel = chromedp.NewContext(ctx)
	defer cancel()
	if err := chromedp.Do(ctx); err != nil {
		panic(err)
	}
	var all []string
	for _, name := range []string{"nothing", "same", "readable", "changed", "expired"} {
		tab, cancel := chromedp.NewContext(ctx, chromedp.WithNewBrowserContext())
		if err := chromedp.Do(tab); err != nil {
			panic(err)
		}
		requests.Store(0)
		visit := func(path string) {
			if _, err := chromedp.Run(tab, chromedp.Navigate(srv.URL+path)); err != nil {
				panic(err)
			}
		}
		visit("/start")
		visit("/private")
		if _, err := chromedp.RunResponse(tab, chromedp.Action[chromedp.Void](func(ctx context.Context, t *chromedp.Target) (chromedp.Void, error) {
			_, err := chromedp.Evaluate[bool]("location.href = '/" + name + "'; true")(ctx, t)
			return chromedp.Void{}, err
		})); err != nil {
			panic(err)
		}
		_, _ = chromedp.Run(tab, chromedp.Evaluate[bool]("history.back(); true"))
		for range 200 {
			if title, err := chromedp.Run(tab, chromedp.Title()); err == nil && title == "private" {
				break
			}
			time.Sleep(50 * time.Millisecond)
		}
		how := "asked"
		if requests.Load() == 1 {
			how = "from memory"
		}
		all = append(all, name+": "+how)
		cancel()
	}
	fmt.Println(strings.Join(all, "; "))
}
END
seen=$(go run . 2>run.log) || { cat run.log; exit 1; }
printf 'version:  %s\nexpected: %s\nseen:     %s\n' "$(chromium --version 2>/dev/null)" "$expected" "$seen"
[ "$seen" = "$recorded" ] || { echo "This is no longer what was seen: $recorded"; exit 1; }
