package main

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/sessiontest"
)

type AppSession struct {
	UserID int    `msgpack:"uid"`
	Name   string `msgpack:"name"`
}

// secret is the secret of the cookies that the tests create.
const secret = "TCRrf9UBwEacUY93qOzeccW4AIzPeW+li7zdr1QdGHM="

// newCookie returns a cookie that the library made with the secret.
func newCookie(t *testing.T, secret string, change func(*sessions.Config[AppSession])) *http.Cookie {
	t.Helper()
	keys, err := sessions.ParseKeyring(secret)
	if err != nil {
		t.Fatal(err)
	}
	config := sessions.Config[AppSession]{Keys: keys}
	change(&config)
	m, err := sessions.New(config)
	if err != nil {
		t.Fatal(err)
	}
	return sessiontest.Cookie(t, m, AppSession{UserID: 42, Name: "Ada"})
}

var modesOfCookies = []struct {
	name   string
	change func(*sessions.Config[AppSession])
	want   []string
}{
	{"signed", func(*sessions.Config[AppSession]) {}, []string{"mode       signed session", `"uid": 42`, `"name": "Ada"`, "last used"}},
	{"sealed", func(c *sessions.Config[AppSession]) { c.Encrypt = true }, []string{"mode       sealed session", `"uid": 42`, `"name": "Ada"`, "last used"}},
	{"in a store", func(c *sessions.Config[AppSession]) { c.Store = new(sessions.MemoryStore) }, []string{"mode       signed id"}},
}

func TestGoodCookiesAreExplained(t *testing.T) {
	for _, tt := range modesOfCookies {
		t.Run(tt.name, func(t *testing.T) {
			c := newCookie(t, secret, tt.change)
			got := call(t, secret, c.Name+"="+c.Value, "inspect")
			for _, want := range append(tt.want, "good: authentic", `cookie     "__Host-Http-session"`, "1 of 1", "created    ", "expires    ") {
				if !strings.Contains(got.stdout, want) {
					t.Errorf("got\n%s\nwant %q in it", got.stdout, want)
				}
			}
			if got.status != 0 || got.stderr != "" {
				t.Errorf("got status %d and stderr %q, want 0 and none", got.status, got.stderr)
			}
		})
	}
}

func TestEachReasonForARefusalHasItsOwnExplanation(t *testing.T) {
	const good, flipped, old, name, truncated, expired = "good:", "refused: forged:", "refused: unknown key:", "refused: another name:", "refused: cut short:", "refused: expired:"
	for _, tt := range modesOfCookies {
		t.Run(tt.name, func(t *testing.T) {
			c := newCookie(t, secret, tt.change)
			var gone *http.Cookie
			synctest.Test(t, func(t *testing.T) { gone = newCookie(t, secret, tt.change) }) // in the year 2000
			bit, err := base64.RawURLEncoding.DecodeString(c.Value)
			if err != nil {
				t.Fatal(err)
			}
			bit[20] ^= 1
			other := base64.StdEncoding.EncodeToString(sessions.NewSecret())
			cut := c.Value[:len(c.Value)-8]
			for _, call := range []struct{ want, verdict string }{
				{good, inspectOne(t, secret, c.Value)},
				{flipped, inspectOne(t, secret, base64.RawURLEncoding.EncodeToString(bit))},
				{old, inspectOne(t, other, c.Value)},
				{name, inspectOne(t, secret, "app="+c.Value)},
				{expired, inspectOne(t, secret, gone.Value)},
				// A sealed token does not contain its length.
				{map[bool]string{true: flipped, false: truncated}[tt.name == "sealed"], inspectOne(t, secret, cut)},
				{truncated, inspectOne(t, secret, c.Value[:80])},
			} {
				if !strings.HasPrefix(call.verdict, call.want) {
					t.Errorf("got %q, want %q", call.verdict, call.want)
				}
			}
		})
	}
}

func TestATruncatedValueIsReportedAsCutShort(t *testing.T) {
	for _, tt := range modesOfCookies {
		if tt.name == "sealed" {
			continue // a sealed token does not contain its length
		}
		c := newCookie(t, secret, tt.change)
		for n := 2; n < len(c.Value); n++ {
			if got := inspectOne(t, secret, c.Value[:n]); !strings.HasPrefix(got, "refused: cut short: ") {
				t.Errorf("%s, %d of %d characters: got %s", tt.name, n, len(c.Value), got)
			}
		}
	}
}

