// Package sessiontest helps applications test their own handlers.
//
// Through the middleware, as a browser would: [Cookie] makes the cookie of
// a session that holds what the test needs, and [Read] tells what the session of
// a cookie holds afterwards. Both work with any Manager, in memory, in the cookie
// or with another Store.
//
//	func TestLoginSignsIn(t *testing.T) {
//		mgr := newManager(t)
//		visitor := sessiontest.Cookie(t, mgr, AppSession{Theme: "dark"})
//
//		r := httptest.NewRequest("POST", "/login?password=1815", nil)
//		r.AddCookie(visitor)
//		w := httptest.NewRecorder()
//		mgr.Middleware(http.HandlerFunc(login)).ServeHTTP(w, r)
//
//		data, flashes := sessiontest.Read(t, mgr, w.Result().Cookies()[0])
//		if want := (AppSession{UserID: 42, Theme: "dark"}); data != want {
//			t.Errorf("the session holds %+v, want %+v", data, want)
//		}
//		if len(flashes) != 1 || flashes[0].Message != "Welcome" {
//			t.Errorf("got the messages %v, want a welcome", flashes)
//		}
//	}
//
// A handler alone, without Manager, keys and cookies: [Context] has a session in
// it that the handler finds with sessions.Get and the test looks at afterwards.
//
//	func TestLoginAloneSignsIn(t *testing.T) {
//		ctx := sessiontest.Context(t, AppSession{Theme: "dark"})
//
//		login(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, "POST", "/login?password=1815", nil))
//
//		if got := sessions.Get[AppSession](ctx).Data.UserID; got != 42 {
//			t.Errorf("user %d is signed in, want 42", got)
//		}
//	}
//
// All three end the test that gave them what they cannot use, with what to do
// instead. They may be used in parallel tests and, called inside of it, in
// a bubble of testing/synctest, where lifetimes pass without waiting.
package sessiontest
