package sessions_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/fips140"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha3"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/typedsessions/sessions"
)

// ringSecret returns the n-th of the secrets of these tests.
func ringSecret(n int) []byte {
	s := sha256.Sum256(fmt.Appendf(nil, "ring secret %d", n))
	return s[:]
}

func ringSecrets(numbers ...int) (secrets [][]byte) {
	for _, n := range numbers {
		secrets = append(secrets, ringSecret(n))
	}
	return secrets
}

// keyIDOf returns the key id in a cookie.
func keyIDOf(t testing.TB, value string) string {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(value)
	if err != nil || len(b) < 5 {
		t.Fatalf("got the value %q (%v), want a token", value, err)
	}
	return hex.EncodeToString(b[1:5])
}

// keyIDOfSecret is that of docs/FORMAT.md, derived here.
func keyIDOfSecret(secret []byte) string { return hex.EncodeToString(wireKeyOf(secret, "", "").id) }

// spellings returns the ways in which a text could show a secret.
func spellings(secret []byte) []string {
	list := []string{
		base64.RawStdEncoding.EncodeToString(secret), base64.RawURLEncoding.EncodeToString(secret),
		hex.EncodeToString(secret), strings.ToUpper(hex.EncodeToString(secret)),
		strings.Trim(fmt.Sprint(secret), "[]"), strings.Trim(fmt.Sprintf("%#v", secret), "[]byte{}"), string(secret),
	}
	return slices.DeleteFunc(list, func(s string) bool { return len(s) < 8 }) // "abc" is in many a text
}

func mustNotShow(t testing.TB, text string, secrets ...[]byte) {
	t.Helper()
	for i, secret := range secrets {
		for _, s := range spellings(secret) {
			if strings.Contains(text, s) {
				t.Errorf("got %q, which shows secret %d, want no secret in it", text, i+1)
			}
		}
	}
}

func TestNewKeyringRefusesWeakSecrets(t *testing.T) {
	t.Parallel()
	good := ringSecret(1)
	var seventeen [][]byte
	for n := range 17 {
		seventeen = append(seventeen, ringSecret(n))
	}
	for _, tt := range []struct {
		name    string
		secrets [][]byte
		want    string // in the error
	}{
		{"none", nil, "at least one"},
		{"a nil one", [][]byte{nil}, "secret 1 has 0 bytes, need at least 32; NewSecret or \"openssl rand -base64 32\" makes one"},
		{"one of 31 bytes", [][]byte{good[:31]}, "secret 1 has 31 bytes, need at least 32; NewSecret or \"openssl rand -base64 32\" makes one"},
		{"a second one of 31 bytes", [][]byte{good, ringSecret(2)[:31]}, "secret 2 has 31 bytes, need at least 32; NewSecret or \"openssl rand -base64 32\" makes one"},
		{"a text like s3cr3t", [][]byte{[]byte("s3cr3t")}, "secret 1 has 6 bytes"},
		{"32 zeros", [][]byte{make([]byte, 32)}, "secret 1 has only 1 different"},
		{"64 letters a", [][]byte{bytes.Repeat([]byte("a"), 64)}, "secret 1 has only 1 different"},
		{"nearly all zeros", [][]byte{good, append(make([]byte, 31), 1)}, "secret 2 has only 2 different"},
		{"a short word again and again", [][]byte{bytes.Repeat([]byte("secret "), 8)}, "secret 1 has only 6 different"},
		{"the same twice", [][]byte{good, ringSecret(2), good}, "secrets 1 and 3 are the same"},
		{"17 of them", seventeen, "17 secrets, need at most 16"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			keys, err := sessions.NewKeyring(tt.secrets...)
			if err == nil || keys != nil || !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), "sessions: ") {
				t.Fatalf("got %v, %v, want no ring and an error that says %q", keys, err, tt.want)
			}
			mustNotShow(t, err.Error(), tt.secrets...)
		})
	}
	for name, secrets := range map[string][][]byte{"one": {good}, "one of 33 bytes": {append(slices.Clone(good), 0)}, "16 of them": seventeen[:16]} {
		if _, err := sessions.NewKeyring(secrets...); err != nil {
			t.Errorf("%s: got %v, want a ring", name, err)
		}
	}
}

func TestNewSecretIsFitForARing(t *testing.T) {
	t.Parallel()
	a, b := sessions.NewSecret(), sessions.NewSecret()
	if len(a) != 32 || bytes.Equal(a, b) {
		t.Errorf("got secrets of %d bytes, equal %v, want 32 and two different ones", len(a), bytes.Equal(a, b))
	}
	if _, err := sessions.NewKeyring(a, b); err != nil {
		t.Errorf("got %v, want a ring", err)
	}
}

