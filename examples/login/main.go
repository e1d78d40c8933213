// Login is a small shop with a sign-in, and a place to start an application
// from. It shows the whole life of a session:
//
//   - a cart that an anonymous visitor fills, and keeps when signing in;
//   - a sign-in form whose error is a flash message, shown exactly once;
//   - "remember me", signing out, and pages for signed-in visitors only;
//   - a page that lists where a user is signed in, to end sessions from there.
//
// Run it from the root of the repository, with nothing to set up, and open the
// address that it prints:
//
//	go run ./examples/login
//	go run ./examples/login -store memory
//
// Sessions travel in a signed cookie. With -store they stay in the memory of the
// program or in the files of a folder. The program of examples/stores is the
// same shop with sessions in Redis, a database or memcached.
//
// To keep users signed in over a restart, give the program keys of your own:
//
//	export SESSION_KEYS=$(openssl rand -base64 32)
//
// The flag -dbsc serves https and binds sessions to the device that signs in (see
// package dbsc), where the browser can. The program makes a certificate of its own
// and prints how a browser is made to trust it. The list of sessions then shows
// which ones are bound.
//
//	go run ./examples/login -dbsc
//
// The flag -secure is for serving behind TLS, as everything but a local
// experiment should be. With -debug, the page /debug/sessions shows what the
// session of this browser holds, and the last events of all sessions with their
// reasons: why a user was signed out, for instance.
//
// The shop itself is package shop, in the folder of that name. It needs nothing
// but this library, the file store and bcrypt.
package main

import "github.com/typedsessions/sessions/examples/login/shop"

func main() { shop.Main("login", shop.StoreNames, shop.OpenStore) }
