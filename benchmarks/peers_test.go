package benchmarks

import (
	"crypto/ed25519"
	"encoding/gob"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"aidanwoods.dev/go-paseto"
	"github.com/alexedwards/scs/v2"
	"github.com/alexedwards/scs/v2/memstore"
	dghubble "github.com/dghubble/sessions"
	gin "github.com/gin-contrib/sessions"
	gincookie "github.com/gin-contrib/sessions/cookie"
	gingonic "github.com/gin-gonic/gin"
	"github.com/golang-jwt/jwt/v5"
	"github.com/gorilla/securecookie"
	gorilla "github.com/gorilla/sessions"
	echo "github.com/labstack/echo-contrib/session"
	labstack "github.com/labstack/echo/v4"
	"github.com/typedsessions/sessions"
)

// apps are the apps of Contenders, each configured as its documentation recommends.
var apps = map[string]func(testing.TB) app{
	"signed":    func(tb testing.TB) app { return oursPlain(tb, sessions.Config[Shop]{}) },
	"sealed":    func(tb testing.TB) app { return oursPlain(tb, sessions.Config[Shop]{Encrypt: true}) },
	"generated": func(tb testing.TB) app { return oursGenerated(tb, sessions.Config[Generated]{}) },
	"memory": func(tb testing.TB) app {
		return oursPlain(tb, sessions.Config[Shop]{Store: new(sessions.MemoryStore)})
	},
	"signed-unruled": func(tb testing.TB) app { return oursUnruled(tb, sessions.Config[FreeShop]{}) },
	"generated-unruled": func(tb testing.TB) app {
		return ours(tb, sessions.Config[GeneratedFree]{}, func(s *GeneratedFree) *Shop { return (*Shop)(s) })
	},
	"memory-unruled": func(tb testing.TB) app {
		return oursUnruled(tb, sessions.Config[FreeShop]{Store: new(sessions.MemoryStore)})
	},
	"memory-sealed": func(tb testing.TB) app {
		return oursPlain(tb, sessions.Config[Shop]{Store: new(sessions.MemoryStore), Encrypt: true})
	},

	"floor":           func(testing.TB) app { return newFloor(false, newReflected()).app() },
	"floor-sealed":    func(testing.TB) app { return newFloor(true, newReflected()).app() },
	"floor-generated": func(testing.TB) app { return newFloor(false, generated{}).app() },
	"floor-lean":      func(testing.TB) app { return newFloor(false, lean{}).app() },

	"scs":               func(testing.TB) app { return scsApp(scsInMemory()) },
	"gorilla":           func(testing.TB) app { return gorillaApp(gorilla.NewCookieStore(secret)) },
	"gorilla-encrypted": func(testing.TB) app { return gorillaApp(gorilla.NewCookieStore(secret, encryptionKey)) },
	"securecookie":      func(testing.TB) app { return securecookieApp() },
	"dghubble":          func(testing.TB) app { return dghubbleApp() },
	"gin":               func(testing.TB) app { return ginApp() },
	"echo":              func(testing.TB) app { return echoApp() },
	"jwt":               func(testing.TB) app { return jwtApp(jwt.SigningMethodHS256, secret, secret) },
	"jwt-eddsa": func(testing.TB) app {
		key := ed25519.NewKeyFromSeed(secret)
		return jwtApp(jwt.SigningMethodEdDSA, key, key.Public())
	},
	"paseto": func(testing.TB) app { return pasetoApp() },
}

func init() {
	// Libraries with a map of any values encode it with gob, which needs the types.
	gob.Register([]int{})
	gob.Register(time.Time{})
	// Some libraries log every forged cookie, whose cost is not to be measured.
	slog.SetDefault(slog.New(slog.DiscardHandler))
}

// scsInMemory is scs.New without the goroutine that sweeps memstore. This goroutine
// would keep a million sessions in memory after their benchmark.
func scsInMemory() *scs.SessionManager {
	m := scs.New()
	m.Store = memstore.NewWithCleanupInterval(0)
	return m
}

