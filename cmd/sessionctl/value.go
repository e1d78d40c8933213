package main

import (
	"encoding/base64"
	"net/url"
	"strings"

	"github.com/typedsessions/sessions/internal/wire"
)

// maxValue is the most characters that the library reads.
const maxValue = 4096

// decoded returns what a value of the right alphabet encodes, without a last
// character that stands for nothing whole, and whether it is spelled exactly.
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

// misspelling says what in a value is not of its alphabet.
func misspelling(value string) string {
	at := strings.IndexFunc(value, func(c rune) bool { return !strings.ContainsRune(alphabet, c) })
	switch {
	case at < 0:
		return ""
	case len(value) > 1 && value[0] == '"' && value[len(value)-1] == '"':
		return "stands in quotes"
	case strings.Contains(value, "%"):
		return "is percent-encoded"
	case strings.ContainsAny(value, " \t\r\n"):
		return "has blanks or line breaks in it"
	case strings.ContainsAny(value, "+/"):
		return "is in the other alphabet of base64, with + and /"
	case value[at] == '=' && strings.Trim(value[at:], "=") == "":
		return "is padded with ="
	}
	return "has characters that base64url has not"
}

// respelled undoes what programs do to a value on its way.
func respelled(value string) string {
	value = strings.Trim(value, `"`)
	if plain, err := url.PathUnescape(value); err == nil {
		value = plain
	}
	value = strings.NewReplacer("+", "-", "/", "_", " ", "", "\t", "", "\r", "", "\n", "").Replace(value)
	return strings.TrimRight(strings.Trim(value, `"`), "=")
}
