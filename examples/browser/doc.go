// Package browser has only tests. They run the program of examples/login and use
// it with a real browser, headless Chromium, as visitors do: with a mouse, with
// the keyboard alone, in several tabs and on a phone.
//
// Without Chromium (Debian's package chromium) they are skipped; with CI=true
// they fail. They save pictures of every page, wide and narrow, light and dark,
// in the folder that SCREENSHOTS names, or else among the artifacts of the test:
//
//	SCREENSHOTS=/tmp/pictures go test -count=1 ./examples/browser
//	go test -count=1 -artifacts -outputdir /tmp/pictures ./examples/browser
//
// The tests build the program themselves. The go command does not know about that,
// so without -count=1 it may show a cached result of an older program.
//
// Four of the pictures are in docs: shop-1280-light, sessions-1280-dark,
// sessions-bound-1280-light and revoked-elsewhere.
package browser
