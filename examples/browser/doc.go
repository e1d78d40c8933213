// Package browser has no code but tests: they drive the program of
// examples/login with a real browser, headless Chromium, the way visitors do,
// with a mouse, with a keyboard alone, in several tabs and on a phone.
//
// Without Chromium (Debian's package chromium) they are skipped; with CI=true
// they fail. They keep pictures of every page, wide and narrow, light and dark,
// in the folder that SCREENSHOTS names, or else among the artifacts of the test:
//
//	SCREENSHOTS=/tmp/pictures go test -count=1 ./examples/browser
//	go test -count=1 -artifacts -outputdir /tmp/pictures ./examples/browser
//
// The tests build the program themselves. The go command does not know that, so
// without -count=1 it may repeat a result from before the program changed.
//
// The pictures in docs are two of them: shop-1280-light and sessions-1280-dark.
package browser
