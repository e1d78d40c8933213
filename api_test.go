package sessions_test

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"iter"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/typedsessions/sessions"
)

// The names that programs outside this repository are compiled against, with
// their exact types.
type (
	apiData    struct{ N int }
	apiManager = *sessions.Manager[apiData]
	apiSession = *sessions.Session[apiData]
)

var (
	_ func(sessions.Config[apiData]) (apiManager, error)                                 = sessions.New[apiData]
	_ func(apiManager, http.Handler) http.Handler                                        = apiManager.Middleware
	_ func(context.Context) apiSession                                                   = sessions.Get[apiData]
	_ func(context.Context) (apiSession, bool)                                           = sessions.Lookup[apiData]
	_ func(apiSession) string                                                            = apiSession.ID
	_ func(apiSession) bool                                                              = apiSession.IsNew
	_ func(apiSession) sessions.Reason                                                   = apiSession.Reason
	_ func(apiSession) time.Time                                                         = apiSession.CreatedAt
	_ func(apiSession) time.Time                                                         = apiSession.ExpiresAt
	_ func(apiSession)                                                                   = apiSession.RegenerateID
	_ func(apiSession)                                                                   = apiSession.Destroy
	_ func(apiSession)                                                                   = apiSession.Reset
	_ func(apiSession, func(*apiData))                                                   = apiSession.Update
	_ func(apiSession, context.Context) error                                            = apiSession.Save
	_ func(apiSession, time.Duration)                                                    = apiSession.SetLifetime
	_ func(apiSession, string, string)                                                   = apiSession.Flash
	_ func(apiSession, ...string) []sessions.Flash                                       = apiSession.Flashes
	_ func(...[]byte) (*sessions.Keyring, error)                                         = sessions.NewKeyring
	_ func(string) (*sessions.Keyring, error)                                            = sessions.ParseKeyring
	_ func(*sessions.Keyring, ...[]byte) error                                           = (*sessions.Keyring).Replace
	_ func() []byte                                                                      = sessions.NewSecret
	_ func(apiManager, context.Context, string) iter.Seq2[sessions.Info[apiData], error] = apiManager.Sessions
	_ func(apiManager, context.Context, string, func(*apiData)) error                    = apiManager.Edit
	_ func(apiManager, context.Context, string) error                                    = apiManager.Revoke
	_ func(apiManager, context.Context, string, ...string) (int, error)                  = apiManager.RevokeOwner
	_ func(int, func(AppSession) (apiData, error)) sessions.Upgrade                      = sessions.From[AppSession, apiData]
	_ func(sessions.ID) string                                                           = sessions.ID.String

	_ = sessions.Config[apiData]{
		Keys:          (*sessions.Keyring)(nil),
		Store:         sessions.Store(nil),
		Cookie:        sessions.Cookie{},
		Encrypt:       false,
		Lifetime:      time.Duration(0),
		IdleTimeout:   time.Duration(0),
		Version:       int(0),
		Upgrades:      []sessions.Upgrade(nil),
		Validate:      (func(*apiData) error)(nil),
		Merge:         (func(base, mine, theirs apiData) (apiData, error))(nil),
		Owner:         (func(*apiData) string)(nil),
		Import:        (func(*http.Request) (apiData, bool))(nil),
		ImportCookies: []http.Cookie(nil),
		ErrorHandler:  (func(http.ResponseWriter, *http.Request, error))(nil),
		OnEvent:       (func(context.Context, sessions.Event))(nil),
		Logger:        (*slog.Logger)(nil),
	}
	_ = sessions.Cookie{Name: "", Path: "", Domain: "", SameSite: http.SameSite(0), Insecure: false, Partitioned: false, BrowserSession: false}
	_ = sessions.Session[apiData]{Data: apiData{}}
	_ = sessions.Flash{Kind: "", Message: ""}
	_ = sessions.Info[apiData]{ID: "", Data: apiData{}, CreatedAt: time.Time{}, LastUsedAt: time.Time{}, ExpiresAt: time.Time{}}
	_ = sessions.Record{Data: []byte(nil), Version: uint64(0), Expires: time.Time{}, Owner: ""}
	_ = sessions.ID([32]byte{})
	_ = sessions.MemoryStore{Max: int(0)}
	_ = sessions.Event{Kind: sessions.EventKind(""), Reason: sessions.Reason(""), ID: "", Err: error(nil)}

	_ sessions.OwnerStore = (*sessions.MemoryStore)(nil)
	_ sessions.Store      = sessions.OwnerStore(nil)

	// An interface of exactly these methods, so that no store needs another.
	_ sessions.Store = interface {
		Load(ctx context.Context, id sessions.ID) (sessions.Record, error)
		Create(ctx context.Context, id sessions.ID, rec sessions.Record) (uint64, error)
		Update(ctx context.Context, id sessions.ID, rec sessions.Record) (uint64, error)
		Touch(ctx context.Context, id sessions.ID, expires time.Time) error
		Delete(ctx context.Context, id sessions.ID, version uint64) error
	}(nil)
	_ sessions.OwnerStore = interface {
		sessions.Store
		Owned(ctx context.Context, owner string) iter.Seq2[sessions.ID, error]
	}(nil)

	apiErrors = map[string]error{
		"ErrNotFound": sessions.ErrNotFound, "ErrExists": sessions.ErrExists, "ErrConflict": sessions.ErrConflict,
		"ErrTooLarge": sessions.ErrTooLarge, "ErrInvalid": sessions.ErrInvalid, "ErrTooLate": sessions.ErrTooLate,
		"ErrLimit": sessions.ErrLimit,
	}
	apiEvents = []sessions.EventKind{
		sessions.EventStarted, sessions.EventRenewed, sessions.EventEnded, sessions.EventRefused, sessions.EventAmbiguous, sessions.EventUpgraded, sessions.EventMerged,
		sessions.EventDiscarded, sessions.EventLate, sessions.EventFlashDropped, sessions.EventFailed,
	}
	apiReasons = []sessions.Reason{
		sessions.ReasonNone, sessions.ReasonNoCookie, sessions.ReasonForged, sessions.ReasonExpired, sessions.ReasonIdle, sessions.ReasonUnknown,
		sessions.ReasonUndecodable, sessions.ReasonInvalid, sessions.ReasonNewer, sessions.ReasonReset, sessions.ReasonImported,
		sessions.ReasonReplaced, sessions.ReasonDestroyed, sessions.ReasonRevoked, sessions.ReasonLimit, sessions.ReasonSpent,
	}
)

