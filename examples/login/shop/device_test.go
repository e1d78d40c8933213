package shop

import (
	"strings"
	"testing"
)

func TestDeviceLabelNamesBrowserAndSystem(t *testing.T) {
	const firefox = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"
	const safari = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 " +
		"(KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1"
	const chrome = " AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 "
	for agent, want := range map[string]string{
		firefox: "Firefox on Linux",
		safari:  "Safari on iPhone",
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64)" + chrome + "Safari/537.36 Edg/142.0.0.0": "Edge on Windows",
		"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7)" + chrome + "Safari/537.36":         "Chrome on macOS",
		"Mozilla/5.0 (Linux; Android 10; K)" + chrome + "Mobile Safari/537.36":               "Chrome on Android",
		"curl/8.9.1":               "curl",
		"<b>" + firefox[:30]:       "A browser on Linux",
		"":                         "A browser",
		strings.Repeat("x", 1<<16): "A browser",
	} {
		if got := deviceLabel(agent); got != want {
			t.Errorf("%.60q: got %q, want %q", agent, got, want)
		}
	}
}