func scsApp(m *scs.SessionManager) app {
	m.Lifetime = lifetime
	m.Cookie.Name, m.Cookie.Secure = cookieName, true
	serve := func(h func(exchange)) http.Handler { return m.LoadAndSave(serveHTTP(h)) }
	a := newHTTPApp(serve,
		func(x exchange) (s Shop, ok bool) {
			ctx := x.r.Context()
			s.UserID = m.GetInt(ctx, "uid")
			s.Name, s.Role = m.GetString(ctx, "name"), m.GetString(ctx, "role")
			s.Cart, _ = m.Get(ctx, "cart").([]int)
			s.LastSeen = m.GetTime(ctx, "seen")
			return s, m.Exists(ctx, "uid")
		},
		func(x exchange, n int) { m.Put(x.r.Context(), "uid", n) },
		func(x exchange, s Shop) {
			ctx := x.r.Context()
			must(m.RenewToken(ctx))
			m.Put(ctx, "uid", s.UserID)
			m.Put(ctx, "name", s.Name)
			m.Put(ctx, "role", s.Role)
			m.Put(ctx, "cart", s.Cart)
			m.Put(ctx, "seen", s.LastSeen)
		})
	a.forgets = true
	return a
}

// A values is a map of any values, which most peers have.
type values interface {
	get(key string) any
	set(key string, value any)
}

func getShop(v values) (s Shop, ok bool) {
	s.UserID, ok = v.get("uid").(int)
	s.Name, _ = v.get("name").(string)
	s.Role, _ = v.get("role").(string)
	s.Cart, _ = v.get("cart").([]int)
	s.LastSeen, _ = v.get("seen").(time.Time)
	return s, ok
}

func setShop(v values, s Shop) {
	v.set("uid", s.UserID)
	v.set("name", s.Name)
	v.set("role", s.Role)
	v.set("cart", s.Cart)
	v.set("seen", s.LastSeen)
}

type gorillaValues map[any]any

func (v gorillaValues) get(key string) any    { return v[key] }
func (v gorillaValues) set(key string, x any) { v[key] = x }

func setOptions(store *gorilla.CookieStore) *gorilla.CookieStore {
	store.Options = &gorilla.Options{Path: "/", HttpOnly: true, Secure: true, SameSite: http.SameSiteLaxMode}
	store.MaxAge(int(lifetime.Seconds()))
	return store
}

// gorillaApp ignores the error for a forged cookie, as the examples of gorilla do:
// Get returns a new session with the error.
func gorillaApp(store *gorilla.CookieStore) app {
	setOptions(store)
	a := newHTTPApp(serveHTTP,
		func(x exchange) (Shop, bool) {
			s, _ := store.Get(x.r, cookieName)
			return getShop(gorillaValues(s.Values))
		},
		func(x exchange, n int) {
			s, _ := store.Get(x.r, cookieName)
			s.Values["uid"] = n
			must(s.Save(x.r, x.w))
		},
		func(x exchange, data Shop) {
			s, _ := store.Get(x.r, cookieName)
			setShop(gorillaValues(s.Values), data)
			must(s.Save(x.r, x.w))
		})
	a.idle = nil
	return a
}

func securecookieApp() app {
	codec := securecookie.New(secret, nil).SetSerializer(securecookie.JSONEncoder{}).MaxAge(int(lifetime.Seconds()))
	return valueApp(
		func(value string) (s Shop, ok bool) { return s, codec.Decode(cookieName, value, &s) == nil },
		func(s Shop) (string, error) { return codec.Encode(cookieName, s) })
}

// claims are those of a JWT.
type claims struct {
	Shop
	jwt.RegisteredClaims
}

// jwtApp keeps the Shop in a JWT. The parser checks the method and the end.
func jwtApp(method jwt.SigningMethod, sign, verify any) app {
	parser := jwt.NewParser(jwt.WithValidMethods([]string{method.Alg()}), jwt.WithExpirationRequired())
	key := func(*jwt.Token) (any, error) { return verify, nil }
	return valueApp(
		func(value string) (Shop, bool) {
			var c claims
			_, err := parser.ParseWithClaims(value, &c, key)
			return c.Shop, err == nil
		},
		func(s Shop) (string, error) {
			ends := jwt.NewNumericDate(time.Now().Add(lifetime))
			return jwt.NewWithClaims(method, claims{s, jwt.RegisteredClaims{ExpiresAt: ends}}).SignedString(sign)
		})
}