func TestParseKeyringTakesEverySpellingOfBase64(t *testing.T) {
	t.Parallel()
	// These have characters in which the two alphabets differ, and padding.
	first, second := append(ringSecret(1), 0xfb, 0xff), append(ringSecret(2), 0xff)
	want := fmt.Sprint(newKeys(t, first, second))
	for _, e := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding} {
		a, b := e.EncodeToString(first), e.EncodeToString(second)
		for _, text := range []string{a + "," + b, " " + a + " ,\t" + b + "\n", a + ", " + b + "\r\n"} {
			keys, err := sessions.ParseKeyring(text)
			if err != nil {
				t.Errorf("got %v, want a ring of %q", err, text)
			} else if got := fmt.Sprint(keys); got != want {
				t.Errorf("got %s, want %s, the newest first", got, want)
			}
		}
	}
}

func TestParseKeyringRefusesWhatIsNoListOfSecrets(t *testing.T) {
	t.Parallel()
	good := base64.StdEncoding.EncodeToString(ringSecret(1))
	other := base64.StdEncoding.EncodeToString(ringSecret(2))
	for _, tt := range []struct{ name, text, want string }{
		{"nothing", "", "empty"},
		{"blanks", " \t\n", "empty"},
		{"a comma at the end", good + ",", "secret 2 of the list is empty; remove the comma beside it"},
		{"a comma in front", "," + good, "secret 1 of the list is empty"},
		{"two commas", good + ",," + other, "secret 2 of the list is empty"},
		{"characters that are not base64", good + "," + other[:20] + "!" + other[21:], "secret 2 of the list is not base64; NewSecret or \"openssl rand -base64 32\" makes one"},
		{"a line break within", good[:20] + "\n" + good[20:], "secret 1 of the list is not base64; NewSecret or \"openssl rand -base64 32\" makes one"},
		{"a blank within", good[:20] + " " + good[20:], "secret 1 of the list is not base64; NewSecret or \"openssl rand -base64 32\" makes one"},
		{"padding within", good[:20] + "=" + good[20:], "secret 1 of the list is not base64; NewSecret or \"openssl rand -base64 32\" makes one"},
		{"a separator other than a comma", good + ";" + other, "not base64"},
		{"hexadecimal of 15 bytes", hex.EncodeToString(ringSecret(1))[:30], "secret 1"},
		{"a short one", good + "," + base64.StdEncoding.EncodeToString(ringSecret(2)[:31]), "secret 2 has 31 bytes"},
		{"the same twice", good + "," + strings.TrimRight(good, "="), "secrets 1 and 2 are the same"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			keys, err := sessions.ParseKeyring(tt.text)
			if err == nil || keys != nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, %v, want no ring and an error that says %q", keys, err, tt.want)
			}
			mustNotShow(t, err.Error(), ringSecret(1), ringSecret(2), []byte(good), []byte(other), []byte(good[:20]), []byte(other[:20]))
		})
	}
}

func TestKeyringPrintsTheIDsOfItsKeysAndNoSecret(t *testing.T) {
	t.Parallel()
	secrets := ringSecrets(1, 2)
	keys := newKeys(t, secrets...)
	type outer struct{ Keys *sessions.Keyring }
	var log bytes.Buffer
	logger := slog.New(slog.NewJSONHandler(&log, nil))
	logger.Info("a", "keys", keys, "copy", *keys, "outer", outer{keys})
	asText, err := json.Marshal(map[string]any{"keys": keys, "copy": *keys, "outer": outer{keys}})
	if err != nil {
		t.Fatal(err)
	}
	texts := []string{log.String(), string(asText)}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
		for _, v := range []any{keys, *keys, outer{keys}, &outer{keys}, []sessions.Keyring{*keys}} {
			texts = append(texts, fmt.Sprintf(verb, v))
		}
	}
	for _, text := range texts {
		mustNotShow(t, text, secrets...)
		for _, secret := range secrets {
			prk, err := hkdf.Extract(sha256.New, secret, nil)
			if err != nil {
				t.Fatal(err)
			}
			mustNotShow(t, text, prk)
		}
	}
	if got, want := keys.LogValue().String(), fmt.Sprintf("Keyring(%s %s)", keyIDOfSecret(secrets[0]), keyIDOfSecret(secrets[1])); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestTheRingKeepsCopiesOfItsSecrets(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, m mode) {
		first, second := ringSecret(1), ringSecret(2)
		keys := newKeys(t, first)
		b := newSite(t, m, func(c *config) { c.Keys = keys }).browser()
		clear(first)
		b.do(func(s *session) { s.Data.UserID = 1 })
		if data, reason := b.peek(); data.UserID != 1 {
			t.Errorf("got %d (%s), want the session after the slice was cleared", data.UserID, reason)
		}
		if got, want := keyIDOf(t, b.cookie()), keyIDOfSecret(ringSecret(1)); got != want {
			t.Errorf("got key %s, want %s", got, want)
		}
		if err := keys.Replace(second, ringSecret(1)); err != nil {
			t.Fatal(err)
		}
		clear(second)
		if data, reason := b.peek(); data.UserID != 1 {
			t.Errorf("got %d (%s), want the session after the slice of Replace was cleared", data.UserID, reason)
		}
	})
}