func TestEveryChangedBitIsRefused(t *testing.T) {
	for _, tt := range modesOfCookies {
		c := newCookie(t, secret, tt.change)
		token, err := base64.RawURLEncoding.DecodeString(c.Value)
		if err != nil {
			t.Fatal(err)
		}
		for bit := range 8 * len(token) {
			token[bit/8] ^= 1 << (bit % 8)
			got := inspectOne(t, secret, base64.RawURLEncoding.EncodeToString(token))
			if !strings.HasPrefix(got, "refused: ") || strings.Contains(got, "it is authentic") || bit/8 >= 1 && bit/8 < 5 != strings.Contains(got, "unknown key: ") {
				t.Errorf("%s, bit %d: got %s", tt.name, bit, got)
			}
			token[bit/8] ^= 1 << (bit % 8)
		}
	}
}

// inspectOne runs inspect in this process and returns its output.
func inspectOne(t testing.TB, keys, text string) string {
	t.Helper()
	var out, errs bytes.Buffer
	t.Setenv("SESSION_KEYS", keys)
	c := command{in: strings.NewReader(text), out: &out, err: &errs}
	if status := c.run([]string{"inspect"}); (status == done) != strings.Contains("\n"+out.String(), "\ngood: ") {
		t.Errorf("got status %d with stdout %q and stderr %q", status, out.String(), errs.String())
	}
	return out.String()
}

func TestEveryVectorHasTheRightVerdict(t *testing.T) {
	files, err := filepath.Glob("../../testdata/vectors/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no vectors: %v", err)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var file struct {
			Vectors []struct {
				Name, Mode, Cookie, Value, Result string
				Secrets                           []string
				Holds                             struct {
					ID      string
					Expires int64
				}
			}
		}
		if err := json.Unmarshal(b, &file); err != nil {
			t.Fatal(err)
		}
		for _, v := range file.Vectors {
			if strings.Contains(v.Mode, "record") {
				continue // a cookie does not contain the record
			}
			got := inspectOne(t, strings.Join(v.Secrets, ","), "Cookie: "+v.Cookie+"="+v.Value)
			ok := strings.HasPrefix(got, "good: ")
			over := strings.HasPrefix(got, "refused: expired: ")
			switch v.Result {
			case "ok":
				if over == (v.Holds.Expires > time.Now().Unix()) || !ok && !over || !strings.Contains(got, "\nid         "+v.Holds.ID+"\n") {
					t.Errorf("%s: got\n%s", v.Name, got)
				}
			case "forged":
				// inspect accepts every format, whichever a Manager would expect.
				if (ok || over) && !strings.Contains(v.Name, " is expected") {
					t.Errorf("%s: got\n%s\nwant a refusal as not authentic", v.Name, got)
				}
			default:
				if !over {
					t.Errorf("%s: got\n%s\nwant a refusal as expired", v.Name, got)
				}
			}
		}
	}
}

func TestNoSecretIsPrinted(t *testing.T) {
	c := newCookie(t, secret, modesOfCookies[2].change)
	token, err := base64.RawURLEncoding.DecodeString(c.Value)
	if err != nil {
		t.Fatal(err)
	}
	id := token[15:47]
	all := func(o output) string { return o.stdout + o.stderr }
	for name, got := range map[string]string{
		"a good cookie":   all(call(t, secret, c.Value, "inspect")),
		"another name":    all(call(t, secret, c.Value, "inspect", "-name", "app")),
		"a forged cookie": all(call(t, secret, c.Value[:70]+"AAAA"+c.Value[74:], "inspect")),
		"a wrong list":    all(call(t, secret+",!"+secret, c.Value, "inspect")),
		"a double secret": all(call(t, secret+","+secret, c.Value, "rotate")),
		"a wrong -keep":   all(call(t, secret, "", "rotate", "-keep", secret)),
		"no command":      all(call(t, secret, c.Value, c.Value)),
		"too many":        all(call(t, secret, "", "keygen", c.Value)),
	} {
		for _, hidden := range []string{secret, secret[:20], hex.EncodeToString(id), base64.RawURLEncoding.EncodeToString(id), c.Value[20:60]} {
			if strings.Contains(got, hidden) {
				t.Errorf("%s: the output shows a secret:\n%s", name, got)
			}
		}
	}
}

func TestTheShellMaySplitTheCurlLine(t *testing.T) {
	c := newCookie(t, secret, modesOfCookies[0].change)
	for _, args := range [][]string{
		{"curl", "https://example.com/", "-b", "a=b; __Host-Http-session=" + c.Value},
		{"curl", "https://example.com/", "-b__Host-Http-session=" + c.Value},
		{"curl", "-sSL", "--header", "cookie: __Host-Http-session=" + c.Value},
		{"curl", "-LH", "Cookie:__Host-Http-session=" + c.Value},
		{"curl", "--cookie", "__Host-Http-session=" + c.Value},
		{"Cookie:", "a=b;", "__Host-Http-session=" + c.Value},
		{"-name", "__Host-Http-session", "a=b; __Host-Http-session=" + c.Value},
	} {
		if got := call(t, secret, "", append([]string{"inspect"}, args...)...); got.status != 0 || !strings.Contains(got.stdout, "good: ") {
			t.Errorf("inspect %q: got status %d and\n%s%s", args, got.status, got.stdout, got.stderr)
		}
	}
}

