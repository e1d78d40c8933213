package sessions_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"mime/multipart"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/typedsessions/sessions"
)

// exampleKeys are what SESSION_KEYS would hold.
var exampleKeys, _ = sessions.NewKeyring(testSecret)

// visitor returns a function that sends requests as one browser does: with the
// cookies that it was given, following redirects. It returns the body.
func visitor(h http.Handler) func(target string) string {
	jar, _ := cookiejar.New(nil)
	return func(target string) string {
		method := "GET"
		if verb, path, ok := strings.Cut(target, " "); ok {
			method, target = verb, path
		}
		for {
			r := httptest.NewRequest(method, "https://example.com"+target, nil)
			for _, c := range jar.Cookies(r.URL) {
				r.AddCookie(c)
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			jar.SetCookies(r.URL, w.Result().Cookies())
			if w.Code != http.StatusSeeOther {
				return w.Body.String()
			}
			method, target = "GET", w.Header().Get("Location")
		}
	}
}

// The whole program.
func Example() {
	_ = os.Setenv("SESSION_KEYS", "MDEyMzQ1Njc4OWFiY2RlZmdoaWprbG1ub3BxcnN0dXY")
	authenticate := func(r *http.Request) (userID int, ok bool) { return 42, r.FormValue("password") == "1815" }

	// README begin
	type AppSession struct {
		UserID int    `msgpack:"uid" validate:"gte=0"`
		Role   string `msgpack:"role" validate:"omitempty,oneof=admin user"`
	}

	keys, err := sessions.ParseKeyring(os.Getenv("SESSION_KEYS")) // openssl rand -base64 32 prints one
	if err != nil {
		log.Fatal(err)
	}
	mgr, err := sessions.New(sessions.Config[AppSession]{Keys: keys})
	if err != nil {
		log.Fatal(err)
	}

	mux := http.NewServeMux()
	mux.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
		sess := sessions.Get[AppSession](r.Context())
		userID, ok := authenticate(r)
		if !ok {
			sess.Flash("error", "Invalid username or password")
			http.Redirect(w, r, "/", http.StatusSeeOther)
			return
		}
		sess.RegenerateID()
		sess.Data = AppSession{UserID: userID} // checked by the compiler; saved by the middleware
		http.Redirect(w, r, "/", http.StatusSeeOther)
	})
	mux.HandleFunc("POST /logout", func(w http.ResponseWriter, r *http.Request) {
		sess := sessions.Get[AppSession](r.Context())
		sess.Reset()
		sess.Flash("info", "You have signed out")
		http.Redirect(w, r, "/", http.StatusSeeOther)
	})
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		sess := sessions.Get[AppSession](r.Context())
		for _, flash := range sess.Flashes() {
			fmt.Fprintf(w, "%s: %s\n", flash.Kind, flash.Message)
		}
		fmt.Fprintf(w, "You are user %d\n", sess.Data.UserID)
	})
	server := &http.Server{Addr: ":8080", Handler: mgr.Middleware(mux)}
	// README end

	visit := visitor(server.Handler)
	fmt.Println(visit("POST /login?password=wrong"))
	fmt.Println(visit("POST /login?password=1815"))
	fmt.Println(visit("/"))
	fmt.Println(visit("POST /logout"))
	// Output:
	// error: Invalid username or password
	// You are user 0
	//
	// You are user 42
	//
	// You are user 42
	//
	// info: You have signed out
	// You are user 0
}

func TestREADMEShowsTheProgramThatIsCompiled(t *testing.T) {
	source, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, begun := strings.Cut(string(source), "\t// README begin\n")
	program, _, ended := strings.Cut(rest, "\t// README end\n")
	if !begun || !ended {
		t.Fatal("example_test.go has no program between its markers")
	}
	lines := strings.Split(program, "\n")
	for i, line := range lines {
		lines[i] = strings.TrimPrefix(line, "\t")
	}
	program = strings.TrimSpace(strings.Join(lines, "\n"))
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatalf("got %v, want a README.md with the program of Example", err)
	}
	program += "\nlog.Fatal(server.ListenAndServe())" // for good, which no example can
	if !strings.Contains(string(readme), "```go\n"+program+"\n```") {
		t.Errorf("README.md does not show, as one block of go, the program between the markers of example_test.go, served:\n%s", program)
	}
}

// New refuses a struct that could not come back as it was stored, and says why.
func ExampleNew() {
	type Session struct {
		UserID int
		Notify chan string
		Cart   []struct{ Price any }
	}
	_, err := sessions.New(sessions.Config[Session]{Keys: exampleKeys})
	fmt.Println(err)
	// Output:
	// sessions: New[sessions_test.Session]: Session.Notify: chan string cannot be stored; leave it out with `msgpack:"-"`, or store what it is made from
	// Session.Cart[].Price: interface {} cannot come back as the type that was stored in it; use a concrete type
}

func ExampleGet() {
	mgr, err := sessions.New(sessions.Config[AppSession]{Keys: exampleKeys})
	if err != nil {
		log.Fatal(err)
	}
	visit := visitor(mgr.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sess := sessions.Get[AppSession](r.Context())
		sess.Data.N++
		fmt.Fprintf(w, "visit %d", sess.Data.N)
	})))

	fmt.Println(visit("/"))
	fmt.Println(visit("/"))
	// Output:
	// visit 1
	// visit 2
}

