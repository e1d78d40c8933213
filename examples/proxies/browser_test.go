package proxies

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// browserPatience is the timeout of every wait for a browser. On a machine with much
// else to do, one takes far longer to start than a proxy does.
const browserPatience = 2 * time.Minute

// A browser is one kind of browser, which runs without a window.
type browser struct {
	name     string
	commands []string
	debian   string // Debian's package
	label    string // of the sessions that it signs in
	args     func(profile string) []string
	path     string // of the WebSocket, if the browser prints only its host
	// connect returns a function that opens a tab with cookies of its own, and a
	// command that ends the browser.
	connect func(*remote) (newTab func() (tab, error), end string, err error)
}

// A tab is a tab of a browser. Its page may be left at any time, which is an error
// for the expression that is being evaluated.
type tab interface {
	evaluate(expression string) (string, error)
	cookies() ([]cookie, error)
	close() error
}

// A cookie is what a browser keeps of it. Both protocols have these names.
type cookie struct {
	Name, Domain, Path, SameSite string
	Secure, HTTPOnly             bool
}

// chromium speaks the Chrome DevTools Protocol, and WebDriver BiDi only with another
// program in between.
var chromium = browser{
	name:     "chromium",
	commands: []string{"chromium", "chromium-browser", "google-chrome"},
	debian:   "chromium",
	label:    "Chrome on Linux",
	args: func(profile string) []string {
		args := []string{"--headless", "--remote-debugging-port=0", "--user-data-dir=" + profile, "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"}
		if os.Getuid() == 0 {
			args = append(args, "--no-sandbox") // Chromium gives root none
		}
		return args
	},
	connect: func(r *remote) (func() (tab, error), string, error) {
		newTab := func() (tab, error) {
			c := &chromiumTab{remote: r}
			var visitor struct{ BrowserContextID string }
			if err := r.call("", "Target.createBrowserContext", struct{}{}, &visitor); err != nil {
				return nil, err
			}
			c.visitor = visitor.BrowserContextID
			var target struct{ TargetID string }
			if err := r.call("", "Target.createTarget", params{"url": "about:blank", "browserContextId": c.visitor}, &target); err != nil {
				return nil, err
			}
			var attached struct{ SessionID string }
			if err := r.call("", "Target.attachToTarget", params{"targetId": target.TargetID, "flatten": true}, &attached); err != nil {
				return nil, err
			}
			c.id = attached.SessionID
			return c, nil
		}
		return newTab, "Browser.close", nil
	},
}

type chromiumTab struct {
	*remote
	id, visitor string
}

func (c *chromiumTab) evaluate(expression string) (string, error) {
	return c.evaluated(c.id, "Runtime.evaluate", params{"expression": "String(" + expression + ")", "userGesture": true})
}

func (c *chromiumTab) cookies() ([]cookie, error) {
	return c.kept("Storage.getCookies", params{"browserContextId": c.visitor})
}

func (c *chromiumTab) close() error {
	return c.call("", "Target.disposeBrowserContext", params{"browserContextId": c.visitor}, nil)
}

// firefox speaks WebDriver BiDi, see https://www.w3.org/TR/webdriver-bidi/.
var firefox = browser{
	name:     "firefox",
	commands: []string{"firefox-esr", "firefox"},
	debian:   "firefox-esr",
	label:    "Firefox on Linux",
	args: func(profile string) []string {
		return []string{"--headless", "--no-remote", "--profile", profile, "--remote-debugging-port", "0"}
	},
	path: "/session",
	connect: func(r *remote) (func() (tab, error), string, error) {
		newTab := func() (tab, error) {
			f := &firefoxTab{remote: r}
			var visitor struct{ UserContext string }
			if err := r.call("", "browser.createUserContext", struct{}{}, &visitor); err != nil {
				return nil, err
			}
			f.visitor = visitor.UserContext
			var opened struct{ Context string }
			err := r.call("", "browsingContext.create", params{"type": "tab", "userContext": f.visitor}, &opened)
			f.id = opened.Context
			return f, err
		}
		return newTab, "browser.close", r.call("", "session.new", params{"capabilities": struct{}{}}, nil)
	},
}

type firefoxTab struct {
	*remote
	id, visitor string
}

func (f *firefoxTab) evaluate(expression string) (string, error) {
	return f.evaluated("", "script.evaluate", params{
		"expression": "String(" + expression + ")", "target": params{"context": f.id},
		"awaitPromise": false, "userActivation": true,
	})
}

func (f *firefoxTab) cookies() ([]cookie, error) {
	return f.kept("storage.getCookies", params{"partition": params{"type": "storageKey", "userContext": f.visitor}})
}

func (f *firefoxTab) close() error {
	return f.call("", "browser.removeUserContext", params{"userContext": f.visitor}, nil)
}

