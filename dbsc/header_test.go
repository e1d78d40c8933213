package dbsc

import (
	"net/http"
	"strings"
	"testing"
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

func FuzzHeaders(f *testing.F) {
	for _, seed := range []string{`"abc"`, `abc`, `unreachable;session_identifier="abc"`, `"`, `;;,,==`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, line string) {
		if v, ok := value(http.Header{"X": {line}}, "X", 64); ok && (v == "" || len(v) > 64 || strings.ContainsAny(v, "\" ,;\\")) {
			t.Errorf("%q is read as %q", line, v)
		}
		if why := skipped(http.Header{skippedHeader: {line}}, "abc"); why != "" && !strings.Contains(line, "abc") {
			t.Errorf("%q names the session", line)
		}
	})
}