// Lookup is for code that also runs without the middleware.
func ExampleLookup() {
	name := func(ctx context.Context) string {
		if sess, ok := sessions.Lookup[AppSession](ctx); ok && sess.Data.Name != "" {
			return sess.Data.Name
		}
		return "somebody"
	}
	fmt.Println(name(context.Background()))
	// Output:
	// somebody
}

func ExampleManager_Middleware() {
	mgr, err := sessions.New(sessions.Config[AppSession]{Keys: exampleKeys})
	if err != nil {
		log.Fatal(err)
	}
	pages := http.NewServeMux()
	pages.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "new: %t", sessions.Get[AppSession](r.Context()).IsNew())
	})

	root := http.NewServeMux()
	root.Handle("/static/", http.FileServer(http.Dir("static"))) // needs no session
	root.Handle("/", mgr.Middleware(pages))
	fmt.Println(visitor(root)("/"))
	// Output:
	// new: true
}

func ExampleSession_Flash() {
	mgr, err := sessions.New(sessions.Config[AppSession]{Keys: exampleKeys})
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /save", func(w http.ResponseWriter, r *http.Request) {
		sess := sessions.Get[AppSession](r.Context())
		sess.Flash("info", "Your changes are saved")
		http.Redirect(w, r, "/", http.StatusSeeOther)
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, sessions.Get[AppSession](r.Context()).Flashes())
	})
	visit := visitor(mgr.Middleware(mux))

	fmt.Println(visit("POST /save"))
	fmt.Println(visit("/"))
	// Output:
	// [{info Your changes are saved}]
	// []
}

// A page may take some kinds only, the others wait.
func ExampleSession_Flashes() {
	mgr, err := sessions.New(sessions.Config[AppSession]{Keys: exampleKeys})
	if err != nil {
		log.Fatal(err)
	}
	visit := visitor(mgr.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sess := sessions.Get[AppSession](r.Context())
		switch r.URL.Path {
		case "/order":
			sess.Flash("error", "The card was refused")
			sess.Flash("info", "The order waits in your cart")
		case "/errors":
			fmt.Fprint(w, sess.Flashes("error"))
		case "/all":
			fmt.Fprint(w, sess.Flashes())
		}
	})))

	visit("/order")
	fmt.Println(visit("/errors"))
	fmt.Println(visit("/all"))
	// Output:
	// [{error The card was refused}]
	// [{info The order waits in your cart}]
}

// A form with an error is shown at once, without a redirect.
func ExampleSession_FlashNow() {
	mgr, err := sessions.New(sessions.Config[AppSession]{Keys: exampleKeys})
	if err != nil {
		log.Fatal(err)
	}
	visit := visitor(mgr.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sess := sessions.Get[AppSession](r.Context())
		if r.Method == "POST" && r.FormValue("email") == "" {
			sess.FlashNow("error", "Please give an address")
		}
		fmt.Fprint(w, "the form, below ", sess.Flashes())
	})))

	fmt.Println(visit("POST /subscribe"))
	fmt.Println(visit("/subscribe"))
	// Output:
	// the form, below [{error Please give an address}]
	// the form, below []
}

// Of parallel requests that count, none is lost.
func ExampleSession_Update() {
	mgr, err := sessions.New(sessions.Config[AppSession]{Keys: exampleKeys, Store: new(sessions.MemoryStore)})
	if err != nil {
		log.Fatal(err)
	}
	visit := visitor(mgr.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sess := sessions.Get[AppSession](r.Context())
		sess.Update(func(data *AppSession) { data.N++ })
		fmt.Fprint(w, sess.Data.N)
	})))

	visit("/")
	fmt.Println(visit("/"))
	// Output:
	// 2
}

// Whoever knew the id before must not be signed in after.
func ExampleSession_RegenerateID() {
	mgr, err := sessions.New(sessions.Config[AppSession]{Keys: exampleKeys, Store: new(sessions.MemoryStore)})
	if err != nil {
		log.Fatal(err)
	}
	visit := visitor(mgr.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sess := sessions.Get[AppSession](r.Context())
		before := sess.ID()
		sess.RegenerateID()
		sess.Data = AppSession{UserID: 42}
		fmt.Fprintf(w, "another id: %t", sess.ID() != before)
	})))

	fmt.Println(visit("/login"))
	// Output:
	// another id: true
}