// start runs the browser until the test ends, and returns a function that opens a
// tab with cookies of its own.
func (b browser) start(t *testing.T) (newTab func() (tab, error)) {
	t.Helper()
	path, err := b.find()
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%v; Debian's package %s contains it", err, b.debian)
		}
		t.Skipf("%v; Debian's package %s contains it", err, b.debian)
	}
	// A browser writes its files to the last moment, so that an error here is no
	// failure of the test.
	home, err := os.MkdirTemp("", "browser-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(home) })
	profile := filepath.Join(home, "profile")
	if err := os.Mkdir(profile, 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, b.args(profile)...)
	cmd.Env = append(os.Environ(), "HOME="+home, "XDG_CONFIG_HOME="+home, "XDG_CACHE_HOME="+home, "TMPDIR="+home)
	log := &addressLog{address: make(chan string, 1)}
	cmd.Stderr = log
	cmd.SysProcAttr = endWithParent
	cmd.WaitDelay = browserPatience
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var r *remote
	var end string
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // for its children too, which hold the log open
	}()
	t.Cleanup(func() {
		if r != nil {
			_ = r.call("", end, struct{}{}, nil) // the connection may end before the answer
			r.conn.CloseNow()
		}
		if r == nil || end == "" {
			_ = cmd.Process.Kill()
		}
		select {
		case <-ended:
		case <-time.After(browserPatience):
			_ = cmd.Process.Kill()
			<-ended
		}
		if t.Failed() {
			t.Logf("%s wrote:\n%s", b.name, log.text.String())
		}
	})

	var address string
	select {
	case address = <-log.address:
	case <-ended:
		t.Fatalf("%s ended", b.name)
	case <-time.After(browserPatience):
		t.Fatalf("%s prints no address after %v", b.name, browserPatience)
	}
	ctx, cancel := context.WithTimeout(context.Background(), browserPatience)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, address+b.path, nil)
	if err != nil {
		t.Fatal(err)
	}
	conn.SetReadLimit(-1)
	r = &remote{conn: conn}
	newTab, end, err = b.connect(r)
	if err != nil {
		t.Fatal(err)
	}
	return newTab
}

func (b browser) find() (string, error) {
	var missing []error
	for _, command := range b.commands {
		path, err := exec.LookPath(command)
		if err == nil {
			return path, nil
		}
		missing = append(missing, err)
	}
	return "", errors.Join(missing...)
}

// An addressLog keeps what a browser writes, and finds the address in it.
type addressLog struct {
	text    bytes.Buffer
	address chan string
}

var listening = regexp.MustCompile(`listening on (ws://\S+)\n`)

func (l *addressLog) Write(p []byte) (int, error) {
	l.text.Write(p)
	if match := listening.FindSubmatch(l.text.Bytes()); match != nil {
		select {
		case l.address <- string(match[1]):
		default:
		}
	}
	return len(p), nil
}

type params map[string]any

// A remote sends commands to a browser, one after the other. The messages of both
// protocols have the same form.
type remote struct {
	conn *websocket.Conn
	last int // the id of the last command
}

// call sends a command, to the page of that session if there is one, and waits for
// the result.
func (r *remote) call(session, method string, params, result any) error {
	ctx, cancel := context.WithTimeout(context.Background(), browserPatience)
	defer cancel()
	r.last++
	command := struct {
		ID        int    `json:"id"`
		SessionID string `json:"sessionId,omitempty"`
		Method    string `json:"method"`
		Params    any    `json:"params"`
	}{r.last, session, method, params}
	b, err := json.Marshal(command)
	if err != nil {
		return err
	}
	if err := r.conn.Write(ctx, websocket.MessageText, b); err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	for {
		_, b, err := r.conn.Read(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", method, err)
		}
		var answer struct {
			ID            int
			Error, Result json.RawMessage
		}
		if err := json.Unmarshal(b, &answer); err != nil {
			return fmt.Errorf("%s: %w", method, err)
		}
		if answer.ID != r.last { // an event
			continue
		}
		if answer.Error != nil {
			return fmt.Errorf("%s: %s", method, b)
		}
		if result == nil {
			return nil
		}
		return json.Unmarshal(answer.Result, result)
	}
}

func (r *remote) evaluated(session, method string, p params) (string, error) {
	var got struct {
		Result           struct{ Value string }
		ExceptionDetails json.RawMessage
	}
	err := r.call(session, method, p, &got)
	if err == nil && got.ExceptionDetails != nil {
		err = fmt.Errorf("%s: %s", p["expression"], got.ExceptionDetails)
	}
	return got.Result.Value, err
}

func (r *remote) kept(method string, p params) ([]cookie, error) {
	var got struct{ Cookies []cookie }
	err := r.call("", method, p, &got)
	return got.Cookies, err
}
