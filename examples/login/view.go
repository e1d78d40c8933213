package main

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"time"

	"github.com/typedsessions/sessions"
)

//go:embed templates static
var assets embed.FS

// A page is what layout.html gets; Content is for the template inside it.
type page struct {
	Title   string
	Path    string
	User    string
	Count   int // of things in the cart
	Flashes []sessions.Flash
	Debug   bool // whether there is a page /debug/sessions
	Content any
}

// parsePages gives each page a layout of its own to fill in.
func parsePages() (map[string]*template.Template, error) {
	layout, err := template.New("").Funcs(template.FuncMap{"when": when}).ParseFS(assets, "templates/layout.html")
	if err != nil {
		return nil, err
	}
	pages := make(map[string]*template.Template)
	for _, name := range []string{"shop", "login", "dashboard", "sessions", "debug"} {
		t, err := layout.Clone()
		if err != nil {
			return nil, err
		}
		if pages[name], err = t.ParseFS(assets, "templates/"+name+".html"); err != nil {
			return nil, err
		}
	}
	return pages, nil
}

// render takes the flash messages, and only then writes: once the first byte
// has left, a cookie can no longer say that they have been shown.
func (a *app) render(w http.ResponseWriter, r *http.Request, name, title string, content any) {
	sess := sessions.Get[AppSession](r.Context())
	p := page{
		Title:   title,
		Path:    r.URL.Path,
		User:    sess.Data.User,
		Flashes: sess.Flashes(),
		Debug:   a.events != nil,
		Content: content,
	}
	for _, n := range sess.Data.Cart {
		p.Count += n
	}
	var body bytes.Buffer // so that a template's error is not half a page
	if err := a.pages[name].ExecuteTemplate(&body, "layout", p); err != nil {
		fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store") // the Back button shows no page of someone who has signed out
	body.WriteTo(w)
}

// when says a time the same way to everybody: without a script, the server
// does not know which time zone the reader is in.
func when(t time.Time) template.HTML {
	t = t.UTC()
	return template.HTML(fmt.Sprintf(`<time datetime="%s">%s</time>`,
		t.Format(time.RFC3339), t.Format("2 Jan 2006, 15:04 UTC")))
}

// seeOther ends every form, so that reloading the next page sends nothing twice.
func seeOther(w http.ResponseWriter, r *http.Request, path string) {
	http.Redirect(w, r, path, http.StatusSeeOther)
}

// fail tells the visitor that it was not his fault, and the log why.
func fail(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, errors.ErrUnsupported) {
		http.Error(w, "This needs a store that can list sessions.", http.StatusNotImplemented)
		return
	}
	slog.ErrorContext(r.Context(), "request", "method", r.Method, "path", r.URL.Path, "err", err)
	http.Error(w, "Something went wrong on our side. Please try again.", http.StatusInternalServerError)
}

func static(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "public, max-age=300")
	http.ServeFileFS(w, r, assets, "static/"+r.PathValue("file"))
}

func healthz(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	fmt.Fprintln(w, "ok")
}

// secureHeaders allows a page its own stylesheet, icon and forms, and nothing
// from anywhere else: no script, no frame around it.
func secureHeaders(next http.Handler) http.Handler {
	const policy = "default-src 'none'; style-src 'self'; img-src 'self'; " +
		"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("Referrer-Policy", "same-origin")
		h.Set("X-Content-Type-Options", "nosniff")
		next.ServeHTTP(w, r)
	})
}