// Before something that matters, users confirm their password. For ten minutes
// they have more rights, under another id and until the same end (OWASP ASVS 5.0,
// 7.5.1 and 7.5.3).
func ExampleSession_RotateID() {
	type Account struct {
		UserID    int       `msgpack:"uid"`
		Confirmed time.Time `msgpack:"confirmed"` // when the password was last given
	}
	mgr, err := sessions.New(sessions.Config[Account]{Keys: exampleKeys, Store: new(sessions.MemoryStore)})
	if err != nil {
		log.Fatal(err)
	}
	authenticate := func(r *http.Request, _ int) bool { return r.FormValue("password") == "1815" }

	mux := http.NewServeMux()
	mux.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
		sess := sessions.Get[Account](r.Context())
		sess.RegenerateID()
		sess.Data = Account{UserID: 42}
	})
	mux.HandleFunc("POST /confirm", func(w http.ResponseWriter, r *http.Request) {
		sess := sessions.Get[Account](r.Context())
		if !authenticate(r, sess.Data.UserID) {
			http.Error(w, "wrong password", http.StatusForbidden)
			return
		}
		sess.RotateID()
		sess.Data.Confirmed = time.Now()
		http.Redirect(w, r, "/delete-account", http.StatusSeeOther)
	})
	mux.HandleFunc("/delete-account", func(w http.ResponseWriter, r *http.Request) {
		sess := sessions.Get[Account](r.Context())
		if time.Since(sess.Data.Confirmed) > 10*time.Minute {
			fmt.Fprint(w, "Please confirm your password")
			return
		}
		fmt.Fprintf(w, "The account of user %d is deleted", sess.Data.UserID)
	})
	visit := visitor(mgr.Middleware(mux))

	visit("POST /login")
	fmt.Println(visit("/delete-account"))
	fmt.Println(visit("POST /confirm?password=1815"))
	// Output:
	// Please confirm your password
	// The account of user 42 is deleted
}

// Destroy ends a session, and Reset is for an end with a message.
func ExampleSession_Destroy() {
	mgr, err := sessions.New(sessions.Config[AppSession]{Keys: exampleKeys})
	if err != nil {
		log.Fatal(err)
	}
	visit := visitor(mgr.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sess := sessions.Get[AppSession](r.Context())
		switch r.URL.Path {
		case "/login":
			sess.Data = AppSession{UserID: 42}
		case "/close-account":
			sess.Destroy()
		}
		fmt.Fprintf(w, "user %d", sess.Data.UserID)
	})))

	fmt.Println(visit("/login"))
	fmt.Println(visit("/close-account"))
	fmt.Println(visit("/"))
	// Output:
	// user 42
	// user 0
	// user 0
}

func ExampleSession_Reset() {
	mgr, err := sessions.New(sessions.Config[AppSession]{Keys: exampleKeys})
	if err != nil {
		log.Fatal(err)
	}
	visit := visitor(mgr.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sess := sessions.Get[AppSession](r.Context())
		switch r.URL.Path {
		case "/login":
			sess.Data = AppSession{UserID: 42}
		case "/logout":
			sess.Reset()
			sess.Flash("info", "You have signed out")
		default:
			fmt.Fprint(w, "user ", sess.Data.UserID, ": ", sess.Flashes())
		}
	})))

	visit("/login")
	visit("/logout")
	fmt.Println(visit("/"))
	// Output:
	// user 0: [{info You have signed out}]
}

func ExampleSession_SetLifetime() {
	mgr, err := sessions.New(sessions.Config[AppSession]{Keys: exampleKeys, Lifetime: 8 * time.Hour})
	if err != nil {
		log.Fatal(err)
	}
	visit := visitor(mgr.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sess := sessions.Get[AppSession](r.Context())
		sess.Data = AppSession{UserID: 42}
		if r.FormValue("remember") == "me" {
			sess.SetLifetime(30 * 24 * time.Hour)
		}
		fmt.Fprint(w, sess.ExpiresAt().Sub(sess.CreatedAt()).Round(time.Hour))
	})))

	fmt.Println(visit("/login"))
	fmt.Println(visit("/login?remember=me"))
	// Output:
	// 8h0m0s
	// 720h0m0s
}

// A handler that streams stores the session itself, as often as it likes.
func ExampleSession_Save() {
	mgr, err := sessions.New(sessions.Config[AppSession]{Keys: exampleKeys, Store: new(sessions.MemoryStore)})
	if err != nil {
		log.Fatal(err)
	}
	visit := visitor(mgr.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sess := sessions.Get[AppSession](r.Context())
		if r.URL.Path == "/login" {
			sess.Data = AppSession{UserID: 42}
			return
		}
		for part := range 3 {
			fmt.Fprintf(w, "part %d, ", part)
			sess.Data.N = part
			if err := sess.Save(r.Context()); err != nil {
				return // the visitor has signed out, or the store fails
			}
		}
		fmt.Fprint(w, "the end")
	})))

	visit("/login")
	fmt.Println(visit("/stream"))
	// Output:
	// part 0, part 1, part 2, the end
}

// A stream shows what was stored since it began, and ends with the session.
func ExampleSession_Reload() {
	mgr, err := sessions.New(sessions.Config[AppSession]{Keys: exampleKeys, Store: new(sessions.MemoryStore)})
	if err != nil {
		log.Fatal(err)
	}
	visit := visitor(mgr.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sess := sessions.Get[AppSession](r.Context())
		if r.URL.Path == "/login" {
			sess.Data = AppSession{UserID: 42, Role: "admin"}
			return
		}
		fmt.Fprint(w, sess.Data.Role)
		demote := func(data *AppSession) { data.Role = "user" }
		if err := mgr.Edit(r.Context(), sess.ID(), demote); err != nil { // elsewhere, meanwhile
			log.Fatal(err)
		}
		if err := sess.Reload(r.Context()); err != nil {
			return // the visitor has signed out, or the store fails
		}
		fmt.Fprint(w, ", now ", sess.Data.Role)
	})))

	visit("/login")
	fmt.Println(visit("/stream"))
	// Output:
	// admin, now user
}

