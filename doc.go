// Package sessions gives a web application a session that is one of its own
// structs: no string keys, no type assertions, no Save call to forget.
//
//	type AppSession struct {
//		UserID int    `msgpack:"uid" validate:"gte=0"`
//		Role   string `msgpack:"role" validate:"omitempty,oneof=admin user"`
//	}
//
//	keys, err := sessions.ParseKeyring(os.Getenv("SESSION_KEYS"))
//	mgr, err := sessions.New(sessions.Config[AppSession]{Keys: keys})
//	http.ListenAndServe(addr, mgr.Middleware(mux))
//
//	func login(w http.ResponseWriter, r *http.Request) {
//		sess := sessions.Get[AppSession](r.Context())
//		sess.RegenerateID()
//		sess.Data = AppSession{UserID: 42} // checked by the compiler, stored by the middleware
//		http.Redirect(w, r, "/dashboard", http.StatusSeeOther)
//	}
//
// # Model
//
// A [Manager] keeps sessions of one type. Its [Manager.Middleware] makes the
// [Session] of each request available to [Get], and commits it once, before the
// first byte of the response leaves: the changes are validated, encoded and
// stored, then the cookie is set, then the headers leave. The Manager finds
// changes by comparing what would be stored. Read-only requests write nothing,
// and visitors without state get no cookie.
//
// Without a [Store] the whole session travels in the cookie, signed by
// a [Keyring], or sealed with Config.Encrypt. With one, the cookie carries a
// signed id of which the store sees only the hash. [MemoryStore] is in this
// package; another engine takes five methods.
//
// # Promises
//
// Typed: [New] refuses a field that would be lost or could not be loaded again
// (the zone of a time is not kept). Data of an older version of the struct is
// upgraded (see [From]) or set aside with a [Reason] and an [Event], and is never
// answered by an error page.
//
// Nothing lost, nothing resurrected: with a Store, what parallel requests change
// in one session is merged by field, or replayed ([Session.Update]), and a
// session that was destroyed stays destroyed, whatever was in flight: a Store has
// no operation that writes a record whether or not it is there.
//
// Secure by default: the zero Config is the strict one, the cookie's name has
// the __Host- prefix, bytes are authenticated before they are parsed and checked
// before they are decoded, ids are 256 random bits, and lifetimes are enforced
// on the server.
//
// Correct at the wire: the response writer keeps what the inner one could do
// ([http.Flusher], [http.Hijacker], [io.ReaderFrom] and others; see
// [Manager.Middleware] for what it cannot), informational responses do not commit,
// nothing is
// buffered, and if the commit fails, Config.ErrorHandler answers in place of the
// handler.
//
// Fast: a request that does not ask for its session costs one allocation in
// cookie mode; one that reads it costs little more than the HMAC, the decoding
// and the validation.
//
// # What a cookie session cannot do
//
// A session that travels in the cookie cannot be recalled: after Destroy,
// RegenerateID or a change of password, a copy of the old cookie is accepted
// until it expires. It cannot be listed or revoked, it is limited to 4096 bytes
// of cookie. If two parallel responses set it, the last one stands. Use a Store
// where any of this matters.
//
// # Compatibility
//
// The bytes of cookies and records are described in docs/FORMAT.md. Every format
// version that was released has golden vectors in testdata, which no later
// version may fail to open. Go names follow semantic versioning.
package sessions
