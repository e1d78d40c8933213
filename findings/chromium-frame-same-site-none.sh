#!/usr/bin/env bash
# Why it matters here: a program that is shown in a frame of another site needs its
# session's cookie there. The guess, before the run: SameSite=None and Secure are
# enough, as they are for a form that another site posts. Chromium, with default
# settings and in no private window, sends no such cookie to the frame, and takes none
# from it. A cookie with Partitioned is taken and sent. So Cookie.Partitioned is needed.
# It needs chromium in PATH; the recorded version is 156.
set -euo pipefail
export GOTOOLCHAIN=go1.26.8 GOWORK=off GOFLAGS=-mod=mod
expected='form: none; frame: none; frame that set it: none partitioned'
recorded='form: none; frame: -; frame that set it: partitioned'

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
	"slices"
	"strings"
	"time"

	"github.com/chromedp/chromedp"
)

func main() {
	asked := make(chan string, 10)
	var local string // another site than 127.0.0.1
	mux := http.NewServeMux()
	page := func(path, html string) {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			fmt.Fprint(w, "<!doctype html><body>", strings.ReplaceAll(html, "LOCAL", local))
		})
	}
	page("/", "start")
	page("/form", `<form method="post" action="LOCAL/asked"></form><script>document.forms[0].submit()</script>`)
	page("/frame", `<iframe src="LOCAL/asked"></iframe>`)
	page("/setting", `<iframe src="LOCAL/set"></iframe>`)
	mux.HandleFunc("/set", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Add("Set-Cookie", "none=1; Path=/; SameSite=None; Secure")
		if r.Header.Get("Sec-Fetch-Dest") == "iframe" {
			w.Header().Add("Set-Cookie", "partitioned=1; Path=/; SameSite=None; Secure; Partitioned")
			http.Redirect(w, r, "/asked", http.StatusSeeOther)
		}
	})
	mux.HandleFunc("/asked", func(w http.ResponseWriter, r *http.Request) {
		names := []string{}
		for _, c := range r.Cookies() {
			names = append(names, c.Name)
		}
		if slices.Sort(names); len(names) == 0 {
			names = []string{"-"}
		}
		asked <- strings.Join(names, " ")
	})
	srv := httptest.NewServer(mux)
	defer srv.Close()
	local = strings.Replace(srv.URL, "127.0.0.1", "localhost", 1)

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
	visit := func(url string) {
		if _, err := chromedp.Run(ctx, chromedp.Navigate(url)); err != nil {
			panic(err)
		}
	}
	see := func(url string) string {
		visit(url)
		select {
		case names := <-asked:
			return names
		case <-time.After(30 * time.Second):
			panic("nothing was asked for")
		}
	}
	visit(local + "/set")
	form := see(srv.URL + "/form")
	visit(srv.URL + "/")
	fmt.Printf("form: %s; frame: %s; frame that set it: %s\n", form, see(srv.URL+"/frame"), see(srv.URL+"/setting"))
}
END
seen=$(go run . 2>run.log) || { cat run.log; exit 1; }
printf 'version:  %s\nexpected: %s\nseen:     %s\n' "$(chromium --version 2>/dev/null)" "$expected" "$seen"
[ "$seen" = "$recorded" ] || { echo "This is no longer what was seen: $recorded"; exit 1; }