// The public id is safe to log, and finds the session for Revoke and Edit.
func ExampleSession_ID() {
	mgr, err := sessions.New(sessions.Config[AppSession]{Keys: exampleKeys, Store: new(sessions.MemoryStore)})
	if err != nil {
		log.Fatal(err)
	}
	visit := visitor(mgr.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sess := sessions.Get[AppSession](r.Context())
		sess.Data = AppSession{UserID: 42}
		cookie, err := r.Cookie("__Host-Http-session")
		fmt.Fprintf(w, "%d digits, in the cookie: %t", len(sess.ID()), err == nil && strings.Contains(cookie.Value, sess.ID()))
	})))

	visit("/")
	fmt.Println(visit("/"))
	// Output:
	// 64 digits, in the cookie: false
}

func ExampleSession_IsNew() {
	mgr, err := sessions.New(sessions.Config[AppSession]{Keys: exampleKeys})
	if err != nil {
		log.Fatal(err)
	}
	visit := visitor(mgr.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sess := sessions.Get[AppSession](r.Context())
		if sess.IsNew() {
			sess.Data.Name = "guest"
			fmt.Fprint(w, "Welcome")
			return
		}
		fmt.Fprint(w, "Welcome back")
	})))

	fmt.Println(visit("/"))
	fmt.Println(visit("/"))
	// Output:
	// Welcome
	// Welcome back
}

// Reason tells a visitor whose session has ended from one who never had one.
func ExampleSession_Reason() {
	mgr, err := sessions.New(sessions.Config[AppSession]{Keys: exampleKeys, Store: new(sessions.MemoryStore)})
	if err != nil {
		log.Fatal(err)
	}
	visit := visitor(mgr.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sess := sessions.Get[AppSession](r.Context())
		if r.URL.Path == "/login" {
			sess.Data = AppSession{UserID: 42}
			fmt.Fprint(w, sess.ID())
			return
		}
		switch sess.Reason() {
		case sessions.ReasonNone, sessions.ReasonNoCookie:
			fmt.Fprint(w, "Hello")
		case sessions.ReasonExpired, sessions.ReasonIdle, sessions.ReasonUnknown:
			fmt.Fprint(w, "Your session has ended, please sign in again")
		}
	})))

	fmt.Println(visit("/"))
	id := visit("/login")
	fmt.Println(visit("/"))
	if err := mgr.Revoke(context.Background(), id); err != nil {
		log.Fatal(err)
	}
	fmt.Println(visit("/"))
	// Output:
	// Hello
	// Hello
	// Your session has ended, please sign in again
}

func ExampleSession_CreatedAt() {
	mgr, err := sessions.New(sessions.Config[AppSession]{Keys: exampleKeys})
	if err != nil {
		log.Fatal(err)
	}
	visit := visitor(mgr.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sess := sessions.Get[AppSession](r.Context())
		if time.Since(sess.CreatedAt()) > time.Hour {
			http.Redirect(w, r, "/login", http.StatusSeeOther) // before something that matters
			return
		}
		fmt.Fprint(w, "Your password is changed")
	})))

	fmt.Println(visit("/change-password"))
	// Output:
	// Your password is changed
}

func ExampleSession_ExpiresAt() {
	mgr, err := sessions.New(sessions.Config[AppSession]{Keys: exampleKeys, Lifetime: 8 * time.Hour})
	if err != nil {
		log.Fatal(err)
	}
	visit := visitor(mgr.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sess := sessions.Get[AppSession](r.Context())
		fmt.Fprintf(w, "You stay signed in for %.0f hours", time.Until(sess.ExpiresAt()).Hours())
	})))

	fmt.Println(visit("/"))
	// Output:
	// You stay signed in for 8 hours
}

func ExampleNewSecret() {
	fmt.Println(len(sessions.NewSecret()), "bytes")
	// Output:
	// 32 bytes
}

func ExampleNewKeyring() {
	secret := sessions.NewSecret() // keep it where every process finds the same
	_, err := sessions.NewKeyring(secret)
	fmt.Println(err)
	_, err = sessions.NewKeyring([]byte("s3cr3t"))
	fmt.Println(err)
	// Output:
	// <nil>
	// sessions: secret 1 has 6 bytes, need at least 32; NewSecret or "openssl rand -base64 32" makes one
}

func ExampleParseKeyring() {
	// SESSION_KEYS=newest,older
	keys, err := sessions.ParseKeyring("MDEyMzQ1Njc4OWFiY2RlZmdoaWprbG1ub3BxcnN0dXY, QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVowMTIzNDU=")
	fmt.Println(keys, err) // prints the ids of the keys only
	// Output:
	// Keyring(8fd57fb5 8d27cf21) <nil>
}

