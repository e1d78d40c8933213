package main

import "strings"

// deviceLabel turns a User-Agent header into a few words by which a person
// knows his own devices: "Firefox on Linux". It is a label and no more, since
// a browser may say whatever it likes.
func deviceLabel(userAgent string) string {
	browser := firstMatch(userAgent, browsers, "A browser")
	if system := firstMatch(userAgent, systems, ""); system != "" {
		return browser + " on " + system
	}
	return browser
}

// Browsers claim to be each other, so the order matters: Edge and Opera say
// Chrome too, and all of them say Safari.
var browsers = [][2]string{
	{"Edg", "Edge"}, {"OPR/", "Opera"}, {"SamsungBrowser/", "Samsung Internet"},
	{"Firefox/", "Firefox"}, {"FxiOS/", "Firefox"},
	{"Chrome/", "Chrome"}, {"CriOS/", "Chrome"}, {"Safari/", "Safari"},
	{"curl/", "curl"}, {"Go-http-client/", "A Go program"},
}

// Android says Linux, and iPhones say "like Mac OS X".
var systems = [][2]string{
	{"Android", "Android"}, {"iPhone", "iPhone"}, {"iPad", "iPad"},
	{"CrOS", "ChromeOS"}, {"Windows", "Windows"}, {"Mac OS X", "macOS"}, {"Linux", "Linux"},
}

func firstMatch(s string, table [][2]string, otherwise string) string {
	for _, entry := range table {
		if strings.Contains(s, entry[0]) {
			return entry[1]
		}
	}
	return otherwise
}
