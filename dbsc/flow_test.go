package dbsc_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/typedsessions/sessions/dbsc"
)

func TestALoginIsBoundAndRefreshed(t *testing.T) {
	eachMode(t, func(t *testing.T, withStore bool) {
		s := newSite(t, withStore)
		b := s.signIn(true)
		expect(t, b.get(home), 200, "GET user=ada state=offered reason= body=")
		b.run()
		expectEvents(t, "browser", b.took(), "registered")
		expectEvents(t, "site", s.told(), "registered")
		expect(t, b.get(home), 200, "GET user=ada state=bound reason= body=")
		expectEvents(t, "site", s.told(), "bound")

		pass(11 * time.Minute)
		if b.cookie("-bound") != "" {
			t.Fatal("the bound cookie outlives ten minutes")
		}
		expect(t, b.get(home), 200, "GET user=ada state=bound reason= body=")
		expectEvents(t, "browser", b.took(), "refreshed")
		expectEvents(t, "site", s.told(), "refreshed")
	})
}

func TestAPostWithABodySurvivesARefresh(t *testing.T) {
	eachMode(t, func(t *testing.T, withStore bool) {
		s := newSite(t, withStore)
		b := s.bind()
		pass(11 * time.Minute)
		body := strings.Repeat("payload ", 10_000)
		a := b.visit(visit{method: "POST", url: home + "pay", from: "https://app.test", dest: "empty", body: body})
		expect(t, a, 200, "POST user=ada state=bound reason= body="+body)
		expectEvents(t, "browser", b.took(), "refreshed")
		if s.runs("/pay") != 1 {
			t.Errorf("the handler ran %d times", s.runs("/pay"))
		}
	})
}

func TestAStolenPairIsRefusedAfterItsEnd(t *testing.T) {
	eachMode(t, func(t *testing.T, withStore bool) {
		s := newSite(t, withStore)
		b := s.bind()
		thief := newBrowser(t, b.rt)
		thief.plain = true
		b.copyTo(thief)
		expect(t, thief.get(home+"secret"), 200, "GET user=ada state=bound reason= body=") // for ten minutes, as promised
		for _, c := range thief.jar {
			c.ends = time.Time{} // the thief keeps everything
		}
		pass(10*time.Minute + 31*time.Second)
		ran := s.runs("/secret")
		for _, v := range []visit{
			{url: home + "secret"},
			{url: home + "secret", dest: "empty", from: "https://app.test"},
			{url: home + "secret", method: "POST", from: "https://app.test"},
			{url: home + "secret", header: http.Header{"Secure-Session-Skipped": {"unreachable"}}},
			{url: home + "secret", dest: "image"},
		} {
			loot := slices.Clone(thief.jar) // which no server can take back
			a := thief.visit(v)
			if thief.jar = loot; a.StatusCode != http.StatusForbidden || strings.Contains(a.text, "ada") {
				t.Errorf("%s %s: got %d %q", v.method, v.dest, a.StatusCode, a.text)
			}
		}
		if s.runs("/secret") != ran {
			t.Error("the handler was called")
		}
		a := thief.get(home + "login")
		expect(t, a, 200, "GET user= state=none reason=stale body=")
		expect(t, b.get(home), 200, "GET user=ada state=bound reason= body=") // the owner goes on
	})
}

func TestTheHeadersOfTheDraftCountAsThoseOfChromium(t *testing.T) {
	eachMode(t, func(t *testing.T, withStore bool) {
		s := newSite(t, withStore)
		b := s.signIn(true)
		b.old, b.hold = true, false
		b.run()
		pass(11 * time.Minute)
		b.get(home)
		expectEvents(t, "browser", b.took(), "registered", "refreshed")
	})
}

func TestABrowserThatIsUsedNeverWaits(t *testing.T) {
	eachMode(t, func(t *testing.T, withStore bool) {
		s := newSite(t, withStore)
		b := s.bind()
		for range 60 {
			pass(time.Minute)
			expect(t, b.get(home), 200, boundText)
		}
		for _, e := range b.took() {
			if e != "proactive" && e != "refreshed" {
				t.Errorf("the browser: %s", e)
			}
		}
	})
}

func TestTheShortestEveryStaysWithinTheQuota(t *testing.T) {
	eachMode(t, func(t *testing.T, withStore bool) {
		s := newSite(t, withStore, func(_ *config, o *dbsc.Options) { o.Every = 5 * time.Minute })
		b := s.bind()
		for range 120 {
			pass(30 * time.Second)
			expect(t, b.get(home), 200, boundText)
		}
	})
}

func TestABrowserThatCannotSignIsToldToComeLater(t *testing.T) {
	eachMode(t, func(t *testing.T, withStore bool) {
		s := newSite(t, withStore)
		b := s.bind()
		for range quotaCount - 1 {
			b.drop("-bound")
			expect(t, b.get(home), 200, boundText)
		}
		b.drop("-bound")
		a := b.get(home)
		if a.StatusCode != http.StatusServiceUnavailable || a.Header.Get("Retry-After") == "" || strings.Contains(a.text, "ada") {
			t.Errorf("got %d %q", a.StatusCode, a.text)
		}
		pass(quotaTime)
		expect(t, b.get(home), 200, boundText)
	})
}

func TestOtherBrowsersKeepAnOrdinarySession(t *testing.T) {
	eachMode(t, func(t *testing.T, withStore bool) {
		s := newSite(t, withStore)
		b := s.signIn(true)
		b.plain, b.hold = true, false
		for range 10 {
			pass(11 * time.Minute)
			expect(t, b.get(home), 200, "GET user=ada state=offered reason= body=")
			expect(t, b.visit(visit{method: "POST", url: home + "x", from: "https://app.test", dest: "empty", body: "y"}), 200, "POST user=ada state=offered reason= body=y")
		}
	})
}