// The secret is replaced while the program runs; nobody is signed out.
func ExampleKeyring_Replace() {
	first, second := sessions.NewSecret(), sessions.NewSecret()
	keys, err := sessions.NewKeyring(first)
	if err != nil {
		log.Fatal(err)
	}
	mgr, err := sessions.New(sessions.Config[AppSession]{Keys: keys})
	if err != nil {
		log.Fatal(err)
	}
	visit := visitor(mgr.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sess := sessions.Get[AppSession](r.Context())
		sess.Data.N++
		fmt.Fprintf(w, "visit %d", sess.Data.N)
	})))

	fmt.Println(visit("/"))
	if err := keys.Replace(second, first); err != nil { // the newest first
		log.Fatal(err)
	}
	fmt.Println(visit("/"))
	if err := keys.Replace(second); err != nil { // once all old cookies have expired
		log.Fatal(err)
	}
	fmt.Println(visit("/"))
	// Output:
	// visit 1
	// visit 2
	// visit 3
}

// Sessions that were stored by an older version of the program are carried over.
func ExampleFrom() {
	type Session1 struct{ Name string }
	type Session2 struct{ FirstName, LastName string }

	before, err := sessions.New(sessions.Config[Session1]{Keys: exampleKeys, Version: 1})
	if err != nil {
		log.Fatal(err)
	}
	after, err := sessions.New(sessions.Config[Session2]{
		Keys:    exampleKeys,
		Version: 2,
		Upgrades: []sessions.Upgrade{sessions.From(1, func(old Session1) (Session2, error) {
			first, last, _ := strings.Cut(old.Name, " ")
			return Session2{first, last}, nil
		})},
	})
	if err != nil {
		log.Fatal(err)
	}

	versions := http.NewServeMux()
	versions.Handle("/before", before.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		sessions.Get[Session1](r.Context()).Data.Name = "Ada Lovelace"
	})))
	versions.Handle("/after", after.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%+v", sessions.Get[Session2](r.Context()).Data)
	})))
	visit := visitor(versions)
	visit("/before")
	fmt.Println(visit("/after"))
	// Output:
	// {FirstName:Ada LastName:Lovelace}
}

// The page "where you are signed in".
func ExampleManager_Sessions() {
	mgr := managerWithOwners()
	visit := visitor(mgr.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sess := sessions.Get[AppSession](r.Context())
		if r.URL.Path == "/login" {
			sess.Data = AppSession{UserID: 42, Name: "Ada's laptop"}
			return
		}
		for info, err := range mgr.Sessions(r.Context(), strconv.Itoa(sess.Data.UserID)) {
			if err != nil {
				fmt.Fprintln(w, err)
				continue // it cannot be read, but its info.ID can be revoked
			}
			fmt.Fprintf(w, "%s, this one: %t\n", info.Data.Name, info.ID == sess.ID())
		}
	})))

	visit("/login")
	fmt.Println(visit("/devices"))
	// Output:
	// Ada's laptop, this one: true
}

// An administrator looks at the session that a log line names.
func ExampleManager_Find() {
	mgr := managerWithOwners()
	visit := visitor(mgr.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sess := sessions.Get[AppSession](r.Context())
		switch r.URL.Path {
		case "/login":
			sess.Data = AppSession{UserID: 42, Name: "Ada"}
			fmt.Fprint(w, sess.ID())
		case "/logout":
			sess.Destroy()
		}
	})))
	ctx := context.Background()

	id := visit("/login") // from the log
	info, err := mgr.Find(ctx, id)
	fmt.Println(info.Data.Name, info.ID == id, err)

	visit("/logout")
	_, err = mgr.Find(ctx, id)
	fmt.Println(errors.Is(err, sessions.ErrNotFound))
	// Output:
	// Ada true <nil>
	// true
}

// A role is taken away, at once, in every session that the user has.
func ExampleManager_Edit() {
	mgr := managerWithOwners()
	visit := visitor(mgr.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sess := sessions.Get[AppSession](r.Context())
		if r.URL.Path == "/login" {
			sess.Data = AppSession{UserID: 42, Role: "admin"}
		}
		fmt.Fprint(w, sess.Data.Role)
	})))
	fmt.Println(visit("/login"))

	ctx := context.Background()
	for info, err := range mgr.Sessions(ctx, "42") {
		if err == nil {
			err = mgr.Edit(ctx, info.ID, func(data *AppSession) { data.Role = "user" })
		}
		if err != nil && !errors.Is(err, sessions.ErrNotFound) { // it may have ended meanwhile
			log.Fatal(err)
		}
	}
	fmt.Println(visit("/"))
	// Output:
	// admin
	// user
}

func ExampleManager_Revoke() {
	mgr := managerWithOwners()
	visit := visitor(mgr.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sess := sessions.Get[AppSession](r.Context())
		if r.URL.Path == "/login" {
			sess.Data = AppSession{UserID: 42}
			fmt.Fprint(w, sess.ID())
			return
		}
		fmt.Fprintf(w, "user %d", sess.Data.UserID)
	})))

	id := visit("/login") // from the log, or from Manager.Sessions
	fmt.Println(visit("/"))
	fmt.Println(mgr.Revoke(context.Background(), id))
	fmt.Println(visit("/"))
	// Output:
	// user 42
	// <nil>
	// user 0
}