// rotated is a site whose browser has a session that the first secret signed,
// an hour ago, and whose ring is [2 1] now.
func rotated(t *testing.T, m mode, change func(*config)) (s *site, b *browser, keys *sessions.Keyring, ends time.Time) {
	t.Helper()
	keys = newKeys(t, ringSecret(1))
	s = newSite(t, m, func(c *config) {
		c.Keys, c.Lifetime = keys, 10*time.Hour
		if change != nil {
			change(c)
		}
	})
	b = s.browser()
	b.do(func(s *session) { s.Data.UserID, ends = 42, s.ExpiresAt() })
	passUntil(time.Now().Add(time.Hour))
	if err := keys.Replace(ringSecrets(2, 1)...); err != nil {
		t.Fatal(err)
	}
	return s, b, keys, ends
}

func TestOneIDInTwoCookiesHasTheNewestKeyAndTheLatestEnd(t *testing.T) {
	eachStore(t, func(t *testing.T, m mode) {
		synctest.Test(t, func(t *testing.T) {
			s, b, _, ends := rotated(t, m, nil)
			old := "__Host-Http-session=" + b.cookie()
			b.do(func(s *session) { s.SetLifetime(30 * 24 * time.Hour) })
			fresh := "__Host-Http-session=" + b.cookie()
			for _, after := range []time.Duration{0, time.Until(ends) + time.Hour} {
				time.Sleep(after)
				for _, line := range []string{old + "; " + fresh, fresh + "; " + old} {
					res := cookieHeader(s, func(sess *session) {
						if sess.Data.UserID != 42 {
							t.Errorf("after %v: got user %d (%q), want 42", after, sess.Data.UserID, sess.Reason())
						}
					}, line)
					if lines := res.Header["Set-Cookie"]; len(lines) > 0 {
						t.Errorf("after %v: got %q, want no cookie: the browser has one of the newest key", after, lines)
					}
				}
			}
		})
	})
}

func TestACookieOfAnOlderKeyIsReissuedByARead(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, m mode) {
		for _, idle := range []time.Duration{0, 5 * time.Hour} {
			t.Run(fmt.Sprintf("IdleTimeout %v", idle), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s, b, keys, ends := rotated(t, m, func(c *config) { c.IdleTimeout = idle })
					old := b.clone()
					res := b.do(func(s *session) {
						if s.Data.UserID != 42 || !s.ExpiresAt().Equal(ends) {
							t.Errorf("got user %d until %v (%s), want 42 until %v", s.Data.UserID, s.ExpiresAt(), s.Reason(), ends)
						}
					})
					lines := res.setCookies()
					if len(lines) != 1 || !strings.Contains(lines[0], "; Max-Age=32400;") {
						t.Fatalf("got %q, want one cookie for the nine hours that are left", lines)
					}
					if got, want := keyIDOf(t, b.cookie()), keyIDOfSecret(ringSecret(2)); got != want {
						t.Errorf("got key %s, want the newest, %s", got, want)
					}
					if s.store != nil {
						// The second Load proves that the session is there still.
						touches := 0
						if idle > 0 {
							touches = 1
						}
						if got := [3]int{s.store.count("Load"), s.store.count("Touch"), s.store.count("Update")}; got != [3]int{2, touches, 0} {
							t.Errorf("got %v loads, touches and updates, want 2, %d and 0", got, touches)
						}
					}
					// Now it has the newest key: nothing more to do.
					res = b.do(func(s *session) {
						if s.Data.UserID != 42 || !s.ExpiresAt().Equal(ends) {
							t.Errorf("got user %d until %v (%s), want 42 until %v", s.Data.UserID, s.ExpiresAt(), s.Reason(), ends)
						}
					})
					if lines := res.setCookies(); len(lines) != 0 {
						t.Errorf("got %q, want no cookie, since the key is the newest", lines)
					}
					// The old key goes.
					if err := keys.Replace(ringSecret(2)); err != nil {
						t.Fatal(err)
					}
					if s.store == nil || !m.encrypt { // else the record has the old key still
						if data, reason := b.peek(); data.UserID != 42 {
							t.Errorf("got user %d (%s), want the re-issued cookie to work", data.UserID, reason)
						}
					}
					if data, reason := old.peek(); data.UserID != 0 || reason != sessions.ReasonForged {
						t.Errorf("got user %d (%q), want a fresh session for the retired key", data.UserID, reason)
					}
				})
			})
		}
	})
}

