package main

import (
	"errors"
	"regexp"
	"strings"
)

// A cookie is a name and a value, as in a Cookie header. The name is "" if only
// the value is known.
type cookie struct{ name, value string }

// curl matches the beginning of a curl command line, which may have a prompt,
// a path or "time" before it.
var curl = regexp.MustCompile(`^[^'"=]*?(?:^|[\s/\\])(curl(?:\.exe)?\s)`)

// cookiesIn returns the cookies in a text: a value, name=value, headers, the output
// of curl -v, or a curl command line.
func cookiesIn(text string) ([]cookie, error) {
	text = strings.TrimSpace(strings.TrimPrefix(text, "\ufeff"))
	var cookies []cookie
	headers := false
	for line := range strings.Lines(text) {
		name, value, ok := strings.Cut(strings.TrimLeft(line, "<>* \t"), ":") // curl -v puts < or > before a header
		switch {
		case ok && strings.EqualFold(name, "Cookie"):
			cookies = append(cookies, pairs(value)...)
			headers = true
		case ok && strings.EqualFold(name, "Set-Cookie"):
			value, _, _ = strings.Cut(value, ";") // without the attributes
			cookies = append(cookies, pairs(value)...)
			headers = true
		}
	}
	if headers || text == "" {
		return cookies, nil
	}
	if at := curl.FindStringSubmatchIndex(text); at != nil {
		text = text[at[2]:]
		if strings.Contains(text, `^"`) { // for cmd.exe of Windows, whose escape character is ^
			text = strings.NewReplacer("^\r\n", " ", "^\n", " ", "^^", "^", "^", "").Replace(text)
		}
		words, err := shellWords(text)
		return cookiesOfCurl(words), err
	}
	first, _, _ := strings.Cut(text, ";")
	if !strings.Contains(strings.TrimRight(first, "="), "=") {
		return []cookie{{value: text}}, nil
	}
	return pairs(text), nil
}

// pairs splits the value of a Cookie header (RFC 6265, section 5.4). The header may
// be part of another text, such as the command line of another tool. So pairs
// removes text before a name and after a value, by characters that a name does not
// contain and quotes that do not enclose the whole value.
func pairs(s string) (cookies []cookie) {
	for part := range strings.SplitSeq(s, ";") {
		name, value, ok := strings.Cut(part, "=")
		if !ok {
			continue
		}
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		name = name[strings.LastIndexAny(name, " \t\r\n\"'`:,([{<>")+1:]
		if at := strings.IndexAny(value, "\"'`"); at > 0 {
			value = value[:at]
		}
		cookies = append(cookies, cookie{name, value})
	}
	return cookies
}

// cookiesOfCurl returns the cookies of the options -b, --cookie and
// -H 'Cookie: …'.
func cookiesOfCurl(words []string) (cookies []cookie) {
	for i, word := range words {
		next := ""
		if i+1 < len(words) {
			next = words[i+1]
		}
		switch {
		case word == "--cookie":
			word = "b"
		case word == "--header":
			word = "H"
		case len(word) >= 2 && word[0] == '-' && word[1] != '-':
			// Short options can be combined, also with their value: -sb a=b, -ba=b.
			at := strings.IndexFunc(word[1:], func(r rune) bool { return !strings.ContainsRune("sSkLfgiIjNqv0123456#", r) })
			if at < 0 {
				continue
			}
			if value := word[1+at+1:]; value != "" {
				next = value
			}
			word = word[1+at : 1+at+1]
		default:
			continue
		}
		switch name, value, _ := strings.Cut(next, ":"); {
		case word == "b":
			cookies = append(cookies, pairs(next)...)
		case word == "H" && strings.EqualFold(strings.TrimSpace(name), "Cookie"):
			cookies = append(cookies, pairs(value)...)
		}
	}
	return cookies
}

// shellWords splits a command line as a shell does. It supports $'…', which browsers
// write, but no variables.
func shellWords(s string) (words []string, err error) {
	var word strings.Builder
	begun := false
	for i := 0; i < len(s); {
		c := s[i]
		i++
		switch {
		case strings.IndexByte(" \t\r\n", c) >= 0:
			if begun {
				words = append(words, word.String())
			}
			word.Reset()
			begun = false
			continue
		case c == '\\' && i < len(s):
			if s[i] == '\r' && i+1 < len(s) && s[i+1] == '\n' {
				i++
			}
			if s[i] != '\n' { // a backslash before a newline continues the line
				word.WriteByte(s[i])
				begun = true
			}
			i++
			continue
		case c == '$' && i < len(s) && s[i] == '\'', c == '\'', c == '"':
			quote, escapes := c, c != '\''
			if c == '$' {
				quote = '\''
				i++
			}
			for ; i < len(s) && s[i] != quote; i++ {
				if escapes && s[i] == '\\' && i+1 < len(s) {
					i++
				}
				word.WriteByte(s[i])
			}
			if i == len(s) {
				return words, errors.New("inspect: unclosed quote in the curl command line")
			}
			i++
		default:
			word.WriteByte(c)
		}
		begun = true
	}
	if begun {
		words = append(words, word.String())
	}
	return words, nil
}