func TestErrorsEventsAndReasonsDiffer(t *testing.T) {
	for name, err := range apiErrors {
		for other, target := range apiErrors {
			if errors.Is(err, target) != (name == other) {
				t.Errorf("%s is %s: %t", name, other, errors.Is(err, target))
			}
		}
	}
	kinds := map[sessions.EventKind]bool{"": true}
	for _, kind := range apiEvents {
		if kinds[kind] {
			t.Errorf("event %q is empty or there twice", kind)
		}
		kinds[kind] = true
	}
	reasons := map[sessions.Reason]bool{}
	for _, reason := range apiReasons {
		if reasons[reason] {
			t.Errorf("reason %q is there twice", reason)
		}
		reasons[reason] = true
	}
	var zero sessions.Reason
	if sessions.ReasonNone != zero {
		t.Errorf("got %q, want the zero Reason to be ReasonNone", sessions.ReasonNone)
	}
}

func TestIDPrintsAsTheSessionDoes(t *testing.T) {
	id := sessions.ID{0xab, 31: 0x01}
	if want := "ab" + strings.Repeat("0", 60) + "01"; id.String() != want {
		t.Errorf("got %s, want %s", id, want)
	}
	s := newSite(t, modes[3], nil)
	_, public := signIn(s, 42)
	if got := s.store.live()[0].String(); got != public {
		t.Errorf("the store's id is %s, the session's %s", got, public)
	}
}