func TestAChangeReissuesACookieOfAnOlderKeyAndSealsTheRecordAnew(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, m mode) {
		synctest.Test(t, func(t *testing.T) {
			_, b, keys, ends := rotated(t, m, nil)
			res := b.do(func(s *session) { s.Data.N = 1 })
			if lines := res.setCookies(); len(lines) != 1 || !strings.Contains(lines[0], "; Max-Age=32400;") {
				t.Fatalf("got %q, want one cookie for the nine hours that are left", lines)
			}
			if err := keys.Replace(ringSecret(2)); err != nil {
				t.Fatal(err)
			}
			b.do(func(s *session) {
				if s.Data.UserID != 42 || s.Data.N != 1 || !s.ExpiresAt().Equal(ends) {
					t.Errorf("got %+v until %v (%s), want user 42, N 1 until %v", s.Data, s.ExpiresAt(), s.Reason(), ends)
				}
			})
		})
	})
}

func TestARequestThatDoesNotAskForTheSessionReissuesNothing(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, m mode) {
		synctest.Test(t, func(t *testing.T) {
			s, b, _, _ := rotated(t, m, nil)
			res := b.serve(func(http.ResponseWriter, *http.Request) {})
			if len(res.Header["Set-Cookie"]) != 0 {
				t.Errorf("got %q, want no cookie", res.Header["Set-Cookie"])
			}
			if s.store != nil && s.store.count("Touch") != 0 {
				t.Errorf("got %d touches, want none", s.store.count("Touch"))
			}
		})
	})
}

func TestTheNewestOfThreeKeysSignsWhateverTheirOrder(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, m mode) {
		orders := [][]int{{1, 2, 3}, {1, 3, 2}, {2, 1, 3}, {2, 3, 1}, {3, 1, 2}, {3, 2, 1}}
		keys := newKeys(t, ringSecret(9))
		s := newSite(t, m, func(c *config) { c.Keys = keys })
		var made []*browser
		for _, order := range orders {
			if err := keys.Replace(ringSecrets(order...)...); err != nil {
				t.Fatal(err)
			}
			b := s.browser()
			b.do(func(s *session) { s.Data.UserID = 100*order[0] + 10*order[1] + order[2] })
			if got, want := keyIDOf(t, b.cookie()), keyIDOfSecret(ringSecret(order[0])); got != want {
				t.Errorf("%v: got key %s, want that of the newest, %s", order, got, want)
			}
			made = append(made, b)
			for i, b := range made { // all of them verify, and end up with the newest
				b.do(func(s *session) {
					if want := 100*orders[i][0] + 10*orders[i][1] + orders[i][2]; s.Data.UserID != want {
						t.Errorf("%v: got user %d (%s), want %d", order, s.Data.UserID, s.Reason(), want)
					}
				})
				if got, want := keyIDOf(t, b.cookie()), keyIDOfSecret(ringSecret(order[0])); got != want {
					t.Errorf("%v: got key %s after a read, want that of the newest, %s", order, got, want)
				}
			}
		}
	})
}

func TestReplaceUnderLoadLosesNoSession(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, m mode) {
		orders := [][]int{{1, 2, 3}, {2, 3, 1}, {3, 1, 2}, {3, 2, 1, 4}}
		keys := newKeys(t, ringSecrets(1, 2, 3)...)
		s := newSite(t, m, func(c *config) { c.Keys = keys })
		const requests = 30
		stop := make(chan struct{})
		var replacing, visiting sync.WaitGroup
		for worker := range 4 {
			replacing.Go(func() {
				for i := worker; ; i++ {
					select {
					case <-stop:
						return
					default:
					}
					if err := keys.Replace(ringSecrets(orders[i%len(orders)]...)...); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		for user := range 64 {
			visiting.Go(func() {
				b := s.browser()
				for i := range requests {
					res := b.do(func(s *session) {
						if s.Data.N != i || i > 0 && s.Data.UserID != user {
							t.Errorf("got user %d, N %d (%s), want %d, %d", s.Data.UserID, s.Data.N, s.Reason(), user, i)
						}
						s.Data.UserID, s.Data.N = user, i+1
					})
					if res.StatusCode != http.StatusOK {
						t.Errorf("got status %d, want 200", res.StatusCode)
					}
					if t.Failed() {
						return
					}
				}
			})
		}
		visiting.Wait()
		close(stop)
		replacing.Wait()
	})
}

func TestAFailedReplaceChangesNothing(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, m mode) {
		keys := newKeys(t, ringSecrets(1, 2)...)
		b := newSite(t, m, func(c *config) { c.Keys = keys }).browser()
		b.do(func(s *session) { s.Data.UserID = 1 })
		before := fmt.Sprint(keys)
		for name, secrets := range map[string][][]byte{
			"none": nil, "a short one": {ringSecret(3), ringSecret(4)[:31]}, "the same twice": ringSecrets(3, 3), "zeros": {make([]byte, 32)},
		} {
			err := keys.Replace(secrets...)
			if err == nil {
				t.Fatalf("%s: got no error, want one", name)
			}
			mustNotShow(t, err.Error(), secrets...)
			if after := fmt.Sprint(keys); after != before {
				t.Errorf("%s: got %s, want %s as before", name, after, before)
			}
			res := b.do(func(s *session) {
				if s.Data.UserID != 1 {
					t.Errorf("%s: got user %d (%s), want 1", name, s.Data.UserID, s.Reason())
				}
				s.Data.N++
			})
			if res.StatusCode != http.StatusOK || keyIDOf(t, b.cookie()) != keyIDOfSecret(ringSecret(1)) {
				t.Errorf("%s: got status %d and key %s, want 200 and the key of before", name, res.StatusCode, keyIDOf(t, b.cookie()))
			}
		}
	})
}

