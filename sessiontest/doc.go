// Package sessiontest provides utilities for testing handlers that use sessions.
//
// To test a handler through the middleware, as a browser would use it, call
// [Cookie] before the request and [Read] after it. Cookie creates a session with
// the data that the test needs and returns its cookie. Read returns the data of
// the session of a cookie. Both work with any Manager, with or without a Store.
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
// To test a handler alone, without a Manager, keys and cookies, call [Context]. It
// returns a context with a session, which the handler and the test get with
// sessions.Get.
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
// All three functions end the test with t.Fatalf if they cannot use their
// arguments; the message says what to do. They may be used in parallel tests, and
// inside a bubble of testing/synctest, in which lifetimes pass without waiting.
package sessiontest