func TestACurlLineOfWindowsIsRead(t *testing.T) {
	c := newCookie(t, secret, modesOfCookies[0].change)
	line := "curl ^\"https://example.com/?a=1^&b=2^\" ^\r\n  -H ^\"accept: */*^\" ^\r\n  -H ^\"cookie: a=b; __Host-Http-session=" + c.Value + "^\""
	if got := call(t, secret, line, "inspect"); got.status != 0 || !strings.Contains(got.stdout, "good: ") {
		t.Errorf("got status %d and\n%s%s", got.status, got.stdout, got.stderr)
	}
}

func TestCookieIsFoundInWhatPeopleCopy(t *testing.T) {
	c := newCookie(t, secret, modesOfCookies[0].change)
	pair := c.Name + "=" + c.Value
	for _, tt := range []struct{ name, text string }{
		{"behind a prompt", "$ curl 'https://example.com/?a=1' -b '" + pair + "'"},
		{"behind a prompt with names", "ada@host:~$ curl 'https://example.com/?a=1' -b 'a=b; " + pair + "'"},
		{"with the path of curl", `/usr/bin/curl "https://example.com/?a=1" -H "Cookie: ` + pair + `"`},
		{"with time", "time curl 'https://example.com/?a=1' -b '" + pair + "'"},
		{"the request headers of curl -v", "> GET / HTTP/2\r\n> User-Agent: curl/8.14.1\r\n> Cookie: a=b; " + pair + "\r\n> \r\n* Request completely sent off"},
		{"the request headers of curl -v, with its command", "$ curl -v -b jar https://example.com/\n> GET / HTTP/2\n> Cookie: " + pair + "\n"},
		{"the response headers of curl -v", "< HTTP/2 200\n< Set-Cookie: " + pair + "; Path=/; Secure\n< "},
		{"a header in quotes", `"Cookie: ` + pair + `"`},
		{"a header in single quotes", "'Cookie: a=b; " + pair + "'"},
		{"another tool", "wget --header 'Cookie: " + pair + "' https://example.com/"},
		{"a call of fetch", "fetch(\"https://example.com/\", {\n  \"headers\": {\n    \"cookie\": \"a=b; " + pair + "\"\n  }\n});"},
		{"a file with a byte order mark", "\ufeffCookie: " + pair + "\r\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := inspectOne(t, secret, tt.text); !strings.Contains("\n"+got, "\ngood: ") || !strings.Contains(got, `cookie     "__Host-Http-session"`) {
				t.Errorf("got\n%s", got)
			}
		})
	}
	if got := call(t, secret, pair, "inspect", "-"); got.status != 0 {
		t.Errorf(`with the argument "-": got status %d and\n%s%s`, got.status, got.stdout, got.stderr)
	}
}

func TestCookieThatIsRemovedIsNotCalledBroken(t *testing.T) {
	got := inspectOne(t, secret, "Set-Cookie: __Host-Http-session=; Path=/; Max-Age=0; Secure")
	if !strings.HasPrefix(got, "refused: no session: the value is empty\n") || !strings.Contains(got, "ends a session") {
		t.Errorf("got\n%s", got)
	}
}

func TestSeveralSessionsAreAllExplained(t *testing.T) {
	c := newCookie(t, secret, modesOfCookies[0].change)
	got := call(t, secret, "Cookie: __Host-Http-session="+c.Value+"; theme=dark; session="+c.Value, "inspect")
	if got.status != 1 || !strings.HasPrefix(got.stdout, "2 of 3 cookies") || !strings.Contains(got.stdout, "good: ") || !strings.Contains(got.stdout, "refused: another name: ") {
		t.Errorf("got status %d and\n%s", got.status, got.stdout)
	}
}