func TestReplaceOfARingThatNobodyMadeIsAnError(t *testing.T) {
	t.Parallel()
	var none *sessions.Keyring
	for _, keys := range []*sessions.Keyring{none, {}} {
		if err := keys.Replace(ringSecret(1)); err == nil {
			t.Error("got no error, want one")
		}
	}
}

func TestAValueIsRefusedByEveryManagerButItsOwn(t *testing.T) {
	t.Parallel()
	keys := newKeys(t, ringSecrets(1, 2)...)
	type made struct {
		mode, name string
		site       *site
		browser    *browser
	}
	var all []made
	for _, m := range modes {
		if m.name == "plain store" {
			continue // its cookies are those of MemoryStore
		}
		for _, name := range []string{"__Host-Http-session", "__Host-Http-sessions", "session"} {
			s := newSite(t, m, func(c *config) { c.Keys, c.Cookie.Name = keys, name })
			b := s.browser()
			b.do(func(s *session) { s.Data.UserID = 42 })
			all = append(all, made{m.name, name, s, b})
		}
	}
	for _, from := range all {
		for _, to := range all {
			thief := to.site.browser()
			thief.cookies[to.name] = from.browser.cookie()
			if to.site.store != nil {
				to.site.store.resetCounts()
			}
			data, reason := thief.peek()
			if from == to {
				if data.UserID != 42 {
					t.Errorf("%s, %s: got user %d (%s), want 42", to.mode, to.name, data.UserID, reason)
				}
				continue
			}
			// With a store the cookie of Encrypt is the same: a signed id.
			ids := strings.HasPrefix(from.mode, "MemoryStore") && strings.HasPrefix(to.mode, "MemoryStore") && from.name == to.name
			want := sessions.ReasonForged
			if ids {
				want = sessions.ReasonUnknown
			}
			if data.UserID != 0 || reason != want {
				t.Errorf("%s, %s to %s, %s: got user %d (%q), want a fresh session (%q)", from.mode, from.name, to.mode, to.name, data.UserID, reason, want)
			}
			if to.site.store != nil && !ids && to.site.store.count("Load") != 0 {
				t.Errorf("%s, %s to %s, %s: got a Load for a cookie that is not authentic, want none", from.mode, from.name, to.mode, to.name)
			}
		}
	}
}

func TestTurningEncryptOnOrOffStartsAfreshAndLeavesTheRecord(t *testing.T) {
	t.Parallel()
	for _, encrypt := range []bool{false, true} {
		store := new(sessions.MemoryStore)
		m := mode{store: func() sessions.Store { return store }, encrypt: encrypt}
		before := newSite(t, m, nil)
		b := before.browser()
		b.do(func(s *session) { s.Data.UserID = 42 })
		m.encrypt = !encrypt
		after := newSite(t, m, nil)
		c := after.browser()
		c.cookies["__Host-Http-session"] = b.cookie()
		if data, reason := c.peek(); data.UserID != 0 || reason != sessions.ReasonUndecodable {
			t.Errorf("Encrypt %v: got user %d (%q), want a fresh session (%q)", !encrypt, data.UserID, reason, sessions.ReasonUndecodable)
		}
		if data, reason := b.peek(); data.UserID != 42 {
			t.Errorf("Encrypt %v again: got user %d (%q), want 42: the record was to be left alone", encrypt, data.UserID, reason)
		}
	}
}