// pasetoApp keeps the Shop in a token of v4.local, which is encrypted.
func pasetoApp() app {
	key, err := paseto.V4SymmetricKeyFromBytes(secret)
	must(err)
	parser := paseto.NewParser() // which checks the end
	return valueApp(
		func(value string) (s Shop, ok bool) {
			token, err := parser.ParseV4Local(key, value, nil)
			return s, err == nil && token.Get("shop", &s) == nil
		},
		func(s Shop) (string, error) {
			token := paseto.NewToken()
			token.SetExpiration(time.Now().Add(lifetime))
			err := token.Set("shop", s)
			return token.V4Encrypt(key, nil), err
		})
}

// valueApp keeps the Shop in a cookie whose value open and seal know.
func valueApp(open func(value string) (Shop, bool), seal func(Shop) (string, error)) app {
	load := func(r *http.Request) (Shop, bool) {
		c, err := r.Cookie(cookieName)
		if err != nil {
			return Shop{}, false
		}
		s, ok := open(c.Value)
		if !ok {
			return Shop{}, false
		}
		return s, true
	}
	save := func(w http.ResponseWriter, s Shop) {
		value, err := seal(s)
		must(err)
		http.SetCookie(w, &http.Cookie{
			Name: cookieName, Value: value, Path: "/", MaxAge: int(lifetime.Seconds()),
			HttpOnly: true, Secure: true, SameSite: http.SameSiteLaxMode,
		})
	}
	a := newHTTPApp(serveHTTP,
		func(x exchange) (Shop, bool) { return load(x.r) },
		func(x exchange, n int) {
			s, _ := load(x.r)
			s.UserID = n
			save(x.w, s)
		},
		func(x exchange, s Shop) { save(x.w, s) })
	a.idle = nil
	return a
}

// dghubbleApp stores the Shop as one value, since the map has one type of values.
func dghubbleApp() app {
	config := *dghubble.DefaultCookieConfig
	config.MaxAge = int(lifetime.Seconds())
	store := dghubble.NewCookieStore[Shop](&config, secret)
	a := newHTTPApp(serveHTTP,
		func(x exchange) (Shop, bool) {
			s, err := store.Get(x.r, cookieName)
			if err != nil {
				return Shop{}, false
			}
			return s.GetOk("shop")
		},
		func(x exchange, n int) {
			s, err := store.Get(x.r, cookieName)
			must(err)
			shop := s.Get("shop")
			shop.UserID = n
			s.Set("shop", shop)
			must(s.Save(x.w))
		},
		func(x exchange, shop Shop) {
			s := store.New(cookieName)
			s.Set("shop", shop)
			must(s.Save(x.w))
		})
	a.idle = nil
	return a
}

type ginValues struct{ gin.Session }

func (v ginValues) get(key string) any    { return v.Get(key) }
func (v ginValues) set(key string, x any) { v.Set(key, x) }

func ginApp() app {
	store := gincookie.NewStore(secret)
	store.Options(gin.Options{Path: "/", MaxAge: int(lifetime.Seconds()), HttpOnly: true, Secure: true, SameSite: http.SameSiteLaxMode})
	gingonic.SetMode(gingonic.ReleaseMode)
	serve := func(h func(*gingonic.Context)) http.Handler {
		e := gingonic.New()
		e.Use(gin.Sessions(cookieName, store))
		e.GET("/", h)
		return e
	}
	return newApp(serve,
		func(c *gingonic.Context) (Shop, bool) { return getShop(ginValues{gin.Default(c)}) },
		func(c *gingonic.Context, n int) {
			s := gin.Default(c)
			s.Set("uid", n)
			must(s.Save())
		},
		func(c *gingonic.Context, shop Shop) {
			s := gin.Default(c)
			setShop(ginValues{s}, shop)
			must(s.Save())
		})
}

func echoApp() app {
	store := setOptions(gorilla.NewCookieStore(secret))
	serve := func(h func(labstack.Context)) http.Handler {
		e := labstack.New()
		e.Use(echo.Middleware(store))
		e.GET("/", func(c labstack.Context) error { h(c); return nil })
		return e
	}
	return newApp(serve,
		func(c labstack.Context) (Shop, bool) {
			s, _ := echo.Get(cookieName, c)
			return getShop(gorillaValues(s.Values))
		},
		func(c labstack.Context, n int) {
			s, _ := echo.Get(cookieName, c)
			s.Values["uid"] = n
			must(s.Save(c.Request(), c.Response()))
		},
		func(c labstack.Context, shop Shop) {
			s, _ := echo.Get(cookieName, c)
			setShop(gorillaValues(s.Values), shop)
			must(s.Save(c.Request(), c.Response()))
		})
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