// Each error is to be found with errors.Is by whoever gets it, through every
// layer that it passes.
func TestErrorsShineThroughTheLayers(t *testing.T) {
	broken := errors.New("the network is down")
	failing := func(s *site, on string, err error) {
		s.store.hook(func(op string, _ sessions.ID) error {
			if op == on {
				return err
			}
			return nil
		}, nil)
	}
	// handled runs f in a request of somebody signed in and returns what
	// ErrorHandler gets; prepare may let the store fail before.
	handled := func(t *testing.T, m mode, prepare func(*site), f func(*session)) (err error) {
		t.Helper()
		s := newSite(t, m, func(cfg *config) {
			cfg.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, e error) {
				err = e
				w.WriteHeader(http.StatusTeapot)
			}
		})
		b, _ := signIn(s, 42)
		if prepare != nil {
			prepare(s)
		}
		if res := b.do(f); (res.StatusCode == http.StatusTeapot) != (err != nil) {
			t.Errorf("got status %d", res.StatusCode)
		}
		failed := s.events.of(sessions.EventFailed)
		if len(failed) != 1 || !errors.Is(failed[0].Err, err) {
			t.Errorf("got events %v, want one with the error that ErrorHandler gets", failed)
		}
		return err
	}
	saved := func(t *testing.T, m mode, f func(w http.ResponseWriter, s *session)) (err error) {
		t.Helper()
		s := newSite(t, m, nil)
		b, _ := signIn(s, 42)
		b.serve(func(w http.ResponseWriter, r *http.Request) {
			s := sessions.Get[AppSession](r.Context())
			f(w, s)
			err = s.Save(r.Context())
		})
		return err
	}
	store, cookie := modes[3], modes[0]
	edit := func(s *session) { s.Data.N++ }
	for _, tt := range []struct {
		name string
		get  func(t *testing.T) error
		want error
	}{
		{"ErrNotFound from Save", func(t *testing.T) (err error) {
			s := newSite(t, store, nil)
			b, id := signIn(s, 42)
			b.do(func(sess *session) {
				if err := s.mgr.Revoke(bg, id); err != nil {
					t.Error(err)
				}
				sess.Data.N++
				err = sess.Save(bg)
			})
			return err
		}, sessions.ErrNotFound},
		{"ErrNotFound from Edit", func(t *testing.T) error {
			return newSite(t, store, nil).mgr.Edit(bg, oneID.String(), func(*AppSession) {})
		}, sessions.ErrNotFound},
		{"ErrExists from a store that has every id", func(t *testing.T) error {
			return handled(t, store, func(s *site) { failing(s, "Create", sessions.ErrExists) }, (*session).RegenerateID)
		}, sessions.ErrExists},
		{"ErrConflict from Edit", func(t *testing.T) error {
			s := newSite(t, store, nil)
			_, id := signIn(s, 42)
			ctx, cancel := context.WithCancel(bg)
			s.store.hook(func(op string, _ sessions.ID) error {
				if op == "Update" {
					cancel()
					return sessions.ErrConflict
				}
				return nil
			}, nil)
			return s.mgr.Edit(ctx, id, func(d *AppSession) { d.N++ })
		}, sessions.ErrConflict},
		{"ErrConflict from Save", func(t *testing.T) (err error) {
			s := newSite(t, store, nil)
			b, _ := signIn(s, 42)
			b.do(func(sess *session) {
				ctx, cancel := context.WithCancel(bg)
				s.store.hook(func(op string, _ sessions.ID) error {
					if op == "Update" {
						cancel()
						return sessions.ErrConflict
					}
					return nil
				}, nil)
				sess.Data.N++
				err = sess.Save(ctx)
				s.store.hook(nil, nil)
			})
			return err
		}, sessions.ErrConflict},
		{"ErrTooLarge from Save", func(t *testing.T) error {
			return saved(t, cookie, func(_ http.ResponseWriter, s *session) { s.Data.Name = strings.Repeat("x", 5000) })
		}, sessions.ErrTooLarge},
		{"ErrTooLarge to ErrorHandler", func(t *testing.T) error {
			return handled(t, cookie, nil, func(s *session) { s.Data.Name = strings.Repeat("x", 5000) })
		}, sessions.ErrTooLarge},
		{"ErrInvalid from Save", func(t *testing.T) error {
			return saved(t, store, func(_ http.ResponseWriter, s *session) { s.Data.UserID = -1 })
		}, sessions.ErrInvalid},
		{"ErrInvalid from Edit", func(t *testing.T) error {
			s := newSite(t, store, nil)
			_, id := signIn(s, 42)
			return s.mgr.Edit(bg, id, func(d *AppSession) { d.UserID = -1 })
		}, sessions.ErrInvalid},
		{"ErrInvalid to ErrorHandler", func(t *testing.T) error {
			return handled(t, cookie, nil, func(s *session) { s.Data.UserID = -1 })
		}, sessions.ErrInvalid},
		{"ErrTooLate from Save", func(t *testing.T) error {
			return saved(t, cookie, func(w http.ResponseWriter, s *session) { w.WriteHeader(http.StatusOK); s.Data.N++ })
		}, sessions.ErrTooLate},
		{"ErrTooLate from Save after the request", func(t *testing.T) error {
			var kept *session
			newSite(t, store, nil).browser().do(func(s *session) { kept = s })
			return kept.Save(bg)
		}, sessions.ErrTooLate},
		{"ErrTooLate in an event", func(t *testing.T) error {
			s := newSite(t, cookie, nil)
			s.browser().serve(func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(http.StatusOK)
				sessions.Get[AppSession](r.Context()).Data.N++
			})
			return s.events.of(sessions.EventLate)[0].Err
		}, sessions.ErrTooLate},
		{"an error of Load to ErrorHandler", func(t *testing.T) error {
			return handled(t, store, func(s *site) { failing(s, "Load", broken) }, edit)
		}, broken},
		{"an error of Update to ErrorHandler", func(t *testing.T) error {
			return handled(t, store, func(s *site) { failing(s, "Update", broken) }, edit)
		}, broken},
		{"an error of Create to ErrorHandler", func(t *testing.T) error {
			return handled(t, store, func(s *site) { failing(s, "Create", broken) }, (*session).RegenerateID)
		}, broken},
		{"an error of Delete to ErrorHandler", func(t *testing.T) error {
			return handled(t, store, func(s *site) { failing(s, "Delete", broken) }, (*session).Destroy)
		}, broken},
		{"context.Canceled of a store to ErrorHandler", func(t *testing.T) error {
			return handled(t, store, func(s *site) { failing(s, "Update", fmt.Errorf("driver: %w", context.Canceled)) }, edit)
		}, context.Canceled},
		{"context.Canceled from Save", func(t *testing.T) (err error) {
			ctx, cancel := context.WithCancel(bg)
			cancel()
			newSite(t, store, nil).browser().do(func(s *session) {
				s.Data.N++
				err = s.Save(ctx)
			})
			return err
		}, context.Canceled},
		{"an error of Config.Validate", func(t *testing.T) (err error) {
			s := newSite(t, store, func(cfg *config) { cfg.Validate = func(*AppSession) error { return broken } })
			s.browser().do(func(s *session) {
				s.Data.N++
				err = s.Save(bg)
			})
			return err
		}, broken},
		{"an error of Config.Merge", func(t *testing.T) (err error) {
			s := newSite(t, store, func(cfg *config) {
				cfg.Merge = func(_, mine, _ AppSession) (AppSession, error) { return mine, broken }
			})
			b, _ := signIn(s, 42)
			overlap(b.clone(), func(s *session) {
				s.Data.N++
				err = s.Save(bg)
			}, func() { b.do(edit) })
			return err
		}, broken},
		{"an error of an upgrade, in an event", func(t *testing.T) error {
			s := newSite(t, store, nil)
			b, _ := signIn(s, 42)
			events := new(events)
			newer, err := sessions.New(config{Keys: newKeys(t), Store: s.store.asStore(), Version: 1, OnEvent: events.add, Logger: slog.New(slog.DiscardHandler), Upgrades: []sessions.Upgrade{
				sessions.From(0, func(old AppSession) (AppSession, error) { return old, broken }),
			}})
			if err != nil {
				t.Fatal(err)
			}
			s.handler = newer.Middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				sessions.Get[AppSession](r.Context())
			}))
			b.do(nil)
			return events.of(sessions.EventRefused)[0].Err
		}, broken},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.get(t); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want it to be %v", err, tt.want)
			}
		})
	}
}