func FuzzInspect(f *testing.F) {
	names, err := filepath.Glob("testdata/*.txt")
	if err != nil {
		f.Fatal(err)
	}
	seeds := 0
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		if in := sections(string(text))["stdin"]; strings.TrimSpace(in) != "" {
			f.Add(in)
			seeds++
		}
	}
	if seeds < 20 {
		f.Fatalf("%d seeds, want at least 20", seeds)
	}
	f.Setenv("SESSION_KEYS", secret)
	f.Fuzz(func(t *testing.T, text string) {
		var out, errs bytes.Buffer
		c := command{in: strings.NewReader(text), out: &out, err: &errs}
		status := c.run([]string{"inspect"})
		if status == 0 && !strings.Contains(out.String(), "good: ") {
			t.Errorf("got status 0 and %q", out.String())
		}
		for _, r := range out.String() {
			if r != '\n' && !unicode.IsPrint(r) {
				t.Errorf("the output contains %q, which may control a terminal", r)
			}
		}
	})
}

func FuzzDataJSON(f *testing.F) {
	for _, seed := range []string{
		"\x81\xa1a\x01", "\x82\x01\xc0\xa1b\xcb\x7f\xf0\x00\x00\x00\x00\x00\x00", "\x81\xa1t\xd6\xff\x00\x00\x00\x00",
		"\xdf\xff\xff\xff\xff", "\x81\xa1a\xdd\xff\xff\xff\xff", "\x81\x91\xc2\xc4\x02\x00\xff", "\x81\xa2\x1b[\xa4\xf3\xa0\x80\x81",
		"\x81\xa1e\xc7\x0c\xff\x00\x00\x00\x00\x7f\xff\xff\xff\xff\xff\xff\xff", "\x81\xa1e\xd4\x05\x00",
		"\x81\xa1a" + strings.Repeat("\x91", 200) + "\x01",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := dataJSON(b)
		if err == nil && !json.Valid(got) {
			t.Errorf("%x: got %s, which is not JSON", b, got)
		}
		if len(got) > 4096+64*len(b) {
			t.Errorf("got %d bytes of JSON from %d bytes", len(got), len(b))
		}
	})
}

func TestDataAsJSON(t *testing.T) {
	for _, tt := range []struct{ name, data, want string }{
		{"an empty map", "\x80", `{}`},
		{"integers", "\x85\xa1a\x7f\xa1b\xe0\xa1c\xd1\x80\x00\xa1d\xcf\xff\xff\xff\xff\xff\xff\xff\xff\xa1e\xd3\x80\x00\x00\x00\x00\x00\x00\x00", `{"a":127,"b":-32,"c":-32768,"d":18446744073709551615,"e":-9223372036854775808}`},
		{"floats", "\x83\xa1f\xca\x3f\xc0\x00\x00\xa1g\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00\xa1h\xcb\xff\xf0\x00\x00\x00\x00\x00\x00", `{"f":1.5,"g":"NaN","h":"-Inf"}`},
		{"bytes", "\x81\xa1b\xc4\x02\x00\xff", `{"b":"AP8="}`},
		{"keys that are no strings", "\x83\x01\xc0\xc2\xc0\xff\xc0", `{"1":null,"false":null,"-1":null}`},
		{"a key that is an array", "\x81\x92\x01\xa1a\xc0", `{"[1,\"a\"]":null}`},
		{"a key that is a map", "\x81\x81\x01\x02\xc0", `{"{\"1\":2}":null}`},
		{"a map whose key's key is a map", "\x81\x81\x80\x02\xc0", "a map key contains a key that is an array or a map, which no Go type has"},
		{"maps as keys of maps, a hundred deep", "\x81\xa1a" + strings.Repeat("\x81", 98) + "\x80" + strings.Repeat("\xc0", 99), "a map key contains a key that is an array or a map, which no Go type has"},
		{"a time", "\x81\xa1t\xd6\xff\x00\x00\x00\x00", `{"t":"1970-01-01T00:00:00Z"}`},
		{"an extension", "\x81\xa1e\xd4\x05\x00", `{"e":{"extension":5,"bytes":"AA=="}}`},
		{"a control sequence of a terminal", "\x81\xa1s\xa4\x1b[2J", "{\"s\":\"\\u001b[2J\"}"},
		{"a character of two UTF-16 units", "\x81\xa1s\xa4\xf3\xa0\x80\x81", "{\"s\":\"\\udb40\\udc01\"}"},
		{"no map", "\x91\x01", "it is not a map"},
		{"no bytes", "", "it is incomplete"},
		{"half a map", "\x81\xa1a", "it is incomplete"},
		{"a byte after the map", "\x80\x80", "there are bytes after it"},
		{"four billion entries", "\xdf\xff\xff\xff\xff", "it is incomplete"},
		{"the byte that MessagePack never uses", "\x81\xa1a\xc1", "it is not MessagePack"},
		{"too deep", "\x81\xa1a" + strings.Repeat("\x91", 101) + "\x01", "it is nested more than 100 levels deep"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := dataJSON([]byte(tt.data))
			if err != nil {
				got = []byte(err.Error())
			}
			if string(got) != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}
