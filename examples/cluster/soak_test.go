package main

import (
	"os"
	"strings"
	"testing"
	"time"
)

// used returns samples of a process, one each five seconds.
func used(pid int, d time.Duration, goroutines func(age time.Duration) float64) (all []sample) {
	begun := time.Now()
	for age := time.Duration(0); age <= d; age += 5 * time.Second {
		all = append(all, sample{pid, begun.Add(age), usage{Heap: 10, Resident: 50, Goroutines: goroutines(age), Descriptors: 30, Connections: 20}})
	}
	return all
}

func TestGrowthOfAProcessIsFound(t *testing.T) {
	leaking := func(age time.Duration) float64 { return 40 + age.Seconds() }
	for _, tt := range []struct {
		name       string
		life       time.Duration
		goroutines func(time.Duration) float64
		want       string
	}{
		{"that leaks", 10 * time.Minute, leaking, "goroutines grew"},
		{"not of one that needs time to begin", 10 * time.Minute, func(age time.Duration) float64 {
			return 40 + 300*min(age.Seconds(), 60)/60
		}, ""},
		{"not of one that has a peak", 10 * time.Minute, func(age time.Duration) float64 {
			if age == 10*time.Minute {
				return 5000
			}
			return 40
		}, ""},
		{"not of one that is young", 90 * time.Second, leaking, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newChecker()
			c.samples = append(used(1, 10*time.Minute, func(time.Duration) float64 { return 40 }), used(2, tt.life, tt.goroutines)...)
			c.checkUsage()
			var got string
			for _, v := range c.violations {
				got += v.what
			}
			if tt.want == "" && got != "" || !strings.Contains(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestUsageIsThatOfThisProcess(t *testing.T) {
	u := readUsage()
	if u.Goroutines < 1 {
		t.Errorf("got %v goroutines, want some", u.Goroutines)
	}
	if _, err := os.Stat("/proc/self/status"); err == nil && (u.Resident < 1 || u.Descriptors < 1) {
		t.Errorf("got %+v, want resident memory and descriptors", u)
	}
}

func TestThePlotShowsTheFaults(t *testing.T) {
	c := newChecker()
	c.lasts = time.Minute
	c.end(c.begin(fault{name: "deploy"}), "")
	c.begin(fault{name: "master"}) // lasts
	c.request("GET /me", time.Now(), 200, false)
	c.request("GET /me", time.Now(), 503, true)
	c.samples = used(1, time.Minute, func(time.Duration) float64 { return 40 })
	var got strings.Builder
	if err := c.plot(&got, "svg"); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"<svg", ">deploy<", ">master<", ">failed requests per second<", ">goroutines<"} {
		if !strings.Contains(got.String(), want) {
			t.Errorf("the plot has no %q", want)
		}
	}
}