func TestASealedRecordServesNobodyElse(t *testing.T) {
	t.Parallel()
	for _, encrypt := range []bool{false, true} {
		t.Run(fmt.Sprintf("Encrypt %v", encrypt), func(t *testing.T) {
			t.Parallel()
			store := newPlainStore()
			s := newSite(t, mode{store: func() sessions.Store { return store }, encrypt: encrypt}, nil)
			alice, mallory := s.browser(), s.browser()
			var from, to string
			alice.do(func(s *session) { s.Data.UserID, from = 1, s.ID() })
			mallory.do(func(s *session) { s.Data.UserID, to = 2, s.ID() })
			ids := map[string]sessions.ID{}
			for id := range store.records {
				ids[id.String()] = id
			}
			rec := store.records[ids[to]]
			rec.Data = store.records[ids[from]].Data
			store.put(ids[to], rec)
			if data, reason := mallory.peek(); data.UserID != 0 || reason != sessions.ReasonUndecodable {
				t.Errorf("got user %d (%q), want a fresh session", data.UserID, reason)
			}
			if data, _ := alice.peek(); data.UserID != 1 {
				t.Errorf("got user %d, want 1", data.UserID)
			}
		})
	}
}

func TestTwoSecretsWithTheSameKeyIDBothVerify(t *testing.T) {
	t.Parallel()
	a, b := vectorSecret(29564), vectorSecret(69982)
	if keyIDOfSecret(a) != keyIDOfSecret(b) {
		t.Fatalf("got key ids %s and %s, want two that collide", keyIDOfSecret(a), keyIDOfSecret(b))
	}
	eachMode(t, func(t *testing.T, m mode) {
		keys := newKeys(t, a)
		s := newSite(t, m, func(c *config) { c.Keys = keys })
		old, fresh := s.browser(), s.browser()
		old.do(func(s *session) { s.Data.UserID = 1 })
		if err := keys.Replace(b, a); err != nil {
			t.Fatal(err)
		}
		fresh.do(func(s *session) { s.Data.UserID = 2 })
		before := old.cookie()
		for want, b := range map[int]*browser{1: old, 2: fresh} {
			b.do(func(s *session) {
				if s.Data.UserID != want {
					t.Errorf("got user %d (%s), want %d", s.Data.UserID, s.Reason(), want)
				}
				s.Data.N = 1 // seals the record anew
			})
		}
		if old.cookie() == before {
			t.Error("got the cookie of the older key still, want it re-issued")
		}
		if err := keys.Replace(b); err != nil {
			t.Fatal(err)
		}
		if data, reason := old.peek(); data.UserID != 1 {
			t.Errorf("got user %d (%s), want the re-issued cookie to be of the newest key", data.UserID, reason)
		}
		thief := s.browser()
		thief.cookies["__Host-Http-session"] = before
		if data, reason := thief.peek(); reason != sessions.ReasonForged {
			t.Errorf("got user %d (%q), want the cookie of the retired key refused, though its id is known", data.UserID, reason)
		}
	})
}

func TestAnUnknownKeyIDIsAFreshSession(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, m mode) {
		other := newSite(t, m, func(c *config) { c.Keys = newKeys(t, ringSecret(1)) }).browser()
		other.do(func(s *session) { s.Data.UserID = 42 })
		s := newSite(t, m, func(c *config) { c.Keys = newKeys(t, ringSecrets(2, 3)...) })
		b := s.browser()
		b.cookies["__Host-Http-session"] = other.cookie()
		res := b.do(func(s *session) {
			if s.Data.UserID != 0 || s.Reason() != sessions.ReasonForged {
				t.Errorf("got user %d (%q), want a fresh session (%q)", s.Data.UserID, s.Reason(), sessions.ReasonForged)
			}
		})
		if res.StatusCode != http.StatusOK || len(res.setCookies()) != 0 {
			t.Errorf("got status %d and %q, want 200 and no cookie", res.StatusCode, res.setCookies())
		}
		if s.store != nil && s.store.count("Load") != 0 {
			t.Errorf("got %d loads, want none", s.store.count("Load"))
		}
	})
}

func TestTheSameDataSealedTwiceDiffersAndShowsNothing(t *testing.T) {
	t.Parallel()
	const needle = "a name that nobody may read"
	fill := func(s *session) {
		s.Data = AppSession{UserID: 42, Name: needle, Role: "admin", Tags: []string{needle}}
		s.Flash(needle, needle)
	}
	shows := func(b []byte) bool {
		for _, text := range []string{needle, "name", "role", "admin", "tags"} {
			if bytes.Contains(b, []byte(text)) {
				return true
			}
		}
		return false
	}
	eachMode(t, func(t *testing.T, m mode) {
		store := newPlainStore()
		if m.hasStore() {
			m.store = func() sessions.Store { return store }
		}
		b := newSite(t, m, nil).browser()
		var seen [][]byte
		for i := range 4 { // the first and the third are the same, and so are the others
			b.do(func(s *session) {
				fill(s)
				s.Data.N = i % 2
			})
			stored, err := base64.RawURLEncoding.DecodeString(b.cookie())
			if err != nil {
				t.Fatal(err)
			}
			if m.hasStore() && shows(stored) {
				t.Errorf("got data in the cookie of a store's session, want an id only")
			}
			for _, rec := range store.records {
				stored = rec.Data
			}
			if shows(stored) == m.encrypt {
				t.Errorf("got readable %v, want %v", shows(stored), !m.encrypt)
			}
			for _, before := range seen {
				// Between format and key id and the end nothing repeats.
				if m.encrypt && (bytes.Equal(before[5:29], stored[5:29]) || bytes.Contains(stored, before[29:45])) {
					t.Error("got bytes of the value before, want a nonce and a key of its own for each")
				}
			}
			seen = append(seen, bytes.Clone(stored))
		}
	})
}

