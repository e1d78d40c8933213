package shop

import "strings"

// deviceLabel turns a User-Agent header into a few words by which users
// recognize their devices: "Firefox on Linux". It is good for nothing else,
// since a client may send any header.
func deviceLabel(userAgent string) string {
	browser := firstMatch(userAgent, browsers, "A browser")
	if system := firstMatch(userAgent, systems, ""); system != "" {
		return browser + " on " + system
	}
	return browser
}

// The order matters: the header of Edge and of Opera names Chrome too, and that
// of all three names Safari.
var browsers = [][2]string{
	{"Edg", "Edge"}, {"OPR/", "Opera"}, {"SamsungBrowser/", "Samsung Internet"},
	{"Firefox/", "Firefox"}, {"FxiOS/", "Firefox"},
	{"Chrome/", "Chrome"}, {"CriOS/", "Chrome"}, {"Safari/", "Safari"},
	{"curl/", "curl"}, {"Go-http-client/", "A Go program"},
}

// The header of Android names Linux too, and that of an iPhone "like Mac OS X".
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
