package dbsc

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/typedsessions/sessions/internal/cookie"
)

func TestHeaderValuesCountQuotedAndBare(t *testing.T) {
	for _, tt := range []struct {
		name  string
		lines []string
		want  string // "": refused
	}{
		{"quoted, as the draft has it", []string{`"abc.d-e_f"`}, "abc.d-e_f"},
		{"bare, as Chromium sends it", []string{`abc.d-e_f`}, "abc.d-e_f"},
		{"with blanks around", []string{" \tabc "}, "abc"},
		{"none", nil, ""},
		{"empty", []string{""}, ""},
		{"an empty string", []string{`""`}, ""},
		{"an open quote", []string{`"abc`}, ""},
		{"a single quote", []string{`"`}, ""},
		{"an escape", []string{`"a\"c"`}, ""},
		{"a parameter", []string{`abc;x=1`}, ""},
		{"a list", []string{`abc, def`}, ""},
		{"two headers", []string{"abc", "abc"}, ""},
		{"too long", []string{strings.Repeat("a", 65)}, ""},
		{"as long as allowed, quoted", []string{`"` + strings.Repeat("a", 64) + `"`}, strings.Repeat("a", 64)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := value(http.Header{"X": tt.lines}, "X", 64)
			if got != tt.want || ok != (tt.want != "") {
				t.Errorf("got %q, %v", got, ok)
			}
		})
	}
}

func TestSkippedNamesTheSession(t *testing.T) {
	for _, tt := range []struct{ name, line, want string }{
		{"unreachable", `unreachable;session_identifier="abc"`, "unreachable"},
		{"server_error", `server_error;session_identifier="abc"`, "server_error"},
		{"quota_exceeded", `quota_exceeded; session_identifier="abc"`, "quota_exceeded"},
		{"the second of a list", `unreachable;session_identifier="x", quota_exceeded;session_identifier="abc"`, "quota_exceeded"},
		{"without quotes", `unreachable;session_identifier=abc`, "unreachable"},
		{"another session", `unreachable;session_identifier="abd"`, ""},
		{"no session", `unreachable`, ""},
		{"a reason that is not known", `"<b>";session_identifier="abc"`, "for a reason that is not known here"},
		{"nothing", ``, ""},
		{"too long", strings.Repeat(" ", maxHeader) + `unreachable;session_identifier="abc"`, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := skipped(http.Header{skippedHeader: {tt.line}}, "abc"); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestOfTheCookiesTheExactNameCounts(t *testing.T) {
	for _, tt := range []struct {
		line string
		want []string
	}{
		{"", nil},
		{"a=1; n=2; b=3", []string{"2"}},
		{"n=2", []string{"2"}},
		{"n=2;n=3 ;\t n= 4\t", []string{"2", "3", " 4"}},
		{"xn=1; n =2; N=3; nn=4; x=n=5", nil},
		{"n=", []string{""}},
		{";;n=1;;", []string{"1"}},
	} {
		var got []string
		for rest := tt.line; ; {
			value, after, ok := nextCookie(rest, "n=")
			if !ok {
				break
			}
			got, rest = append(got, value), after
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%q: got %q, want %q", tt.line, got, tt.want)
		}
	}
}

func FuzzHeaders(f *testing.F) {
	for _, seed := range []string{`"abc"`, `abc`, `unreachable;session_identifier="abc"`, `"`, `;;,,==`, "a=1; n=2; xn=3;n=4"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, line string) {
		if v, ok := value(http.Header{"X": {line}}, "X", 64); ok && (v == "" || len(v) > 64 || strings.ContainsAny(v, "\" ,;\\")) {
			t.Errorf("%q is read as %q", line, v)
		}
		spec, _ := cookie.Attributes{Name: "n"}.Spec(0)
		for rest, other := line, line; ; {
			value, after, ok := nextCookie(rest, "n=")
			want, behind, found := spec.Next(other)
			if ok != found || value != want {
				t.Fatalf("%q: got the cookie %q, package cookie %q", line, value, want)
			}
			if !ok {
				break
			}
			rest, other = after, behind
		}
		if why := skipped(http.Header{skippedHeader: {line}}, "abc"); why != "" && !strings.Contains(line, "abc") {
			t.Errorf("%q names the session", line)
		}
	})
}