// After a change of the password, all other sessions end.
func ExampleManager_RevokeOwner() {
	mgr := managerWithOwners()
	site := mgr.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sess := sessions.Get[AppSession](r.Context())
		switch r.URL.Path {
		case "/login":
			sess.Data = AppSession{UserID: 42}
		case "/change-password":
			ended, err := mgr.RevokeOwner(r.Context(), strconv.Itoa(sess.Data.UserID), sess.ID())
			fmt.Fprintf(w, "%d other sessions ended, %v", ended, err)
		default:
			fmt.Fprintf(w, "user %d", sess.Data.UserID)
		}
	}))
	laptop, phone := visitor(site), visitor(site)

	laptop("/login")
	phone("/login")
	fmt.Println(laptop("/change-password"))
	fmt.Println("laptop:", laptop("/"))
	fmt.Println("phone:", phone("/"))
	// Output:
	// 1 other sessions ended, <nil>
	// laptop: user 42
	// phone: user 0
}

// The sessions of a tenant, whoever they belong to: an administrator counts the
// users who are signed in.
func ExampleManager_Labelled() {
	type AppSession struct {
		UserID int    `msgpack:"uid"`
		Tenant string `msgpack:"tenant"`
	}
	mgr, err := sessions.New(sessions.Config[AppSession]{
		Keys:   exampleKeys,
		Store:  new(sessions.MemoryStore),
		Labels: func(d *AppSession) []string { return []string{"tenant:" + d.Tenant} },
	})
	if err != nil {
		log.Fatal(err)
	}
	site := mgr.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, _ := strconv.Atoi(r.URL.Query().Get("user"))
		sessions.Get[AppSession](r.Context()).Data = AppSession{UserID: id, Tenant: r.URL.Query().Get("tenant")}
	}))
	visitor(site)("/login?user=42&tenant=acme")
	visitor(site)("/login?user=43&tenant=acme")
	visitor(site)("/login?user=44&tenant=other")

	var users []int
	for info, err := range mgr.Labelled(context.Background(), "tenant:acme") {
		if err != nil {
			log.Fatal(err)
		}
		users = append(users, info.Data.UserID)
	}
	slices.Sort(users)
	fmt.Println(users)

	// The tenant leaves.
	ended, err := mgr.RevokeLabelled(context.Background(), "tenant:acme")
	fmt.Println(ended, err)
	// Output:
	// [42 43]
	// 2 <nil>
}

// An administrator sees the site as a user does, and goes back. Both can end that:
// the session belongs to the user, and carries the administrator as a label.
func ExampleConfig_impersonation() {
	type AppSession struct {
		UserID int `msgpack:"uid"`
		Admin  int `msgpack:"admin"` // who acts as the user
	}
	mgr, err := sessions.New(sessions.Config[AppSession]{
		Keys:  exampleKeys,
		Store: new(sessions.MemoryStore),
		Owner: func(d *AppSession) string { return strconv.Itoa(d.UserID) },
		Labels: func(d *AppSession) []string {
			if d.Admin == 0 {
				return nil
			}
			return []string{"admin:" + strconv.Itoa(d.Admin)}
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	site := mgr.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sess := sessions.Get[AppSession](r.Context())
		switch r.URL.Path {
		case "/login":
			sess.RegenerateID()
			sess.Data = AppSession{UserID: 1}
		case "/as/42": // for administrators; a new owner is a new id
			sess.Data = AppSession{UserID: 42, Admin: sess.Data.UserID}
		case "/back":
			sess.Data = AppSession{UserID: sess.Data.Admin}
		}
		fmt.Fprintf(w, "user %d, by %d", sess.Data.UserID, sess.Data.Admin)
	}))
	admin := visitor(site)
	admin("/login")
	fmt.Println(admin("/as/42"))
	fmt.Println(admin("/back"))

	admin("/as/42")
	ended, err := mgr.RevokeOwner(context.Background(), "42") // the user signs out everywhere
	fmt.Println(ended, err, admin("/"))

	admin("/login")
	admin("/as/42")
	ended, err = mgr.RevokeLabelled(context.Background(), "admin:1") // the administrator is dismissed
	fmt.Println(ended, err, admin("/"))
	// Output:
	// user 42, by 1
	// user 1, by 0
	// 1 <nil> user 0, by 0
	// 1 <nil> user 0, by 0
}

// An identity provider ends a login by its sid (OpenID Connect Back-Channel
// Logout 1.0): the request comes from the provider, without the user's cookie.
func ExampleManager_RevokeLabelled() {
	type AppSession struct {
		UserID int    `msgpack:"uid"`
		SID    string `msgpack:"sid"` // of the identity provider
	}
	mgr, err := sessions.New(sessions.Config[AppSession]{
		Keys:  exampleKeys,
		Store: new(sessions.MemoryStore),
		Labels: func(d *AppSession) []string {
			if d.SID == "" {
				return nil
			}
			return []string{"sid:" + d.SID}
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	visit := visitor(mgr.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sess := sessions.Get[AppSession](r.Context())
		if r.URL.Path == "/callback" {
			sess.RegenerateID()
			sess.Data = AppSession{UserID: 42, SID: "08a5019c"} // from the verified ID token
		}
		fmt.Fprintf(w, "user %d", sess.Data.UserID)
	})))
	fmt.Println(visit("/callback"))

	// The provider's logout token, verified, names the sid.
	ended, err := mgr.RevokeLabelled(context.Background(), "sid:08a5019c")
	fmt.Println(ended, err)
	fmt.Println(visit("/"))
	// Output:
	// user 42
	// 1 <nil>
	// user 0
}

