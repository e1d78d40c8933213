package shop

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

// A page is the data of layout.html. Content is for the template inside it.
type page struct {
	Title   string
	Path    string
	User    string
	Count   int // products in the cart
	Flashes []sessions.Flash
	Debug   bool // whether the page /debug/sessions exists
	Content any
}

// parsePages returns the templates of the pages, each with its own copy of the
// layout.
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

// render takes the flash messages before it writes: after the first byte no
// cookie can be sent, and the messages would be shown again.
func (a *App) render(w http.ResponseWriter, r *http.Request, name, title string, content any) {
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
	var body bytes.Buffer // so that an error in a template does not send half a page
	if err := a.pages[name].ExecuteTemplate(&body, "layout", p); err != nil {
		fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store") // no cache keeps a page of a signed-in user; see logout
	body.WriteTo(w)
}

// when formats a time in UTC: without a script, the server does not know the
// time zone of the reader.
func when(t time.Time) template.HTML {
	t = t.UTC()
	return template.HTML(fmt.Sprintf(`<time datetime="%s">%s</time>`,
		t.Format(time.RFC3339), t.Format("2 Jan 2006, 15:04 UTC")))
}

// seeOther answers every form, so that a reload of the next page does not send
// the form again.
func seeOther(w http.ResponseWriter, r *http.Request, path string) {
	http.Redirect(w, r, path, http.StatusSeeOther)
}

// fail answers a request that failed on our side, and logs why.
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

// secureHeaders sets a policy for all pages: the stylesheet, the icon, the forms
// and the script file of this site are allowed; other scripts, frames and other
// sites are not.
func secureHeaders(next http.Handler) http.Handler {
	const policy = "default-src 'none'; style-src 'self'; img-src 'self'; script-src 'self'; connect-src 'self'; " +
		"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("Referrer-Policy", "same-origin")
		h.Set("X-Content-Type-Options", "nosniff")
		next.ServeHTTP(w, r)
	})
}
