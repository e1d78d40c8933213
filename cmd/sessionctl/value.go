package main

import (
	"encoding/base64"
	"net/url"
	"strings"

	"github.com/typedsessions/sessions/internal/wire"
)

// maxValue is the length of the longest value that the library reads.
const maxValue = 4096

// decoded returns the token that a value of the right alphabet encodes, and reports
// whether the value is its canonical form. It drops a last character that does not
// encode a whole byte.
func decoded(value string) (token []byte, exact bool) {
	if token, ok := wire.AppendToken(nil, value); ok {
		return token, true
	}
	if len(value)%4 == 1 {
		value = value[:len(value)-1]
	}
	token, _ = base64.RawURLEncoding.DecodeString(value)
	return token, false
}

const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

// misspelling describes characters of a value that are not in its alphabet. It
// returns "" if there are none.
func misspelling(value string) string {
	at := strings.IndexFunc(value, func(c rune) bool { return !strings.ContainsRune(alphabet, c) })
	switch {
	case at < 0:
		return ""
	case len(value) > 1 && value[0] == '"' && value[len(value)-1] == '"':
		return "is in quotes"
	case strings.Contains(value, "%"):
		return "is percent-encoded"
	case strings.ContainsAny(value, " \t\r\n"):
		return "contains spaces or line breaks"
	case strings.ContainsAny(value, "+/"):
		return "uses the standard base64 alphabet, with + and /"
	case value[at] == '=' && strings.Trim(value[at:], "=") == "":
		return "is padded with ="
	}
	return "contains characters that are not in base64url"
}

// respelled undoes common changes that programs make to a value.
func respelled(value string) string {
	value = strings.Trim(value, `"`)
	if plain, err := url.PathUnescape(value); err == nil {
		value = plain
	}
	value = strings.NewReplacer("+", "-", "/", "_", " ", "", "\t", "", "\r", "", "\n", "").Replace(value)
	return strings.TrimRight(strings.Trim(value, `"`), "=")
}