// A stream ends when its session does: here by an administrator, in any process.
func ExampleSession_Watch() {
	mgr := managerWithOwners()
	visit := visitor(mgr.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sess := sessions.Get[AppSession](r.Context())
		if r.URL.Path == "/login" {
			sess.Data = AppSession{UserID: 42}
			return
		}
		ctx, cancel := sess.Watch(r.Context())
		defer cancel()
		if _, err := mgr.RevokeOwner(ctx, "42"); err != nil { // an administrator, meanwhile
			log.Print(err)
		}
		<-ctx.Done()
		fmt.Fprint(w, context.Cause(ctx))
	})))
	visit("/login")
	fmt.Println(visit("/stream"))
	// Output:
	// sessions: the session was revoked: not found
}

// managerWithOwners makes the Manager of the examples that list and revoke.
func managerWithOwners() *sessions.Manager[AppSession] {
	mgr, err := sessions.New(sessions.Config[AppSession]{
		Keys:  exampleKeys,
		Store: new(sessions.MemoryStore),
		Owner: ownerOfUser,
	})
	if err != nil {
		log.Fatal(err)
	}
	return mgr
}

// Owner indexes sessions by user, so that they can be listed and revoked.
func ExampleConfig_owner() {
	mgr, err := sessions.New(sessions.Config[AppSession]{
		Keys:  exampleKeys,
		Store: new(sessions.MemoryStore),
		Owner: func(data *AppSession) string {
			if data.UserID == 0 {
				return "" // nobody signed in: not indexed
			}
			return strconv.Itoa(data.UserID)
		},
	})
	fmt.Println(mgr, err)
	// Output:
	// Manager(sessions_test.AppSession, cookie __Host-Http-session) <nil>
}

// Who is signed in by another library stays signed in.
func ExampleConfig_import() {
	mgr, err := sessions.New(sessions.Config[AppSession]{
		Keys: exampleKeys,
		Import: func(r *http.Request) (data AppSession, ok bool) {
			cookie, err := r.Cookie("sid")
			if err != nil {
				return data, false
			}
			data.UserID, ok = legacySession(cookie.Value) // which must verify it
			return data, ok
		},
		ImportCookies: []http.Cookie{{Name: "sid", Path: "/"}}, // are expired then
	})
	if err != nil {
		log.Fatal(err)
	}
	handler := mgr.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sess := sessions.Get[AppSession](r.Context())
		fmt.Fprintf(w, "user %d, %s", sess.Data.UserID, sess.Reason())
	}))

	r := httptest.NewRequest("GET", "https://example.com/", nil)
	r.AddCookie(&http.Cookie{Name: "sid", Value: "the old library's"})
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	fmt.Println(w.Body)
	for _, cookie := range w.Result().Cookies() {
		fmt.Println(cookie.Name, "deleted:", cookie.MaxAge < 0)
	}
	// Output:
	// user 42, imported
	// sid deleted: true
	// __Host-Http-session deleted: false
}

func legacySession(value string) (userID int, ok bool) { return 42, value == "the old library's" }

// Validate checks what the tags of the struct cannot.
func ExampleConfig_validate() {
	mgr, err := sessions.New(sessions.Config[AppSession]{
		Keys:   exampleKeys,
		Logger: slog.New(slog.DiscardHandler),
		Validate: func(data *AppSession) error {
			if data.Role == "admin" && data.UserID == 0 {
				return errors.New("an admin who did not sign in")
			}
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	visit := visitor(mgr.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		sessions.Get[AppSession](r.Context()).Data.Role = "admin"
	})))

	fmt.Println(visit("/"))
	// Output:
	// sessions: invalid: Config.Validate: an admin who did not sign in
}

// Merge decides what becomes of changes that two parallel requests made.
func ExampleConfig_merge() {
	mgr, err := sessions.New(sessions.Config[AppSession]{
		Keys:  exampleKeys,
		Store: new(sessions.MemoryStore),
		Merge: func(base, mine, theirs AppSession) (AppSession, error) {
			merged := theirs
			merged.N = theirs.N + mine.N - base.N // both counts
			if mine.Name != base.Name {
				merged.Name = mine.Name
			}
			return merged, nil
		},
	})
	fmt.Println(mgr, err)
	// Output:
	// Manager(sessions_test.AppSession, cookie __Host-Http-session) <nil>
}