// packageDoc reads the documentation of this package, and of the examples.
func packageDoc(t *testing.T) *doc.Package {
	t.Helper()
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	fset := token.NewFileSet()
	var files []*ast.File
	for _, name := range names {
		f, err := parser.ParseFile(fset, name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	p, err := doc.NewFromFiles(fset, files, "github.com/typedsessions/sessions")
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Types) == 0 || p.Name != "sessions" {
		t.Fatalf("got package %q with %d types", p.Name, len(p.Types))
	}
	return p
}

func TestEveryExportedNameHasADocComment(t *testing.T) {
	p := packageDoc(t)
	want := func(name, text string) {
		t.Helper()
		if strings.TrimSpace(text) == "" {
			t.Errorf("%s has no doc comment", name)
		}
	}
	values := func(values []*doc.Value) {
		for _, v := range values {
			for _, spec := range v.Decl.Specs {
				spec := spec.(*ast.ValueSpec)
				text := spec.Doc.Text() + spec.Comment.Text()
				if len(v.Decl.Specs) == 1 {
					text += v.Doc
				}
				for _, name := range spec.Names {
					if name.IsExported() {
						want(name.Name, text)
					}
				}
			}
		}
	}
	funcs := func(funcs []*doc.Func) {
		for _, f := range funcs {
			want(strings.TrimPrefix(f.Recv+"."+f.Name, "."), f.Doc)
			if !mentions(f.Doc, f.Name) {
				t.Errorf("the comment of %s %s does not begin with its name: %q", f.Recv, f.Name, f.Doc)
			}
		}
	}
	want("package sessions", p.Doc)
	values(p.Consts)
	values(p.Vars)
	funcs(p.Funcs)
	for _, typ := range p.Types {
		want(typ.Name, typ.Doc)
		values(typ.Consts)
		values(typ.Vars)
		funcs(typ.Funcs)
		funcs(typ.Methods)
		spec := typ.Decl.Specs[0].(*ast.TypeSpec)
		switch members := spec.Type.(type) {
		case *ast.InterfaceType:
			for _, method := range members.Methods.List {
				for _, name := range method.Names {
					want(typ.Name+"."+name.Name, method.Doc.Text()+method.Comment.Text())
				}
			}
		case *ast.StructType:
			if typ.Name != "Config" && typ.Name != "Cookie" {
				continue // whose fields their types and the comment of the struct explain
			}
			for _, field := range members.Fields.List {
				for _, name := range field.Names {
					if name.IsExported() {
						want(typ.Name+"."+name.Name, field.Doc.Text()+field.Comment.Text())
					}
				}
			}
		}
	}
}

// mentions reports whether a comment begins with the name that it is about.
func mentions(text, name string) bool {
	words := strings.Fields(text) // "A Session …", "MarshalText, for JSON, …"
	return len(words) > 1 && (strings.Trim(words[0], ",") == name || words[1] == name)
}

// printing are the methods that fmt, slog, json and msgpack call.
var printing = []string{"Format", "LogValue", "MarshalText", "MarshalMsgpack", "UnmarshalMsgpack", "String"}

func TestEveryExportedVerbHasAnExampleWithOutput(t *testing.T) {
	p := packageDoc(t)
	names, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	examples := map[string]*doc.Example{}
	fset := token.NewFileSet()
	for _, name := range names {
		f, err := parser.ParseFile(fset, name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range doc.Examples(f) {
			examples[e.Name] = e
			if e.Output == "" && !e.EmptyOutput {
				t.Errorf("Example%s has no output that is checked", e.Name)
			}
		}
	}
	wanted := []string{""} // the whole program
	add := func(funcs []*doc.Func, owner string) {
		for _, f := range funcs {
			if !slices.Contains(printing, f.Name) {
				wanted = append(wanted, owner+f.Name)
			}
		}
	}
	add(p.Funcs, "")
	for _, typ := range p.Types {
		add(typ.Funcs, "")
		if typ.Name != "MemoryStore" { // whose methods are those of Store
			add(typ.Methods, typ.Name+"_")
		}
	}
	for _, name := range wanted {
		if examples[name] == nil {
			t.Errorf("there is no Example%s", name)
		}
	}
	suffix := regexp.MustCompile(`^(.*?)(_[a-z].*)?$`)
	for name := range examples {
		if name == "" || slices.Contains(wanted, name) {
			continue
		}
		of := suffix.FindStringSubmatch(name)[1]
		if !slices.Contains(wanted, of) && !slices.ContainsFunc(p.Types, func(typ *doc.Type) bool { return typ.Name == of }) {
			t.Errorf("Example%s is of nothing that is exported", name)
		}
	}
}

func TestRootPackageNeedsMsgpackAndValidatorOnly(t *testing.T) {
	goList := func(args ...string) string {
		t.Helper()
		cmd := exec.Command("go", args...)
		cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=") // as users of the module have it
		out, err := cmd.Output()
		if err != nil {
			var exit *exec.ExitError
			if errors.As(err, &exit) {
				err = fmt.Errorf("%w: %s", err, exit.Stderr)
			}
			t.Fatalf("go %s: %v", strings.Join(args, " "), err)
		}
		return strings.TrimSpace(string(out))
	}
	const root, msgpack, validator = "github.com/typedsessions/sessions", "github.com/vmihailenco/msgpack/v5", "github.com/go-playground/validator/v10"

	direct := strings.Fields(goList("list", "-m", "-f", "{{if not (or .Main .Indirect)}}{{.Path}}{{end}}", "all"))
	slices.Sort(direct)
	if want := []string{validator, msgpack}; !slices.Equal(direct, want) {
		t.Errorf("go.mod requires %v, want %v", direct, want)
	}

	allowed := []string{root, msgpack, validator}
	of := regexp.MustCompile(`^(?:` + regexp.QuoteMeta(msgpack) + `|` + regexp.QuoteMeta(validator) + `)@\S+ ([^@\s]+)@`)
	for line := range strings.Lines(goList("mod", "graph")) {
		if required := of.FindStringSubmatch(line); required != nil {
			allowed = append(allowed, required[1])
		}
	}
	packages := strings.Split(goList("list", "-deps", "-f", "{{.ImportPath}} {{.Standard}} {{with .Module}}{{.Path}}{{end}}", "."), "\n")
	if len(packages) < 10 {
		t.Fatalf("go list -deps shows %d packages only", len(packages))
	}
	for _, line := range packages {
		path, rest, _ := strings.Cut(line, " ")
		standard, module, _ := strings.Cut(rest, " ")
		if standard != "true" && !slices.Contains(allowed, module) {
			t.Errorf("it depends on %s of module %s, which is none of what it may need", path, module)
		}
		if path == "testing" || strings.HasPrefix(path, "testing/") || path == "net/http/httptest" {
			t.Errorf("it depends on %s", path)
		}
	}
}
