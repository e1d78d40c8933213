package redisstore_test

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/typedsessions/sessions"
	"github.com/typedsessions/sessions/internal/testserver"
	"github.com/typedsessions/sessions/stores/redisstore/internal/rolling/program"
)

// rollingRequests is how many requests the visitors of a rolling deployment make.
const rollingRequests = 10_000

// Two versions of a program answer the requests of each visitor in turn. The older
// one lacks three fields: one of the session, one of a struct in it, and one of a
// type with a generated codec.
func TestARollingDeploymentOfTwoBinariesLosesNothing(t *testing.T) {
	keys := base64.StdEncoding.EncodeToString(sessions.NewSecret())
	redis := testserver.Redis(t).Addr
	bin := t.TempDir()
	out, err := exec.Command("go", "build", "-buildvcs=false", "-o", bin, "./internal/rolling/older", "./internal/rolling/newer").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	versions := []string{"older", "newer"}
	urls := make([]string, len(versions))
	for i, version := range versions {
		urls[i] = startVersion(t, filepath.Join(bin, version), redis, keys)
	}
	for _, m := range program.Modes {
		t.Run(m.Name, func(t *testing.T) {
			jar, err := cookiejar.New(nil)
			if err != nil {
				t.Fatal(err)
			}
			client := http.Client{Jar: jar}
			// What each version sees at the next request: the zero values are those of
			// a visitor without a session.
			seen := [2]map[string]any{
				{"N": 0, "City": "", "BadgesN": 0, "Name": ""},
				{"N": 0, "City": "", "BadgesN": 0, "Name": "", "Plan": "", "Since": -62135596800, "Trial": -6795364578871345152},
			}
			reason := fmt.Sprintf("%s, %s", sessions.ReasonNoCookie, sessions.ReasonNoCookie)
			for n := range rollingRequests / len(program.Modes) {
				version := n % 2
				reply := post(t, &client, urls[version]+"/"+m.Name, n)
				var messages []sessions.Flash
				if n%7 == 1 {
					messages = []sessions.Flash{{Kind: "info", Message: fmt.Sprint(n - 1)}}
				}
				want := marshal(t, map[string]any{"Reason": reason, "Messages": messages, "Seen": seen[version]})
				if reply != want {
					t.Fatalf("request %d: the %s version sees %s, want %s", n, versions[version], reply, want)
				}
				reason = ", "
				changes := map[string]any{"N": n + 1, "BadgesN": n + 1}
				if version == 0 && n%3 == 0 {
					maps.Copy(changes, map[string]any{"City": fmt.Sprint("city ", n), "Name": fmt.Sprint("name ", n)})
				}
				maps.Copy(seen[0], changes)
				if version == 1 && n%5 == 0 {
					maps.Copy(changes, map[string]any{"Plan": fmt.Sprint("plan ", n), "Since": n, "Trial": n*1e9 + 1})
				}
				maps.Copy(seen[1], changes)
			}
		})
	}
}

// startVersion starts a version of the program, and returns its URL.
func startVersion(t *testing.T, path, redis, keys string) string {
	t.Helper()
	cmd := exec.Command(path, redis)
	cmd.Env = append(os.Environ(), "SESSION_KEYS="+keys)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
	addr, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return "http://" + strings.TrimSpace(addr)
}

// post sends request n, and returns the answer with its keys in order.
func post(t *testing.T, client *http.Client, to string, n int) string {
	t.Helper()
	res, err := client.PostForm(to, url.Values{"n": {fmt.Sprint(n)}})
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Fatalf("request %d: %s", n, res.Status)
	}
	var reply map[string]any
	d := json.NewDecoder(res.Body)
	d.UseNumber()
	if err := d.Decode(&reply); err != nil {
		t.Fatalf("request %d: %v", n, err)
	}
	return marshal(t, reply)
}

func marshal(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