// OnEvent hears what happens to sessions, for logs and metrics.
func ExampleConfig_onEvent() {
	mgr, err := sessions.New(sessions.Config[AppSession]{
		Keys:   exampleKeys,
		Logger: slog.New(slog.DiscardHandler),
		OnEvent: func(_ context.Context, e sessions.Event) {
			fmt.Println(e.Kind, "because of:", e.Reason)
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	handler := mgr.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		sessions.Get[AppSession](r.Context()).Data.N++
	}))

	r := httptest.NewRequest("GET", "https://example.com/", nil)
	r.AddCookie(&http.Cookie{Name: "__Host-Http-session", Value: base64.RawURLEncoding.EncodeToString(make([]byte, 120))})
	handler.ServeHTTP(httptest.NewRecorder(), r)
	// Output:
	// refused because of: forged
	// started because of: forged
}

// An audit log of sessions needs OnEvent alone (OWASP ASVS 5.0, 16.2):
// it tells each begin, each new id and each end once. A real one adds the time, and
// the client's address from ctx.
func ExampleConfig_onEvent_audit() {
	names := map[string]string{} // of the ids, which are random
	name := func(id string) string {
		if names[id] == "" {
			names[id] = fmt.Sprintf("session %d", len(names)+1)
		}
		return names[id]
	}
	mgr, err := sessions.New(sessions.Config[AppSession]{
		Keys:   exampleKeys,
		Store:  new(sessions.MemoryStore),
		Owner:  ownerOfUser,
		Logger: slog.New(slog.DiscardHandler),
		OnEvent: func(_ context.Context, e sessions.Event) {
			switch e.Kind {
			case sessions.EventStarted:
				fmt.Printf("%s starts (%s) for %q\n", name(e.ID), e.Reason, e.Owner)
			case sessions.EventRenewed:
				fmt.Printf("%s takes the place of %s, from %q to %q\n", name(e.ID), name(e.Previous), e.PreviousOwner, e.Owner)
			case sessions.EventEnded:
				fmt.Printf("%s ends (%s) for %q\n", name(e.ID), e.Reason, e.Owner)
			case sessions.EventRefused:
				fmt.Printf("a cookie of %s is refused (%s)\n", name(e.ID), e.Reason)
			}
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	site := mgr.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sess := sessions.Get[AppSession](r.Context())
		switch r.URL.Path {
		case "/cart":
			sess.Data.N++
		case "/login":
			sess.RegenerateID()
			sess.Data = AppSession{UserID: 42}
		case "/confirm": // the password, once more
			sess.RotateID()
		case "/sign-out":
			sess.Destroy()
		}
	}))
	laptop, phone := visitor(site), visitor(site)
	laptop("/cart")
	laptop("/login")
	laptop("/confirm")
	phone("/login")
	phone("/sign-out")
	if _, err := mgr.RevokeOwner(context.Background(), "42"); err != nil {
		log.Fatal(err)
	}
	laptop("/")
	// Output:
	// session 1 starts (no cookie) for ""
	// session 2 takes the place of session 1, from "" to "42"
	// session 3 takes the place of session 2, from "42" to "42"
	// session 4 starts (no cookie) for "42"
	// session 4 ends (destroyed) for "42"
	// session 3 ends (revoked) for "42"
	// a cookie of session 3 is refused (unknown)
}

// On a developer's machine, without https.
func ExampleCookie() {
	mgr, err := sessions.New(sessions.Config[AppSession]{
		Keys:   exampleKeys,
		Cookie: sessions.Cookie{Insecure: true, SameSite: http.SameSiteStrictMode, BrowserSession: true},
	})
	if err != nil {
		log.Fatal(err)
	}
	w := httptest.NewRecorder()
	mgr.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		sessions.Get[AppSession](r.Context()).Data.N++
	})).ServeHTTP(w, httptest.NewRequest("GET", "http://localhost:8080/", nil))

	name, rest, _ := strings.Cut(w.Header().Get("Set-Cookie"), "=")
	_, attributes, _ := strings.Cut(rest, "; ")
	fmt.Println(name, attributes)
	// Output:
	// session Path=/; HttpOnly; SameSite=Strict
}

// At most a million sessions; visitors who did not sign in go first.
func ExampleMemoryStore() {
	mgr, err := sessions.New(sessions.Config[AppSession]{
		Keys:        exampleKeys,
		Store:       &sessions.MemoryStore{Max: 1_000_000},
		IdleTimeout: 30 * time.Minute,
		Owner:       ownerOfUser,
	})
	fmt.Println(mgr, err)
	// Output:
	// Manager(sessions_test.AppSession, cookie __Host-Http-session) <nil>
}

// A field whose type belongs to another module. This one has fields that are not
// exported, and that its author leaves out of the JSON.
func ExampleJSON() {
	type Upload struct {
		UserID int
		File   sessions.JSON[multipart.FileHeader]
	}
	mgr, err := sessions.New(sessions.Config[Upload]{Keys: exampleKeys})
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/upload", func(w http.ResponseWriter, r *http.Request) {
		sess := sessions.Get[Upload](r.Context())
		sess.Data.File.V.Filename = "ada.png"
		sess.Data.File.V.Size = 1815
		http.Redirect(w, r, "/", http.StatusSeeOther)
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		file := sessions.Get[Upload](r.Context()).Data.File.V
		fmt.Fprintf(w, "%s, %d bytes", file.Filename, file.Size)
	})

	get := visitor(mgr.Middleware(mux))
	fmt.Println(get("/upload"))
	// Output:
	// ada.png, 1815 bytes
}