// The cryptography is the standard library's. These make sure that it is called
// as the standards have it.

func TestHMACIsThatOfRFC4231(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, key, data, want string // the beginning of it for test case 5, which is of a truncated one
	}{
		{"test case 1", strings.Repeat("0b", 20), hex.EncodeToString([]byte("Hi There")), "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"},
		{"test case 2", hex.EncodeToString([]byte("Jefe")), hex.EncodeToString([]byte("what do ya want for nothing?")), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"},
		{"test case 3", strings.Repeat("aa", 20), strings.Repeat("dd", 50), "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"},
		{"test case 4", "0102030405060708090a0b0c0d0e0f10111213141516171819", strings.Repeat("cd", 50), "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"},
		{"test case 5", strings.Repeat("0c", 20), hex.EncodeToString([]byte("Test With Truncation")), "a3b6167473100ee06e0c796c2955552b"},
		{"test case 6", strings.Repeat("aa", 131), hex.EncodeToString([]byte("Test Using Larger Than Block-Size Key - Hash Key First")), "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"},
		{"test case 7", strings.Repeat("aa", 131), hex.EncodeToString([]byte("This is a test using a larger than block-size key and a larger than block-size data. The key needs to be hashed before being used by the HMAC algorithm.")), "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2"},
	} {
		if len(tt.key) < 2*14 && fips140.Enforced() {
			continue // FIPS 140-3 allows no key below 112 bits
		}
		mac := hmac.New(sha256.New, unhex(t, tt.key))
		mac.Write(unhex(t, tt.data))
		if got := hex.EncodeToString(mac.Sum(nil)); !strings.HasPrefix(got, tt.want) {
			t.Errorf("%s: got %s, want %s", tt.name, got, tt.want)
		}
		mac.Reset() // as the library does
		mac.Write(unhex(t, tt.data))
		if got := hex.EncodeToString(mac.Sum(nil)); !strings.HasPrefix(got, tt.want) {
			t.Errorf("%s: got %s with the state used again, want %s", tt.name, got, tt.want)
		}
	}
}

func TestHKDFIsThatOfRFC5869WithoutASalt(t *testing.T) {
	t.Parallel()
	// Appendix A.3: no salt, as here.
	prk, err := hkdf.Extract(sha256.New, unhex(t, strings.Repeat("0b", 22)), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := hex.EncodeToString(prk), "19ef24a32c717b167f33a91d6f648bdf96596776afdb6377ac434c1c293ccb04"; got != want {
		t.Errorf("got PRK %s, want %s", got, want)
	}
	okm, err := hkdf.Expand(sha256.New, prk, "", 42)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := hex.EncodeToString(okm), "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"; got != want {
		t.Errorf("got OKM %s, want %s", got, want)
	}
	// Appendix A.1: with an info.
	prk = unhex(t, "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5")
	okm, err = hkdf.Expand(sha256.New, prk, string(unhex(t, "f0f1f2f3f4f5f6f7f8f9")), 42)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := hex.EncodeToString(okm), "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"; got != want {
		t.Errorf("got OKM %s, want %s", got, want)
	}
}

func TestAESGCMIsThatOfItsSpecification(t *testing.T) {
	t.Parallel()
	// McGrew and Viega, The Galois/Counter Mode of Operation, appendix B: those
	// with a key of 256 bits and a nonce of 96. The AEAD takes the nonce from the
	// beginning of what it opens, and makes none of its own choice.
	for _, tt := range []struct{ name, key, nonce, text, aad, want, tag string }{
		{"test case 13", strings.Repeat("00", 32), strings.Repeat("00", 12), "", "", "", "530f8afbc74536b9a963b4f1c4cb738b"},
		{"test case 14", strings.Repeat("00", 32), strings.Repeat("00", 12), strings.Repeat("00", 16), "", "cea7403d4d606b6e074ec5d3baf39d18", "d0d1c8a799996bf0265b98b5d48ab919"},
		{"test case 16", strings.Repeat("feffe9928665731c6d6a8f9467308308", 2), "cafebabefacedbaddecaf888",
			"d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
			"feedfacedeadbeeffeedfacedeadbeefabaddad2",
			"522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662", "76fc6ece0f4e1768cddf8853bb2d551b"},
	} {
		block, err := aes.NewCipher(unhex(t, tt.key))
		if err != nil {
			t.Fatal(err)
		}
		aead, err := cipher.NewGCMWithRandomNonce(block)
		if err != nil {
			t.Fatal(err)
		}
		got, err := aead.Open(nil, nil, unhex(t, tt.nonce+tt.want+tt.tag), unhex(t, tt.aad))
		if err != nil || hex.EncodeToString(got) != tt.text {
			t.Errorf("%s: got %x, %v, want %s", tt.name, got, err, tt.text)
		}
	}
}

func TestSealingIsXAES256GCM(t *testing.T) {
	t.Parallel()
	const nonce, plaintext = "ABCDEFGHIJKLMNOPQRSTUVWX", "XAES-256-GCM"
	for _, tt := range []struct {
		name string
		key  byte // 32 times
		aad  string
		want string
	}{
		{"the most significant bit of L is 0", 1, "", "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"},
		{"the most significant bit of L is 1", 3, "c2sp.org/XAES-256-GCM", "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			key := bytes.Repeat([]byte{tt.key}, 32)
			aead := sessions.SealingKey(key, []byte(nonce[:12]))
			opened, err := aead.Open(nil, nil, append([]byte(nonce[12:]), unhex(t, tt.want)...), []byte(tt.aad))
			if err != nil || string(opened) != plaintext {
				t.Errorf("got %q, %v, want %q", opened, err, plaintext)
			}
			// It draws the second half of the nonce itself, so the way back is
			// checked against the tests' own composition.
			sealed := aead.Seal(nil, nil, []byte(plaintext), []byte(tt.aad))
			if len(sealed) != 12+len(plaintext)+16 || string(sealed[:12]) == nonce[12:] {
				t.Errorf("got %d bytes, want half a nonce of its own, the text and a tag", len(sealed))
			}
			if opened, err := xaes(key, []byte(nonce[:12])).Open(nil, nil, sealed, []byte(tt.aad)); err != nil || string(opened) != plaintext {
				t.Errorf("got %q, %v, want %q", opened, err, plaintext)
			}
			if _, err := aead.Open(nil, nil, sealed, []byte(tt.aad+"x")); err == nil {
				t.Error("got no error with other associated data, want one")
			}
		})
	}
}

// The specification's own random test: the hash of 10,000 messages, of keys,
// nonces, texts and associated data that a SHAKE128 of nothing gives.
func TestSealingIsXAES256GCMForTenThousandMessages(t *testing.T) {
	t.Parallel()
	const want = "e6b9edf2df6cec60c8cbd864e2211b597fb69a529160cd040d56c0c210081939"
	source, sum := sha3.NewSHAKE128(), sha3.NewSHAKE128()
	draw := func(n int) []byte {
		b := make([]byte, n)
		_, _ = source.Read(b)
		return b
	}
	for range 10_000 {
		key, nonce := draw(32), draw(24)
		text := draw(int(draw(1)[0]))
		aad := draw(int(draw(1)[0]))
		var sealed []byte
		// FIPS 140-3 lets nobody choose a nonce, which a known answer needs.
		fips140.WithoutEnforcement(func() {
			sealed = xaesWith(cipher.NewGCM, key, nonce[:12]).Seal(nil, nonce[12:], text, aad)
		})
		_, _ = sum.Write(sealed)
		opened, err := sessions.SealingKey(key, nonce[:12]).Open(nil, nil, append(nonce[12:], sealed...), aad)
		if err != nil || !bytes.Equal(opened, text) {
			t.Fatalf("got %x, %v, want %x", opened, err, text)
		}
	}
	got := make([]byte, 32)
	if _, _ = sum.Read(got); hex.EncodeToString(got) != want {
		t.Errorf("got %x, want %s", got, want)
	}
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestOneRingServesManyManagersAtOnce(t *testing.T) {
	t.Parallel()
	keys := newKeys(t, ringSecret(1))
	var sites []*site
	for _, name := range []string{"__Host-a-session", "__Host-b-session"} {
		for _, m := range modes {
			sites = append(sites, newSite(t, m, func(c *config) { c.Keys, c.Cookie.Name = keys, name }))
		}
	}
	// A Replace reaches all of them, also those that have derived their keys.
	for i, s := range sites {
		b := s.browser()
		b.do(func(s *session) { s.Data.UserID = i })
	}
	if err := keys.Replace(ringSecret(2)); err != nil {
		t.Fatal(err)
	}
	for _, s := range sites {
		b := s.browser()
		b.do(func(s *session) { s.Data.UserID = 1 })
		if got, want := keyIDOf(t, b.cookie()), keyIDOfSecret(ringSecret(2)); got != want {
			t.Errorf("got key %s, want %s", got, want)
		}
	}
}
